//! Nonces without memory: each says when and by which process it was made, under a key of ours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::caller::keys::Derived;
use crate::time::Clock;

/// How long a nonce is good.
pub(super) const LIFE: Duration = Duration::from_secs(30);
/// By how much another replica's clock may be ahead.
pub(super) const SKEW: Duration = Duration::from_secs(5);
/// Wall clock, age of the process, process, count.
const STAMP_LEN: usize = 32;
const MAC_LEN: usize = 16;

/// Names a nonce: process and count.
pub(super) type NonceId = [u8; 16];

/// Whether the nonces of other processes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// Those of this process alone: who listens on the way could use up a nonce here that another process takes again.
    Own,
    /// Of whoever has our key.
    Shared,
}

/// Makes nonces for this process.
pub(in crate::caller) struct NonceMint {
    process: u64,
    started: Duration,
    count: AtomicU64,
}

impl NonceMint {
    pub(in crate::caller) fn new(now: Duration) -> Result<Self, getrandom::Error> {
        Ok(Self {
            process: getrandom::u64()?,
            started: now,
            count: AtomicU64::new(getrandom::u64()?),
        })
    }

    fn age(&self, clock: &dyn Clock) -> u64 {
        millis(clock.boot().saturating_sub(self.started))
    }

    /// 64 characters. It is good at this listener alone.
    pub(in crate::caller) fn make(&self, key: &Derived, listener: &str, clock: &dyn Clock) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; STAMP_LEN + MAC_LEN];
        let fields = [wall(clock), self.age(clock), self.process, count];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        let (stamp, place) = bytes.split_at_mut(STAMP_LEN);
        place.copy_from_slice(&mac(key, stamp, listener));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The nonce's name if it is ours and young; `None`: stale.
    pub(super) fn open(
        &self,
        text: &[u8],
        keys: &[Derived],
        listener: &str,
        clock: &dyn Clock,
        accept: Accept,
    ) -> Option<NonceId> {
        let mut bytes = [0; STAMP_LEN + MAC_LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if len != bytes.len() {
            return None;
        }
        let (stamp, shown) = bytes.split_at(STAMP_LEN);
        if !keys
            .iter()
            .any(|key| constant_time::verify_slices_are_equal(&mac(key, stamp, listener), shown).is_ok())
        {
            return None;
        }
        let field = |at: usize| stamp[8 * at..].first_chunk().copied().map(u64::from_be_bytes);
        let (made, age, process) = (field(0)?, field(1)?, field(2)?);
        let life = millis(LIFE);
        let is_young = if process == self.process {
            // This clock is ours, and nobody sets it.
            self.age(clock).checked_sub(age).is_some_and(|age| age <= life)
        } else {
            let now = wall(clock);
            accept == Accept::Shared && made <= now.saturating_add(millis(SKEW)) && now <= made.saturating_add(life)
        };
        if !is_young {
            return None;
        }
        stamp[16..].try_into().ok()
    }
}

fn mac(key: &Derived, stamp: &[u8], listener: &str) -> [u8; MAC_LEN] {
    let mut whole = hmac::Context::with_key(&key.nonce);
    // The stamp has a fixed length.
    whole.update(stamp);
    whole.update(listener.as_bytes());
    let mut cut = [0; MAC_LEN];
    cut.copy_from_slice(&whole.sign().as_ref()[..MAC_LEN]);
    cut
}

fn wall(clock: &dyn Clock) -> u64 {
    millis(clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caller::tests::TestClock;
    use crate::crypto::RootKey;

    fn setup() -> (NonceMint, Vec<Derived>, TestClock) {
        let clock = TestClock::default();
        let mint = NonceMint::new(clock.boot()).unwrap();
        (mint, vec![Derived::from(&RootKey::generate().unwrap())], clock)
    }

    #[test]
    fn a_nonce_lives_for_half_a_minute_whatever_the_wall_clock_does() {
        let (mint, keys, clock) = setup();
        let nonce = mint.make(&keys[0], "a", &clock);
        assert_eq!(nonce.len(), 64);
        let open = |clock: &TestClock| mint.open(nonce.as_bytes(), &keys, "a", clock, Accept::Own).is_some();
        assert!(open(&clock));
        clock.set_wall_back(Duration::from_secs(3600));
        assert!(open(&clock));
        clock.pass(LIFE);
        assert!(open(&clock));
        clock.pass(Duration::from_millis(1));
        assert!(!open(&clock));
    }

    #[test]
    fn a_nonce_is_good_at_its_listener_alone() {
        let (mint, keys, clock) = setup();
        let nonce = mint.make(&keys[0], "a", &clock);
        let at = |listener| {
            mint.open(nonce.as_bytes(), &keys, listener, &clock, Accept::Shared)
                .is_some()
        };
        assert!(at("a") && !at("b") && !at(""));
    }

    #[test]
    fn each_nonce_has_a_name_of_its_own() {
        let (mint, keys, clock) = setup();
        let name = || {
            let nonce = mint.make(&keys[0], "a", &clock);
            mint.open(nonce.as_bytes(), &keys, "a", &clock, Accept::Own).unwrap()
        };
        assert_ne!(name(), name());
    }

    #[test]
    fn another_processs_nonce_counts_where_it_cant_be_read_on_the_way() {
        let (mint, keys, clock) = setup();
        let other = NonceMint::new(Duration::from_secs(7)).unwrap();
        let nonce = other.make(&keys[0], "a", &clock);
        let open = |accept| mint.open(nonce.as_bytes(), &keys, "a", &clock, accept).is_some();
        assert!(open(Accept::Shared));
        assert!(!open(Accept::Own));
        clock.pass(LIFE);
        assert!(open(Accept::Shared));
        clock.pass(Duration::from_millis(1));
        assert!(!open(Accept::Shared));
        clock.set_wall_back(LIFE + SKEW + Duration::from_secs(1));
        assert!(!open(Accept::Shared), "it is from the future");
    }

    #[test]
    fn a_nonce_of_the_previous_key_counts_and_of_a_stranger_does_not() {
        let (mint, mut keys, clock) = setup();
        let nonce = mint.make(&keys[0], "a", &clock);
        let stranger = Derived::from(&RootKey::generate().unwrap());
        keys.insert(0, stranger);
        assert!(mint.open(nonce.as_bytes(), &keys, "a", &clock, Accept::Own).is_some());
        keys.truncate(1);
        assert!(mint.open(nonce.as_bytes(), &keys, "a", &clock, Accept::Own).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_one_is_stale(at in 0..64usize, byte in any::<u8>()) {
            let (mint, keys, clock) = setup();
            let mut nonce = mint.make(&keys[0], "a", &clock).into_bytes();
            prop_assume!(nonce[at] != byte);
            nonce[at] = byte;
            prop_assert!(mint.open(&nonce, &keys, "a", &clock, Accept::Shared).is_none());
        }

        #[test]
        fn anything_else_is_stale(nonce in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (mint, keys, clock) = setup();
            prop_assert!(mint.open(&nonce, &keys, "a", &clock, Accept::Shared).is_none());
        }
    }
}
