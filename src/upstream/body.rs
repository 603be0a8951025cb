//! A response body on its way from the upstream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::BrokenBy;
use super::overtaking::Overtaking;
use super::pool::CheckedOut;
use super::request::SendableBody;
use crate::fair::Place;
use crate::time::WaitTimer;

/// An answer that nobody will see is read up to here, so that its connection can be used again.
const DISCARDED_BYTES: usize = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// Why a response body ended early. The client must see a broken transfer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamBodyError {
    /// The connection broke, or the framing was wrong.
    #[error("the upstream's response body broke off: {0}")]
    Broken(#[source] BrokenBy),
    /// HTTP/2: the upstream reset the stream without an error in the middle of the body.
    #[error("the upstream ended the response before all of its body was sent (RST_STREAM with NO_ERROR)")]
    Cut,
    /// The upstream paused for too long.
    #[error("the upstream's response body paused for more than {}s (`response_body_idle_timeout`)", .0.as_secs_f32())]
    Idle(Duration),
}

/// Streams a response body; gives the connection back at its end, closes it when dropped before.
pub struct UpstreamBody<B> {
    source: Source<B>,
    place: Option<Place>,
    idle_limit: Duration,
}

/// Where the body comes from.
pub(super) enum Source<B> {
    /// A connection that serves nothing else meanwhile.
    Http1(CheckedOut<B>),
    /// The same, while the request is still being sent.
    Overtaking(Overtaking, WaitTimer),
    /// One that serves others, too.
    Http2(Incoming, WaitTimer),
    /// There is nothing more.
    Over,
}

impl<B: SendableBody> UpstreamBody<B> {
    /// The body of an answer that came before its request was sent.
    pub(super) fn overtaking(connection: CheckedOut<B>, place: Place, idle_limit: Duration) -> Self {
        Self {
            source: Source::Overtaking(Overtaking::begin(connection, place, idle_limit), WaitTimer::default()),
            place: None,
            idle_limit,
        }
    }

    pub(super) fn new(source: Source<B>, place: Place, idle_limit: Duration) -> Self {
        let mut body = Self {
            source,
            place: Some(place),
            idle_limit,
        };
        if body.is_end_stream() {
            body.release();
        }
        body
    }

    /// Reads the rest of an answer that nobody will see, if it is short, so that its connection can be used again.
    pub async fn discard(mut self) {
        let read = async {
            let mut left = DISCARDED_BYTES;
            while let Some(Ok(frame)) = self.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, read).await;
    }

    fn release(&mut self) {
        if let Source::Http1(connection) = std::mem::replace(&mut self.source, Source::Over) {
            connection.release();
        }
        self.place = None;
    }

    fn broken(&mut self, error: UpstreamBodyError) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        self.source = Source::Over;
        self.place = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl<B: SendableBody> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let (polled, timer) = match &mut this.source {
            Source::Http1(connection) => {
                let http1 = &mut connection.connection.http1;
                let polled = http1.poll_frame(cx).map_err(BrokenBy::from);
                (polled, &mut http1.timer)
            }
            Source::Overtaking(answer, timer) => (answer.poll_frame(cx).map_err(BrokenBy::from), timer),
            Source::Http2(incoming, timer) => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx).map_err(BrokenBy::from);
                if matches!(polled, Poll::Ready(None)) && !incoming.is_end_stream() {
                    // hyper takes a reset with NO_ERROR for the end of the body. RFC 9113 section 8.1 lets a server end a
                    // request's body so, not its own answer's.
                    return this.broken(UpstreamBodyError::Cut);
                }
                (polled, timer)
            }
            Source::Over => return Poll::Ready(None),
        };
        let Poll::Ready(polled) = polled else {
            let until = timer.begin() + this.idle_limit;
            ready!(timer.poll_until(cx, until));
            return this.broken(UpstreamBodyError::Idle(this.idle_limit));
        };
        timer.end();
        if let Some(Err(error)) = polled {
            return this.broken(UpstreamBodyError::Broken(error));
        }
        if polled.is_none() || this.is_end_stream() {
            this.release();
        }
        Poll::Ready(polled.and_then(Result::ok).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Http1(connection) => connection.connection.http1.is_over(),
            Source::Overtaking(answer, _) => answer.is_over(),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(connection) => connection.connection.http1.size_hint(),
            Source::Overtaking(answer, _) => answer.size_hint(),
            Source::Http2(incoming, _) => incoming.size_hint(),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}
