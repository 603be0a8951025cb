//! A scanner that copies JSON through and replaces the origin in values of the key `href`.
//!
//! It is no parser: in JSON a quote that opens a string never follows a backslash, and a string before a colon is a key. So
//! `"href"`, blanks, a colon, blanks, a quote are found without knowing what surrounds them, by substring search over
//! everything else, and in constant memory whatever the depth. What is not JSON passes as it is, but for what looks just like
//! such a link.
//!
//! | state | looks for | finds it: | finds something else: |
//! |---|---|---|---|
//! | `Search` | `"href"` as it is nearly always written, or a string with `\u00` (`keys`) | `AfterKey`, or `Key` | – |
//! | `Key` | the rest of `href`, escapes decoded | `AfterKey` | `Search`, from this byte |
//! | `AfterKey` | blanks, then `:` | `AfterColon` | `Search`, from this byte |
//! | `AfterColon` | blanks, then `"` | `Value` | `Search`, from this byte |
//! | `Value` | one of the upstream's origins with the path of its API, escapes decoded | the origin is replaced; `Search` | what was held back passes; `Search` |
//!
//! A link as it is nearly always written (`"href":"https://…/api/`, whole in the piece, without blanks or escapes) is compared
//! and replaced as a whole, in `Search`. The states give the same, byte by byte.
//!
//! A piece of the body may end in any state. Only `Value` holds something back: the bytes that may be an origin, until
//! it is known whether they are one.

mod keys;

use keys::Keys;
use memchr::memchr;

use super::pattern::{LinkRewriter, MAX_PATTERNS};

/// Rewrites one body, pushed in pieces.
pub struct JsonRewriter {
    links: LinkRewriter,
    client: Vec<u8>,
    state: State,
    /// The last byte of the piece before was a backslash.
    after_backslash: bool,
    /// Bytes of earlier pieces that may be the beginning of a link.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Looking for a quote that opens the key.
    Search,
    /// In a string that is `href` so far.
    Key { matched: usize, escape: Escape },
    /// Behind the string `href`: a colon makes it a key.
    AfterKey,
    /// Behind `"href":`.
    AfterColon,
    /// In a value that is a link so far.
    Value(Candidate),
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Decoded bytes matched.
    matched: usize,
    /// Raw bytes consumed.
    raw: usize,
    escape: Escape,
    /// Patterns that are still possible.
    alive: [bool; MAX_PATTERNS],
    /// Where, in raw bytes, each pattern's path begins.
    path_at: [usize; MAX_PATTERNS],
}

/// Where in an escape sequence (RFC 8259 section 7) the scanner is.
#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    Backslash,
    Hex { digits: u8, value: u16 },
}

/// What one raw byte of a string means.
enum Unit {
    /// A decoded byte; `None`: a character that no pattern has.
    Char(Option<u8>),
    /// More bytes belong to it.
    Incomplete,
    /// The closing quote.
    End,
    /// Not JSON; the byte is to be read again, as part of an uninteresting string.
    Invalid,
}

impl Escape {
    fn next(&mut self, byte: u8) -> Unit {
        match (*self, byte) {
            (Self::None, b'"') => Unit::End,
            (Self::None, b'\\') => {
                *self = Self::Backslash;
                Unit::Incomplete
            }
            (Self::None, plain) => Unit::Char(Some(plain)),
            (Self::Backslash, b'u') => {
                *self = Self::Hex { digits: 0, value: 0 };
                Unit::Incomplete
            }
            (Self::Backslash, b'/') => {
                *self = Self::None;
                Unit::Char(Some(b'/'))
            }
            // A quote, a backslash or a control character: in no pattern.
            (Self::Backslash, _) => {
                *self = Self::None;
                Unit::Char(None)
            }
            (Self::Hex { digits, value }, byte) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    *self = Self::None;
                    return Unit::Invalid;
                };
                // At most four digits: 16 bits.
                let value = (value << 4) | u16::try_from(digit).unwrap_or(0);
                if digits < 3 {
                    *self = Self::Hex {
                        digits: digits + 1,
                        value,
                    };
                    return Unit::Incomplete;
                }
                *self = Self::None;
                Unit::Char(u8::try_from(value).ok().filter(u8::is_ascii))
            }
        }
    }
}

/// What became of a candidate.
enum Outcome {
    Undecided,
    /// It is a link; its path begins behind so many raw bytes.
    Link(usize),
    /// It is none.
    No,
}

const KEY: &[u8] = b"href";

impl JsonRewriter {
    /// `client`: the origin that links are to lead to, of characters that need no escape in JSON.
    pub fn new(links: &LinkRewriter, client: &str) -> Self {
        let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
        let mut client = client.as_bytes().to_vec();
        client.retain(plain);
        Self {
            links: links.clone(),
            client,
            state: State::Search,
            after_backslash: false,
            held: Vec::new(),
        }
    }

    /// Takes the next piece. `None`: it passes as it is. `Some`: this stands for it.
    pub fn push(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let mut out = Output {
            piece,
            copied: 0,
            bytes: None,
        };
        // Whether the candidate began in an earlier piece, and how much of it lies there.
        let mut held = self.held.len();
        let mut at = 0;
        let mut keys = Keys::new(piece, self.after_backslash);
        while at < piece.len() {
            match self.state {
                State::Search => match keys.next(at) {
                    Some((State::AfterKey, next)) if let Some(origin) = self.links.usual(&piece[next..]) => {
                        at = next + origin.end;
                        out.replace(next + origin.start, at, &self.client);
                    }
                    Some((state, next)) => {
                        self.state = state;
                        at = next;
                    }
                    None => break,
                },
                State::Key { matched, escape } => at += self.step_key(piece[at], matched, escape),
                State::AfterKey | State::AfterColon => at += self.step_between(piece[at]),
                State::Value(mut candidate) => {
                    if candidate.raw == 0
                        && let Some(link) = self.plainly(&piece[at..])
                    {
                        self.state = State::Search;
                        if let Some(origin) = link {
                            self.replace(&mut out, at, origin, 0);
                            at += origin;
                        }
                        continue;
                    }
                    let begin = at;
                    let (outcome, used) = self.step_value(piece[at], &mut candidate);
                    at += used;
                    match outcome {
                        Outcome::Undecided => self.state = State::Value(candidate),
                        Outcome::No => {
                            self.release(&mut out, held, held);
                            held = 0;
                        }
                        Outcome::Link(path_at) => {
                            // The candidate's first raw byte lies at `at - raw` of this piece, or `held` bytes before it.
                            let start = (begin + 1 + held).saturating_sub(candidate.raw);
                            self.replace(&mut out, start, path_at, held);
                            held = 0;
                        }
                    }
                }
            }
        }
        if let Some(&last) = piece.last() {
            self.after_backslash = last == b'\\';
        }
        self.hold_back(&mut out, held);
        out.finish()
    }

    /// The end of the body: returns what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether a value is a link, and the length of its origin, if that can be told at once: when the value's beginning
    /// is all here and has no escapes, as nearly always.
    fn plainly(&self, rest: &[u8]) -> Option<Option<usize>> {
        let head = rest.get(..self.links.longest)?;
        let plain = memchr(b'\\', head).is_none();
        plain.then(|| self.links.origin_length(head))
    }

    /// A byte that does not fit is not consumed: it may open the key.
    fn step_key(&mut self, byte: u8, matched: usize, mut escape: Escape) -> usize {
        match escape.next(byte) {
            Unit::Char(Some(c)) if KEY.get(matched) == Some(&c) => {
                self.state = State::Key {
                    matched: matched + 1,
                    escape,
                };
            }
            Unit::Incomplete => self.state = State::Key { matched, escape },
            Unit::End if matched == KEY.len() => self.state = State::AfterKey,
            Unit::Char(_) | Unit::End | Unit::Invalid => {
                self.state = State::Search;
                return 0;
            }
        }
        1
    }

    fn step_between(&mut self, byte: u8) -> usize {
        let colon_seen = matches!(self.state, State::AfterColon);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b':' if !colon_seen => self.state = State::AfterColon,
            b'"' if colon_seen => {
                self.state = State::Value(Candidate {
                    matched: 0,
                    raw: 0,
                    escape: Escape::None,
                    alive: std::array::from_fn(|n| n < self.links.patterns.len()),
                    path_at: [0; MAX_PATTERNS],
                });
            }
            _ => {
                self.state = State::Search;
                return 0;
            }
        }
        1
    }

    /// Reads one raw byte of a value; returns how many bytes were consumed. Once decided, the state is the next one.
    fn step_value(&mut self, byte: u8, candidate: &mut Candidate) -> (Outcome, usize) {
        let before = candidate.raw;
        // Raw bytes of the character that is complete with this one begin where the last one ended.
        let unit_began = matches!(candidate.escape, Escape::None);
        if unit_began {
            for (n, pattern) in self.links.patterns.iter().enumerate() {
                if pattern.origin == candidate.matched {
                    candidate.path_at[n] = before;
                }
            }
        }
        candidate.raw += 1;
        match candidate.escape.next(byte) {
            Unit::Incomplete => (Outcome::Undecided, 1),
            Unit::Char(Some(c)) => {
                let at = candidate.matched;
                candidate.matched += 1;
                for (n, pattern) in self.links.patterns.iter().enumerate() {
                    candidate.alive[n] &= pattern.has(at, c);
                    if candidate.alive[n] && pattern.text.len() == candidate.matched {
                        self.state = State::Search;
                        return (Outcome::Link(candidate.path_at[n]), 1);
                    }
                }
                if candidate.alive.contains(&true) {
                    return (Outcome::Undecided, 1);
                }
                self.state = State::Search;
                (Outcome::No, 1)
            }
            Unit::Char(None) => {
                self.state = State::Search;
                (Outcome::No, 1)
            }
            // Read again, as the quote of any other string.
            Unit::End => {
                candidate.raw -= 1;
                self.state = State::Search;
                (Outcome::No, 0)
            }
            Unit::Invalid => {
                candidate.raw -= 1;
                self.state = State::Search;
                (Outcome::No, 0)
            }
        }
    }

    /// Writes out what was held back, up to `until`.
    fn release(&mut self, out: &mut Output<'_>, held: usize, until: usize) {
        if held > 0 {
            out.start().extend_from_slice(&self.held[..until]);
            self.held.clear();
        }
    }

    /// Puts the client's origin in place of the upstream's. `start`: where the candidate begins, counted from the begin of
    /// what is held; `path_at`: raw bytes of the origin.
    fn replace(&mut self, out: &mut Output<'_>, start: usize, path_at: usize, held: usize) {
        let path = start + path_at;
        if held == 0 {
            out.copy_to(start);
        } else {
            out.start();
        }
        out.start().extend_from_slice(&self.client);
        if path < held {
            out.start().extend_from_slice(&self.held[path..]);
        }
        self.held.clear();
        out.copied = out.copied.max(path.saturating_sub(held));
    }

    /// At the end of a piece: an undecided candidate waits for the next.
    fn hold_back(&mut self, out: &mut Output<'_>, held: usize) {
        let State::Value(candidate) = &self.state else { return };
        let here = candidate.raw - held;
        if here == 0 && held == 0 {
            return;
        }
        let begin = out.piece.len() - here;
        out.copy_to(begin);
        self.held.extend_from_slice(&out.piece[begin..]);
        out.copied = out.piece.len();
    }
}

/// The output for one piece; nothing is copied before something changes.
struct Output<'a> {
    piece: &'a [u8],
    copied: usize,
    bytes: Option<Vec<u8>>,
}

impl Output<'_> {
    fn start(&mut self) -> &mut Vec<u8> {
        let capacity = self.piece.len() + 64;
        self.bytes.get_or_insert_with(|| Vec::with_capacity(capacity))
    }

    /// Puts `origin` in place of the bytes of the piece from `begin` to `end`.
    fn replace(&mut self, begin: usize, end: usize, origin: &[u8]) {
        let unchanged = &self.piece[self.copied..begin];
        let bytes = self.start();
        bytes.extend_from_slice(unchanged);
        bytes.extend_from_slice(origin);
        self.copied = end;
    }

    fn copy_to(&mut self, end: usize) {
        let (piece, copied) = (self.piece, self.copied);
        self.start().extend_from_slice(&piece[copied..end]);
        self.copied = end;
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        if self.bytes.is_some() {
            self.copy_to(self.piece.len());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests;
