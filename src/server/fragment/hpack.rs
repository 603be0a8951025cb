//! As much of HPACK (RFC 7541) as it takes to know whether a `:path` has a `#`: lengths, which the dynamic table goes by,
//! and the few bytes that are compared. No field is kept.

use std::collections::VecDeque;

use memchr::memchr;

use super::huffman;

/// What the dynamic table may hold (RFC 9113 section 6.5.2): our SETTINGS say nothing else.
const TABLE_SIZE: u32 = 4096;
/// What each entry counts beyond its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: u32 = 32;
/// An integer has at most so many bytes behind its prefix, each of 7 bits.
const INTEGER_SHIFT_MOST: u32 = 21;

/// Lengths of the names in the static table (RFC 7541 appendix A).
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4,
    4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
/// The indices of `:path` in it.
const STATIC_PATHS: [usize; 2] = [4, 5];
const PATH: &[u8] = b":path";
const PATH_HUFFMAN: &[u8] = b"\xb9\x58\xd3\x3f";

/// What a block of header fields is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No `:path` in it has a `#`.
    Whole,
    /// One has.
    Fragment,
    /// This block or one before was not understood: the table may differ from the client's.
    Unsure,
}

#[derive(Debug, Clone, Copy, Default)]
struct Name {
    length: u32,
    is_path: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Name,
    size: u32,
    /// Whether it is a `:path` with a `#`.
    fragment: bool,
}

#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    size: u32,
    most: u32,
}

impl Table {
    /// `None`: there is no such entry.
    fn get(&self, index: u32) -> Option<(Name, bool)> {
        let index = usize::try_from(index).ok()?.checked_sub(1)?;
        if let Some(length) = STATIC_NAMES.get(index) {
            let name = Name {
                length: u32::from(*length),
                is_path: STATIC_PATHS.contains(&(index + 1)),
            };
            return Some((name, false));
        }
        let entry = self.entries.get(index - STATIC_NAMES.len())?;
        Some((entry.name, entry.fragment))
    }

    fn insert(&mut self, name: Name, value: u32, fragment: bool) {
        let size = name.length.saturating_add(value).saturating_add(ENTRY_OVERHEAD);
        self.shrink(self.most.saturating_sub(size));
        // An entry larger than the table empties it (RFC 7541 section 4.4).
        if size <= self.most {
            self.size += size;
            self.entries.push_front(Entry { name, size, fragment });
        }
    }

    fn resize(&mut self, most: u32) {
        self.most = most;
        self.shrink(most);
    }

    fn shrink(&mut self, to: u32) {
        while self.size > to
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// A representation of a field (RFC 7541 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Indexed,
    Literal { enters_table: bool },
    TableSize,
}

/// What an integer means.
#[derive(Debug, Clone, Copy)]
enum Number {
    /// An index, or the size of the table.
    Index,
    NameLength,
    ValueLength,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The first byte of a field comes.
    Field,
    /// A further byte of an integer.
    Integer(Number, u32),
    /// The first byte of a string's length.
    Name,
    Value,
    /// A string.
    NameText,
    ValueText,
}

/// A string as it passes.
#[derive(Debug, Default)]
struct Text {
    encoded: u32,
    left: usize,
    huffman: Option<huffman::Lengths>,
    /// Bytes that it has decoded.
    length: u32,
    has_fragment: bool,
    /// Its first bytes, as they came.
    start: [u8; PATH.len()],
    start_length: usize,
}

impl Text {
    fn new(encoded: u32, is_huffman: bool) -> Self {
        Self {
            encoded,
            left: encoded as usize,
            huffman: is_huffman.then(huffman::Lengths::default),
            ..Self::default()
        }
    }

    /// `false`: it is no Huffman code.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let kept = bytes.len().min(self.start.len() - self.start_length);
        self.start[self.start_length..self.start_length + kept].copy_from_slice(&bytes[..kept]);
        self.start_length += kept;
        self.left -= bytes.len();
        let Some(huffman) = &mut self.huffman else {
            self.length = self.encoded;
            self.has_fragment |= memchr(b'#', bytes).is_some();
            return true;
        };
        let mut ok = huffman.take(bytes);
        if self.left == 0 {
            ok = ok && huffman.end();
            self.length = huffman.symbols;
            self.has_fragment = huffman.has_fragment;
        }
        ok
    }

    fn is_path(&self) -> bool {
        let path = if self.huffman.is_some() { PATH_HUFFMAN } else { PATH };
        self.encoded as usize == path.len() && self.start[..self.start_length] == *path
    }
}

/// Reads the header blocks of one direction of a connection, each in any pieces.
#[derive(Debug)]
pub(super) struct PathReader {
    table: Table,
    state: State,
    kind: Kind,
    number: u32,
    is_huffman: bool,
    name: Name,
    text: Text,
    /// No field of the block has come: the table's size may change.
    at_start: bool,
    fragment: bool,
    unsure: bool,
}

impl Default for PathReader {
    fn default() -> Self {
        Self {
            table: Table {
                entries: VecDeque::new(),
                size: 0,
                most: TABLE_SIZE,
            },
            state: State::Field,
            kind: Kind::Indexed,
            number: 0,
            is_huffman: false,
            name: Name::default(),
            text: Text::default(),
            at_start: true,
            fragment: false,
            unsure: false,
        }
    }
}

impl PathReader {
    /// From here on, nothing is known.
    pub(super) fn give_up(&mut self) {
        self.unsure = true;
        self.table.resize(0);
    }

    /// A piece of a block.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes
            && !self.unsure
        {
            let first = *first;
            bytes = match self.state {
                State::NameText | State::ValueText => {
                    let taken = bytes.len().min(self.text.left);
                    if !self.text.take(&bytes[..taken]) {
                        self.give_up();
                    } else if self.text.left == 0 {
                        self.text_came();
                    }
                    &bytes[taken..]
                }
                State::Field => {
                    self.field(first);
                    rest
                }
                State::Name => {
                    self.length(first, Number::NameLength);
                    rest
                }
                State::Value => {
                    self.length(first, Number::ValueLength);
                    rest
                }
                State::Integer(number, shift) => {
                    self.number += u32::from(first & 0x7f) << shift;
                    if first & 0x80 == 0 {
                        self.number_came(number);
                    } else if shift == INTEGER_SHIFT_MOST {
                        self.give_up();
                    } else {
                        self.state = State::Integer(number, shift + 7);
                    }
                    rest
                }
            };
        }
    }

    /// The block is complete.
    pub(super) fn end(&mut self) -> Verdict {
        if !matches!(self.state, State::Field) {
            self.give_up();
        }
        self.at_start = true;
        let fragment = std::mem::take(&mut self.fragment);
        match (self.unsure, fragment) {
            (true, _) => Verdict::Unsure,
            (false, true) => Verdict::Fragment,
            (false, false) => Verdict::Whole,
        }
    }

    fn field(&mut self, first: u8) {
        let (kind, mask) = match first {
            0x80.. => (Kind::Indexed, 0x7f),
            0x40.. => (Kind::Literal { enters_table: true }, 0x3f),
            0x20.. => (Kind::TableSize, 0x1f),
            _ => (Kind::Literal { enters_table: false }, 0x0f),
        };
        self.kind = kind;
        if kind != Kind::TableSize {
            self.at_start = false;
        }
        self.integer(first & mask, mask, Number::Index);
    }

    fn length(&mut self, first: u8, number: Number) {
        self.is_huffman = first & 0x80 != 0;
        self.integer(first & 0x7f, 0x7f, number);
    }

    fn integer(&mut self, prefix: u8, mask: u8, number: Number) {
        self.number = u32::from(prefix);
        if prefix < mask {
            self.number_came(number);
        } else {
            self.state = State::Integer(number, 0);
        }
    }

    fn number_came(&mut self, number: Number) {
        match number {
            Number::Index => self.index_came(),
            Number::NameLength => self.text_begins(State::NameText),
            Number::ValueLength => self.text_begins(State::ValueText),
        }
    }

    fn index_came(&mut self) {
        self.state = match (self.kind, self.number) {
            (Kind::TableSize, size) if self.at_start && size <= TABLE_SIZE => {
                self.table.resize(size);
                State::Field
            }
            (Kind::TableSize, _) => return self.give_up(),
            (Kind::Literal { .. }, 0) => State::Name,
            (kind, index) => {
                let Some((name, fragment)) = self.table.get(index) else {
                    return self.give_up();
                };
                if kind == Kind::Indexed {
                    self.fragment |= fragment;
                    State::Field
                } else {
                    self.name = name;
                    State::Value
                }
            }
        };
    }

    fn text_begins(&mut self, state: State) {
        self.state = state;
        self.text = Text::new(self.number, self.is_huffman);
        if self.number == 0 {
            self.text_came();
        }
    }

    fn text_came(&mut self) {
        if matches!(self.state, State::NameText) {
            self.name = Name {
                length: self.text.length,
                is_path: self.text.is_path(),
            };
            self.state = State::Value;
            return;
        }
        let fragment = self.name.is_path && self.text.has_fragment;
        self.fragment |= fragment;
        if self.kind == (Kind::Literal { enters_table: true }) {
            self.table.insert(self.name, self.text.length, fragment);
        }
        self.state = State::Field;
    }
}
