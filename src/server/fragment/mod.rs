//! A `#` in the `:path` of an HTTP/2 request. A fragment is never sent (RFC 9110 section 7.1), so a request with one is
//! refused; but the types that a request is parsed into cut it off in silence. So header blocks are read before h2
//! reads them, and one that has a `#` gets a field of ours behind its own, in a CONTINUATION frame: the table of
//! compressed fields stays as the client knows it, the stream stays in the care of h2, and the code that serves the
//! request sees the field and refuses it.
//!
//! What is not understood here h2 does not understand either, and ends the connection. Should h2 not end it, each
//! further request of the connection is refused.

mod hpack;
mod huffman;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use hpack::{PathReader, Verdict};

/// The client's connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
/// The largest frame that we take (RFC 9113 section 6.5.2): for a larger one, h2 ends the connection.
const LARGEST_FRAME: usize = 16 << 10;

/// Length of the padding, dependency and weight.
const PREFIX: usize = 6;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The field of ours. A client that sends it is refused, too.
static MARK: HeaderName = HeaderName::from_static("atlas-auth-proxy-target");
/// "Literal Header Field without Indexing", with a value of one byte (RFC 7541 section 6.2.2).
const MARK_FIELD: &[u8; 27] = b"\x00\x17atlas-auth-proxy-target\x01#";

/// Why a request must be refused, if it must be.
pub(super) fn refused(headers: &HeaderMap) -> Option<&'static str> {
    let mark = headers.get(&MARK)?;
    Some(match mark.as_bytes() {
        b"#" => "its target has a `#`: a fragment is never sent (RFC 9110 section 7.1)",
        _ => "a head on its connection was not understood",
    })
}

/// A client's byte stream in which requests that have a fragment are marked.
pub(super) struct Marked<S> {
    stream: S,
    frames: Frames,
    /// What has come and was not handed on; its last frame may not be judged yet.
    held: Vec<u8>,
    /// How much of `held` may be handed on.
    ready: usize,
}

/// The frame that passes.
#[derive(Debug, Default)]
struct Frames {
    preface: usize,
    header: [u8; FRAME_HEADER],
    header_length: usize,
    /// How much of its payload has come.
    came: usize,
    /// The bytes before its piece of a header block.
    prefix: [u8; PREFIX],
    /// Where that piece begins and ends in the payload.
    block: (usize, usize),
    /// The stream whose header block is not complete.
    open: Option<[u8; 4]>,
    paths: PathReader,
}

/// For a block of header fields that gets a mark: the length of its last frame, which has just ended, and why.
struct ToMark {
    frame: usize,
    why: u8,
}

impl Frames {
    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn flags(&self) -> u8 {
        self.header[4]
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.header;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn stream(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.header;
        // The first bit is reserved (RFC 9113 section 4.1).
        [a & 0x7f, b, c, d]
    }

    fn is_block(&self) -> bool {
        matches!(self.kind(), HEADERS | CONTINUATION)
    }

    /// Whether a block ends with this frame: then it is handed on only when the block is judged.
    fn is_held(&self) -> bool {
        self.is_block() && self.flags() & END_HEADERS != 0 && self.length() <= LARGEST_FRAME
    }

    /// How many of the bytes that have come must not be handed on.
    fn unjudged(&self) -> usize {
        match self.header_length {
            FRAME_HEADER if !self.is_held() => 0,
            length => length + self.came,
        }
    }

    /// Passes `bytes` up to the end of a block that gets a mark; returns how many have passed.
    fn pass(&mut self, bytes: &[u8]) -> (usize, Option<ToMark>) {
        let mut at = (PREFACE - self.preface).min(bytes.len());
        self.preface += at;
        while at < bytes.len() {
            if self.header_length < FRAME_HEADER {
                let taken = (FRAME_HEADER - self.header_length).min(bytes.len() - at);
                self.header[self.header_length..self.header_length + taken].copy_from_slice(&bytes[at..at + taken]);
                self.header_length += taken;
                at += taken;
                if self.header_length < FRAME_HEADER {
                    break;
                }
                self.begin();
            } else {
                let taken = (self.length() - self.came).min(bytes.len() - at);
                if self.is_block() {
                    self.payload(&bytes[at..at + taken]);
                }
                self.came += taken;
                at += taken;
            }
            if self.came == self.length()
                && let Some(mark) = self.end()
            {
                return (at, Some(mark));
            }
        }
        (at, None)
    }

    fn begin(&mut self) {
        self.came = 0;
        self.block = (0, self.length());
        let expected = match (self.kind(), self.open) {
            (HEADERS, None) => true,
            (CONTINUATION, Some(stream)) => stream == self.stream(),
            (PUSH_PROMISE | CONTINUATION, None) => false,
            (_, open) => open.is_none(),
        };
        if !expected || self.is_block() && self.length() > LARGEST_FRAME {
            self.paths.give_up();
        }
        if self.kind() == HEADERS {
            let padding = usize::from(self.flags() & PADDED != 0);
            let priority = if self.flags() & PRIORITY != 0 { 5 } else { 0 };
            self.block.0 = padding + priority;
            if self.block.0 > self.length() {
                self.paths.give_up();
            }
        }
        if self.is_block() {
            self.open = Some(self.stream());
        }
    }

    /// Takes a piece of the payload of a frame with a piece of a block.
    fn payload(&mut self, bytes: &[u8]) {
        let start = self.came;
        for (at, byte) in (start..self.block.0).zip(bytes) {
            self.prefix[at] = *byte;
            if at + 1 == self.block.0 {
                self.prefix_came();
            }
        }
        let from = self.block.0.saturating_sub(start).min(bytes.len());
        let to = self.block.1.saturating_sub(start).clamp(from, bytes.len());
        self.paths.read(&bytes[from..to]);
    }

    /// The bytes before the block have come: the length of the padding, and what the stream depends on (RFC 9113
    /// section 6.2).
    fn prefix_came(&mut self) {
        let [first, rest @ ..] = self.prefix;
        let mut depends_on = [rest[0], rest[1], rest[2], rest[3]];
        if self.flags() & PADDED == 0 {
            depends_on = [first, rest[0], rest[1], rest[2]];
        } else if self.length() - self.block.0 >= usize::from(first) {
            self.block.1 = self.length() - usize::from(first);
        } else {
            self.paths.give_up();
        }
        depends_on[0] &= 0x7f;
        if self.flags() & PRIORITY != 0 && depends_on == self.stream() {
            // h2 refuses the stream and leaves the block unread.
            self.paths.give_up();
        }
    }

    /// The frame is complete.
    fn end(&mut self) -> Option<ToMark> {
        let (is_held, frame) = (self.is_held(), FRAME_HEADER + self.came);
        let ends_block = self.is_block() && self.flags() & END_HEADERS != 0;
        self.header_length = 0;
        self.came = 0;
        if !ends_block {
            return None;
        }
        self.open = None;
        let why = match self.paths.end() {
            Verdict::Whole => return None,
            Verdict::Fragment => b'#',
            Verdict::Unsure => b'?',
        };
        is_held.then_some(ToMark { frame, why })
    }
}

impl<S> Marked<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            held: Vec::new(),
            ready: 0,
        }
    }

    /// Whether what has come may be handed on as it is. If not, it is in `held` now.
    fn judge(&mut self, came: &[u8]) -> bool {
        let mut rest = came;
        loop {
            let (passed, mark) = self.frames.pass(rest);
            if self.held.is_empty() && mark.is_none() && self.frames.unjudged() == 0 {
                return true;
            }
            self.held.extend_from_slice(&rest[..passed]);
            rest = &rest[passed..];
            if let Some(ToMark { frame, why }) = mark {
                // The whole frame is held: nothing of it was handed on before its block was judged.
                let start = self.held.len() - frame;
                self.held[start + 4] &= !END_HEADERS;
                let stream: [u8; 4] = std::array::from_fn(|n| self.held[start + 5 + n]);
                let [field @ .., _] = MARK_FIELD;
                let length = MARK_FIELD.len() as u8;
                self.held.extend([0, 0, length, CONTINUATION, END_HEADERS]);
                self.held.extend(stream);
                self.held.extend(field);
                self.held.push(why);
            }
            if rest.is_empty() {
                self.ready = self.held.len() - self.frames.unjudged();
                return false;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Marked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let size = this.ready.min(buf.remaining());
            if size > 0 {
                buf.put_slice(&this.held[..size]);
                this.held.drain(..size);
                this.ready -= size;
                if this.held.is_empty() {
                    this.held = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let came = &buf.filled()[before..];
            if came.is_empty() {
                // The stream has ended: in the middle of a frame, if anything is held.
                this.ready = this.held.len();
                if this.ready == 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if this.judge(came) {
                return Poll::Ready(Ok(()));
            } else {
                buf.set_filled(before);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Marked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
