//! Whose turn it is on a connection, and since when.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A kept-alive connection without a request is closed after this: longer than common clients keep theirs, so that it is
/// they who close, and no request runs into our close.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(120);
/// A client that takes nothing of its answer for this long has gone, or wants to hold our memory.
const STALLED_FOR: Duration = Duration::from_secs(60);

/// For so long after the last work, milliseconds, what a client sends is taken as a sign that it still reads its last
/// answer, of which nothing is unwritten any more.
const HEARD_FOR: u64 = 5_000;

/// Times are milliseconds since `start`, at least 1: since when the field's state holds; 0: it does not.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    start: Instant,
    /// A head has begun and is not complete.
    head_since: AtomicU64,
    /// The first head is still to come: a connection is made for a request.
    owes_first: AtomicBool,
    /// No request is being served.
    idle_since: AtomicU64,
    /// What we write to the socket is not taken.
    stalled_since: AtomicU64,
    /// Requests being served: one in HTTP/1.1, several in HTTP/2.
    serving: AtomicUsize,
    /// HTTP/1.1: heads that were handed to the parser, and whose request is not being served yet. They lie in its buffer.
    waiting: AtomicUsize,
    /// Somebody waits for [`Self::quiet`], and what comes is noted.
    watched: AtomicBool,
    /// When the client last sent something, while that is noted.
    heard_at: AtomicU64,
    /// HTTP/2: the client was told that the connection ends.
    leaving_since: AtomicU64,
    /// HTTP/2: a stream can stall while the socket does not.
    streams: Option<Mutex<Vec<Weak<Stream>>>>,
}

/// One answer of an HTTP/2 connection. Lives as long as a part of it is unwritten.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The stream was given a part of the answer, and has not asked for more yet.
    given_at: AtomicU64,
}

/// Which limit has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// A head took too long.
    Head,
    /// No request came for too long.
    Idle,
    /// The client took nothing for too long.
    Stalled,
}

impl Default for ConnectionClock {
    /// For an HTTP/1.1 connection. A new one owes a head.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            head_since: AtomicU64::new(0),
            owes_first: AtomicBool::new(true),
            idle_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
            serving: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            heard_at: AtomicU64::new(0),
            leaving_since: AtomicU64::new(0),
            streams: None,
        }
    }
}

impl ConnectionClock {
    /// For an HTTP/2 connection.
    pub(super) fn multiplexed() -> Self {
        Self {
            streams: Some(Mutex::default()),
            ..Self::default()
        }
    }

    /// Whether the connection is of HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.streams.is_some()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// A part of a head is here.
    pub(super) fn head_began(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The whole head is here.
    pub(super) fn head_came(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.owes_first.store(false, Ordering::Relaxed);
        if self.streams.is_none() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes the result of a write to the client, or of a flush: TLS accepts more than the socket does.
    pub(super) fn wrote<T>(&self, polled: &Poll<io::Result<T>>) {
        let stalled = self.stalled_since.load(Ordering::Relaxed) != 0;
        match (polled, stalled) {
            (Poll::Pending, false) => self.stalled_since.store(self.now(), Ordering::Relaxed),
            (Poll::Ready(_), true) => self.stalled_since.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The client of an HTTP/2 connection has sent something, as it does to make room when it reads.
    pub(super) fn heard(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.heard_at.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The client is being told that the connection ends.
    pub(super) fn leave(&self) {
        if self.leaving_since.load(Ordering::Relaxed) == 0 {
            self.leaving_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether the client was told of the end longer than `before` ago: what it sends now was not on its way then.
    pub(super) fn has_left(&self, before: Duration) -> bool {
        let since = self.leaving_since.load(Ordering::Relaxed);
        since != 0 && Duration::from_millis(self.now().saturating_sub(since)) > before
    }

    /// Ends when for `limit` no request was served or had begun, no part of an answer was unwritten, and nothing came:
    /// a client that reads slowly sends something as it makes room. From a client that has nothing to read, only what
    /// comes within [`HEARD_FOR`] counts.
    pub(super) async fn quiet(&self, limit: Duration) {
        self.watched.store(true, Ordering::Relaxed);
        let mut since = self.now();
        loop {
            tokio::time::sleep(limit / 5).await;
            let busy = self.serving.load(Ordering::Relaxed) > 0
                || self.waiting.load(Ordering::Relaxed) > 0
                || self.head_since.load(Ordering::Relaxed) != 0
                || self.stalled() != 0;
            since = match busy {
                true => self.now(),
                false => since.max(self.idle_since.load(Ordering::Relaxed)),
            };
            let heard = self.heard_at.load(Ordering::Relaxed).min(since + HEARD_FOR);
            let since = since.max(heard);
            if Duration::from_millis(self.now().saturating_sub(since)) >= limit {
                return;
            }
        }
    }

    /// A request is being served, as long as the value lives.
    pub(super) fn serve(self: &Arc<Self>) -> BodyClock {
        self.serving.fetch_add(1, Ordering::Relaxed);
        self.idle_since.store(0, Ordering::Relaxed);
        if self.streams.is_none() {
            // One task reads, parses and serves: nothing else changes the count meanwhile.
            let waiting = self.waiting.load(Ordering::Relaxed);
            self.waiting.store(waiting.saturating_sub(1), Ordering::Relaxed);
        }
        let stream = self.streams.as_ref().map(|streams| {
            let stream = Arc::new(Stream::default());
            let mut streams = streams.lock();
            streams.retain(|stream| stream.strong_count() > 0);
            streams.push(Arc::downgrade(&stream));
            stream
        });
        BodyClock {
            connection: Arc::clone(self),
            stream,
        }
    }

    /// The content of a request that is being served may be read for longer than that: as long as this value lives.
    pub(super) fn read(self: &Arc<Self>) -> BodyClock {
        self.serving.fetch_add(1, Ordering::Relaxed);
        BodyClock {
            connection: Arc::clone(self),
            stream: None,
        }
    }

    /// When the next limit passes, and which.
    fn deadline(&self, head_limit: Duration, idle_limit: Duration) -> Option<(Instant, Expired)> {
        let at = |ms: u64, limit: Duration| self.start + Duration::from_millis(ms) + limit;
        let head = self.head_since.load(Ordering::Relaxed);
        let idle = self.idle_since.load(Ordering::Relaxed);
        let stalled = self.stalled();
        if stalled != 0 {
            return Some((at(stalled, STALLED_FOR), Expired::Stalled));
        }
        if self.waiting.load(Ordering::Relaxed) > 0 {
            // The parser has the next request already, and gets to it.
            return None;
        }
        match (idle, head) {
            // In HTTP/2 a head that does not end holds up everything else.
            (0, 1..) if self.streams.is_some() => Some((at(head, head_limit), Expired::Head)),
            (0, _) => None,
            (_, 0) if self.owes_first.load(Ordering::Relaxed) && head_limit <= idle_limit => {
                Some((at(idle, head_limit), Expired::Head))
            }
            (_, 0) => Some((at(idle, idle_limit), Expired::Idle)),
            // The time of a pipelined head does not run while the request before it is served.
            (..) => Some((at(head.max(idle), head_limit), Expired::Head)),
        }
    }

    /// The time for being idle begins anew.
    pub(super) fn begin_idle_anew(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// Whether no request is being served and none has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != 0
            && self.waiting.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
            && self.stalled() == 0
    }

    /// Since when the client takes nothing; 0: it takes what it is sent.
    fn stalled(&self) -> u64 {
        let socket = self.stalled_since.load(Ordering::Relaxed);
        let Some(streams) = &self.streams else { return socket };
        let streams = streams.lock();
        streams
            .iter()
            .filter_map(Weak::upgrade)
            .map(|stream| stream.given_at.load(Ordering::Relaxed))
            .chain([socket])
            .filter(|since| *since != 0)
            .min()
            .unwrap_or(0)
    }

    /// Ends when a limit has passed. The timer is moved only when it would fire too late: not once per request.
    pub(super) async fn expired(&self, head_limit: Duration, idle_limit: Duration) -> Expired {
        let mut timer = std::pin::pin!(tokio::time::sleep(head_limit.min(idle_limit)));
        std::future::poll_fn(|cx| {
            loop {
                let deadline = self.deadline(head_limit, idle_limit);
                if let Some((deadline, over)) = deadline {
                    if deadline <= Instant::now() {
                        return Poll::Ready(over);
                    }
                    if deadline < timer.deadline() {
                        timer.as_mut().reset(deadline);
                    }
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let next = deadline.map_or_else(|| Instant::now() + head_limit, |(deadline, _)| deadline);
                timer.as_mut().reset(next);
            }
        })
        .await
    }
}

/// One request's share of the clock, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct BodyClock {
    connection: Arc<ConnectionClock>,
    stream: Option<Arc<Stream>>,
}

impl BodyClock {
    /// The answer was asked for its next part; `ready`: it gave one, which the client has to take now.
    pub(super) fn given(&self, ready: bool) {
        if let Some(stream) = &self.stream {
            let at = if ready { self.connection.now() } else { 0 };
            stream.given_at.store(at, Ordering::Relaxed);
        }
    }

    /// To be held by a part of the answer until it is written. In HTTP/1.1 what is unwritten shows at the socket.
    pub(super) fn part(&self) -> Option<Arc<Stream>> {
        self.stream.clone()
    }
}

impl Drop for BodyClock {
    fn drop(&mut self) {
        if self.connection.serving.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connection
                .idle_since
                .store(self.connection.now(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
