//! A 401 of the API, and the end.

use tokio::sync::oneshot;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let scene = running([Step::Grant(3600), Step::After(1, Box::new(Step::Grant(3600)))]).await;
    let first = scene.bearer.authorization().await.unwrap();
    sleep(secs(10)).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (bearer, first) = (Arc::clone(&scene.bearer), first.clone());
        calls.spawn(async move { bearer.replace(&first).await });
    }
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().generation(), 2);
    }
    assert_eq!(scene.script.asked(), 2);
    // A straggler that used the old one gets the new one without a request.
    assert_eq!(scene.bearer.replace(&first).await.unwrap().generation(), 2);
    // The new one is revoked, too: no cooldown but the pause between two token requests.
    let second = scene.bearer.authorization().await.unwrap();
    assert_eq!(scene.bearer.replace(&second).await.unwrap().generation(), 3);
    assert_eq!(scene.script.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn forced_renewals_are_a_second_apart_and_five_in_ten_minutes() {
    let scene = running([Step::Grant(3600)]).await;
    sleep(secs(10)).await;
    for _ in 0..5 {
        let token = scene.bearer.authorization().await.unwrap();
        assert!(scene.bearer.replace(&token).await.is_some());
    }
    let asked = scene.script.asked.lock().clone();
    assert_eq!(asked.len(), 6);
    assert!(asked[1..].windows(2).all(|two| two[1] - two[0] >= secs(1)), "{asked:?}");
    let token = scene.bearer.authorization().await.unwrap();
    let started = Instant::now();
    assert!(scene.bearer.replace(&token).await.is_none());
    assert_eq!(started.elapsed(), Duration::ZERO, "at once: the 401 stands");
    sleep(secs(600)).await;
    assert!(scene.bearer.replace(&token).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn three_confirmed_refusals_in_a_row_are_the_credentials() {
    let scene = running([Step::Grant(3600)]).await;
    scene.bearer.authorization().await.unwrap();
    assert!(!scene.bearer.refusal_confirmed());
    assert!(!scene.bearer.refusal_confirmed());
    assert!(scene.bearer.usable());
    scene.bearer.accepted();
    for news in [false, false, true, false] {
        assert_eq!(scene.bearer.refusal_confirmed(), news);
    }
    assert!(!scene.bearer.usable());
    assert_eq!(*scene.events.usable.lock(), Some(false));
    sleep(secs(60)).await;
    assert_eq!(
        *scene.events.usable.lock(),
        Some(false),
        "a token alone changes nothing"
    );
    scene.bearer.accepted();
    assert!(scene.bearer.usable());
    assert_eq!(*scene.events.usable.lock(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_names_the_token_is_believed_of_every_other_token_at_most() {
    let scene = running([Step::Grant(3600)]).await;
    let first = scene.bearer.authorization().await.unwrap();
    for _ in 0..3 {
        assert!(scene.bearer.takes_its_word(&first), "all who used it");
    }
    let second = scene.bearer.replace(&first).await.unwrap();
    for _ in 0..3 {
        assert!(!scene.bearer.takes_its_word(&second), "none of those who used it");
    }
    assert!(scene.bearer.takes_its_word(&first), "a straggler");
    scene.bearer.accepted();
    assert!(!scene.bearer.takes_its_word(&second), "whatever others accept");
    let third = scene.bearer.replace(&second).await.unwrap();
    assert!(
        scene.bearer.takes_its_word(&third),
        "it came by a probe, or in its time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_forced_renewal_that_fails_leaves_the_old_token_and_the_401() {
    let scene = running([Step::Grant(3600), Step::Refuse(Outcome::Error, None), Step::Grant(3600)]).await;
    let first = scene.bearer.authorization().await.unwrap();
    sleep(secs(10)).await;
    assert!(scene.bearer.replace(&first).await.is_none());
    assert_eq!(scene.value().await, "Bearer token-1");
    assert!(
        scene.bearer.replace(&first).await.is_none(),
        "at once, as the failure is slept off"
    );
    assert_eq!(scene.script.asked(), 2);
    sleep(secs(2)).await;
    assert_eq!(scene.bearer.replace(&first).await.unwrap().generation(), 2);
    assert_eq!(scene.script.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_waits_at_most_five_seconds() {
    let scene = running([Step::Grant(3600), Step::Hang]).await;
    let first = scene.bearer.authorization().await.unwrap();
    sleep(secs(10)).await;
    let started = Instant::now();
    assert!(scene.bearer.replace(&first).await.is_none());
    assert_eq!(started.elapsed(), MOST_WAIT_AFTER_REFUSAL);
    assert_eq!(scene.value().await, "Bearer token-1", "others are not held up");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expired_on_its_way_is_replaced_without_force() {
    let scene = running([Step::Grant(3600)]).await;
    let first = scene.bearer.authorization().await.unwrap();
    scene.clock.sleep_machine(3600);
    assert_eq!(scene.bearer.replace(&first).await.unwrap().generation(), 2);
    assert_eq!(scene.bearer.force.lock().newest(), 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_revokes_the_token() {
    let scene = cold([Step::Grant(3600)]);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(Arc::clone(&scene.bearer).run(async {
        let _ = stopped.await;
    }));
    scene.bearer.first_attempt().await;
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(
        scene.value().await,
        "Bearer token-1",
        "requests in flight still have it"
    );
    scene.bearer.revoke().await;
    scene.bearer.revoke().await;
    assert_eq!(*scene.script.revoked.lock(), ["Bearer token-1"]);
    let started = Instant::now();
    assert!(scene.bearer.authorization().await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(*scene.events.expiry.lock(), None);
    assert_eq!(*scene.events.usable.lock(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn revocation_is_bounded() {
    let scene = running([Step::Grant(3600)]).await;
    scene.script.revoke_hangs.store(1, Ordering::SeqCst);
    let started = Instant::now();
    scene.bearer.revoke().await;
    assert_eq!(started.elapsed(), MOST_REVOKE);
}
