//! The body of an answer on its way into the connection: timed, and ended only when its request has been read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::farewell::{LINGER_BYTES, LINGER_TIME};
use crate::proxy::{BoxError, ResponseBody, Unread};
use crate::server::clock::{BodyClock, Stream};

/// Reading the rest of a request ends when nothing has come for this long.
const LINGER_SILENCE: Duration = Duration::from_millis(500);

/// `unread`: where what is left of the request may be (HTTP/2).
pub(super) fn time(
    response: Response<ResponseBody>,
    clock: BodyClock,
    unread: Option<Arc<Unread>>,
) -> Response<TimedBody> {
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

/// Tells the clock what becomes of an answer, and ends it only when its request has been read.
pub(super) struct TimedBody {
    body: ResponseBody,
    clock: BodyClock,
    /// What may be left of the request.
    unread: Option<TakingIn>,
}

/// The rest of a request that nobody reads, bounded in bytes and time.
struct TakingIn {
    unread: Arc<Unread>,
    bytes_left: usize,
    /// When reading ends at the latest, and when it ends if nothing comes.
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
pub(super) struct Piece {
    bytes: Bytes,
    _unwritten: Option<Arc<Stream>>,
}

impl Buf for Piece {
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
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.clock.given(polled.is_ready());
        if let (Poll::Ready(None), Some(unread)) = (&polled, &mut this.unread) {
            this.clock.given(false);
            ready!(unread.poll_done(cx));
            this.unread = None;
        }
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Piece {
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
