//! A response body on its way from the upstream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

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
    Broken(#[from] hyper::Error),
    /// HTTP/2: the upstream reset the stream without an error in the middle of the body.
    #[error("the upstream ended the response before all of its body was sent (RST_STREAM with NO_ERROR)")]
    Cut,
    /// The upstream paused for too long.
    #[error("the upstream's response body paused for more than {}s (`response_body_idle_timeout`)", .0.as_secs_f32())]
    Idle(Duration),
}

/// Streams a response body; gives the connection back at its end, closes it when dropped before.
pub struct UpstreamBody<B> {
    incoming: Incoming,
    /// It comes over HTTP/2.
    multiplexed: bool,
    connection: Option<CheckedOut<B>>,
    place: Option<Place>,
    idle_limit: Duration,
    idle: WaitTimer,
}

impl<B: SendableBody> UpstreamBody<B> {
    pub(super) fn new(
        incoming: Incoming,
        connection: Option<CheckedOut<B>>,
        place: Place,
        idle_limit: Duration,
    ) -> Self {
        let mut body = Self {
            incoming,
            multiplexed: connection.is_none(),
            connection,
            place: Some(place),
            idle_limit,
            idle: WaitTimer::default(),
        };
        if body.incoming.is_end_stream() {
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
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
        self.place = None;
    }
}

impl<B: SendableBody> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(polled) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            let until = this.idle.begin() + this.idle_limit;
            ready!(this.idle.poll_until(cx, until));
            this.connection = None;
            return Poll::Ready(Some(Err(UpstreamBodyError::Idle(this.idle_limit))));
        };
        this.idle.end();
        match polled {
            Some(Ok(frame)) => {
                if this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None if this.multiplexed && !this.incoming.is_end_stream() => {
                // hyper takes a reset with NO_ERROR for the end of the body. RFC 9113 section 8.1 lets a server end a
                // request's body so, not its own answer's.
                this.place = None;
                Poll::Ready(Some(Err(UpstreamBodyError::Cut)))
            }
            None => {
                this.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
