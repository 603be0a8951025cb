//! A request on its way out: its head, and its content in the one framing that the head tells of (RFC 9112 sections 3, 6
//! and 7).

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use tokio::io::AsyncWrite;

use super::Broken;
use crate::upstream::request::{Head, SendableBody};

/// The bytes that are written next, and where more come from.
pub(super) struct Outgoing<B> {
    /// What goes before `data`: the head, the size of a chunk, the last chunk.
    lead: Vec<u8>,
    data: Bytes,
    /// What follows: the end of a chunk.
    tail: &'static [u8],
    /// How many of all these are written.
    written: usize,
    flushed: bool,
    /// `None`: all of it was taken.
    content: Option<B>,
    framing: Framing,
    /// The values of `Trailer`.
    announced: Vec<HeaderValue>,
    /// The upstream takes no more, and what would be sent is dropped. It may have answered and closed while its request was
    /// being sent, because that is too large or refused: what can be read decides how the exchange ends.
    closed: bool,
    /// Bytes that were written in all.
    total: u64,
    given_up: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    /// Bytes that are still to come.
    Length(u64),
    Chunked,
}

/// Room for a head that an idle connection keeps, bytes.
const MOST_KEPT: usize = 4 << 10;
const END_OF_CHUNK: &[u8] = b"\r\n";
const END_OF_CHUNK_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

impl<B> Default for Outgoing<B> {
    fn default() -> Self {
        Self {
            lead: Vec::new(),
            data: Bytes::new(),
            tail: b"",
            written: 0,
            flushed: true,
            content: None,
            framing: Framing::Length(0),
            announced: Vec::new(),
            closed: false,
            total: 0,
            given_up: false,
        }
    }
}

impl<B: SendableBody> Outgoing<B> {
    /// Begins with a request.
    pub(super) fn begin(&mut self, host: &HeaderValue, head: &Head<'_>, content: B) -> Result<(), Broken> {
        for part in [head.method.as_str(), " ", head.path.as_str(), " HTTP/1.1\r\n"] {
            self.lead.extend_from_slice(part.as_bytes());
        }
        self.field(&header::HOST, host);
        for (name, value) in head.headers.as_ref() {
            self.field(name, value);
        }
        if let Some(authorization) = head.authorization {
            self.field(&header::AUTHORIZATION, authorization);
        }
        self.lead.extend_from_slice(b"\r\n");
        self.framing = Framing::of(&head.headers);
        if matches!(self.framing, Framing::Chunked) {
            self.announced = head.headers.get_all(header::TRAILER).iter().cloned().collect();
        }
        self.flushed = false;
        if content.is_end_stream() {
            self.end(None)
        } else {
            self.content = Some(content);
            Ok(())
        }
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.lead.extend_from_slice(name.as_str().as_bytes());
        self.lead.extend_from_slice(b": ");
        self.lead.extend_from_slice(value.as_bytes());
        self.lead.extend_from_slice(b"\r\n");
    }

    /// Whether the whole request was handed on.
    pub(super) fn is_done(&self) -> bool {
        self.content.is_none() && self.flushed
    }

    /// Whether the whole request was handed on, and not dropped on the way.
    pub(super) fn is_sent(&self) -> bool {
        self.is_done() && !self.closed
    }

    /// Writes what there is to write: ready when that was all.
    pub(super) fn poll_send<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.is_done() {
            // A head goes out together with the content that is here already.
            let waits = self.data.is_empty() && self.poll_content(cx)?.is_pending();
            if self.queued() > 0 {
                self.flushed = false;
                let written = self.poll_write(stream, cx);
                ready!(self.unless_closed(written))?;
                self.lead.clear();
                self.data = Bytes::new();
                self.tail = b"";
                self.written = 0;
            }
            if (waits || self.content.is_none()) && !self.flushed {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                ready!(self.unless_closed(flushed))?;
                self.flushed = true;
            }
            if waits {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next part of the content.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        let Some(content) = &mut self.content else {
            return Ok(Poll::Ready(()));
        };
        let Poll::Ready(frame) = Pin::new(&mut *content).poll_frame(cx) else {
            return Ok(Poll::Pending);
        };
        let ends = content.is_end_stream();
        let Some(frame) = frame.transpose().map_err(|error| Broken::Content(error.into()))? else {
            return self.end(None).map(Poll::Ready);
        };
        match frame.into_data().map_err(Frame::into_trailers) {
            Ok(data) => self.queue(data)?,
            Err(Ok(trailers)) => self.end(Some(&trailers))?,
            Err(Err(_of_no_kind_we_know)) => {}
        }
        if self.content.is_some() && (ends || matches!(self.framing, Framing::Length(0))) {
            self.end(None)?;
        }
        Ok(Poll::Ready(()))
    }

    fn queue(&mut self, data: Bytes) -> Result<(), Broken> {
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
            }
            // A chunk of no length would be the last.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                let _never_fails = write!(self.lead, "{:x}\r\n", data.len());
                self.tail = END_OF_CHUNK;
            }
        }
        self.data = data;
        Ok(())
    }

    /// The content has ended.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        self.content = None;
        match (self.framing, trailers) {
            (Framing::Length(0), _) => {}
            (Framing::Length(_), _) => return Err(Broken::Length),
            (Framing::Chunked, None) if !self.data.is_empty() => self.tail = END_OF_CHUNK_AND_LAST,
            (Framing::Chunked, trailers) => {
                self.lead.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.announced.iter().any(|names| lists(names, name)) {
                        self.field(name, value);
                    }
                }
                self.lead.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Nothing more is sent, although not all of it was.
    pub(super) fn give_up(&mut self) {
        self.content = None;
        self.lead.clear();
        self.data = Bytes::new();
        self.tail = b"";
        self.flushed = true;
        self.closed = true;
        self.given_up = true;
    }

    /// Whether that happened.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Bytes that were written in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Ends the exchange: what another has no use for is let go of.
    pub(super) fn finish(&mut self) {
        self.announced = Vec::new();
        if self.lead.capacity() > MOST_KEPT {
            self.lead = Vec::new();
        }
    }

    fn queued(&self) -> usize {
        self.lead.len() + self.data.len() + self.tail.len()
    }

    fn poll_write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.queued() && !self.closed {
            let mut skip = self.written;
            let slices = [&self.lead[..], &self.data[..], self.tail].map(|part| {
                let from = skip.min(part.len());
                skip -= from;
                IoSlice::new(&part[from..])
            });
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.total += written as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl<B> Outgoing<B> {
    /// A failure that only says that the upstream takes no more is none.
    fn unless_closed(&mut self, polled: Poll<io::Result<()>>) -> Poll<Result<(), Broken>> {
        match ready!(polled) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
                ) =>
            {
                self.closed = true;
                Poll::Ready(Ok(()))
            }
            other => Poll::Ready(other.map_err(Broken::Io)),
        }
    }
}

/// Whether a list of names has this one.
fn lists(names: &HeaderValue, name: &HeaderName) -> bool {
    let mut names = names.as_bytes().split(|byte| *byte == b',');
    names.any(|one| one.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

impl Framing {
    /// As `proxy` has put it into the head: once.
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        Self::Length(length.and_then(|length| length.parse().ok()).unwrap_or(0))
    }
}
