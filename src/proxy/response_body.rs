//! A response body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::RequestBody;
use super::echo;
use super::headers::clean_trailers;
use super::links::LinkBody;
use super::record::Record;
use crate::audit::Written;
use crate::upstream::UpstreamBody;

/// Any error of a response body; hyper breaks the transfer off, so that the client never sees a clean end.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer to a client.
pub struct ResponseBody {
    content: Content,
    record: Option<Box<Record>>,
    last: Option<Last>,
}

/// What is held back until the audit log has the end of the request.
struct Last {
    written: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// `None`: nothing but the end of the body.
    frame: Option<Frame<Bytes>>,
}

pub(super) enum Content {
    Empty,
    Whole(Option<Bytes>),
    Upstream(UpstreamBody<RequestBody>),
    /// The first data, if they came before the head was sent, and the rest of the body.
    Links(Option<Bytes>, Box<LinkBody<UpstreamBody<RequestBody>>>),
}

impl Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Links(first, body) => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => Pin::new(body.as_mut()).poll_frame(cx).map_err(Into::into),
            },
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Links(first, body) => first.is_none() && body.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
            Self::Links(None, body) => body.size_hint(),
            Self::Links(Some(_), _) => SizeHint::new(),
        }
    }
}

impl ResponseBody {
    /// Closes the record at once when there is nothing to stream: then it is complete before the client can have the
    /// answer.
    pub(super) fn new(content: Content, mut record: Box<Record>) -> Self {
        let written = if content.is_end_stream() {
            record.close(false)
        } else {
            None
        };
        Self {
            content,
            record: Some(record),
            last: written.map(|written| Last::new(written, None)),
        }
    }

    /// For a body in which nothing follows: returns when the audit log has the end of the request.
    pub(super) async fn settle(&mut self) {
        if let Some(last) = self.last.take() {
            last.written.await;
        }
    }

    fn close(&mut self, broken: bool) -> Option<Written> {
        self.record.as_mut()?.close(broken)
    }

    /// Closes the record; the last frame, or the end, is held back until the audit log has it.
    fn end(
        &mut self,
        frame: Option<Frame<Bytes>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(written) = self.close(false) else {
            return Poll::Ready(frame.map(Ok));
        };
        self.last = Some(Last::new(written, frame));
        self.poll_last(cx)
    }

    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(last) = &mut self.last {
            ready!(last.written.as_mut().poll(cx));
        }
        Poll::Ready(self.last.take().and_then(|last| last.frame).map(Ok))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.last.is_some() {
            return this.poll_last(cx);
        }
        match ready!(this.content.poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = match frame.into_data() {
                    Ok(data) => {
                        if let Some(record) = &mut this.record {
                            record.bytes_out += data.len() as u64;
                            if let Some(observer) = &mut record.observer {
                                observer.passed(&data);
                            }
                        }
                        Frame::data(data)
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(mut trailers) => {
                            clean_trailers(&mut trailers);
                            if let Some(authorization) = this.record.as_ref().and_then(|r| r.authorization.as_ref()) {
                                echo::clean_fields(&mut trailers, authorization);
                            }
                            Frame::trailers(trailers)
                        }
                        Err(other) => other,
                    },
                };
                // Closed before the last bytes reach the client, so that what it asks next sees this request counted.
                // Over HTTP/2 the end of the stream may come later than the last byte of a length that is known.
                let last_byte = frame.is_data() && this.content.size_hint().exact() == Some(0);
                if this.content.is_end_stream() || last_byte {
                    return this.end(Some(frame), cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the response was broken off");
                drop(this.close(true));
                Poll::Ready(Some(Err(error)))
            }
            None => this.end(None, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Last {
    fn new(written: Written, frame: Option<Frame<Bytes>>) -> Self {
        Self {
            written: Box::pin(written.wait()),
            frame,
        }
    }
}

/// An answer made here: a whole body of known length.
pub(super) fn whole(response: Response<Bytes>, record: Box<Record>) -> Response<ResponseBody> {
    let (parts, bytes) = response.into_parts();
    Response::from_parts(parts, ResponseBody::new(Content::Whole(Some(bytes)), record))
}
