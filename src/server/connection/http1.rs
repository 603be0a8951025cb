//! HTTP/1.1 on a client's connection: awake while there is something to do, parked without buffers in between.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Request, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::drive::{End, Idle, drive};
use super::farewell::{farewell, linger};
use super::parking::{PARK_AFTER, PARK_SOON, Parkable, Woken, park};
use super::timed_body::time;
use super::{code_of, serve_one};
use crate::code::ErrorCode;
use crate::metrics::{DenyReason, GaugeGuard};
use crate::proxy::ClientBody;
use crate::server::clock::{ConnectionClock, Expired, IDLE_FOR};
use crate::server::drain::DrainHandle;
use crate::server::listener::Listener;
use crate::server::standing::Standing;
use crate::server::strict::{Refusal, Strict};

/// hyper's least buffer.
const HYPER_MIN_BUFFER: usize = 8192;
/// [`Strict`] has counted bytes and fields before hyper does, and answers itself.
const BEYOND_OUR_LIMIT: usize = 1;

/// Serves HTTP/1.1 until the connection ends, drains, or its time is over.
///
/// No `async fn`: that would keep two places for each parameter, for each idle connection.
#[allow(clippy::manual_async_fn)]
pub(in crate::server) fn serve_http1<S>(
    mut stream: S,
    standing: Standing,
    listener: Arc<Listener>,
    mut drain: DrainHandle,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Parkable + Send + Sync + Unpin + 'static,
{
    async move {
        let _open = GaugeGuard::new(&listener.snapshot().pipeline.metrics.connections_open);
        let clock = Arc::new(ConnectionClock::default());
        loop {
            let mut last = false;
            if S::PARKS {
                match park(&stream, &clock, &listener.snapshot().limits, &mut drain).await {
                    Woken::Readable => {}
                    Woken::LastCall => last = true,
                    Woken::Expired(Expired::Head) => return Box::pin(head_timeout(stream, &standing, &listener)).await,
                    Woken::Expired(_) => return,
                }
            }
            // In a box of its own: a connection that is parked holds next to nothing.
            match Box::pin(serve_awake(stream, &standing, &listener, &clock, drain.clone(), last)).await {
                Some(back) => stream = back,
                None => return,
            }
        }
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
    S: AsyncRead + AsyncWrite + Parkable + Send + Unpin + 'static,
{
    let limits = listener.snapshot().limits;
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
        let request = request.map(|incoming| match incoming.is_end_stream() {
            true => ClientBody::new(incoming),
            false => ClientBody::holding(incoming, Box::new(clock.read())),
        });
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
            Ok::<_, std::convert::Infallible>(time(response, serving, None))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // A client may shut its side down and still wait for the answer.
        .half_close(true)
        .keep_alive(!last)
        // For fields whose spelling by Atlas is not known: our own, and all that came over HTTP/2.
        .title_case_headers(true)
        // The head is timed here: hyper's timer would also end idle connections, and wakes for each request.
        .header_read_timeout(None)
        .max_buf_size((limits.max_header_bytes + BEYOND_OUR_LIMIT).max(HYPER_MIN_BUFFER));
    if limits.max_headers > 100 {
        // To set hyper's own default costs an allocation for each request.
        builder.max_headers(limits.max_headers + BEYOND_OUR_LIMIT);
    }
    let mut connection = builder.serve_connection(io, service);
    let idle = match (S::PARKS, listener.capacity.is_crowded()) {
        (true, false) => PARK_AFTER,
        (true, true) => PARK_SOON,
        (false, _) => IDLE_FOR,
    };
    let idle = Idle {
        limit: idle,
        parks: S::PARKS && !last,
        last,
    };
    let end = drive(Pin::new(&mut connection), standing, clock, listener, drain, idle).await;
    if matches!(end, End::BrokenOff | End::Abandoned) && without_framing.load(Ordering::Relaxed) {
        // Only the end of the connection tells an HTTP/1.0 client where its answer ends. After a whole answer hyper
        // ends the connection itself; this answer is not whole.
        connection.into_parts().io.into_inner().into_inner().0.reset();
        return None;
    }
    let strict = connection.into_parts().io.into_inner();
    let parks = strict.is_between_messages();
    let (mut stream, unread) = strict.into_inner();
    match end {
        End::Park if parks => return Some(stream),
        End::Done if unread => linger(&mut stream).await,
        End::Done | End::BrokenOff | End::Park | End::Abandoned => {}
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
