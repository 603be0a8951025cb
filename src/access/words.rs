//! Words that rules name, numbered once, so that a request's segments are looked up once and rules compare numbers.

/// No word of any rule.
pub(super) const NONE: u32 = u32::MAX;

/// A set of words; case plays no part in where one is looked for.
#[derive(Clone, Default)]
pub(super) struct Words {
    words: Vec<Box<str>>,
    /// Open addressing; the number of places is a power of two, at most half of them taken.
    places: Vec<u32>,
}

/// FNV-1a, of lower case.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Words {
    /// Numbers them. There are fewer than a file of settings has bytes.
    pub(super) fn new(words: impl IntoIterator<Item = Box<str>>) -> Self {
        let mut words: Vec<Box<str>> = words.into_iter().collect();
        words.sort_unstable();
        words.dedup();
        let mut places = vec![NONE; (words.len() * 2).next_power_of_two()];
        let mask = places.len() - 1;
        for (number, word) in (0..).zip(&words) {
            let mut at = hash(word) as usize & mask;
            while places[at] != NONE {
                at = (at + 1) & mask;
            }
            places[at] = number;
        }
        Self { words, places }
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// A row for each number, and the last one for [`NONE`].
    pub(super) fn row(&self, number: u32) -> usize {
        self.words.len().min(number as usize)
    }

    /// The number of a word, with its [`hash`].
    pub(super) fn number(&self, hash: u64, is: impl Fn(&str) -> bool) -> u32 {
        if self.words.is_empty() {
            return NONE;
        }
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.places[at] {
                NONE => return NONE,
                number if is(&self.words[number as usize]) => return number,
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// The number of exactly this word.
    pub(super) fn exact(&self, word: &str) -> u32 {
        self.number(hash(word), |known| known == word)
    }
}
