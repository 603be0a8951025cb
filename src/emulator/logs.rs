//! Long bodies: a compressed log, and plain octets. Generated while they are read, in constant memory.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;

/// Bytes made at a time.
const CHUNK: usize = 64 << 10;
const LINE: &[u8] = br#"{"t":{"$date":"2026-08-10T03:44:43.000+00:00"},"s":"I","c":"NETWORK","id":22943,"ctx":"listener","msg":"Connection accepted","attr":{"remote":"192.168.248.1:40262","connectionId":1042,"connectionCount":17}}
"#;

/// gzip of a short text.
pub(super) fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// A log of `bytes` bytes, as a gzip stream.
pub(super) fn log(bytes: u64) -> BoxBody<Bytes, io::Error> {
    Log {
        left: bytes,
        encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
    }
    .boxed()
}

struct Log {
    left: u64,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Log {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Ok(None);
            };
            if self.left == 0 {
                return self.encoder.take().map(GzEncoder::finish).transpose();
            }
            for _ in 0..CHUNK / LINE.len() {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(LINE.len());
                encoder.write_all(&LINE[..take])?;
                self.left -= take as u64;
            }
            let made = std::mem::take(encoder.get_mut());
            if !made.is_empty() {
                return Ok(Some(made));
            }
        }
    }
}

impl Body for Log {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(
            self.next()
                .transpose()
                .map(|made| made.map(|made| Frame::data(made.into()))),
        )
    }
}

/// `bytes` octets that count up.
pub(super) fn octets(bytes: u64) -> BoxBody<Bytes, io::Error> {
    let chunk: Vec<u8> = (0..=255).cycle().take(CHUNK).collect();
    Octets {
        left: bytes,
        chunk: chunk.into(),
    }
    .boxed()
}

struct Octets {
    left: u64,
    chunk: Bytes,
}

impl Body for Octets {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        self.left -= take as u64;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..take)))))
    }
}
