//! HTTP/2 on a client's connection.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::drive::{Idle, drive};
use super::timed_body::time;
use super::{code_of, serve_one};
use crate::metrics::{DenyReason, GaugeGuard};
use crate::proxy::{ClientBody, Unread};
use crate::server::clock::{ConnectionClock, IDLE_FOR};
use crate::server::drain::DrainHandle;
use crate::server::flood::FloodMeter;
use crate::server::fragment::{self, Marked};
use crate::server::listener::Listener;
use crate::server::standing::Standing;
use crate::server::strict::Refusal;

/// Requests that come so long after the client was told that the connection ends were not on their way then.
const LAST_STREAMS: Duration = Duration::from_secs(2);
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

/// Serves HTTP/2 until the connection ends, drains, or its time is over.
pub(in crate::server) async fn serve_http2<S>(
    stream: S,
    standing: Standing,
    listener: Arc<Listener>,
    drain: DrainHandle,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = GaugeGuard::new(&listener.snapshot().pipeline.metrics.connections_open);
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
                Ok(time(response, serving, unread))
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
        parks: false,
        last: false,
    };
    drive(connection.as_mut(), &standing, &clock, &listener, drain, idle).await;
}
