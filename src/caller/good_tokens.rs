//! Tokens whose check came out well, so that each is checked once and not with each request.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};

/// The most remembered.
const MOST: usize = 10_000;

/// Names a token at a listener.
pub(super) type TokenHash = [u8; 32];

/// Forgets what has expired when there is no more room, and then anything.
#[derive(Default)]
pub(super) struct GoodTokens(HashMap<TokenHash, Good>);

/// What the check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Good {
    /// The caller.
    pub(super) index: usize,
    /// `exp`
    pub(super) ends: u64,
    /// The issuer's place, and which of its key sets was in force.
    pub(super) issuer: usize,
    pub(super) generation: u64,
}

pub(super) fn hash(token: &str, listener: &str) -> TokenHash {
    let mut hash = Context::new(&SHA256);
    // A token has no line break.
    for part in [token, "\n", listener] {
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

impl GoodTokens {
    pub(super) fn get(&self, token: &TokenHash) -> Option<Good> {
        self.0.get(token).copied()
    }

    /// `now`: seconds since 1970.
    pub(super) fn add(&mut self, token: TokenHash, good: Good, now: u64) {
        if self.0.len() >= MOST {
            self.0.retain(|_, good| good.ends > now);
            if self.0.len() >= MOST {
                self.0.clear();
            }
        }
        self.0.insert(token, good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_expired_go_first() {
        let mut tokens = GoodTokens::default();
        let name = |n: usize| hash(&n.to_string(), "a");
        let good = |ends| Good {
            index: 0,
            ends,
            issuer: 0,
            generation: 0,
        };
        for n in 0..MOST {
            tokens.add(name(n), good(if n % 2 == 0 { 10 } else { 20 }), 5);
        }
        tokens.add(name(MOST), good(20), 10);
        assert_eq!(tokens.0.len(), MOST / 2 + 1);
        assert!(tokens.get(&name(0)).is_none() && tokens.get(&name(1)).is_some());
        for n in MOST..3 * MOST {
            tokens.add(name(n), good(20), 10);
        }
        assert!(tokens.0.len() <= MOST && tokens.get(&name(3 * MOST - 1)).is_some());
    }

    #[test]
    fn a_token_at_another_listener_is_another() {
        assert_ne!(hash("a", "b"), hash("a", "c"));
        assert_ne!(hash("a", "b"), hash("c", "b"));
    }
}
