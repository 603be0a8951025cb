//! When tokens are asked for.

use tokio::time::advance;

use super::*;

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_growing_pauses() {
    let scene = running([Step::Refuse(Outcome::Malformed, None)]).await;
    let bearer = Arc::clone(&scene.bearer);
    // Somebody always asks; that changes nothing.
    tokio::spawn(async move {
        loop {
            let _ = bearer.authorization().await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    sleep(secs(300)).await;
    let asked = scene.script.asked.lock().clone();
    let pauses: Vec<_> = asked.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
    for (pause, planned) in pauses
        .iter()
        .zip([1250, 2500, 5000, 10_000, 20_000, 40_000, 50_000, 50_000, 50_000])
    {
        assert!((planned..planned + 100).contains(pause), "{pauses:?}");
    }
    assert!(pauses.len() >= 8);
    assert!(!scene.bearer.usable());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_credential_is_told_apart_and_recovers_by_itself() {
    let scene = running([Step::Refuse(Outcome::Rejected, None), Step::Grant(3600)]).await;
    assert!(matches!(
        scene.bearer.authorization().await,
        Err(TokenUnavailable::Rejected { .. })
    ));
    assert_eq!(*scene.events.usable.lock(), Some(false));
    assert_eq!(scene.bearer.status().failure.unwrap().outcome, Outcome::Rejected);
    sleep(secs(2)).await;
    assert_eq!(scene.value().await, "Bearer token-2");
    assert_eq!(*scene.events.usable.lock(), Some(true));
    assert!(scene.bearer.status().failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_at_four_fifths_of_its_life() {
    let scene = running([Step::Grant(3600)]).await;
    sleep(secs(2879)).await;
    assert_eq!(scene.value().await, "Bearer token-1");
    sleep(secs(2)).await;
    assert_eq!(scene.value().await, "Bearer token-2");
    assert_eq!(scene.script.asked(), 2);
    assert_eq!(scene.events.refreshed.load(Ordering::SeqCst), 2);
    let expiry = scene.events.expiry.lock().unwrap();
    assert_eq!(expiry.duration_since(scene.clock.wall()).unwrap().as_secs(), 3599);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_live_five_seconds_never_leave_a_gap() {
    let scene = running([Step::Grant(5)]).await;
    for _ in 0..12_000 {
        advance(Duration::from_millis(5)).await;
        let before = Instant::now();
        let token = scene.bearer.authorization().await.unwrap();
        assert_eq!(Instant::now(), before, "nobody waits");
        assert!(token.left(scene.bearer.now()).is_some());
    }
    assert!((14..=16).contains(&scene.script.asked()), "{}", scene.script.asked());
}

#[tokio::test(start_paused = true)]
async fn while_renewal_fails_the_old_token_serves_until_it_expires() {
    let scene = running([Step::Grant(3600), Step::Refuse(Outcome::Error, None)]).await;
    sleep(secs(3598)).await;
    assert_eq!(scene.value().await, "Bearer token-1");
    assert!(scene.script.asked() > 5, "renewal is tried all the while");
    assert_eq!(*scene.events.usable.lock(), Some(true));
    sleep(secs(1)).await;
    let started = Instant::now();
    let retry_after = not_yet_after(scene.bearer.authorization().await);
    assert!(retry_after <= plan::MOST_PAUSE && started.elapsed() <= MOST_WAIT);
    settle().await;
    assert_eq!(*scene.events.usable.lock(), Some(false), "noticed without an attempt");
    scene.script.set([Step::Grant(3600)]);
    sleep(plan::MOST_PAUSE).await;
    assert!(scene.value().await.starts_with("Bearer token-"));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_past_the_renewal_renews_on_use() {
    let scene = running([Step::Grant(3600)]).await;
    scene.clock.sleep_machine(3000);
    assert_eq!(scene.value().await, "Bearer token-1", "still valid: nobody waits");
    settle().await;
    assert_eq!(scene.value().await, "Bearer token-2");
    assert_eq!(scene.script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn sleep_ends_the_backoff() {
    let scene = running([Step::Refuse(Outcome::Unreachable, Some(300)), Step::Grant(3600)]).await;
    scene.clock.sleep_machine(400);
    assert_eq!(scene.value().await, "Bearer token-2");
}

#[tokio::test(start_paused = true)]
async fn clock_jumps_cost_a_token_at_most() {
    let scene = running([Step::Grant(3600)]).await;
    for jump in [3601, -3601, 315_360_000, -315_360_000, -315_360_000, 631_000_000] {
        scene.clock.set_wall(jump);
        let token = scene.bearer.authorization().await.unwrap();
        assert!(token.left(scene.bearer.now()).is_some(), "{jump}");
        sleep(secs(2)).await;
    }
    // Each jump forward expired one; a jump back none.
    assert_eq!(scene.script.asked(), 4);
    scene.clock.set_wall(-600_000_000);
    sleep(secs(3600)).await;
    assert!(
        scene.bearer.authorization().await.unwrap().generation() > 4,
        "the boot clock still counts"
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_expired_is_a_failure() {
    let scene = running([Step::After(3, Box::new(Step::Grant(2))), Step::Grant(3600)]).await;
    assert_eq!(*scene.events.outcomes.lock(), [Outcome::Malformed]);
    not_yet_after(scene.bearer.authorization().await);
    sleep(secs(2)).await;
    assert_eq!(scene.value().await, "Bearer token-2");
}

#[tokio::test(start_paused = true)]
async fn token_requests_are_a_second_apart_whatever_happens() {
    let short_lives = running([Step::Grant(1)]).await;
    let clock_set = running([Step::Grant(3600)]).await;
    for _ in 0..100 {
        advance(Duration::from_millis(10)).await;
        assert!(short_lives.bearer.authorization().await.is_ok());
        clock_set.clock.set_wall(3600);
        assert!(clock_set.bearer.authorization().await.is_ok());
    }
    for scene in [short_lives, clock_set] {
        let asked = scene.script.asked.lock().clone();
        assert!(asked.len() > 10 && asked.windows(2).all(|w| w[1] - w[0] >= plan::LEAST_PAUSE));
    }
}
