//! The keys of the audit log: each derived apart from one key of a key file.

use aws_lc_rs::hmac;

use crate::crypto::RootKey;

/// Digits of a hash that stands for a part of a path: enough to tell names apart.
const PART_DIGITS: usize = 16;
/// Digits of what names a key.
const ID_DIGITS: usize = 8;

/// What one key of a key file is used for. Shows nothing of it.
pub(super) struct AuditKeys {
    chain: hmac::Key,
    id: String,
}

impl AuditKeys {
    pub(super) fn of(root: &RootKey) -> Self {
        let mut id = hex(root.derive("audit key id v1").as_slice());
        id.truncate(ID_DIGITS);
        Self {
            chain: hmac::Key::new(hmac::HMAC_SHA256, root.derive("audit chain v1").as_slice()),
            id,
        }
    }

    /// Names the key, and tells nothing of it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The keyed hash of a line, in hexadecimal.
    pub(super) fn hash(&self, line: &[u8]) -> String {
        hex(hmac::sign(&self.chain, line).as_ref())
    }
}

/// Hashes what stands in a path, so that equal parts can be found again and the part itself can't be read.
pub(super) struct PathKey(hmac::Key);

impl PathKey {
    pub(super) fn of(root: &RootKey) -> Self {
        Self(hmac::Key::new(
            hmac::HMAC_SHA256,
            root.derive("audit path v1").as_slice(),
        ))
    }

    pub(super) fn hash(&self, part: &[u8]) -> String {
        let mut hash = hex(hmac::sign(&self.0, part).as_ref());
        hash.truncate(PART_DIGITS);
        hash
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
