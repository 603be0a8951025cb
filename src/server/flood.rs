//! HTTP/2 frames that cost us work and bring no request: counted, and too many end the connection.
//!
//! The h2 crate bounds header lists, CONTINUATION frames and resets of streams that were not accepted yet. What it leaves:
//! SETTINGS, PING, PRIORITY and WINDOW_UPDATE floods (CVE-2019-9512, -9513, -9515, -9511), empty frames (CVE-2019-9518)
//! and streams that are opened, accepted and reset (CVE-2023-44487).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::clock::ConnectionClock;

/// The client's connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Points that a connection has at first, and at most. A hundred streams cancelled at once are no flood.
const FULL: i64 = 3000;
/// Points that come back each second.
const PER_SECOND: i64 = 50;
/// Bytes, in either direction, that bring a point. A request brings points, too: both come with window updates that are
/// no flood.
const BYTES_PER_POINT: u64 = 2048;

/// The points that a frame costs; below zero: that it brings.
fn cost(kind: u8, length: usize) -> i64 {
    // Only content brings points by its bytes: those that the bytes of other frames bring are taken off again.
    let bytes = (length as u64).div_ceil(BYTES_PER_POINT).cast_signed();
    match kind {
        DATA if length == 0 => 5,
        DATA => 0,
        HEADERS => bytes - 4,
        RST_STREAM => 18,
        SETTINGS => bytes + 15,
        PING => 5,
        WINDOW_UPDATE => 1,
        CONTINUATION if length == 0 => 20,
        CONTINUATION => bytes + 2,
        _ => bytes + 5,
    }
}

/// Reads frame headers as they pass.
pub(super) struct FloodMeter<S, F> {
    stream: S,
    clock: Arc<ConnectionClock>,
    flooded: Option<F>,
    frames: Frames,
    points: i64,
    counted_at: Instant,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Frames {
    preface: usize,
    header: [u8; FRAME_HEADER],
    header_len: usize,
    payload_left: usize,
    /// The block of header fields ends with this frame's payload.
    ends_head: bool,
}

impl Frames {
    /// Passes `bytes`; calls back at each frame header with type and length. `head`: a block of header fields began
    /// (false) or is complete (true).
    fn pass(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8, usize), mut head: impl FnMut(bool)) {
        let skipped = (PREFACE - self.preface).min(bytes.len());
        self.preface += skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = self.payload_left.min(bytes.len());
                self.payload_left -= taken;
                bytes = &bytes[taken..];
            } else {
                let taken = (FRAME_HEADER - self.header_len).min(bytes.len());
                self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[..taken]);
                self.header_len += taken;
                bytes = &bytes[taken..];
                if self.header_len < FRAME_HEADER {
                    return;
                }
                self.header_len = 0;
                let [a, b, c, kind, flags, ..] = self.header;
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.payload_left = length;
                frame(kind, length);
                if kind == SETTINGS {
                    // The connection is made; no head is owed until one begins.
                    head(true);
                }
                if matches!(kind, HEADERS | CONTINUATION) {
                    head(false);
                    self.ends_head = flags & END_HEADERS != 0;
                }
            }
            if self.payload_left == 0 && std::mem::take(&mut self.ends_head) {
                head(true);
            }
        }
    }
}

impl<S, F: FnOnce()> FloodMeter<S, F> {
    /// `flooded` is called once, when it is too much.
    pub(super) fn new(stream: S, clock: Arc<ConnectionClock>, flooded: F) -> Self {
        Self {
            stream,
            clock,
            flooded: Some(flooded),
            frames: Frames::default(),
            points: FULL,
            counted_at: Instant::now(),
            bytes: 0,
        }
    }

    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut spent = 0;
        let clock = &self.clock;
        let head = |complete| {
            if complete {
                clock.head_came();
            } else {
                clock.head_began();
            }
        };
        self.frames
            .pass(bytes, |kind, length| spent += cost(kind, length), head);
        self.moved(bytes.len());
        if spent == 0 {
            return Ok(());
        }
        self.points = (self.points - spent).min(FULL);
        if self.points < 0 {
            self.refill();
        }
        if self.points >= 0 {
            return Ok(());
        }
        if let Some(flooded) = self.flooded.take() {
            flooded();
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP/2 flood"))
    }

    /// The clock is read only when points run out.
    fn refill(&mut self) {
        let now = Instant::now();
        let seconds = i64::try_from(now.duration_since(self.counted_at).as_secs()).unwrap_or(i64::MAX);
        if seconds > 0 {
            self.counted_at = now;
            self.points = self.points.saturating_add(seconds.saturating_mul(PER_SECOND)).min(FULL);
        }
    }

    fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let points = i64::try_from(self.bytes / BYTES_PER_POINT).unwrap_or(FULL);
        self.bytes %= BYTES_PER_POINT;
        self.points = self.points.saturating_add(points).min(FULL);
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        self.clock.wrote(polled);
        if let Poll::Ready(Ok(written)) = polled {
            self.moved(*written);
        }
    }
}

impl<S: AsyncRead + Unpin, F: FnOnce() + Unpin> AsyncRead for FloodMeter<S, F> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.clock.heard();
        this.count(&buf.filled()[before..])?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: FnOnce() + Unpin> AsyncWrite for FloodMeter<S, F> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(&polled);
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn meter() -> FloodMeter<(), fn()> {
        let mut meter = FloodMeter::new((), Arc::new(ConnectionClock::multiplexed()), (|| {}) as fn());
        meter.count(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        meter
    }

    /// How many repetitions pass.
    fn passed(meter: &mut FloodMeter<(), fn()>, frames: &[u8]) -> usize {
        (0..100_000)
            .position(|_| meter.count(frames).is_err())
            .unwrap_or(usize::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn floods_end() {
        let rapid_reset = [frame(HEADERS, END_HEADERS, &[0x82]), frame(RST_STREAM, 0, &[0; 4])].concat();
        for (frames, most) in [
            (frame(SETTINGS, 0, &[]), 250),
            (frame(PING, 0, &[0; 8]), 700),
            (frame(2, 0, &[0; 5]), 700),
            (frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]), 3200),
            (frame(DATA, 0, &[]), 700),
            (frame(CONTINUATION, 0, &[]), 160),
            ([&rapid_reset[..], &frame(0xfe, 0, &[0; 16 << 10])].concat(), 250),
            (
                [
                    frame(HEADERS, END_HEADERS, &[0; 16 << 10]),
                    frame(RST_STREAM, 0, &[0; 4]),
                ]
                .concat(),
                250,
            ),
            (rapid_reset, 250),
        ] {
            let passed = passed(&mut meter(), &frames);
            assert!((100..most).contains(&passed), "{}: {passed}", frames[3]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_bodies_are_none() {
        let request = [
            frame(HEADERS, END_HEADERS, &[0x82; 20]),
            frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        ]
        .concat();
        assert_eq!(passed(&mut meter(), &request), usize::MAX);
        let upload = frame(DATA, 0, &[0; 4096]);
        assert_eq!(passed(&mut meter(), &upload), usize::MAX);
        let mut download = meter();
        for _ in 0..100_000 {
            download.wrote(&Poll::Ready(Ok(16 << 10)));
            download.count(&frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1])).unwrap();
            download.count(&frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1])).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keep_alive_pings_are_none() {
        let mut meter = meter();
        for _ in 0..10_000 {
            meter.count(&frame(PING, 0, &[0; 8])).unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_timed_until_its_last_byte() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, &[]));
        bytes.extend(frame(HEADERS, 0, &[1, 2, 3]));
        bytes.extend(frame(CONTINUATION, END_HEADERS, &[1, 2]));
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            let mut heads = Vec::new();
            frames.pass(&[*byte], |_, _| {}, |complete| heads.push(complete));
            seen.extend(heads.into_iter().map(|complete| (at, complete)));
        }
        let last = bytes.len() - 1;
        let settings = PREFACE + FRAME_HEADER - 1;
        assert_eq!(
            seen,
            [(settings, true), (last - 14, false), (last - 2, false), (last, true)]
        );
    }
}
