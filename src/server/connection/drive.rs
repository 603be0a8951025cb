//! The life of a connection of either version: served until it is idle, old, stalled, or the drain ends it.

use std::pin::Pin;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::time::Instant;

use crate::code::ErrorCode;
use crate::server::clock::{ConnectionClock, Expired};
use crate::server::drain::DrainHandle;
use crate::server::listener::Listener;
use crate::server::standing::Standing;

/// How long an idle connection waits for a last request when the drain begins.
pub(in crate::server) const LAST_CALL: Duration = Duration::from_millis(500);
/// How long a connection of HTTP/2 that ends for its age, or because nothing happened, stays silent before it is dropped: its
/// client may be far away, and confirm the end late.
const LAST_NEWS: Duration = Duration::from_secs(5);

/// How long a connection that is one too many of its caller's may take for the answer that says so: it holds a place that its
/// listener keeps for whoever comes.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// How serving ended.
pub(super) enum End {
    /// hyper is done with it.
    Done,
    /// hyper is done with it, in the middle of an answer.
    BrokenOff,
    /// Nothing is going on: the stream may be parked until there is something to read.
    Park,
    /// The head of a request took too long.
    HeadTimeout,
    /// Broken off: the drain is over, or the client takes nothing.
    Abandoned,
}

/// What becomes of a connection on which nothing happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// After how long.
    pub(super) limit: Duration,
    /// It is parked; else it ends.
    pub(super) parks: bool,
    /// It serves one more request in any case, and ends by itself then.
    pub(super) last: bool,
}

/// Polls the connection until it ends, or is to end.
pub(super) async fn drive<C>(
    mut connection: Pin<&mut C>,
    standing: &Standing,
    clock: &ConnectionClock,
    listener: &Listener,
    mut drain: DrainHandle,
    idle: Idle,
) -> End
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut draining = idle.last;
    let mut breaking_off = drain.clone();
    let limits = listener.snapshot().limits;
    let head_limit = limits.header_read_timeout;
    // Only HTTP/2 announces the end of a connection by itself: in HTTP/1.1 the last answer does.
    let mut ending = std::pin::pin!(standing.ending(|| listener.snapshot().limits.max_age));
    let mut ends = !clock.is_multiplexed();
    let mut over = std::pin::pin!(clock.expired(head_limit, idle.limit));
    // Polled only while the connection is to end: a client that reads nothing would never learn of the end, and a
    // client of HTTP/2 need not confirm it.
    let mut leaving = draining;
    let mut quiet = std::pin::pin!(clock.quiet(LAST_CALL));
    let mut last_call = false;
    let mut refused = std::pin::pin!(tokio::time::sleep(REFUSED_FOR));
    let mut is_refused = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = %listener.snapshot().pipeline.name, %error, "client connection ended");
                    if error.is_parse() {
                        // hyper has answered by itself.
                        listener.snapshot().pipeline.unparsable(standing.peer, &error.to_string());
                    }
                    if error.is_user() {
                        return End::BrokenOff;
                    }
                }
                return End::Done;
            }
            which = over.as_mut() => match which {
                Expired::Idle if idle.parks => return End::Park,
                Expired::Idle => {
                    leaving = true;
                    clock.leave();
                    connection.as_mut().graceful_shutdown();
                    quiet.set(clock.quiet(LAST_NEWS));
                    // The client has as long again to notice the end.
                    clock.begin_idle_anew();
                    over.set(clock.expired(head_limit, idle.limit));
                }
                Expired::Head => return End::HeadTimeout,
                Expired::Stalled => {
                    let pipeline = &listener.snapshot().pipeline;
                    pipeline.shared.metrics.error(ErrorCode::RequestTimeout);
                    tracing::info!(listener = %pipeline.name, "ended a connection: the client takes nothing of its answer");
                    return End::Abandoned;
                }
            },
            () = drain.draining(), if !draining => {
                if idle.parks && clock.is_idle() {
                    return End::Park;
                }
                (draining, leaving) = (true, true);
                clock.leave();
                quiet.set(clock.quiet(LAST_CALL));
                // An idle connection of HTTP/1.1 would end at once. If a request is on its way, its answer says that
                // the connection ends.
                last_call = !clock.is_multiplexed() && clock.is_idle();
                if !last_call {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = ending.as_mut(), if !ends => {
                (ends, leaving) = (true, true);
                clock.leave();
                connection.as_mut().graceful_shutdown();
                if !draining {
                    quiet.set(clock.quiet(LAST_NEWS));
                }
                is_refused = standing.is_too_many();
                refused.as_mut().reset(Instant::now() + REFUSED_FOR);
            }
            () = refused.as_mut(), if is_refused => {
                if standing.is_too_many() {
                    return End::Abandoned;
                }
                is_refused = false;
            }
            () = quiet.as_mut(), if leaving => {
                if !last_call {
                    return End::Abandoned;
                }
                last_call = false;
                connection.as_mut().graceful_shutdown();
                quiet.set(clock.quiet(LAST_CALL));
            }
            () = breaking_off.breaking_off(), if draining => return End::Abandoned,
        }
    }
}
