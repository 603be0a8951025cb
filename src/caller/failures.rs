//! Peers whose tokens are wrong again and again: checking a signature costs more than sending one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Shown;

/// Wrong tokens of a peer that are checked in a minute.
const MOST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(60);
/// Peers remembered.
const MOST_PEERS: usize = 10_000;

/// Who sends: what cannot be changed from one request to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    V4([u8; 4]),
    /// A /64: one host has as many addresses.
    V6([u8; 8]),
    Uid(Option<u32>),
}

impl Peer {
    pub(super) fn of(shown: &Shown<'_>) -> Self {
        match shown.peer_ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
            None => Self::Uid(shown.uid),
        }
    }
}

/// How often in the minute that began then.
#[derive(Default)]
pub(super) struct Failures(HashMap<Peer, (Duration, u32)>);

impl Failures {
    /// How long nothing of this peer is checked. `now`: boot-time clock.
    pub(super) fn pause(&self, peer: Peer, now: Duration) -> Option<Duration> {
        let (began, times) = self.0.get(&peer)?;
        let left = (*began + PERIOD).checked_sub(now).filter(|left| !left.is_zero())?;
        (*times >= MOST).then_some(left)
    }

    pub(super) fn add(&mut self, peer: Peer, now: Duration) {
        if self.0.len() >= MOST_PEERS && !self.0.contains_key(&peer) {
            self.0.retain(|_, (began, _)| *began + PERIOD > now);
            if self.0.len() >= MOST_PEERS {
                // Who has so many addresses is not stopped by counting each.
                self.0.clear();
            }
        }
        let (began, times) = self.0.entry(peer).or_insert((now, 0));
        if *began + PERIOD <= now {
            (*began, *times) = (now, 0);
        }
        *times += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);
    const ONE: Peer = Peer::V4([192, 0, 2, 1]);

    #[test]
    fn beyond_twenty_in_a_minute_there_is_a_pause_to_its_end() {
        let mut failures = Failures::default();
        for _ in 0..MOST {
            assert_eq!(failures.pause(ONE, NOW), None);
            failures.add(ONE, NOW);
        }
        let later = NOW + Duration::from_secs(20);
        assert_eq!(failures.pause(ONE, later), Some(Duration::from_secs(40)));
        assert_eq!(failures.pause(Peer::Uid(None), later), None);
        assert_eq!(failures.pause(ONE, NOW + PERIOD), None);
        failures.add(ONE, NOW + PERIOD);
        assert_eq!(failures.pause(ONE, NOW + PERIOD), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut failures = Failures::default();
        for n in 0..3 * MOST_PEERS as u32 {
            failures.add(Peer::Uid(Some(n)), NOW);
        }
        assert!(failures.0.len() <= MOST_PEERS);
    }
}
