//! What passes, nonces and the hashes of secrets are made with: each derived apart from one pass key.

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::{constant_time, hmac};

use crate::crypto::RootKey;

/// What is derived from one pass key.
pub(super) struct Derived {
    pub(super) pass: RandomizedNonceKey,
    pub(super) nonce: hmac::Key,
    secret: hmac::Key,
}

/// A keyed hash of a local secret: names it, and tells nothing of it to who has not the key.
#[derive(Clone, Copy)]
pub(super) struct SecretHash([u8; 32]);

impl Derived {
    pub(super) fn from(key: &RootKey) -> Self {
        let mac = |purpose| hmac::Key::new(hmac::HMAC_SHA256, key.derive(purpose).as_slice());
        Self {
            pass: RandomizedNonceKey::new(&AES_256_GCM, key.derive("pass v1").as_slice())
                .expect("32 bytes are a key of AES-256"),
            nonce: mac("nonce v1"),
            secret: mac("secret v1"),
        }
    }

    pub(super) fn hash_secret(&self, secret: &[u8]) -> SecretHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(hmac::sign(&self.secret, secret).as_ref());
        SecretHash(hash)
    }
}

impl SecretHash {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// In constant time.
    pub(super) fn is(&self, other: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.0, other).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_secret_depends_on_key_and_secret() {
        let (one, other) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
        let hash = Derived::from(&one).hash_secret(b"a");
        assert!(hash.is(Derived::from(&one).hash_secret(b"a").as_bytes()));
        assert!(!hash.is(Derived::from(&one).hash_secret(b"b").as_bytes()));
        assert!(!hash.is(Derived::from(&other).hash_secret(b"a").as_bytes()));
        assert!(!hash.is(b""));
    }
}
