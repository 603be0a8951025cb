//! Decodes the chunked coding (RFC 9112 section 7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

use super::Broken;
use super::head::Lines;

/// Bound on the line that gives the size of a chunk, with extensions, bytes.
const MAX_SIZE_LINE: usize = 256;
/// Bound on what all extensions of an answer have, bytes.
const MAX_EXTENSIONS: usize = 16 << 10;

/// Where in the coding the next byte stands.
#[derive(Default)]
pub(super) struct Chunks {
    state: State,
    extensions: usize,
    trailers: Lines,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    EndOfData,
    Trailers,
    Over,
}

/// A part of the content.
pub(super) enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    Over,
}

impl Chunks {
    /// The next part from what is in the buffer; `None`: more is needed.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Decoded>, Broken> {
        loop {
            match self.state {
                State::Size => match self.size(buffer)? {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                    None => return Ok(None),
                },
                State::Data(_) if buffer.is_empty() => return Ok(None),
                State::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    self.state = match left - length as u64 {
                        0 => State::EndOfData,
                        left => State::Data(left),
                    };
                    return Ok(Some(Decoded::Data(buffer.split_to(length).freeze())));
                }
                State::EndOfData if buffer.len() < 2 => return Ok(None),
                State::EndOfData => {
                    if !buffer.starts_with(b"\r\n") {
                        return Err(Broken::Malformed("a chunk is longer than its size"));
                    }
                    buffer.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(trailers) = self.trailers.trailers(buffer)? else {
                        return Ok(None);
                    };
                    self.state = State::Over;
                    if !trailers.is_empty() {
                        return Ok(Some(Decoded::Trailers(trailers)));
                    }
                }
                State::Over => return Ok(Some(Decoded::Over)),
            }
        }
    }

    /// Whether the buffer has the end of the coding next, without trailers: it is taken, so that the last data are known to be
    /// the last.
    pub(super) fn ends_with(&mut self, buffer: &mut BytesMut) -> bool {
        let ends = self.state == State::EndOfData && buffer.starts_with(b"\r\n0\r\n\r\n");
        if ends {
            buffer.advance(7);
            self.state = State::Over;
        }
        ends || self.state == State::Over
    }

    /// The size of a chunk, from its line.
    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Broken> {
        let Some(end) = memchr::memchr(b'\n', buffer) else {
            if buffer.len() > MAX_SIZE_LINE {
                return Err(Broken::Malformed("the size of a chunk is too long"));
            }
            return Ok(None);
        };
        let line = buffer[..end]
            .strip_suffix(b"\r")
            .filter(|line| line.len() <= MAX_SIZE_LINE);
        let size = line.and_then(|line| {
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let (digits, extension) = line.split_at(digits);
            // Blanks may stand before an extension, which nobody here understands (section 7.1.1); some servers leave them
            // without one.
            let understood = extension.trim_ascii_start();
            self.extensions += understood.len();
            let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            let good = (understood.is_empty() || understood.starts_with(b";")) && extension.iter().all(text);
            let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            (good && self.extensions <= MAX_EXTENSIONS).then_some(size)
        });
        let size = size.ok_or(Broken::Malformed("the size of a chunk is none"))?;
        buffer.advance(end + 1);
        Ok(Some(size))
    }
}
