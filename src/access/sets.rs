//! Sets of the rules of one caller, so that a request meets only those rules that can match it.

/// A table: in each row a set of rules, one bit for each.
#[derive(Clone)]
pub(super) struct RuleSets {
    /// Of 64 rules each, in one row.
    words: usize,
    bits: Box<[u64]>,
}

/// The words that hold `rules` rules.
pub(super) fn words(rules: usize) -> usize {
    rules.div_ceil(64)
}

impl RuleSets {
    /// `has`: whether a rule, counted from 0, stands in a row.
    pub(super) fn new(rows: usize, rules: usize, has: impl Fn(usize, usize) -> bool) -> Self {
        let words = words(rules);
        let mut bits = vec![0_u64; rows * words];
        for row in 0..rows {
            for rule in (0..rules).filter(|rule| has(row, *rule)) {
                bits[row * words + rule / 64] |= 1 << (rule % 64);
            }
        }
        Self {
            words,
            bits: bits.into(),
        }
    }

    /// The rules 64 * `word` to 64 * `word` + 63 of a row; a row that is not there has none.
    pub(super) fn word(&self, row: usize, word: usize) -> u64 {
        self.bits.get(row * self.words + word).copied().unwrap_or_default()
    }
}

/// The rules of a word of a set, counted from 0, in their order.
pub(super) fn in_order(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = bits.trailing_zeros() as usize;
        (bits != 0).then(|| {
            bits &= bits - 1;
            word * 64 + first
        })
    })
}
