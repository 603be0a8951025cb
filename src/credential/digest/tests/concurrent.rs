//! Many requests at once.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn no_nonce_and_count_is_sent_twice_however_many_threads_send() {
    const THREADS: usize = 8;
    let setup = Setup::new().cold("n0");
    let done = AtomicBool::new(false);
    let pairs: Vec<_> = std::thread::scope(|scope| {
        // One thread replaces the nonce all the while, now and then by one that was there before.
        scope.spawn(|| {
            for at in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let used = setup.authorize();
                setup.digest.challenged(&stale(&format!("n{}", at % 7)), Some(&used), 0);
            }
        });
        let senders: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..2000).map(|_| sent(&setup.authorize())).collect::<Vec<_>>()))
            .collect();
        let pairs = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        pairs
    });
    assert_eq!(pairs.len(), THREADS * 2000);
    assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), pairs.len());
}

#[tokio::test(start_paused = true)]
async fn of_many_cold_requests_one_fetches_the_challenge() {
    let setup = Arc::new(Setup::new());
    let guard = setup.digest.prime().await.expect("the first one leads");
    let behind: Vec<_> = (0..100)
        .map(|_| {
            let setup = Arc::clone(&setup);
            tokio::spawn(async move { setup.digest.prime().await.is_none() && setup.digest.has_challenge() })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(setup.digest.challenged(&challenge("a"), None, 0), Verdict::Retry);
    guard.answered();
    for one in behind {
        assert!(one.await.unwrap());
    }
    assert!(setup.digest.prime().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cold_request_waits_two_seconds_then_goes_by_itself() {
    let setup = Setup::new();
    let _guard = setup.digest.prime().await.expect("the first one leads");
    let start = tokio::time::Instant::now();
    assert!(setup.digest.prime().await.is_none());
    assert_eq!(start.elapsed(), PRIME_WAIT);
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_fails_one_other_leads() {
    let setup = Arc::new(Setup::new());
    let first = setup.digest.prime().await.expect("the first one leads");
    let (guards, mut leading) = tokio::sync::mpsc::unbounded_channel();
    let behind: Vec<_> = (0..10)
        .map(|_| {
            let (setup, guards) = (Arc::clone(&setup), guards.clone());
            tokio::spawn(async move {
                let guard = setup.digest.prime().await;
                guard.is_some_and(|guard| guards.send(guard).is_ok())
            })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(first);
    let second = leading.recv().await.expect("one of them leads");
    assert_eq!(setup.digest.challenged(&challenge("a"), None, 0), Verdict::Retry);
    second.answered();
    let mut leaders = 0;
    for one in behind {
        leaders += usize::from(one.await.unwrap());
    }
    assert_eq!(leaders, 1);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_limited_when_asked_for() {
    assert!(Setup::new().permit().await.unwrap().is_none(), "no limit");
    let setup = Setup::limited(Some(2));
    let first = setup.permit().await.unwrap();
    let _second = setup.permit().await.unwrap();
    assert!(first.is_some());
    assert_eq!(setup.permit().await.unwrap_err(), PermitTimeout, "the wait is bounded");
    drop(first);
    assert!(setup.permit().await.unwrap().is_some());
}
