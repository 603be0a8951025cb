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
        calls.spawn(async move { bearer.refused(&first).await });
    }
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().generation(), 2);
    }
    assert_eq!(scene.script.asked(), 2);
    // A straggler that used the old one gets the new one without a request.
    assert_eq!(scene.bearer.refused(&first).await.unwrap().generation(), 2);
    // The new one is refused, too: it isn't the token's fault.
    let second = scene.bearer.authorization().await.unwrap();
    let started = Instant::now();
    assert!(scene.bearer.refused(&second).await.is_none());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(scene.script.asked(), 2);
    // After the cooldown it is tried again.
    sleep(secs(30)).await;
    assert_eq!(scene.bearer.refused(&second).await.unwrap().generation(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_forced_renewal_that_fails_leaves_the_old_token_and_the_401() {
    let scene = running([Step::Grant(3600), Step::Refuse(Outcome::Error, None), Step::Grant(3600)]).await;
    let first = scene.bearer.authorization().await.unwrap();
    sleep(secs(10)).await;
    assert!(scene.bearer.refused(&first).await.is_none());
    assert_eq!(scene.value().await, "Bearer token-1");
    assert!(
        scene.bearer.refused(&first).await.is_none(),
        "at once, as the failure is slept off"
    );
    assert_eq!(scene.script.asked(), 2);
    sleep(secs(2)).await;
    assert_eq!(scene.bearer.refused(&first).await.unwrap().generation(), 2);
    assert_eq!(scene.script.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_waits_at_most_five_seconds() {
    let scene = running([Step::Grant(3600), Step::Hang]).await;
    let first = scene.bearer.authorization().await.unwrap();
    sleep(secs(10)).await;
    let started = Instant::now();
    assert!(scene.bearer.refused(&first).await.is_none());
    assert_eq!(started.elapsed(), MOST_WAIT_AFTER_REFUSAL);
    assert_eq!(scene.value().await, "Bearer token-1", "others are not held up");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expired_on_its_way_is_replaced_without_force() {
    let scene = running([Step::Grant(3600)]).await;
    let first = scene.bearer.authorization().await.unwrap();
    scene.clock.sleep_machine(3600);
    assert_eq!(scene.bearer.refused(&first).await.unwrap().generation(), 2);
    assert_eq!(scene.bearer.force.lock().unwrap().newest(), 0);
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
    assert_eq!(*scene.script.revoked.lock().unwrap(), ["Bearer token-1"]);
    let started = Instant::now();
    assert!(scene.bearer.authorization().await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(*scene.events.expiry.lock().unwrap(), None);
    assert_eq!(*scene.events.usable.lock().unwrap(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn revocation_is_bounded() {
    let scene = running([Step::Grant(3600)]).await;
    scene.script.revoke_hangs.store(1, Ordering::SeqCst);
    let started = Instant::now();
    scene.bearer.revoke().await;
    assert_eq!(started.elapsed(), MOST_REVOKE);
}
