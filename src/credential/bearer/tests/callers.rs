//! What callers get, and when.

use tokio::time::advance;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_cause_one_token_request() {
    let scene = cold([Step::After(1, Box::new(Step::Grant(3600)))]);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let bearer = Arc::clone(&scene.bearer);
        calls.spawn(async move { bearer.authorization().await });
    }
    settle().await;
    assert_eq!(scene.bearer.progress.receiver_count(), 1000, "all of them wait");
    assert!(!scene.bearer.first_attempt_made());
    tokio::spawn(Arc::clone(&scene.bearer).run(std::future::pending()));
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().generation(), 1);
    }
    advance(secs(60)).await;
    settle().await;
    assert_eq!(scene.script.asked(), 1);
    assert!(scene.bearer.first_attempt_made() && scene.bearer.usable());
    assert_eq!(*scene.events.outcomes.lock(), [Outcome::Ok]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_after_sleep_cause_one_token_request() {
    let scene = running([Step::Grant(3600), Step::After(1, Box::new(Step::Grant(3600)))]).await;
    scene.clock.sleep_machine(7200);
    assert!(!scene.bearer.usable(), "an expired token is never sent");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let bearer = Arc::clone(&scene.bearer);
        calls.spawn(async move { bearer.authorization().await });
    }
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().generation(), 2);
    }
    assert_eq!(scene.script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_at_most_two_seconds_for_a_silent_endpoint() {
    let scene = cold([Step::Hang]);
    tokio::spawn(Arc::clone(&scene.bearer).run(std::future::pending()));
    let started = Instant::now();
    let answer = scene.bearer.authorization().await;
    assert!(not_yet_after(answer) >= secs(1));
    assert_eq!(started.elapsed(), MOST_WAIT);
    assert_eq!(scene.script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_running_task_a_caller_still_gets_an_answer() {
    let scene = cold([Step::Grant(1)]);
    let started = Instant::now();
    assert!(scene.bearer.authorization().await.is_err());
    assert_eq!(started.elapsed(), MOST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn while_a_failure_is_slept_off_callers_are_answered_at_once() {
    let scene = running([Step::Refuse(Outcome::RateLimited, Some(20)), Step::Grant(3600)]).await;
    let started = Instant::now();
    let Err(unavailable) = scene.bearer.authorization().await else {
        panic!("a token from nowhere")
    };
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(unavailable.retry_after_seconds(), 21, "20 s and 5 % jitter");
    assert!(unavailable.to_string().contains("scripted rate_limited"));
    // Callers do not shorten what the server asked for.
    for _ in 0..19 {
        advance(secs(1)).await;
        settle().await;
        assert!(scene.bearer.authorization().await.is_err());
    }
    assert_eq!(scene.script.asked(), 1);
    advance(secs(2)).await;
    assert_eq!(scene.value().await, "Bearer token-2");
}

#[tokio::test(start_paused = true)]
async fn callers_do_not_wait_for_a_task_that_was_dropped() {
    let scene = cold([Step::Hang]);
    let task = tokio::spawn(Arc::clone(&scene.bearer).run(std::future::pending()));
    settle().await;
    let bearer = Arc::clone(&scene.bearer);
    let call = tokio::spawn(async move { bearer.authorization().await });
    settle().await;
    let started = Instant::now();
    task.abort();
    assert!(call.await.unwrap().is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn debug_and_errors_show_no_token() {
    let scene = running([Step::Grant(3600)]).await;
    let token = scene.bearer.authorization().await.unwrap();
    let shown = format!("{:?} {token:?} {:?}", scene.bearer, scene.bearer.status());
    assert!(!shown.contains("token-1"), "{shown}");
}

#[test]
fn retry_after_is_rounded_up() {
    let of = |retry_after| TokenUnavailable::NotYet {
        retry_after,
        cause: String::new(),
    };
    assert_eq!(of(Duration::ZERO).retry_after_seconds(), 1);
    assert_eq!(of(Duration::from_millis(1001)).retry_after_seconds(), 2);
    assert_eq!(of(secs(60)).retry_after_seconds(), 60);
}

#[test]
fn jitter_is_a_share_of_one() {
    assert!((0..1000).map(|_| unit_random()).all(|r| (0.0..1.0).contains(&r)));
}
