//! Bounds what a store may send, in bytes, before anything of it is buffered: a stream that fails at an answer which
//! none of our commands has.
//!
//! A client of Redis believes what a server announces: it gathers a string of 1.9 GB as it comes, and allocates an
//! array of a thousand million elements at once. Ours gets answers to scripts of ours: at most one array, of at most
//! one token and some numbers. So each answer is followed byte by byte here (RESP2, as the connection speaks it), and
//! the first byte of one that is too long, too deep, of another kind or not asked for is an error instead of data.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scripts::MOST_VALUE_BYTES;

/// The most of a string, bytes: a token.
const MOST_STRING: u64 = MOST_VALUE_BYTES as u64;
/// The most of a whole answer, bytes: a token, three numbers, and what is around them. Errors are far shorter.
const MOST_ANSWER: u64 = MOST_STRING + 1024;
/// The most elements of an array: what TURN answers has four.
const MOST_ELEMENTS: u64 = 8;
/// Digits enough for any length in these bounds; a number may have twenty.
const MOST_DIGITS: u8 = 10;

/// A stream that lets in bounded answers, one for each command that was written.
pub(super) struct Narrow<S> {
    inner: S,
    commands: Commands,
    answers: Answers,
}

impl<S> Narrow<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            commands: Commands::default(),
            answers: Answers::default(),
        }
    }
}

/// Why none of our commands has such an answer. Holds nothing that the server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooWide {
    #[error("its answer is longer than any that is asked for ({MOST_ANSWER} bytes)")]
    Long,
    #[error("its answer is nested deeper, or has more elements, than any that is asked for")]
    Deep,
    #[error("it answers in another way than Redis does (RESP2): is it one?")]
    Foreign,
    #[error(
        "it speaks without being asked: is it in protected mode, or has it as many clients as it takes? Its log says so"
    )]
    Unasked,
}

impl From<TooWide> for io::Error {
    fn from(why: TooWide) -> Self {
        Self::new(io::ErrorKind::InvalidData, why)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Narrow<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self {
            inner,
            commands,
            answers,
        } = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(inner).poll_read(cx, buf))?;
        if let Err(why) = answers.follow(&buf.filled()[before..], &mut commands.unanswered) {
            buf.set_filled(before);
            return Poll::Ready(Err(why.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Narrow<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.commands.follow(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Counts the commands that we write, which are well-formed: arrays of strings.
#[derive(Default)]
struct Commands {
    unanswered: u64,
    at: At,
    /// Strings of this command that are still to come.
    strings: u64,
}

/// The position in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// Before the byte that says of which kind the next thing is.
    #[default]
    Kind,
    /// In the length of an array or a string.
    Length {
        kind: u8,
        sofar: Option<u64>,
        digits: u8,
        minus: bool,
    },
    /// In a line of text or a number.
    Line,
    /// After the CR of a line; `announced`: the length that the line gave, if it gave one.
    Lf { announced: Option<(u8, Option<u64>)> },
    /// In a string, and the CRLF behind it.
    Bytes { left: u64 },
}

impl Commands {
    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let At::Bytes { left } = self.at {
                let skipped = left.min(bytes.len() as u64);
                bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
                self.at = At::Bytes { left: left - skipped };
                if left == skipped {
                    self.end_of_string();
                }
                continue;
            }
            bytes = rest;
            self.at = match self.at {
                At::Kind => At::Length {
                    kind: byte,
                    sofar: Some(0),
                    digits: 0,
                    minus: false,
                },
                At::Length { kind, sofar, .. } if byte.is_ascii_digit() => At::Length {
                    kind,
                    sofar: sofar.map(|sofar| sofar.saturating_mul(10).saturating_add(u64::from(byte - b'0'))),
                    digits: 0,
                    minus: false,
                },
                At::Length { kind, sofar, .. } if byte == b'\r' => At::Lf {
                    announced: Some((kind, sofar)),
                },
                At::Lf {
                    announced: Some((b'*', Some(strings))),
                } => {
                    self.strings = strings;
                    At::Kind
                }
                At::Lf {
                    announced: Some((b'$', Some(length))),
                } => At::Bytes {
                    left: length.saturating_add(2),
                },
                at => at,
            };
        }
    }

    fn end_of_string(&mut self) {
        self.at = At::Kind;
        self.strings = self.strings.saturating_sub(1);
        if self.strings == 0 {
            self.unanswered += 1;
        }
    }
}

/// Follows what the server sends.
#[derive(Default)]
struct Answers {
    at: At,
    /// Bytes of this answer.
    bytes: u64,
    /// Elements of this answer's array that are still to come; `None`: not in one.
    elements: Option<u64>,
}

impl Answers {
    fn follow(&mut self, mut bytes: &[u8], unanswered: &mut u64) -> Result<(), TooWide> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if *unanswered == 0 {
                return Err(TooWide::Unasked);
            }
            if let At::Bytes { left } = self.at {
                let skipped = left.min(bytes.len() as u64);
                bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
                self.count(skipped)?;
                self.at = At::Bytes { left: left - skipped };
                if left == skipped {
                    self.end_of_element(unanswered);
                }
                continue;
            }
            bytes = rest;
            self.count(1)?;
            self.step(byte, unanswered)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), TooWide> {
        self.bytes += bytes;
        if self.bytes > MOST_ANSWER {
            return Err(TooWide::Long);
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, unanswered: &mut u64) -> Result<(), TooWide> {
        match self.at {
            At::Kind => {
                self.at = match byte {
                    b'+' | b'-' | b':' => At::Line,
                    b'$' | b'*' => At::Length {
                        kind: byte,
                        sofar: None,
                        digits: 0,
                        minus: false,
                    },
                    _ => return Err(TooWide::Foreign),
                };
            }
            At::Line => {
                if byte == b'\r' {
                    self.at = At::Lf { announced: None };
                }
            }
            At::Length {
                kind,
                sofar,
                digits,
                minus,
            } => {
                self.at = match byte {
                    b'-' if sofar.is_none() && !minus => At::Length {
                        kind,
                        sofar,
                        digits,
                        minus: true,
                    },
                    b'0'..=b'9' if digits < MOST_DIGITS => At::Length {
                        kind,
                        sofar: Some(sofar.unwrap_or(0) * 10 + u64::from(byte - b'0')),
                        digits: digits + 1,
                        minus,
                    },
                    b'0'..=b'9' => return Err(TooWide::Long),
                    // -1: null.
                    b'\r' if minus && sofar == Some(1) => At::Lf {
                        announced: Some((kind, None)),
                    },
                    b'\r' if !minus && sofar.is_some() => At::Lf {
                        announced: Some((kind, sofar)),
                    },
                    _ => return Err(TooWide::Foreign),
                };
            }
            At::Lf { announced } => {
                if byte != b'\n' {
                    return Err(TooWide::Foreign);
                }
                self.line_ended(announced, unanswered)?;
            }
            // Only counted.
            At::Bytes { .. } => {}
        }
        Ok(())
    }

    fn line_ended(&mut self, announced: Option<(u8, Option<u64>)>, unanswered: &mut u64) -> Result<(), TooWide> {
        match announced {
            Some((b'$', Some(length))) if length > MOST_STRING => return Err(TooWide::Long),
            Some((b'$', Some(length))) => self.at = At::Bytes { left: length + 2 },
            Some((b'*', Some(elements))) if self.elements.is_some() || elements > MOST_ELEMENTS => {
                return Err(TooWide::Deep);
            }
            Some((b'*', Some(elements @ 1..))) => {
                self.elements = Some(elements);
                self.at = At::Kind;
            }
            _ => self.end_of_element(unanswered),
        }
        Ok(())
    }

    fn end_of_element(&mut self, unanswered: &mut u64) {
        self.at = At::Kind;
        self.elements = self
            .elements
            .map(|elements| elements - 1)
            .filter(|elements| *elements > 0);
        if self.elements.is_none() {
            self.bytes = 0;
            *unanswered -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The verdict on these bytes, in pieces of this size, after this many commands; and how many of them were
    /// answered.
    fn follow(bytes: &[u8], piece: usize, commands: u64) -> (Result<(), TooWide>, u64) {
        let (mut answers, mut unanswered) = (Answers::default(), commands);
        let result = bytes
            .chunks(piece)
            .try_for_each(|piece| answers.follow(piece, &mut unanswered));
        (result, commands - unanswered)
    }

    #[test]
    fn what_a_server_answers_to_us_passes_in_pieces_of_any_size() {
        let token = "x".repeat(MOST_VALUE_BYTES);
        let all = format!(
            "+OK\r\n:1\r\n:-2\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n-WRONGPASS no such user or password\r\n*1\r\n:0\r\n\
             *2\r\n$0\r\n\r\n:-2\r\n*4\r\n:999999999999999\r\n:0\r\n${}\r\n{token}\r\n:3600000\r\n$3\r\n\r\n*\r\n",
            token.len()
        );
        for piece in [1, 2, 3, 7, 1000, 1 << 20] {
            assert_eq!(follow(all.as_bytes(), piece, 13), (Ok(()), 12), "{piece}");
        }
    }

    #[test]
    fn anything_wider_is_an_error_before_it_is_there() {
        for (answer, why) in [
            ("$1900000000\r\n", TooWide::Long),
            ("$32769\r\n", TooWide::Long),
            ("$99999999999999999999999\r\n", TooWide::Long),
            ("*2000000000\r\n", TooWide::Deep),
            ("*9\r\n", TooWide::Deep),
            ("*1\r\n*1\r\n", TooWide::Deep),
            ("*2\r\n$1\r\nx\r\n*0\r\n", TooWide::Deep),
            ("$-2\r\n", TooWide::Foreign),
            ("$--1\r\n", TooWide::Foreign),
            ("$\r\n", TooWide::Foreign),
            ("$+1\r\n", TooWide::Foreign),
            ("*1\n", TooWide::Foreign),
            ("+OK\rx", TooWide::Foreign),
            ("%1000000000\r\n", TooWide::Foreign),
            ("|1\r\n", TooWide::Foreign),
            ("~1\r\n", TooWide::Foreign),
            (">1\r\n", TooWide::Foreign),
            ("=2000000000\r\n", TooWide::Foreign),
            ("!2000000000\r\n", TooWide::Foreign),
            ("HTTP/1.1 400 Bad Request\r\n", TooWide::Foreign),
            ("+1\r\n+2\r\n+3\r\n", TooWide::Unasked),
        ] {
            for piece in [1, 1000] {
                assert_eq!(follow(answer.as_bytes(), piece, 2).0, Err(why), "{answer}");
            }
        }
        for endless in ["+", "-ERR ", ":"] {
            let answer = endless.to_owned() + &"1".repeat(40_000);
            assert_eq!(follow(answer.as_bytes(), 1000, 1).0, Err(TooWide::Long));
        }
        // Two tokens are more than one answer has.
        let token = format!("$32768\r\n{}\r\n", "x".repeat(32_768));
        assert_eq!(
            follow(format!("*2\r\n{token}{token}").as_bytes(), 999, 1).0,
            Err(TooWide::Long)
        );
        assert_eq!(follow(format!("{token}{token}").as_bytes(), 999, 2), (Ok(()), 2));
        assert_eq!(follow(b"+OK\r\n", 1, 0).0, Err(TooWide::Unasked));
    }

    #[test]
    fn commands_are_counted_whatever_is_in_them() {
        let mut packed = redis::cmd("EVAL")
            .arg("return 1")
            .arg(0)
            .arg("\r\n*5\r\n$3\r\n")
            .get_packed_command();
        packed.extend(redis::cmd("PING").get_packed_command());
        packed.extend(redis::cmd("SET").arg("").arg(vec![0_u8; 40_000]).get_packed_command());
        for piece in [1, 2, 5, 1 << 20] {
            let mut commands = Commands::default();
            packed.chunks(piece).for_each(|piece| commands.follow(piece));
            assert_eq!((commands.unanswered, commands.at), (3, At::Kind));
        }
    }

    proptest! {
        /// What passes makes nobody keep more than one answer, and what does not pass says so without a panic.
        #[test]
        fn no_bytes_are_kept_beyond_the_bound(
            bytes in proptest::collection::vec(proptest::sample::select(b"+-:$*\r\n0123456789x%".to_vec()), 0..300),
            piece in 1_usize..20,
        ) {
            let (mut answers, mut unanswered) = (Answers::default(), 5);
            for piece in bytes.chunks(piece) {
                if answers.follow(piece, &mut unanswered).is_err() {
                    break;
                }
                prop_assert!(answers.bytes <= MOST_ANSWER);
                if let At::Bytes { left } = answers.at {
                    prop_assert!(left <= MOST_STRING + 2);
                }
            }
        }
    }
}
