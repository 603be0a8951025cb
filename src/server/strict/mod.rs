//! What hyper gets to read: whole request heads that have one reading, and the content that belongs to them.
//!
//! hyper's parser is lenient in places (it takes LF for CRLF, drops a `Content-Length` beside `Transfer-Encoding`, cuts
//! off a `#fragment`). So each head is checked before, and a doubtful one never reaches the parser: the client gets 400
//! or 431, and the connection ends.

mod body;
mod head;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::ConnectionClock;
use body::BodyScanner;
use head::{HeadLimits, HeadScanner};

/// Why a request was not let through to the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What is wrong with it.
    Malformed(&'static str),
    /// Its target has a byte that the parser's types don't hold.
    TargetByte(Arc<TargetByte>),
    /// More than this many bytes.
    HeadTooLarge(usize),
    /// More than this many field lines.
    TooManyFields(usize),
}

/// A byte of a target that can't be forwarded as it is, and the request that has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TargetByte {
    pub(super) byte: u8,
    pub(super) method: String,
    /// Without query; what is not printable ASCII is escaped.
    pub(super) path: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "The request is malformed: {why}."),
            Self::TargetByte(at) => {
                let byte = at.byte;
                let shown = if byte.is_ascii_graphic() {
                    format!("`{}`", char::from(byte))
                } else {
                    format!("the byte 0x{byte:02X}, which is no UTF-8 there")
                };
                write!(
                    f,
                    "The request is malformed: its target has {shown}, which no URL has as it is (RFC 3986 section 2): \
                     percent-encode it, as `%{byte:02X}`."
                )
            }
            Self::HeadTooLarge(most) => write!(
                f,
                "The head of the request has more than {most} bytes (`max_header_bytes`)."
            ),
            Self::TooManyFields(most) => write!(f, "The request has more than {most} header fields (`max_headers`)."),
        }
    }
}

/// A client's byte stream, read through the scanners.
pub(super) struct Strict<S, R> {
    stream: S,
    clock: Arc<ConnectionClock>,
    limits: HeadLimits,
    phase: Phase,
    /// What has come and was not handed on: a head that is not complete.
    held: Vec<u8>,
    /// How much of `held` may be handed on now.
    ready: usize,
    /// Why the rest of the stream was refused: nothing is read any more.
    refused: Option<Refused>,
    /// Counts a refusal and gives the answer to it.
    refuse: R,
    /// The answer to a refused head; it goes out behind all answers before it.
    farewell: Vec<u8>,
}

/// Where the stream can't be read any further.
#[derive(Debug, Clone)]
enum Refused {
    /// In a head: once the parser comes to it, the client is told, behind all answers before it.
    Head(Refusal),
    /// The client has been told.
    Told,
    /// In a body: it breaks off, and whoever serves its request answers.
    Body(Refusal),
}

enum Phase {
    Head(HeadScanner),
    Body(BodyScanner),
}

impl<S, R: FnMut(&Refusal) -> Vec<u8>> Strict<S, R> {
    pub(super) fn new(
        stream: S,
        clock: Arc<ConnectionClock>,
        max_header_bytes: usize,
        max_headers: usize,
        refuse: R,
    ) -> Self {
        Self {
            stream,
            clock,
            limits: HeadLimits {
                bytes: max_header_bytes,
                fields: max_headers,
            },
            phase: Phase::Head(HeadScanner::default()),
            held: Vec::new(),
            ready: 0,
            refused: None,
            refuse,
            farewell: Vec::new(),
        }
    }

    /// The stream, and whether the client may still be sending what nobody will read.
    pub(super) fn into_inner(self) -> (S, bool) {
        let unread = self.refused.is_some() || !self.held.is_empty() || matches!(self.phase, Phase::Body(_));
        (self.stream, unread)
    }

    /// Whether nothing but empty lines is waiting, and no message is half read.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.phase, Phase::Head(_)) && self.refused.is_none() && is_blank(&self.held)
    }

    /// How many of `bytes`, which begin where `phase` stands, may be handed on.
    fn judge(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.phase {
                Phase::Head(scanner) => match scanner.advance(&bytes[at..], self.limits) {
                    Ok(Some((size, framing))) => {
                        at += size;
                        self.clock.head_came();
                        self.phase =
                            BodyScanner::new(framing).map_or_else(|| Phase::Head(HeadScanner::default()), Phase::Body);
                    }
                    Ok(None) => {
                        // Old clients send an empty line behind a body: that does not begin a head.
                        if !is_blank(&bytes[at..]) {
                            self.clock.head_began();
                        }
                        break;
                    }
                    Err(refusal) => {
                        self.refused = Some(Refused::Head(refusal));
                        break;
                    }
                },
                Phase::Body(scanner) => match scanner.advance(&bytes[at..]) {
                    Ok((size, ended)) => {
                        at += size;
                        if ended {
                            self.phase = Phase::Head(HeadScanner::default());
                        }
                    }
                    Err(refusal) => {
                        self.refused = Some(Refused::Body(refusal));
                        break;
                    }
                },
            }
        }
        at
    }

    /// The parser has come to where the stream can't be read any further: it sees the end of the stream, or of a body.
    fn end(&mut self, refused: Refused) -> io::Result<()> {
        match refused {
            Refused::Head(refusal) => {
                self.farewell = (self.refuse)(&refusal);
                self.refused = Some(Refused::Told);
                Ok(())
            }
            Refused::Told => Ok(()),
            Refused::Body(refusal) => Err(io::Error::new(io::ErrorKind::InvalidData, refusal.to_string())),
        }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let size = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..size]);
        self.ready -= size;
        if size == self.held.len() {
            // An idle connection holds no memory.
            self.held = Vec::new();
        } else {
            self.held.drain(..size);
        }
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

impl<S: AsyncRead + Unpin, R: FnMut(&Refusal) -> Vec<u8> + Unpin> AsyncRead for Strict<S, R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(refused) = this.refused.clone() {
                return Poll::Ready(this.end(refused));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let good = before + this.judge(&buf.filled()[before..]);
                this.held.extend_from_slice(&buf.filled()[good..]);
                buf.set_filled(good);
                if good > before {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.held.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
                let held = std::mem::take(&mut this.held);
                this.ready = this.judge(&held);
                this.held = held;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, R: Unpin> AsyncWrite for Strict<S, R> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.clock.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.clock.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.clock.wrote(&polled);
        polled
    }

    /// hyper is done and has flushed: now the answer to a refused head may follow.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.farewell.is_empty() {
            let polled = Pin::new(&mut this.stream).poll_write(cx, &this.farewell);
            this.clock.wrote(&polled);
            let written = ready!(polled)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.farewell.drain(..written);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes through when `input` is sent in pieces of `size`, and the farewell.
    async fn through(input: &[u8], size: usize) -> (Vec<u8>, Option<Refusal>) {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut refused = None;
        let mut passed = Vec::new();
        let mut strict = Strict::new(server, Arc::default(), 256, 10, |refusal: &Refusal| {
            refused = Some(refusal.clone());
            b"farewell".to_vec()
        });
        let send = async {
            for piece in input.chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let mut farewell = Vec::new();
            client.read_to_end(&mut farewell).await.unwrap();
            farewell
        };
        let receive = async {
            let _ = strict.read_to_end(&mut passed).await;
            strict.shutdown().await.unwrap();
        };
        let (farewell, ()) = tokio::join!(send, receive);
        drop(strict);
        assert_eq!(farewell.is_empty(), refused.is_none());
        (passed, refused)
    }

    #[tokio::test]
    async fn good_messages_come_through_byte_for_byte() {
        let input = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
            POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /d HTTP/1.1\r\n\r\n";
        for size in 1..=input.len() {
            assert_eq!(through(input, size).await, (input.to_vec(), None), "{size}");
        }
    }

    #[tokio::test]
    async fn nothing_of_a_bad_head_comes_through_and_nothing_after_it() {
        let good = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        let bad = b"GET /b HTTP/1.1\r\nX : a\r\n\r\nGET /c HTTP/1.1\r\n\r\n";
        let input = [&good[..], &bad[..]].concat();
        for size in 1..=input.len() {
            let (passed, refused) = through(&input, size).await;
            assert_eq!(passed, good);
            assert!(refused.is_some());
        }
    }

    #[tokio::test]
    async fn half_a_head_never_comes_through() {
        assert_eq!(through(b"GET /a HTTP/1.1\r\nHost: a\r\n", 5).await, (Vec::new(), None));
    }
}
