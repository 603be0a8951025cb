use super::*;

const HEAD: Duration = Duration::from_secs(10);

async fn expired_after(clock: &ConnectionClock) -> (Expired, u64) {
    let start = Instant::now();
    let over = clock.expired(HEAD, IDLE_FOR).await;
    (over, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_owes_a_head() {
    assert_eq!(expired_after(&ConnectionClock::default()).await, (Expired::Head, 10));
}

#[tokio::test(start_paused = true)]
async fn an_answered_one_is_idle() {
    let clock = Arc::new(ConnectionClock::default());
    clock.head_came();
    let serving = clock.serve();
    tokio::time::sleep(Duration::from_secs(500)).await;
    drop(serving);
    assert_eq!(expired_after(&clock).await, (Expired::Idle, 120));
    // A part of the next head.
    clock.head_began();
    assert_eq!(expired_after(&clock).await, (Expired::Head, 10));
}

#[tokio::test(start_paused = true)]
async fn one_with_pipelined_requests_in_the_parsers_buffer_is_not_idle() {
    let clock = Arc::new(ConnectionClock::default());
    clock.head_came();
    clock.head_came();
    drop(clock.serve());
    assert!(!clock.is_idle());
    assert!(
        tokio::time::timeout(Duration::from_secs(500), clock.expired(HEAD, IDLE_FOR))
            .await
            .is_err()
    );
    drop(clock.serve());
    assert!(clock.is_idle());
    assert_eq!(expired_after(&clock).await, (Expired::Idle, 120));
}

#[tokio::test(start_paused = true)]
async fn while_a_request_is_served_only_a_stall_ends_it() {
    let clock = Arc::new(ConnectionClock::default());
    clock.head_came();
    let _serving = clock.serve();
    clock.head_began();
    let waited = tokio::time::timeout(Duration::from_secs(5000), clock.expired(HEAD, IDLE_FOR)).await;
    assert!(waited.is_err());
    clock.wrote::<usize>(&Poll::Pending);
    assert_eq!(expired_after(&clock).await, (Expired::Stalled, 60));
    clock.wrote(&Poll::Ready(Ok(1)));
    assert!(
        tokio::time::timeout(Duration::from_secs(500), clock.expired(HEAD, IDLE_FOR))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn who_only_keeps_talking_is_heard_for_a_while() {
    let clock = Arc::new(ConnectionClock::multiplexed());
    clock.head_came();
    let serving = clock.serve();
    let limit = Duration::from_millis(500);
    let talks = async {
        loop {
            clock.heard();
            tokio::time::sleep(limit / 2).await;
        }
    };
    let start = Instant::now();
    let ends = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(serving);
    };
    tokio::select! {
        _ = async { tokio::join!(clock.quiet(limit), ends) } => {}
        () = talks => {}
    }
    let took = start.elapsed().as_millis();
    assert!((65_000..=66_000).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn one_stalled_stream_is_noticed() {
    let clock = Arc::new(ConnectionClock::multiplexed());
    clock.head_came();
    let (fast, slow) = (clock.serve(), clock.serve());
    fast.given(false);
    slow.given(true);
    assert_eq!(expired_after(&clock).await, (Expired::Stalled, 60));
    // Its last part, which is all that is left of it.
    let part = slow.part();
    drop(slow);
    assert!(!clock.is_idle());
    drop(part);
    clock.head_began();
    assert_eq!(expired_after(&clock).await, (Expired::Head, 10));
}
