//! Where connections of HTTP/1.1 are reused. One serves one request at a time.
//!
//! ```text
//!             checkout (the warmest that is ready)
//!   idle ───────────────────────────────────────────► checked out: serves one request
//!    ▲ │                                                │   │
//!    │ └─ closed by the upstream, silent for too long,  │   └─ the answer was abandoned or broke:
//!    │    too old, of another era, one too many: dropped│      dropped, which closes the connection
//!    └──────────────────────────────────────────────────┘
//!             release, at the end of the answer's body
//! ```
//!
//! A connection that is made for a request begins as checked out. That of HTTP/2, which serves many requests at a time, is in
//! [`super::http2`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Era;
use super::request::SendableBody;

/// An idle connection older than this is not used again: middleboxes forget silent connections after a minute or so.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// The time that a request may take to reach the upstream: an idle connection that ends sooner is not used.
const TRANSIT_TIME: Duration = Duration::from_secs(1);
/// Idle connections kept at most; above, the oldest go.
const MAX_IDLE: usize = 512;

/// Idle connections of HTTP/1.1 to one origin.
pub(super) struct Pool<B> {
    idle: Mutex<VecDeque<Idle<B>>>,
    /// A connection of this age serves no further request.
    max_age: Duration,
    /// Nor does one of another era.
    era: Era,
}

struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

/// A connection, when it was made, and how long it may be idle.
pub(super) struct Connection<B> {
    pub(super) sender: http1::SendRequest<B>,
    made: Instant,
    era: u64,
    idle_for: Duration,
}

impl<B: SendableBody> Connection<B> {
    /// A connection made now, which began in this era.
    pub(super) fn new(sender: http1::SendRequest<B>, era: u64) -> Self {
        Self {
            sender,
            made: Instant::now(),
            era,
            idle_for: IDLE_FOR,
        }
    }

    /// Notes how long the upstream keeps the connection idle, as the head of an answer says.
    pub(super) fn note_keep_alive(&mut self, headers: &HeaderMap) {
        self.idle_for = announced_idle(headers).map_or(IDLE_FOR, |announced| announced.min(IDLE_FOR));
    }
}

impl<B: SendableBody> Pool<B> {
    /// An empty one.
    pub(super) fn new(max_age: Duration, era: Era) -> Self {
        Self {
            idle: Mutex::new(VecDeque::new()),
            max_age,
            era,
        }
    }

    /// The ready connection that was used last: it is the warmest, and the others can age.
    pub(super) fn checkout(&self) -> Option<Connection<B>> {
        let mut idle = self.idle.lock();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let entry = &idle[at];
            if self.is_over(entry) {
                idle.remove(at);
            } else if entry.connection.sender.is_ready() {
                return idle.remove(at).map(|entry| entry.connection);
            }
        }
        None
    }

    /// Drops the oldest idle connection: a new one is made although some are idle.
    pub(super) fn drop_oldest(&self) {
        drop(self.idle.lock().pop_front());
    }

    fn is_over(&self, entry: &Idle<B>) -> bool {
        entry.connection.sender.is_closed()
            || entry.since.elapsed() > entry.connection.idle_for
            || self.is_past(&entry.connection)
    }

    fn is_past(&self, connection: &Connection<B>) -> bool {
        connection.made.elapsed() > self.max_age || connection.era != self.era.now()
    }

    pub(super) fn checkin(&self, connection: Connection<B>) {
        if connection.sender.is_closed() || self.is_past(&connection) || connection.idle_for.is_zero() {
            return;
        }
        let mut idle = self.idle.lock();
        while idle.len() >= MAX_IDLE || idle.front().is_some_and(|entry| self.is_over(entry)) {
            idle.pop_front();
        }
        idle.push_back(Idle {
            connection,
            since: Instant::now(),
        });
    }
}

/// A connection that is serving a request. Dropped: closed. Released: idle again.
pub(super) struct CheckedOut<B> {
    connection: Connection<B>,
    pool: Arc<Pool<B>>,
}

impl<B: SendableBody> CheckedOut<B> {
    pub(super) fn new(connection: Connection<B>, pool: &Arc<Pool<B>>) -> Self {
        Self {
            connection,
            pool: Arc::clone(pool),
        }
    }

    pub(super) fn release(self) {
        self.pool.checkin(self.connection);
    }
}

/// How long the upstream keeps an idle connection, as it says (`Keep-Alive: timeout=5`, RFC 2068 section 19.7.1), less what
/// a request needs to get there.
fn announced_idle(headers: &HeaderMap) -> Option<Duration> {
    let announced = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = announced.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then_some(seconds)
    })?;
    Some(Duration::from_secs(seconds).saturating_sub(TRANSIT_TIME))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_upstream_says_how_long_it_keeps_an_idle_connection() {
        let announced = |value: &'static str| {
            announced_idle(&HeaderMap::from_iter([(
                http::HeaderName::from_static("keep-alive"),
                HeaderValue::from_static(value),
            )]))
            .map(|idle| idle.as_secs())
        };
        assert_eq!(announced("timeout=5, max=100"), Some(4));
        assert_eq!(announced("max=100, Timeout = 20"), Some(19));
        assert_eq!(announced("timeout=1"), Some(0));
        assert_eq!(announced("timeout=0"), Some(0));
        assert_eq!(announced("max=3"), None);
        assert_eq!(announced("timeout=soon"), None);
        assert_eq!(announced_idle(&HeaderMap::new()), None);
    }
}
