//! Where the content of a request ends (RFC 9112 sections 6.3 and 7.1). Data are counted, never copied.

use super::Refusal;
use super::head::{Framing, is_token, is_value};

/// Chunk extensions of one message, bytes; nobody sends any.
const MOST_EXTENSION: usize = 4 << 10;
/// Trailer section of one message, bytes.
const MOST_TRAILERS: usize = 16 << 10;
/// 15 hexadecimal digits always fit 64 bits, and leave room for arithmetic.
const MOST_SIZE_DIGITS: u8 = 15;

/// Follows one message's content.
#[derive(Debug)]
pub(super) enum BodyScanner {
    Length(u64),
    Chunked(Chunked),
}

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    extension: usize,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Gap,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

impl BodyScanner {
    /// `None`: there is no content.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(length) => Some(Self::Length(length)),
            Framing::Chunked => Some(Self::Chunked(Chunked {
                state: State::Size,
                size: 0,
                digits: 0,
                extension: 0,
                trailers: 0,
            })),
        }
    }

    /// How many of `bytes` belong to the message, and whether it ends with them.
    ///
    /// # Errors
    /// When the chunks have no reading, or more than one.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            Self::Chunked(chunked) => chunked.advance(bytes),
        }
    }
}

impl Chunked {
    fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let here = usize::try_from(self.size).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.state == State::EndLf {
                return if byte == b'\n' {
                    Ok((at, true))
                } else {
                    Err(Refusal::Malformed(BARE_CR))
                };
            }
            self.state = self.step(byte)?;
        }
        Ok((at, false))
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        let malformed = |why| Err(Refusal::Malformed(why));
        Ok(match (self.state, byte) {
            (State::Size, byte) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > MOST_SIZE_DIGITS {
                    return malformed("a chunk size is too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, _) if self.digits == 0 => return malformed("a chunk has no size"),
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::Gap, b' ' | b'\t') => State::Gap,
            (State::Size | State::Gap, b';') => State::Extension,
            (State::Extension, byte) if is_value(byte) => {
                self.extension += 1;
                if self.extension > MOST_EXTENSION {
                    return malformed("its chunk extensions are too large");
                }
                State::Extension
            }
            (State::Size | State::Gap | State::Extension, _) => {
                return malformed("a chunk size or extension is malformed");
            }
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.size == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::DataCr | State::DataLf, _) => return malformed("a chunk is not as long as it says"),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => {
                self.trailer_byte()?;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) if is_value(byte) => {
                self.trailer_byte()?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                return malformed("its trailer section is malformed");
            }
            (State::SizeLf | State::TrailerLf | State::Data | State::EndLf, _) => return malformed(BARE_CR),
        })
    }

    fn trailer_byte(&mut self) -> Result<(), Refusal> {
        self.trailers += 1;
        if self.trailers > MOST_TRAILERS {
            return Err(Refusal::Malformed("its trailer section is too large"));
        }
        Ok(())
    }
}

const BARE_CR: &str = "a line of its content's framing has CR without LF";

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> BodyScanner {
        BodyScanner::new(Framing::Chunked).unwrap()
    }

    #[test]
    fn lengths() {
        assert!(BodyScanner::new(Framing::None).is_none());
        assert!(BodyScanner::new(Framing::Length(0)).is_none());
        let mut body = BodyScanner::new(Framing::Length(5)).unwrap();
        assert_eq!(body.advance(b"abc"), Ok((3, false)));
        assert_eq!(body.advance(b"deGET"), Ok((2, true)));
    }

    #[test]
    fn chunks_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "a\r\n0123456789\r\n00\r\n\r\n",
            "3;a=\"b\";c\r\nabc\r\n0 ;x\r\nX-Sum: 1\r\nY:\r\n\r\n",
        ] {
            let more = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(chunked().advance(more.as_bytes()), Ok((body.len(), true)), "{body:?}");
            let mut scanner = chunked();
            for (at, byte) in body.bytes().enumerate() {
                let last = at + 1 == body.len();
                assert_eq!(scanner.advance(&[byte]), Ok((1, last)), "{body:?} at {at}");
            }
        }
    }

    #[test]
    fn chunks_with_no_reading() {
        for body in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 a\r\n",
            "1\n",
            "1\ra",
            "1;a\n",
            "1;a\u{0}\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "1000000000000000\r\n",
            "0\r\n\n",
            "0\r\n X: folded\r\n",
            "0\r\nX\r\n",
            "0\r\nX: \u{0}\r\n",
            "0\r\nX: a\n",
            "0\r\n: a\r\n",
            "0\r\nX : a\r\n",
        ] {
            assert!(chunked().advance(body.as_bytes()).is_err(), "{body:?}");
        }
        let extension = format!("1;{}\r\n", "a".repeat(MOST_EXTENSION + 1));
        assert!(chunked().advance(extension.as_bytes()).is_err());
        let trailers = format!("0\r\n{}\r\n", "X: a\r\n".repeat(MOST_TRAILERS));
        assert!(chunked().advance(trailers.as_bytes()).is_err());
    }
}
