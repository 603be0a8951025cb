//! One client connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::accept::ServerParts;
use super::drain::DrainHandle;
use crate::code::ErrorCode;
use crate::proxy::{BoxError, Peer, ResponseBody, request_timeout_bytes};

/// A kept-alive connection without a request is closed after this: longer than common clients keep theirs, so that it is
/// they who close, and no request runs into our close.
const IDLE_FOR: Duration = Duration::from_secs(120);

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// From the first byte of a head (or from accepting) to its end.
    pub header_read_timeout: Duration,
    /// Size of a head, bytes.
    pub max_header_bytes: usize,
    /// Number of fields.
    pub max_headers: usize,
}

/// Bound on the last words to a slow client.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// hyper's own default: asking for it again costs an allocation per request.
const HYPER_MAX_HEADERS: usize = 100;
/// hyper's least buffer.
const HYPER_MIN_BUFFER: usize = 8192;

/// Serves one connection until it ends, drains, or its time is over.
pub(super) async fn serve<S>(
    stream: S,
    peer: Peer,
    parts: Arc<ServerParts>,
    mut drain: DrainHandle,
    slot: Option<OwnedSemaphorePermit>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _slot = slot;
    let _open = OpenGuard::new(&parts);
    let clock = Arc::new(HeadClock::default());
    let io = TokioIo::new(Timed {
        stream,
        clock: Arc::clone(&clock),
    });
    let listener = &parts.listener;
    let service = service_fn(|request: Request<Incoming>| {
        clock.head_complete();
        let clock = Arc::clone(&clock);
        async move {
            let response = listener.serve(peer, request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| TimedBody { body, clock }))
        }
    });
    let limits = &parts.limits;
    let mut builder = http1::Builder::new();
    builder
        // A client may shut its side down and still wait for the answer.
        .half_close(true)
        // The head is timed here: hyper's timer would also end idle connections, and wakes for each request.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(HYPER_MIN_BUFFER));
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    let mut connection = builder.serve_connection(io, service);
    let mut draining = false;
    let mut end = drain.clone();
    let mut over = std::pin::pin!(clock.over(limits.header_read_timeout));
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(listener = %listener.name, %error, "client connection ended");
                }
                return;
            }
            over = over.as_mut() => match over {
                Over::Idle => Pin::new(&mut connection).graceful_shutdown(),
                Over::Head => break,
            },
            () = drain.draining(), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = end.breaking_off(), if draining => return,
        }
    }
    parts.listener.common.metrics.error(ErrorCode::RequestTimeout);
    let mut stream = connection.into_parts().io.into_inner().stream;
    let farewell = async {
        stream.write_all(&request_timeout_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

struct OpenGuard<'a>(&'a ServerParts);

impl<'a> OpenGuard<'a> {
    fn new(parts: &'a ServerParts) -> Self {
        parts.listener.metrics.connections_open.inc();
        Self(parts)
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.listener.metrics.connections_open.dec();
    }
}

/// Whose turn it is on a connection, and since when. Only the connection's own task writes it; milliseconds since
/// `start`, at least 1 where set.
struct HeadClock {
    start: Instant,
    /// A head has begun and is not complete; 0: none.
    head_since: AtomicU64,
    /// No request is being served; 0: one is.
    idle_since: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// A head took too long.
    Head,
    /// Nothing came for long.
    Idle,
}

impl Default for HeadClock {
    /// A new connection owes a head.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
        }
    }
}

impl HeadClock {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn bytes_came(&self) {
        if self.idle_since.load(Ordering::Relaxed) != 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn head_complete(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.idle_since.store(0, Ordering::Relaxed);
    }

    fn answered(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    fn deadline(&self, head_limit: Duration) -> Option<(Instant, Over)> {
        let at = |ms: u64, limit: Duration| self.start + Duration::from_millis(ms) + limit;
        match (
            self.head_since.load(Ordering::Relaxed),
            self.idle_since.load(Ordering::Relaxed),
        ) {
            (0, 0) => None,
            (0, idle) => Some((at(idle, IDLE_FOR), Over::Idle)),
            (head, _) => Some((at(head, head_limit), Over::Head)),
        }
    }

    /// Ends when a deadline has passed. The timer is moved only when it would fire too late: not once per request.
    async fn over(&self, head_limit: Duration) -> Over {
        let mut timer = std::pin::pin!(tokio::time::sleep(head_limit));
        std::future::poll_fn(|cx| {
            loop {
                let deadline = self.deadline(head_limit);
                if let Some((deadline, over)) = deadline {
                    if deadline <= Instant::now() {
                        if over == Over::Idle {
                            // Said once; the connection is closing.
                            self.answered();
                        }
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

/// Tells the clock when bytes come.
struct Timed<S> {
    stream: S,
    clock: Arc<HeadClock>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.clock.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Tells the clock when the answer has been taken.
struct TimedBody {
    body: ResponseBody,
    clock: Arc<HeadClock>,
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        self.clock.answered();
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
