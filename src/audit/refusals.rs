//! Refused requests: a few of each peer have a line of their own, the rest one that counts them.

use std::collections::HashMap;

/// Lines a second for what is refused to one peer; further ones are counted.
const EACH: u32 = 10;
/// The same for all peers together.
const ALL: u32 = 200;
/// Peers that are counted apart; all others count as one.
const MOST_PEERS: usize = 1024;

/// The refusals of the second that passes.
#[derive(Default)]
pub(super) struct Refusals {
    second: u64,
    /// Lines of their own in this second.
    lines: u32,
    peers: HashMap<String, Counted>,
}

/// What was refused to a peer in one second.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    /// Also those that had lines of their own.
    all: u32,
    lines: u32,
    /// The listener that refused last.
    pub(super) listener: String,
}

impl Counted {
    /// How many had no line of their own.
    pub(super) fn more(&self) -> u32 {
        self.all - self.lines
    }
}

/// Whom the peers beyond the bound are counted as.
const OTHERS: &str = "others";

impl Refusals {
    /// Counts one; whether it has a line of its own.
    pub(super) fn count(&mut self, peer: &str, listener: &str) -> bool {
        let known = self.peers.contains_key(peer) || self.peers.len() < MOST_PEERS;
        let counted = self
            .peers
            .entry(if known { peer } else { OTHERS }.to_owned())
            .or_default();
        counted.all = counted.all.saturating_add(1);
        let own_line = counted.lines < EACH && self.lines < ALL;
        if own_line {
            counted.lines += 1;
            self.lines += 1;
        } else {
            listener.clone_into(&mut counted.listener);
        }
        own_line
    }

    /// The peers with more refusals than lines, when the second that they were counted in is over.
    pub(super) fn ended(&mut self, second: u64) -> Vec<(String, Counted)> {
        if second == self.second {
            return Vec::new();
        }
        self.second = second;
        self.all()
    }

    /// The same, whether it is over or not.
    pub(super) fn all(&mut self) -> Vec<(String, Counted)> {
        self.lines = 0;
        let mut ended: Vec<_> = self.peers.drain().filter(|(_, counted)| counted.more() > 0).collect();
        ended.sort_by(|(one, _), (other, _)| one.cmp(other));
        ended
    }

    /// Whether something waits for the end of its second.
    pub(super) fn pending(&self) -> bool {
        !self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_ten_a_second_a_peer_has_one_counted_line() {
        let mut refusals = Refusals::default();
        let own = (0..25).filter(|_| refusals.count("10.0.0.1", "gateway")).count();
        assert!(refusals.count("10.0.0.2", "gateway"), "another peer has its own");
        assert_eq!(own, 10);
        assert!(refusals.ended(0).is_empty());
        let ended = refusals.ended(1);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].0.as_str(), ended[0].1.more()), ("10.0.0.1", 15));
        assert!(refusals.count("10.0.0.1", "gateway"));
    }

    #[test]
    fn peers_have_a_bound() {
        let mut refusals = Refusals::default();
        for peer in 0..10_000 {
            refusals.count(&peer.to_string(), "gateway");
        }
        assert_eq!(refusals.peers.len(), MOST_PEERS + 1);
        let ended = refusals.ended(1);
        assert_eq!(ended.len(), MOST_PEERS + 1 - 200, "those without lines");
        assert!(ended.iter().any(|(peer, _)| peer == OTHERS));
    }
}
