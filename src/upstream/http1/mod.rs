//! A connection of HTTP/1.1: one request and its answer at a time, in the task of whoever asks.
//!
//! ```text
//! mod         the exchange: what goes out and what comes in, at the same time
//!   ├ outgoing    the request: head, content, trailers
//!   ├ head        the head of the answer, and trailers
//!   ├ framing     where its content ends
//!   ├ chunked     its content in chunks
//!   └ spelling    the names of its fields as they were written
//! ```

mod chunked;
mod framing;
mod head;
mod outgoing;
mod spelling;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::error::Error;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio_util::io::poll_read_buf;

use super::request::{Head, SendableBody};
use crate::time::WaitTimer;
use chunked::Decoded;
use framing::Content;
use head::HeadReader;
use outgoing::Outgoing;

pub(super) use head::MAX_HEAD;
pub use spelling::Spellings;

/// What is read at once: as much as a small answer has, and more each time that so much came, up to [`MOST_READ`].
const LEAST_READ: usize = 8 << 10;
const MOST_READ: usize = 64 << 10;
/// Interim answers before the one that counts.
const MOST_INTERIM: u32 = 256;

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It ended too early.
    #[error("the upstream closed it")]
    Closed,
    /// The network or TLS failed.
    #[error(transparent)]
    Io(io::Error),
    /// What came has no single reading as HTTP/1.1.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// Where the answer's content ends has no single reading (RFC 9112 section 6.3).
    #[error("the answer is malformed: it does not say in one way how long it is")]
    Framing,
    /// The answer is `101 Switching Protocols`.
    #[error("the answer is 101 Switching Protocols")]
    Switched,
    /// The content of the request broke off.
    #[error("the request's content broke off")]
    Content(#[source] Box<dyn Error + Send + Sync>),
    /// The content of the request has another length than its head says.
    #[error("the request's content is not as long as its head says")]
    Length,
}

/// A connection, and the exchange that it is serving.
pub struct Http1<S, B> {
    stream: S,
    outgoing: Outgoing<B>,
    input: BytesMut,
    next_read: usize,
    heads: HeadReader,
    interim: u32,
    spelling: Extensions,
    method: Method,
    content: Content,
    /// Whether the exchange leaves the connection in a state in which another may follow.
    persists: bool,
    /// For waits of the exchange. It outlives it: most waits end before a timer would, which then need not be moved.
    pub(super) timer: WaitTimer,
}

impl<S: AsyncRead + AsyncWrite + Unpin, B: SendableBody> Http1<S, B> {
    /// A connection that has served nothing yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            outgoing: Outgoing::default(),
            input: BytesMut::new(),
            next_read: LEAST_READ,
            heads: HeadReader::default(),
            interim: 0,
            spelling: Extensions::new(),
            method: Method::GET,
            content: Content::Length(0),
            persists: true,
            timer: WaitTimer::default(),
        }
    }

    /// Whether nothing has come since the last answer, not even the end: what comes unasked answers nothing. `None`: the task has
    /// had its turn, and tokio tells it nothing more.
    pub fn is_silent(&mut self) -> Option<bool> {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let read = Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte));
        (read.is_ready() || has_budget_remaining()).then_some(read.is_pending())
    }

    /// Begins an exchange.
    ///
    /// # Errors
    /// [`Broken::Length`].
    pub fn begin(&mut self, host: &HeaderValue, head: &Head<'_>, content: B) -> Result<(), Broken> {
        self.method = head.method.clone();
        self.persists = false;
        self.outgoing.begin(host, head, content)
    }

    /// Sends the request and reads the head of its answer. The request's content may still be going out then.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Broken>> {
        // Not ready: it goes on when there is room, or more content. An answer may come before, and may say why the request
        // can't be sent.
        let unsent = match self.outgoing.poll_send(&mut self.stream, cx) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        };
        match (self.poll_read_head(cx), unsent) {
            (Poll::Ready(Ok(parts)), None) => Poll::Ready(self.frame(parts)),
            (Poll::Ready(Ok(parts)), Some(_)) => {
                self.give_up_request();
                Poll::Ready(self.frame(parts))
            }
            (_, Some(error)) => Poll::Ready(Err(error)),
            (polled, None) => polled,
        }
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Broken>> {
        loop {
            while let Some(parts) = self.heads.read(&mut self.input)? {
                if parts.status == StatusCode::SWITCHING_PROTOCOLS || !parts.status.is_informational() {
                    return Poll::Ready(Ok(parts));
                }
                // It tells of another answer that follows (RFC 9110 section 15.2).
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Poll::Ready(Err(Broken::Malformed("there are too many interim answers")));
                }
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Sends no more of a request that has failed: the upstream sees that it is not whole.
    fn give_up_request(&mut self) {
        self.outgoing.give_up();
        self.close();
    }

    /// Whether the whole request was handed on.
    pub(super) fn is_request_done(&self) -> bool {
        self.outgoing.is_done()
    }

    /// How many bytes have gone out over this connection.
    pub(super) fn sent(&self) -> u64 {
        self.outgoing.total()
    }

    /// Goes on sending the request: ready when that was all, or can't be done.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.outgoing.poll_send(&mut self.stream, cx)).is_err() {
            self.give_up_request();
        }
        Poll::Ready(())
    }

    /// Finds out where the content of the answer ends.
    fn frame(&mut self, mut parts: Parts) -> Result<Parts, Broken> {
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Broken::Switched);
        }
        let content = Content::of(&mut parts.headers, &self.method, parts.status, parts.version);
        let (content, sure) = content.ok_or(Broken::Framing)?;
        self.content = content;
        self.persists = sure && persists(&parts);
        Ok(parts)
    }

    /// Notes beside the answer how the names of its fields were written.
    pub async fn spell(&mut self, parts: &mut Parts, spellings: &Spellings) {
        if let Some(names) = self.heads.new_names() {
            self.spelling = Box::pin(spellings.of(names)).await;
        }
        parts.extensions = self.spelling.clone();
    }

    /// Reads what there is, at most `next_read`.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        self.input.reserve(self.next_read);
        let read = match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)) {
            Ok(read) => read,
            // TLS that ends without saying so may have been cut off (RFC 8446 section 6.1).
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Err(Broken::Closed)),
            Err(error) => return Poll::Ready(Err(Broken::Io(error))),
        };
        if read >= self.next_read {
            self.next_read = (self.next_read * 2).min(MOST_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// The next part of the answer's content.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // Not ready: it goes on later.
        let _ = self.poll_request(cx);
        loop {
            match self.take_frame() {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(frame.map(Ok)),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_fill(cx)) {
                // The end of a connection over which a request was given up may be the end of anything.
                Ok(0) if matches!(self.content, Content::UntilClose) && !self.outgoing.is_given_up() => {
                    self.content = Content::Length(0);
                }
                Ok(0) => return Poll::Ready(Some(Err(Broken::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// What is in the buffer of the content; the outer `None`: more is needed; the inner: it has ended.
    fn take_frame(&mut self) -> Result<Option<Option<Frame<Bytes>>>, Broken> {
        let data = match &mut self.content {
            Content::Length(0) => return Ok(Some(None)),
            _ if self.input.is_empty() => return Ok(None),
            Content::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left -= length as u64;
                self.input.split_to(length)
            }
            Content::UntilClose => self.input.split(),
            Content::Chunked(chunks) => {
                let frame = match chunks.decode(&mut self.input)? {
                    None => return Ok(None),
                    Some(Decoded::Over) => None,
                    Some(Decoded::Data(data)) => Some(Frame::data(data)),
                    Some(Decoded::Trailers(trailers)) => Some(Frame::trailers(trailers)),
                };
                if chunks.ends_with(&mut self.input) {
                    self.content = Content::Length(0);
                }
                return Ok(Some(frame));
            }
        };
        Ok(Some(Some(Frame::data(data.freeze()))))
    }

    /// Whether all of the answer was handed out.
    pub fn is_over(&self) -> bool {
        self.content.is_over()
    }

    /// How much of the content is to come.
    pub fn size_hint(&self) -> SizeHint {
        match self.content {
            Content::Length(left) => SizeHint::with_exact(left),
            Content::Chunked(_) | Content::UntilClose => SizeHint::default(),
        }
    }

    /// Ends the exchange: whether another may follow. Not where a part of the request was not sent, nor where more came than the
    /// answer: that would answer the next one.
    pub fn finish(&mut self) -> bool {
        let clean = self.is_over() && self.input.is_empty() && self.outgoing.is_sent();
        self.input = BytesMut::new();
        self.next_read = LEAST_READ;
        self.interim = 0;
        self.outgoing.finish();
        self.heads.finish();
        self.timer.end();
        self.persists && clean
    }
}

impl<S: AsyncWrite + Unpin, B> Http1<S, B> {
    /// Tells the upstream that nothing more comes, as far as that needs no wait.
    pub(super) fn close(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
    }
}

/// Whether the upstream keeps the connection for another request (RFC 9112 section 9.3).
fn persists(parts: &Parts) -> bool {
    !connection_says(&parts.headers, "close")
        && (parts.version == Version::HTTP_11 || connection_says(&parts.headers, "keep-alive"))
}

/// Whether `Connection` has this option (RFC 9110 section 7.6.1).
pub fn connection_says(headers: &HeaderMap, option: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|one| one.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}
