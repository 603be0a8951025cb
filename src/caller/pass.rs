//! Passes: what the token endpoint sells, sealed so that they need no memory.
//!
//! AES-256-GCM under a key that is derived from the pass key. Inside stands whose pass it is, where it is good, until when,
//! and what it was made from: that is looked up in the settings in force each time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keys::Derived;
use super::{AccountBinding, CallerName};

/// What makes a pass recognisable.
const PREFIX: &str = "aap1.";
const PURPOSE: &[u8] = b"atlas-auth-proxy pass v1";
/// More than any pass has: the rest is not looked at.
const LONGEST: usize = 16 << 10;
/// Passes of one caller that are remembered as revoked.
const MOST_REVOKED: usize = 1024;

/// Names a pass: the nonce that it was sealed with.
pub(super) type PassId = [u8; NONCE_LEN];

/// What a pass says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) caller: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) listener: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) origin: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) client_id: Cow<'a, str>,
    pub(super) made: u64,
    pub(super) ends: u64,
    #[serde(borrow)]
    pub(super) from: MadeFrom<'a>,
}

/// What a pass was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MadeFrom<'a> {
    /// A local secret: its keyed hash in base64.
    Secret(#[serde(borrow)] Cow<'a, str>),
    /// A JSON Web Token.
    Token(Vouched),
}

/// What an issuer vouches for, as far as it matters for whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vouched {
    /// See [`super::IssuerSettings`]: `iss` or trust domain, and audience.
    pub(super) issuer: String,
    /// `sub`
    pub(super) subject: String,
    /// The claims that some caller's settings name; `None`: it is not there, or no plain text.
    pub(super) claims: BTreeMap<String, Option<String>>,
}

impl Content<'_> {
    pub(super) fn is_for(&self, listener: &str, account: AccountBinding<'_>) -> bool {
        self.listener == listener && self.origin == account.origin && self.client_id == account.client_id
    }

    /// `None` only when there is no randomness.
    pub(super) fn seal(&self, key: &Derived) -> Option<String> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(self).ok()?);
        let nonce = key
            .pass
            .seal_in_place_append_tag(Aad::from(PURPOSE), &mut *bytes)
            .ok()?;
        let sealed = [nonce.as_ref(), bytes.as_slice()].concat();
        Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed)))
    }
}

/// Whether a text claims to be a pass.
pub(super) fn looks_like_one(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A pass that one of our keys has sealed.
pub(super) struct Opened {
    pub(super) id: PassId,
    /// The place of the key.
    pub(super) key: usize,
    bytes: Zeroizing<Vec<u8>>,
}

impl Opened {
    /// `None`: none of the keys has sealed this.
    pub(super) fn open(text: &str, keys: &[Derived]) -> Option<Self> {
        let sealed = text.strip_prefix(PREFIX).filter(|sealed| sealed.len() <= LONGEST)?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (id, closed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        keys.iter().enumerate().find_map(|(at, key)| {
            let mut bytes = Zeroizing::new(closed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*id);
            let len = key
                .pass
                .open_in_place(nonce, Aad::from(PURPOSE), &mut bytes)
                .ok()?
                .len();
            bytes.truncate(len);
            Some(Self {
                id: *id,
                key: at,
                bytes,
            })
        })
    }

    /// `None`: it was sealed by a version that writes it otherwise.
    pub(super) fn content(&self) -> Option<Content<'_>> {
        serde_json::from_slice(&self.bytes).ok()
    }
}

/// Passes that were revoked in this process.
#[derive(Default)]
pub(super) struct Revoked(HashMap<CallerName, OfOne>);

#[derive(Default)]
struct OfOne {
    /// With its end.
    passes: HashMap<PassId, u64>,
    /// All that were made up to here are revoked: there were too many to remember each.
    all_until: Option<u64>,
}

impl Revoked {
    pub(super) fn add(&mut self, caller: &CallerName, pass: PassId, ends: u64, now: u64) {
        let of_one = self.0.entry(caller.clone()).or_default();
        of_one.passes.retain(|_, ends| *ends > now);
        if of_one.passes.len() >= MOST_REVOKED {
            // The caller asks for another pass; the others notice nothing.
            of_one.passes.clear();
            of_one.all_until = Some(now);
        } else {
            of_one.passes.insert(pass, ends);
        }
    }

    pub(super) fn contains(&self, caller: &CallerName, pass: &PassId, made: u64) -> bool {
        self.0.get(caller).is_some_and(|of_one| {
            of_one.passes.contains_key(pass) || of_one.all_until.is_some_and(|until| made <= until)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::RootKey;

    fn content() -> Content<'static> {
        let claims = [
            ("repository".to_owned(), Some("a\"b".to_owned())),
            ("ref".to_owned(), None),
        ];
        Content {
            caller: "billing".into(),
            listener: "gateway \"1\"".into(),
            origin: "https://cloud.mongodb.com".into(),
            client_id: "mdb_sa_id_1".into(),
            made: 1,
            ends: 2,
            from: MadeFrom::Token(Vouched {
                issuer: "https://issuer".to_owned(),
                subject: "a\u{1F600}\n".to_owned(),
                claims: claims.into(),
            }),
        }
    }

    fn key() -> Derived {
        Derived::from(&RootKey::generate().unwrap())
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_key_alone() {
        let (key, other) = (key(), key());
        let pass = content().seal(&key).unwrap();
        assert!(looks_like_one(&pass) && pass.len() < 600, "{}", pass.len());
        assert_ne!(pass, content().seal(&key).unwrap());
        assert!(Opened::open(&pass, &[other]).is_none());
        let opened = Opened::open(&pass, std::slice::from_ref(&key)).unwrap();
        assert_eq!((opened.content(), opened.key), (Some(content()), 0));
    }

    #[test]
    fn the_previous_key_opens() {
        let (current, previous) = (key(), key());
        let pass = content().seal(&previous).unwrap();
        assert_eq!(Opened::open(&pass, &[current, previous]).unwrap().key, 1);
    }

    #[test]
    fn what_is_sealed_for_another_purpose_is_no_pass() {
        let key = key();
        let mut bytes = serde_json::to_vec(&content()).unwrap();
        let nonce = key
            .pass
            .seal_in_place_append_tag(Aad::from(b"other"), &mut bytes)
            .unwrap();
        let sealed = URL_SAFE_NO_PAD.encode([nonce.as_ref(), bytes.as_slice()].concat());
        assert!(Opened::open(&format!("{PREFIX}{sealed}"), &[key]).is_none());
    }

    #[test]
    fn revoked_passes_are_remembered_to_their_end_and_too_many_end_all() {
        let mut revoked = Revoked::default();
        let [a, b] = ["a", "b"].map(|name| CallerName::parse(name).unwrap());
        let id = |n: usize| {
            let mut id = [0; NONCE_LEN];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        revoked.add(&a, id(0), 100, 10);
        assert!(revoked.contains(&a, &id(0), 9));
        assert!(!revoked.contains(&a, &id(1), 9) && !revoked.contains(&b, &id(0), 9));
        // Those that have ended make room.
        revoked.add(&a, id(1), 300, 200);
        assert!(!revoked.contains(&a, &id(0), 9) && revoked.contains(&a, &id(1), 9));
        for n in 2..=MOST_REVOKED {
            revoked.add(&a, id(n), 300, 200);
        }
        assert!(revoked.contains(&a, &id(MOST_REVOKED), 200) && !revoked.contains(&a, &id(9_999), 200));
        revoked.add(&a, id(9_998), 300, 200);
        assert!(revoked.contains(&a, &id(9_999), 200) && revoked.contains(&a, &id(9_998), 199));
        assert!(!revoked.contains(&a, &id(9_999), 201) && !revoked.contains(&b, &id(9_999), 1));
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_pass_is_not_opened(at in any::<prop::sample::Index>(), byte in any::<char>()) {
            let key = key();
            let pass = content().seal(&key).unwrap();
            let at = at.index(pass.len());
            let changed = format!("{}{byte}{}", &pass[..at], &pass[at + 1..]);
            prop_assume!(changed != pass);
            prop_assert!(Opened::open(&changed, std::slice::from_ref(&key)).is_none());
            prop_assert!(Opened::open(&pass[..at], &[key]).is_none());
        }

        #[test]
        fn anything_else_is_not_opened(text in any::<String>()) {
            prop_assert!(Opened::open(&text, &[key()]).is_none());
            let with_prefix = format!("{PREFIX}{text}");
            prop_assert!(Opened::open(&with_prefix, &[key()]).is_none());
        }
    }
}
