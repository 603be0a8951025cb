//! One client connection, from its first byte to its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::ConnectionLimits;
use super::clock::{BodyClock, ConnectionClock, IDLE_FOR, Over, Stream};
use super::drain::DrainHandle;
use super::flood::FloodMeter;
use super::fragment::{self, Marked};
use super::listener::Listener;
use super::standing::Standing;
use super::strict::{Refusal, Strict};
use crate::code::ErrorCode;
use crate::metrics::{DenyReason, IntGauge};
use crate::proxy::{BoxError, ClientBody, ResponseBody, Unread};

/// A connection with nothing to do for this long gives its buffers back until there is.
const REST_AFTER: Duration = Duration::from_millis(100);
/// The same while there are many connections: what many are awake with at once, the process keeps.
const REST_SOON: Duration = Duration::from_millis(50);
/// How long an idle connection waits for a last request when the drain begins.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long a connection of HTTP/2 that ends for its age, or because nothing happened, stays silent before it is dropped: its
/// client may be far away, and confirm the end late.
const LAST_NEWS: Duration = Duration::from_secs(5);
/// Over HTTP/2, requests that come so long after the client was told of the end were not on their way then.
const LAST_STREAMS: Duration = Duration::from_secs(2);
/// Bound on the last words to a slow client.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// What a client still sends when it was answered early is taken in, unread, up to here: closing over it would reset the
/// connection, and the client might never see its answer (RFC 9112 section 9.6).
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;
/// Over HTTP/2, and no longer than this while nothing comes.
const LINGER_SILENCE: Duration = Duration::from_millis(500);
/// hyper's least buffer.
const HYPER_MIN_BUFFER: usize = 8192;
/// [`Strict`] has counted bytes and fields before hyper does, and speaks for itself.
const BEYOND_OUR_LIMIT: usize = 1;
/// What one HTTP/2 connection may do at a time; browsers and gRPC use 100, too.
const H2_STREAMS: u32 = 100;
/// Streams reset for the peer's own errors ("MadeYouReset", CVE-2025-8671) before the connection ends.
const H2_LOCAL_RESETS: usize = 64;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What one stream may have sent ahead of its reader: bounds memory, and is enough for a gigabit at 1 ms.
const H2_STREAM_WINDOW: u32 = 256 << 10;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
const H2_SEND_BUFFER: usize = 64 << 10;

/// How serving ended.
enum End {
    /// hyper is done with it.
    Done,
    /// hyper is, in the middle of an answer.
    BrokenOff,
    /// Nothing is going on: the stream may be taken back until there is.
    Rest,
    /// The head of a request took too long.
    HeadTimeout,
    /// Broken off: the drain is over, or the client takes nothing.
    Abandoned,
}

/// Serves HTTP/1.1 until the connection ends, drains, or its time is over.
pub(super) async fn serve_http1<S>(mut stream: S, standing: Standing, listener: Arc<Listener>, mut drain: DrainHandle)
where
    S: AsyncRead + AsyncWrite + Rest + Send + Sync + Unpin + 'static,
{
    let _open = OpenGuard::new(&listener);
    let clock = Arc::new(ConnectionClock::default());
    loop {
        let mut last = false;
        if S::RESTS {
            match rest(&stream, &clock, &listener.snapshot().limits, &mut drain).await {
                Rested::Awake => {}
                Rested::LastCall => last = true,
                Rested::Over(Over::Head) => return Box::pin(head_timeout(stream, &standing, &listener)).await,
                Rested::Over(_) => return,
            }
        }
        // In a box of its own: a connection that rests holds next to nothing.
        match Box::pin(serve_awake(stream, &standing, &listener, &clock, drain.clone(), last)).await {
            Some(back) => stream = back,
            None => return,
        }
    }
}

/// What ends a rest.
enum Rested {
    /// There is something to read, if only the end.
    Awake,
    /// The same, while draining: one more request is served, and the client is told that it is the last.
    LastCall,
    /// A time is over, or the drain is.
    Over(Over),
}

/// Waits until there is something to read, without a buffer to read into.
async fn rest<S: Rest>(
    stream: &S,
    clock: &ConnectionClock,
    limits: &ConnectionLimits,
    drain: &mut DrainHandle,
) -> Rested {
    tokio::select! {
        biased;
        _ = stream.readable() => {
            return if drain.is_draining() { Rested::LastCall } else { Rested::Awake };
        }
        over = clock.over(limits.header_read_timeout, IDLE_FOR) => return Rested::Over(over),
        () = drain.draining() => {}
    }
    // A client that is about to send must not find the door shut: its request may be on its way.
    match tokio::time::timeout(LAST_CALL, stream.readable()).await {
        Ok(_) => Rested::LastCall,
        Err(_elapsed) => Rested::Over(Over::Idle),
    }
}

/// Serves while there is something to do. Gives the stream back when there is nothing; `None`: the connection has ended.
async fn serve_awake<S>(
    stream: S,
    standing: &Standing,
    listener: &Arc<Listener>,
    clock: &Arc<ConnectionClock>,
    drain: DrainHandle,
    last: bool,
) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Rest + Send + Unpin + 'static,
{
    let snapshot = listener.snapshot();
    let limits = &snapshot.limits;
    let refuse = {
        let (listener, peer) = (Arc::clone(listener), standing.peer);
        move |refusal: &Refusal| {
            let (code, detail) = (code_of(refusal), refusal.to_string());
            let line = match refusal {
                Refusal::TargetByte(at) => (at.method.as_str(), at.path.as_str()),
                _ => ("", ""),
            };
            let reason = Some(DenyReason::Malformed);
            listener
                .snapshot()
                .pipeline
                .refuse_line(peer, code, reason, &detail, line)
        }
    };
    let io = TokioIo::new(Strict::new(
        stream,
        Arc::clone(clock),
        limits.max_header_bytes,
        limits.max_headers,
        refuse,
    ));
    let without_framing = AtomicBool::new(false);
    let leaving = drain.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let serving = clock.serve();
        let request = request.map(ClientBody::new);
        let version = request.version();
        let without_framing = &without_framing;
        without_framing.store(false, Ordering::Relaxed);
        let leaving = &leaving;
        async move {
            let mut response = serve_one(listener, standing, request).await;
            if leaving.is_leaving() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if version == Version::HTTP_10 && response.headers().contains_key(header::CONNECTION) {
                // hyper adds `keep-alive` to an answer of a later version.
                *response.version_mut() = version;
            }
            let no_length = response.body().size_hint().exact().is_none()
                && !response.headers().contains_key(header::CONTENT_LENGTH);
            without_framing.store(version == Version::HTTP_10 && no_length, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(timed(response, serving, None))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // A client may shut its side down and still wait for the answer.
        .half_close(true)
        .keep_alive(!last)
        // Where Atlas's own spelling is not known: our own fields, and all of what came over HTTP/2.
        .title_case_headers(true)
        // The head is timed here: hyper's timer would also end idle connections, and wakes for each request.
        .header_read_timeout(None)
        .max_buf_size((limits.max_header_bytes + BEYOND_OUR_LIMIT).max(HYPER_MIN_BUFFER));
    if limits.max_headers > 100 {
        // Asking for what is hyper's own default costs an allocation for each request.
        builder.max_headers(limits.max_headers + BEYOND_OUR_LIMIT);
    }
    let mut connection = builder.serve_connection(io, service);
    let idle = match (S::RESTS, listener.capacity.is_crowded()) {
        (true, false) => REST_AFTER,
        (true, true) => REST_SOON,
        (false, _) => IDLE_FOR,
    };
    let idle = Idle {
        limit: idle,
        rests: S::RESTS && !last,
        last,
    };
    let end = drive(Pin::new(&mut connection), standing, clock, listener, drain, idle).await;
    if matches!(end, End::BrokenOff | End::Abandoned) && without_framing.load(Ordering::Relaxed) {
        // The end of the connection is all that tells an HTTP/1.0 client where its answer ends. Of a whole one hyper
        // ends the connection itself: this one is not.
        connection.into_parts().io.into_inner().into_inner().0.reset();
        return None;
    }
    let strict = connection.into_parts().io.into_inner();
    let rests = strict.rests();
    let (mut stream, unread) = strict.into_inner();
    match end {
        End::Rest if rests => return Some(stream),
        End::Done if unread => linger(&mut stream).await,
        End::Done | End::BrokenOff | End::Rest | End::Abandoned => {}
        End::HeadTimeout => head_timeout(stream, standing, listener).await,
    }
    None
}

async fn head_timeout<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, standing: &Standing, listener: &Listener) {
    let detail = "The head of the request was not complete within `header_read_timeout`.";
    let answer = listener
        .snapshot()
        .pipeline
        .refuse_unparsed(standing.peer, ErrorCode::RequestTimeout, None, detail);
    farewell(&mut stream, &answer).await;
}

/// Serves HTTP/2 until the connection ends, drains, or its time is over.
pub(super) async fn serve_http2<S>(stream: S, standing: Standing, listener: Arc<Listener>, drain: DrainHandle)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = OpenGuard::new(&listener);
    let clock = Arc::new(ConnectionClock::multiplexed());
    let (peer, standing) = (standing.peer, Arc::new(standing));
    let flooded = {
        let listener = Arc::clone(&listener);
        move || {
            let pipeline = &listener.snapshot().pipeline;
            pipeline.metrics.denied(DenyReason::Flood);
            tracing::warn!(listener = %pipeline.name, %peer, "ended an HTTP/2 connection: far more control frames and resets than requests");
        }
    };
    let io = TokioIo::new(Marked::new(FloodMeter::new(stream, Arc::clone(&clock), flooded)));
    let limits = listener.snapshot().limits;
    let max_headers = limits.max_headers;
    let service = {
        let (listener, clock, standing) = (Arc::clone(&listener), Arc::clone(&clock), Arc::clone(&standing));
        service_fn(move |request: Request<Incoming>| {
            let (listener, standing) = (Arc::clone(&listener), Arc::clone(&standing));
            let serving = (!clock.has_left(LAST_STREAMS)).then(|| clock.serve());
            let unread = (!request.body().is_end_stream()).then(Arc::<Unread>::default);
            let request = request.map(|incoming| match &unread {
                Some(unread) => ClientBody::leaving(incoming, Arc::clone(unread)),
                None => ClientBody::new(incoming),
            });
            async move {
                let Some(serving) = serving else {
                    // The client does not confirm the end of the connection, so that h2 goes on taking streams.
                    listener.snapshot().pipeline.refuse_late(peer, &request);
                    return Err(h2::Error::from(h2::Reason::REFUSED_STREAM));
                };
                let refusal = match fragment::refused(request.headers()) {
                    Some(why) => Some(Refusal::Malformed(why)),
                    None => (request.headers().len() > max_headers).then_some(Refusal::TooManyFields(max_headers)),
                };
                let response = if let Some(refusal) = refusal {
                    let pipeline = &listener.snapshot().pipeline;
                    pipeline.refuse(peer, &request, code_of(&refusal), &refusal.to_string())
                } else {
                    serve_one(&listener, &standing, request).await
                };
                Ok(timed(response, serving, unread))
            }
        })
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .max_local_error_reset_streams(H2_LOCAL_RESETS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let idle = Idle {
        limit: IDLE_FOR,
        rests: false,
        last: false,
    };
    drive(connection.as_mut(), &standing, &clock, &listener, drain, idle).await;
}

/// What becomes of a connection on which nothing happens.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// After how long.
    limit: Duration,
    /// It rests; else it ends.
    rests: bool,
    /// It serves one more request in any case, and ends by itself then.
    last: bool,
}

async fn drive<C>(
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
    // Only HTTP/2 is told of its end by itself: in HTTP/1.1 the last answer says so.
    let mut ending = std::pin::pin!(standing.ending(|| listener.snapshot().limits.max_age));
    let mut ends = !clock.is_multiplexed();
    let mut over = std::pin::pin!(clock.over(head_limit, idle.limit));
    // Only looked at while the connection is to end: a client that reads nothing would never learn of it, and one of HTTP/2
    // need not confirm it.
    let mut leaving = draining;
    let mut quiet = std::pin::pin!(clock.quiet(LAST_CALL));
    let mut last_call = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = %listener.snapshot().pipeline.name, %error, "client connection ended");
                    if error.is_parse() {
                        // It has answered by itself.
                        listener.snapshot().pipeline.unparsable(standing.peer, &error.to_string());
                    }
                    if error.is_user() {
                        return End::BrokenOff;
                    }
                }
                return End::Done;
            }
            which = over.as_mut() => match which {
                Over::Idle if idle.rests => return End::Rest,
                Over::Idle => {
                    leaving = true;
                    clock.leave();
                    connection.as_mut().graceful_shutdown();
                    quiet.set(clock.quiet(LAST_NEWS));
                    // As long again for the client to take the news.
                    clock.rested();
                    over.set(clock.over(head_limit, idle.limit));
                }
                Over::Head => return End::HeadTimeout,
                Over::Stalled => {
                    let pipeline = &listener.snapshot().pipeline;
                    pipeline.shared.metrics.error(ErrorCode::RequestTimeout);
                    tracing::info!(listener = %pipeline.name, "ended a connection: the client takes nothing of its answer");
                    return End::Abandoned;
                }
            },
            () = drain.draining(), if !draining => {
                if idle.rests && clock.is_idle() {
                    return End::Rest;
                }
                (draining, leaving) = (true, true);
                clock.leave();
                quiet.set(clock.quiet(LAST_CALL));
                // One of HTTP/1.1 would end at once. The answer to a request that is on its way says that it ends.
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

/// A stream that can say that there is something to read before anybody has a buffer for it.
pub(super) trait Rest {
    /// Whether it can.
    const RESTS: bool;

    /// Ends when there is something to read, or the end.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Has the end of the stream look like a failure, where it would look like a good end.
    fn reset(&self) {}
}

impl Rest for TcpStream {
    const RESTS: bool = true;

    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn reset(&self) {
        // An error says that the connection is gone already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// A unix socket has no reset that its owner can cause: its peer sees one only where we leave bytes of it unread.
impl Rest for UnixStream {
    const RESTS: bool = true;

    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
}

/// What was received may be waiting in it, decrypted or half so: it always reads.
impl<S: Rest + Sync> Rest for TlsStream<S> {
    const RESTS: bool = false;

    async fn readable(&self) -> io::Result<()> {
        Ok(())
    }

    /// Not every client minds that the end of TLS was not told.
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

fn code_of(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Malformed(_) | Refusal::TargetByte(_) => ErrorCode::BadRequest,
        Refusal::HeadTooLarge(_) | Refusal::TooManyFields(_) => ErrorCode::HeadersTooLarge,
    }
}

/// Last words on a connection that nothing else is written to, and its end.
pub(super) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(FAREWELL_TIMEOUT, say).await {
        linger(stream).await;
    }
}

async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let read = async {
        let mut sink = [0u8; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(size) => left = left.saturating_sub(size),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, read).await;
}

/// Counts an open connection, with the label of the snapshot that accepted it.
struct OpenGuard(IntGauge);

impl OpenGuard {
    fn new(listener: &Listener) -> Self {
        let open = listener.snapshot().pipeline.metrics.connections_open.clone();
        open.inc();
        Self(open)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves a request by the snapshot that is in force when it comes, if the peer is still let in by it.
async fn serve_one(listener: &Listener, standing: &Standing, request: Request<ClientBody>) -> Response<ResponseBody> {
    let snapshot = listener.snapshot();
    let http1 = request.version() != Version::HTTP_2;
    let (mut response, last) = match standing.check(&snapshot) {
        Ok(()) => {
            let response = snapshot.pipeline.serve(standing.peer, request).await;
            (response, standing.is_old(snapshot.limits.max_age))
        }
        Err(lost) => (
            snapshot
                .pipeline
                .refuse(standing.peer, &request, lost.code, &lost.detail),
            true,
        ),
    };
    if last && http1 {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if last {
        standing.end();
    }
    response
}

fn timed(response: Response<ResponseBody>, clock: BodyClock, unread: Option<Arc<Unread>>) -> Response<TimedBody> {
    response.map(|body| TimedBody {
        body,
        clock,
        unread: unread.map(|unread| TakingIn {
            unread,
            bytes_left: LINGER_BYTES,
            timers: None,
        }),
    })
}

/// Tells the clock what becomes of an answer, and ends it only when its request has been taken in.
struct TimedBody {
    body: ResponseBody,
    clock: BodyClock,
    /// What may be left of the request.
    unread: Option<TakingIn>,
}

/// The rest of a request that nobody reads, bounded in bytes and time.
struct TakingIn {
    unread: Arc<Unread>,
    bytes_left: usize,
    /// The end of all patience, and of that with silence.
    timers: Option<[Pin<Box<Sleep>>; 2]>,
}

impl TakingIn {
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut came = false;
        loop {
            match self.unread.poll_take(cx) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(bytes)) => {
                    let Some(left) = self.bytes_left.checked_sub(bytes) else {
                        return Poll::Ready(());
                    };
                    self.bytes_left = left;
                    came = true;
                }
                Poll::Pending => break,
            }
        }
        let timer = |limit| Box::pin(tokio::time::sleep(limit));
        let [whole, silence] = self
            .timers
            .get_or_insert_with(|| [timer(LINGER_TIME), timer(LINGER_SILENCE)]);
        if came {
            silence.as_mut().reset(Instant::now() + LINGER_SILENCE);
        }
        if whole.as_mut().poll(cx).is_ready() || silence.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A part of an answer; dropped when it is written.
struct Part {
    bytes: Bytes,
    _unwritten: Option<Arc<Stream>>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.copy_to_bytes(size)
    }
}

impl Body for TimedBody {
    type Data = Part;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.clock.given(polled.is_ready());
        if let (Poll::Ready(None), Some(unread)) = (&polled, &mut this.unread) {
            this.clock.given(false);
            ready!(unread.poll_done(cx));
            this.unread = None;
        }
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Part {
                bytes,
                _unwritten: this.clock.part(),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
