//! The content of a request as it comes from the connection, and what is left of it when nobody reads on.
//!
//! Over HTTP/2 a stream that ends before its request was read is reset, and some clients then report an error and not
//! the answer (curl of 2023: exit code 92). So the rest is read before the stream ends, as over HTTP/1.1.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

/// The content of a request.
pub struct ClientBody {
    /// Let go of before the content is, since that wakes the connection.
    _held: Option<Box<dyn Any + Send + Sync>>,
    /// `None` only while this is dropped.
    incoming: Option<Incoming>,
    unread: Option<Arc<Unread>>,
}

/// Takes the content that nobody has read, so that the connection can read it to the end.
#[derive(Debug, Default)]
pub struct Unread(Mutex<UnreadState>);

#[derive(Debug, Default)]
struct UnreadState {
    /// Nobody reads any more.
    given_up: bool,
    incoming: Option<Incoming>,
    waker: Option<Waker>,
}

impl ClientBody {
    /// What nobody reads of the content is left to the connection.
    pub fn new(incoming: Incoming) -> Self {
        Self {
            _held: None,
            incoming: Some(incoming),
            unread: None,
        }
    }

    /// Holds something for as long as the content may be read.
    pub fn holding(incoming: Incoming, held: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            _held: Some(held),
            incoming: Some(incoming),
            unread: None,
        }
    }

    /// What nobody reads of the content goes to `unread`.
    pub fn leaving(incoming: Incoming, unread: Arc<Unread>) -> Self {
        Self {
            _held: None,
            incoming: Some(incoming),
            unread: Some(unread),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(unread) = &self.unread else { return };
        let mut left = unread.0.lock();
        left.given_up = true;
        left.incoming = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        if let Some(waker) = left.waker.take() {
            drop(left);
            waker.wake();
        }
    }
}

impl Unread {
    /// Reads what comes and throws it away; returns how many bytes. `None`: that was all.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut left = self.0.lock();
        let given_up = left.given_up;
        match &mut left.incoming {
            Some(incoming) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(frame.data_ref().map_or(0, Bytes::len))),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
            None if given_up => Poll::Ready(None),
            None => {
                left.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
