//! The content of a request for its tries: recorded as it streams, as far as it may be sent again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::blocks::Blocks;
use super::inbound::{Inbound, RequestBodyError};
use crate::fair::{Amount, Part};

/// A body that is recorded while it streams, up to a limit.
pub(in crate::proxy) struct Recording {
    inbound: Inbound,
    recorded: Blocks,
    trailers: Option<HeaderMap>,
    /// Bytes taken from the budget, as they come.
    held: Amount,
    ended: bool,
    /// Grew beyond the limit or the budget: what was recorded is gone, and the body can't be sent again.
    overflowed: bool,
    limit: usize,
    /// Which reader is the current one. An earlier reader must not poll any more: it would take the waker away.
    reader: u32,
    /// Whether the current reader was asked for a byte.
    asked: bool,
}

impl Recording {
    fn record(&mut self, data: &Bytes) {
        if self.overflowed {
            return;
        }
        if !self.hold(data.len()) {
            self.overflowed = true;
            self.forget();
            return;
        }
        self.recorded.push(data);
    }

    fn hold(&mut self, bytes: usize) -> bool {
        let recorded = self.recorded.len() + bytes;
        recorded <= self.limit && self.held.grow(recorded.saturating_sub(self.held.held()))
    }

    fn forget(&mut self) {
        self.held.clear();
        self.recorded = Blocks::default();
    }

    /// Reads on. Data are recorded before they are returned.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(frame) = ready!(self.inbound.poll_frame(cx)) else {
            self.ended = true;
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            let data = data.clone();
            self.record(&data);
            // The end is seen with the last chunk.
            self.ended = self.inbound.is_end_stream();
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Where the tries of one request take their body from.
pub(in crate::proxy) enum BodySource {
    /// No content.
    Empty,
    /// Too large to record: can be sent only once.
    Once(Option<Inbound>),
    /// Recorded as it streams.
    Recorded {
        shared: Arc<Mutex<Recording>>,
        known_length: Option<u64>,
    },
}

/// What [`BodySource::buffer`] found.
pub(in crate::proxy) enum Buffered {
    /// The whole content.
    Whole(Bytes),
    /// More than may be recorded.
    TooLarge,
    /// Not complete yet.
    Unfinished,
}

impl BodySource {
    /// `limit`: bytes of one body that may be recorded. `budget`: the sharer's part of what all may record together.
    pub(in crate::proxy) fn new(inbound: Inbound, limit: usize, budget: &Arc<Part>) -> Self {
        let known_length = inbound.size_hint().exact();
        let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= limit && budget.has(length));
        if !known_length.is_none_or(fits) {
            return Self::Once(Some(inbound));
        }
        let recording = Recording {
            inbound,
            recorded: Blocks::default(),
            trailers: None,
            held: Amount::none(budget),
            ended: false,
            overflowed: false,
            limit,
            reader: 0,
            asked: false,
        };
        Self::Recorded {
            shared: Arc::new(Mutex::new(recording)),
            known_length,
        }
    }

    /// Whether the request has no content.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The length of the content, bytes, if `Content-Length` gave it or there is no content.
    pub(in crate::proxy) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Once(inbound) => inbound.as_ref()?.size_hint().exact(),
            Self::Recorded { known_length, .. } => *known_length,
        }
    }

    /// Whether one more try could have the body from its start.
    pub(in crate::proxy) fn can_repeat(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(_) => false,
            Self::Recorded { shared, .. } => {
                let recording = shared.lock();
                !recording.overflowed && recording.inbound.facts().fault().is_none()
            }
        }
    }

    /// Whether the body is as good as certain to be repeatable: no content, a known length within the limit, or all of it here.
    pub(in crate::proxy) fn surely_repeatable(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(_) => false,
            Self::Recorded { shared, known_length } => {
                let recording = shared.lock();
                !recording.overflowed && (recording.ended || known_length.is_some())
            }
        }
    }

    /// Whether there is content, and the present try was not asked for a byte of it: then the request was not sent
    /// whole.
    pub(in crate::proxy) fn is_unasked(&self) -> bool {
        match self {
            // Nobody asks for a byte where there is none.
            Self::Empty
            | Self::Once(_)
            | Self::Recorded {
                known_length: Some(0), ..
            } => false,
            Self::Recorded { shared, .. } => !shared.lock().asked,
        }
    }

    /// Whether the body is known to be too large to be recorded.
    pub(in crate::proxy) fn is_once(&self) -> bool {
        matches!(self, Self::Once(_))
    }

    /// The body for the next try, from its start. `None`: it cannot be sent again.
    pub(in crate::proxy) fn next_body(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody(Kind::Empty)),
            Self::Once(inbound) => inbound.take().map(|inbound| RequestBody(Kind::Once(inbound))),
            Self::Recorded { shared, known_length } => {
                let mut recording = shared.lock();
                // What `buffer` read ahead of an overflow is still there for the first reader.
                if recording.overflowed && recording.reader > 0 {
                    return None;
                }
                recording.reader += 1;
                recording.asked = false;
                recording.inbound.begin_wait_anew();
                let reader = Reader {
                    id: recording.reader,
                    at: 0,
                    sent: 0,
                    trailers_sent: false,
                    known_length: *known_length,
                    shared: Arc::clone(shared),
                };
                Some(RequestBody(Kind::Recorded(reader)))
            }
        }
    }

    /// Reads the body to its end before it is sent, as far as it may be recorded.
    ///
    /// # Errors
    /// When the client's side fails.
    pub(in crate::proxy) async fn buffer(&mut self, limit: Option<Duration>) -> Result<Buffered, RequestBodyError> {
        let shared = match self {
            Self::Empty => return Ok(Buffered::Whole(Bytes::new())),
            Self::Once(_) => return Ok(Buffered::TooLarge),
            Self::Recorded { shared, .. } => Arc::clone(shared),
        };
        shared.lock().inbound.begin_wait_anew();
        let read_on = std::future::poll_fn(|cx| {
            let mut recording = shared.lock();
            loop {
                if recording.overflowed {
                    return Poll::Ready(Ok(Buffered::TooLarge));
                }
                if recording.ended {
                    return Poll::Ready(Ok(Buffered::Whole(recording.recorded.whole())));
                }
                if let Some(Err(error)) = ready!(recording.poll_ahead(cx)) {
                    return Poll::Ready(Err(error));
                }
            }
        });
        match limit {
            None => read_on.await,
            Some(limit) => tokio::time::timeout(limit, read_on)
                .await
                .unwrap_or(Ok(Buffered::Unfinished)),
        }
    }
}

impl Recording {
    /// Like [`Self::poll_next`], but nobody takes the frame yet: a chunk that would overflow must still reach the reader,
    /// so it stays at the end of what was recorded.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), RequestBodyError>>> {
        let Some(frame) = ready!(self.inbound.poll_frame(cx)) else {
            self.ended = true;
            return Poll::Ready(None);
        };
        let frame = frame?;
        match frame.into_data() {
            Ok(data) => {
                // One chunk beyond the limit is kept: it is at most one read buffer.
                self.overflowed = !self.hold(data.len());
                if self.overflowed {
                    self.recorded.push_whole(data);
                } else {
                    self.recorded.push(&data);
                }
                self.ended = self.inbound.is_end_stream();
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
        Poll::Ready(Some(Ok(())))
    }
}

/// The body of one try.
pub struct RequestBody(Kind);

enum Kind {
    Empty,
    Once(Inbound),
    Recorded(Reader),
}

struct Reader {
    id: u32,
    at: usize,
    sent: u64,
    trailers_sent: bool,
    known_length: Option<u64>,
    shared: Arc<Mutex<Recording>>,
}

impl RequestBody {
    /// No content.
    pub(in crate::proxy) fn empty() -> Self {
        Self(Kind::Empty)
    }
}

impl Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let mut recording = self.shared.lock();
        if recording.reader != self.id {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        recording.asked = true;
        if recording.overflowed
            && let Some(chunk) = recording.recorded.take_first()
        {
            if recording.recorded.len() == 0 {
                recording.forget();
            }
            self.sent += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(chunk) = recording.recorded.from(self.at) {
            self.at += chunk.len();
            self.sent += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if recording.ended {
            let trailers = recording.trailers.clone().filter(|_| !self.trailers_sent);
            self.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = ready!(recording.poll_next(cx));
        self.at = recording.recorded.len();
        if let Some(Ok(frame)) = &polled {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            self.trailers_sent |= frame.is_trailers();
        }
        Poll::Ready(polled)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Once(inbound) => inbound.poll_frame(cx),
            Kind::Recorded(reader) => reader.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Once(inbound) => inbound.is_end_stream(),
            Kind::Recorded(reader) => reader.known_length == Some(reader.sent),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Once(inbound) => inbound.size_hint(),
            Kind::Recorded(reader) => match reader.known_length {
                Some(length) => SizeHint::with_exact(length.saturating_sub(reader.sent)),
                None => SizeHint::new(),
            },
        }
    }
}
