//! Where connections of HTTP/1.1 are reused. One serves one request at a time.
//!
//! ```text
//!             checkout (the warmest that is good)
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Era;
use super::connect::Stream;
use super::http1::Http1;
use super::request::SendableBody;
use crate::metrics::GaugeGuard;

/// An idle connection older than this is not used again: middleboxes forget silent connections after a minute or so.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// The time that a request may take to reach the upstream: an idle connection that ends sooner is not used.
const TRANSIT_TIME: Duration = Duration::from_secs(1);
/// Idle connections kept at most; above, the oldest go.
const MAX_IDLE: usize = 512;

/// How often idle connections are looked at for those that the upstream has closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many at a time: within what tokio tells a task in one turn.
const LOOKED_AT_ONCE: usize = 32;

/// Idle connections of HTTP/1.1 to one origin.
pub(super) struct Pool<B> {
    idle: Mutex<VecDeque<Box<Connection<B>>>>,
    /// Somebody looks at them every [`LOOK_EVERY`].
    looked_after: AtomicBool,
    /// A connection of this age serves no further request.
    max_age: Duration,
    /// Nor does one of another era.
    era: Era,
}

/// A connection, when it was made, and how long it may be idle.
pub(super) struct Connection<B> {
    pub(super) http1: Http1<Stream, B>,
    made: Instant,
    era: u64,
    idle_since: Instant,
    idle_for: Duration,
    _open: GaugeGuard,
}

impl<B: SendableBody> Connection<B> {
    /// A connection made now, which began in this era; counted as `open` until it is dropped.
    pub(super) fn new(stream: Stream, era: u64, open: GaugeGuard) -> Box<Self> {
        let made = Instant::now();
        Box::new(Self {
            http1: Http1::new(stream),
            made,
            era,
            idle_since: made,
            idle_for: IDLE_FOR,
            _open: open,
        })
    }

    /// Notes how long the upstream keeps the connection idle, as the head of an answer says.
    pub(super) fn note_keep_alive(&mut self, headers: &HeaderMap) {
        self.idle_for = announced_idle(headers).map_or(IDLE_FOR, |announced| announced.min(IDLE_FOR));
    }
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        self.http1.close();
    }
}

impl<B: SendableBody> Pool<B> {
    /// An empty one.
    pub(super) fn new(max_age: Duration, era: Era) -> Self {
        Self {
            idle: Mutex::new(VecDeque::new()),
            looked_after: AtomicBool::new(false),
            max_age,
            era,
        }
    }

    /// The good connection that was used last: it is the warmest, and the others can age.
    pub(super) fn checkout(&self) -> Option<Box<Connection<B>>> {
        let now = Instant::now();
        // They close when the lock is free again.
        let mut bad = Vec::new();
        let mut idle = self.idle.lock();
        while let Some(mut connection) = idle.pop_back() {
            match self.is_good(&mut connection, now) {
                Some(true) => return Some(connection),
                Some(false) => bad.push(connection),
                None => {
                    idle.push_back(connection);
                    break;
                }
            }
        }
        drop(idle);
        None
    }

    /// Drops the oldest idle connection: a new one is made although some are idle.
    pub(super) fn drop_oldest(&self) {
        let oldest = self.idle.lock().pop_front();
        drop(oldest);
    }

    /// `None`: see [`Http1::is_silent`].
    fn is_good(&self, connection: &mut Connection<B>, now: Instant) -> Option<bool> {
        if now.duration_since(connection.idle_since) > connection.idle_for || self.is_past(connection, now) {
            return Some(false);
        }
        connection.http1.is_silent()
    }

    fn is_past(&self, connection: &Connection<B>, now: Instant) -> bool {
        now.duration_since(connection.made) > self.max_age || connection.era != self.era.now()
    }

    /// Drops what is no longer good among some idle connections; where to go on, if there are more.
    fn look(&self, from: usize) -> Option<usize> {
        let now = Instant::now();
        let mut bad = Vec::new();
        let mut idle = self.idle.lock();
        let mut at = from;
        for _ in 0..LOOKED_AT_ONCE {
            let good = self.is_good(idle.get_mut(at)?, now);
            if good == Some(false) {
                bad.extend(idle.remove(at));
            } else {
                at += 1;
            }
        }
        // They close when the lock is free again.
        drop(idle);
        Some(at)
    }

    fn checkin(self: &Arc<Self>, mut connection: Box<Connection<B>>) {
        let now = Instant::now();
        if !connection.http1.finish() || self.is_past(&connection, now) || connection.idle_for.is_zero() {
            return;
        }
        connection.idle_since = now;
        let mut idle = self.idle.lock();
        let one_too_many = (idle.len() >= MAX_IDLE).then(|| idle.pop_front());
        idle.push_back(connection);
        drop(idle);
        drop(one_too_many);
        if !self.looked_after.swap(true, Ordering::AcqRel) {
            tokio::spawn(look_after(Arc::downgrade(self)));
        }
    }
}

/// Drops idle connections that are over or were closed, until there are none.
async fn look_after<B: SendableBody>(pool: Weak<Pool<B>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut from = 0;
        while let Some(next) = pool.upgrade().and_then(|pool| pool.look(from)) {
            from = next;
            tokio::task::yield_now().await;
        }
        let Some(pool) = pool.upgrade() else { return };
        let idle = pool.idle.lock();
        if idle.is_empty() {
            // Under the lock: who brings the next one finds that nobody looks.
            pool.looked_after.store(false, Ordering::Release);
            return;
        }
    }
}

/// A connection that is serving a request. Dropped: closed. Released: idle again.
pub(super) struct CheckedOut<B> {
    pub(super) connection: Box<Connection<B>>,
    pool: Arc<Pool<B>>,
}

impl<B: SendableBody> CheckedOut<B> {
    pub(super) fn new(connection: Box<Connection<B>>, pool: &Arc<Pool<B>>) -> Self {
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
