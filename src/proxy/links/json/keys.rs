//! Finds where a key that may be `href` begins.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use super::{Escape, KEY, State};

/// The key as it is nearly always written.
const PLAIN: &[u8] = b"\"href\"";
/// Every escape that a spelling of the key can contain begins like this (`\u0068`, `\u0072`, `\u0065`, `\u0066`).
const ESCAPE: &[u8] = b"\\u00";
/// Prepared once: substring search has tables of its own.
static FIND_PLAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PLAIN));
static FIND_ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ESCAPE));
/// The longest beginning of a key that contains neither of these: `"hre\u0`.
const LONGEST_BEGINNING: usize = 1 + 3 + 3;

/// The keys of one chunk, in order. It remembers what it found ahead, so that a chunk is searched once.
pub(super) struct Keys<'a> {
    chunk: &'a [u8],
    after_backslash: bool,
    plain: Found,
    escaped: Found,
}

#[derive(Clone, Copy)]
enum Found {
    /// Not looked yet.
    Unknown,
    At(usize),
    /// There is no other.
    Nowhere,
}

impl<'a> Keys<'a> {
    pub(super) fn new(chunk: &'a [u8], after_backslash: bool) -> Self {
        Self {
            chunk,
            after_backslash,
            plain: Found::Unknown,
            escaped: Found::Unknown,
        }
    }

    /// The next key at or after `from`, or the beginning of one at the end of the chunk: the state it puts the scanner
    /// in, and where to read on.
    pub(super) fn next(&mut self, from: usize) -> Option<(State, usize)> {
        self.escaped = self.look(self.escaped, from, Self::find_escaped);
        let Found::At(escaped) = self.escaped else {
            // As nearly always: each plain key is the next one, and none need be remembered.
            return match self.find_plain(from) {
                Some(plain) => Some(behind(plain)),
                None => self.find_at_end(from).map(begun),
            };
        };
        self.plain = self.look(self.plain, from, Self::find_plain);
        match self.plain {
            Found::At(plain) if plain < escaped => Some(behind(plain)),
            _ => Some(begun(escaped)),
        }
    }

    fn look(&self, known: Found, from: usize, find: impl Fn(&Self, usize) -> Option<usize>) -> Found {
        match known {
            Found::At(at) if at >= from => known,
            Found::Nowhere => known,
            _ => find(self, from).map_or(Found::Nowhere, Found::At),
        }
    }

    fn find_plain(&self, mut from: usize) -> Option<usize> {
        loop {
            let at = from + FIND_PLAIN.find(self.chunk.get(from..)?)?;
            if self.opens(at) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// Finds a key with an escape: only letters of `href` may stand between its quote and its first escape.
    fn find_escaped(&self, first: usize) -> Option<usize> {
        // Most texts have no backslash at all, and one byte is found sooner than four.
        let mut from = first + memchr(b'\\', self.chunk.get(first..)?)?;
        loop {
            let escape = from + FIND_ESCAPE.find(self.chunk.get(from..)?)?;
            let quote = (0..KEY.len()).find_map(|letters| {
                let quote = escape.checked_sub(letters + 1)?;
                let begins = quote >= first && self.chunk[quote..escape] == PLAIN[..=letters];
                (begins && self.opens(quote)).then_some(quote)
            });
            if quote.is_some() {
                return quote;
            }
            from = escape + 1;
        }
    }

    /// A quote so near the end that a key after it might go on in the next chunk.
    fn find_at_end(&self, from: usize) -> Option<usize> {
        let start = from.max(self.chunk.len().saturating_sub(LONGEST_BEGINNING));
        let quotes = memchr_iter(b'"', &self.chunk[start..]);
        quotes.map(|at| start + at).find(|&at| self.opens(at))
    }

    /// Whether no backslash escapes the quote at `at`.
    fn opens(&self, at: usize) -> bool {
        match at.checked_sub(1) {
            Some(before) => self.chunk[before] != b'\\',
            None => !self.after_backslash,
        }
    }
}

fn behind(plain: usize) -> (State, usize) {
    (State::AfterKey, plain + PLAIN.len())
}

fn begun(quote: usize) -> (State, usize) {
    let state = State::Key {
        matched: 0,
        escape: Escape::None,
    };
    (state, quote + 1)
}
