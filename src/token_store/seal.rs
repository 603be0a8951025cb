//! A token as it is stored: encrypted, and bound to its service account. Pure but for the random nonce.
//!
//! AES-256-GCM under a key that only the replicas have. The associated data name origin, client id, fence and the format,
//! so that a value that is opened was made by a replica, for this service account, under this fence. A token's expiry is
//! not among what is proven: the store counts it, for the replicas' clocks may differ.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::keys::Subject;

/// Part of the associated data and of the store's keys: values of another format are not mixed up with these.
const FORMAT: &str = "v1";
/// AES-256.
const KEY_LEN: usize = 32;
/// Milliseconds of life, before the token itself.
const LIFE_LEN: usize = 8;
/// How to get a key.
const MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

/// The key that closes and opens the tokens in the store. Cheap to clone; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SealKey {
    key: Arc<RandomizedNonceKey>,
    /// Distinguishes keys.
    fingerprint: [u8; 32],
}

/// What is wrong with the content of a key file. No text of it holds any part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealKeyError {
    /// Nothing.
    #[error("the file is empty: {MAKE_ONE}")]
    Empty,
    /// 32 hexadecimal digits: somebody asked for too few.
    #[error("the key has 32 hexadecimal digits, which is 16 bytes, and must have 64: {MAKE_ONE}")]
    HalfAKey,
    /// Something else.
    #[error("this is no key: it must be 32 bytes, as they are, as 64 hexadecimal digits or as base64; {MAKE_ONE}")]
    NoKey,
}

impl SealKey {
    /// Reads the content of a key file: 32 bytes as they are, 64 hexadecimal digits, or base64 of 32 bytes; white space
    /// around the latter two is ignored.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(content: &[u8]) -> Result<Self, SealKeyError> {
        let text = content.trim_ascii();
        if text.len() == KEY_LEN && text.iter().all(u8::is_ascii_hexdigit) {
            return Err(SealKeyError::HalfAKey);
        }
        // The 32 bytes may be any, white space too.
        if content.len() == KEY_LEN {
            return Self::of(content);
        }
        if text.is_empty() {
            return Err(SealKeyError::Empty);
        }
        let key = hex(text).or_else(|| base64(text)).ok_or(SealKeyError::NoKey)?;
        Self::of(&key)
    }

    fn of(bytes: &[u8]) -> Result<Self, SealKeyError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealKeyError::NoKey)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Ok(Self {
            key: Arc::new(key),
            fingerprint,
        })
    }
}

impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for SealKey {}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

fn hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() != 2 * KEY_LEN {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_LEN));
    for pair in text.chunks_exact(2) {
        key.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(key)
}

fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);
    let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
    GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG)
        .decode_vec(text, &mut key)
        .ok()?;
    (key.len() == KEY_LEN).then_some(key)
}

/// A token out of the store.
pub(super) struct Opened {
    /// Without `Bearer `.
    pub(super) token: Zeroizing<String>,
    /// The life that was granted, of which some has passed.
    pub(super) life: Duration,
    /// The fence under which it was stored.
    pub(super) fence: u64,
}

/// Closes and opens the tokens of one service account.
pub(super) struct Sealer {
    key: SealKey,
    subject: Subject,
}

impl Sealer {
    pub(super) fn new(key: SealKey, subject: Subject) -> Self {
        Self { key, subject }
    }

    /// `FENCE:BASE64`. The store can read the fence, and compares it; it is part of the associated data, too.
    ///
    /// `None` only when there is no randomness or no memory.
    pub(super) fn seal(&self, token: &str, life: Duration, fence: u64) -> Option<String> {
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(LIFE_LEN + token.len() + AES_256_GCM.tag_len()));
        bytes.extend_from_slice(&life.to_be_bytes());
        bytes.extend_from_slice(token.as_bytes());
        let nonce = self
            .key
            .key
            .seal_in_place_append_tag(self.associated(fence), &mut *bytes)
            .ok()?;
        let sealed = [nonce.as_ref(), bytes.as_slice()].concat();
        Some(format!("{fence}:{}", STANDARD_NO_PAD.encode(sealed)))
    }

    /// `None`: not made with this key, for this service account and with this fence; or no such value at all.
    pub(super) fn open(&self, value: &[u8]) -> Option<Opened> {
        let text = std::str::from_utf8(value).ok()?;
        let (fence, sealed) = text.split_once(':')?;
        let fence: u64 = fence.parse().ok()?;
        let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, closed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(closed.to_vec());
        let open = self
            .key
            .key
            .open_in_place(nonce, self.associated(fence), &mut bytes)
            .ok()?;
        let (life, token) = open.split_first_chunk::<LIFE_LEN>()?;
        Some(Opened {
            token: Zeroizing::new(std::str::from_utf8(token).ok()?.to_owned()),
            life: Duration::from_millis(u64::from_be_bytes(*life)),
            fence,
        })
    }

    /// No part of it can hold a line break, so that it is unambiguous.
    fn associated(&self, fence: u64) -> Aad<Vec<u8>> {
        let Subject { origin, client_id } = &self.subject;
        Aad::from(format!("atlas-auth-proxy token\n{FORMAT}\n{origin}\n{client_id}\n{fence}").into_bytes())
    }
}

/// Whether this has the shape of a sealed token, whatever key closed it.
pub(super) fn looks_sealed(value: &[u8]) -> bool {
    let parts = std::str::from_utf8(value).ok().and_then(|text| text.split_once(':'));
    parts.is_some_and(|(fence, sealed)| {
        fence.parse::<u64>().is_ok()
            && STANDARD_NO_PAD
                .decode(sealed)
                .is_ok_and(|sealed| sealed.len() > NONCE_LEN + LIFE_LEN + AES_256_GCM.tag_len())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn raw() -> Vec<u8> {
        (0..32).collect()
    }

    fn sealer_with(key: &[u8], origin: &str, client_id: &str) -> Sealer {
        let subject = Subject {
            origin: origin.to_owned(),
            client_id: client_id.to_owned(),
        };
        Sealer::new(SealKey::parse(key).unwrap(), subject)
    }

    fn sealer() -> Sealer {
        sealer_with(&raw(), "https://cloud.mongodb.com", "mdb_sa_id_1")
    }

    #[test]
    fn a_key_is_read_in_three_shapes() {
        let sealed = sealer().seal("sesame", Duration::from_secs(3600), 7).unwrap();
        for content in [
            raw(),
            HEX.into(),
            format!(" {HEX}\r\n").into(),
            BASE64.into(),
            format!("{}\n", BASE64.trim_end_matches('=')).into(),
        ] {
            let opened = sealer_with(&content, "https://cloud.mongodb.com", "mdb_sa_id_1").open(sealed.as_bytes());
            assert_eq!(*opened.unwrap().token, "sesame", "{content:?}");
        }
    }

    #[test]
    fn anything_else_is_no_key_and_says_how_to_make_one() {
        let long = format!("{HEX}00");
        for (content, error) in [
            ("", SealKeyError::Empty),
            (" \n", SealKeyError::Empty),
            (&HEX[..32], SealKeyError::HalfAKey),
            (&format!("{}\n", &HEX[..32]), SealKeyError::HalfAKey),
            (&HEX[1..], SealKeyError::NoKey),
            (&long, SealKeyError::NoKey),
            (&HEX.replace('a', "g"), SealKeyError::NoKey),
            ("AAECAwQFBgcICQoLDA0ODw==", SealKeyError::NoKey),
            (&BASE64.replace('A', "!"), SealKeyError::NoKey),
            ("correct horse battery staple", SealKeyError::NoKey),
            ("this has exactly 32 characters, \n", SealKeyError::NoKey),
        ] {
            let said = SealKey::parse(content.as_bytes()).unwrap_err();
            assert_eq!(said, error, "{content:?}");
            assert!(said.to_string().contains("openssl rand -hex 32"));
        }
        assert_eq!(format!("{:?}", SealKey::parse(HEX.as_bytes()).unwrap()), "[secret]");
    }

    #[test]
    fn a_key_of_bytes_may_end_with_white_space() {
        let mut key = raw();
        key[0] = b' ';
        key[31] = b'\n';
        assert!(SealKey::parse(&key).is_ok());
    }

    #[test]
    fn what_was_sealed_is_opened_again() {
        let sealed = sealer()
            .seal("eyJ.a-b_c", Duration::from_millis(3_599_123), 41)
            .unwrap();
        let opened = sealer().open(sealed.as_bytes()).unwrap();
        assert_eq!(*opened.token, "eyJ.a-b_c");
        assert_eq!((opened.life, opened.fence), (Duration::from_millis(3_599_123), 41));
        assert!(sealed.starts_with("41:") && !sealed.contains("eyJ"), "{sealed}");
        let again = sealer()
            .seal("eyJ.a-b_c", Duration::from_millis(3_599_123), 41)
            .unwrap();
        assert_ne!(sealed, again, "each has a nonce of its own");
    }

    #[test]
    fn a_value_is_bound_to_key_account_origin_and_fence() {
        let sealed = sealer().seal("sesame", Duration::from_secs(60), 7).unwrap();
        let [mut other_key, origin, id] = [raw(), b"https://cloud.mongodb.com".into(), b"mdb_sa_id_1".into()];
        other_key[31] ^= 1;
        let [origin, id] = [origin, id].map(|bytes| String::from_utf8(bytes).unwrap());
        for stranger in [
            sealer_with(&other_key, &origin, &id),
            sealer_with(&raw(), "https://cloud.mongodbgov.com", &id),
            sealer_with(&raw(), &origin, "mdb_sa_id_2"),
        ] {
            assert!(stranger.open(sealed.as_bytes()).is_none());
        }
        let other_fence = sealed.replacen("7:", "8:", 1);
        assert!(sealer().open(other_fence.as_bytes()).is_none());
        assert!(sealer().open(sealed.as_bytes()).is_some());
    }

    #[test]
    fn a_changed_or_cut_or_foreign_value_is_not_opened() {
        let sealed = sealer().seal("sesame", Duration::from_secs(60), 7).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(sealer().open(&changed).is_none(), "byte {at}");
            assert!(sealer().open(&sealed.as_bytes()[..at]).is_none(), "cut at {at}");
        }
        for garbage in [
            "",
            ":",
            "7:",
            "7:AAAA",
            "-7:AAAA",
            "x",
            "7",
            "99999999999999999999999:AAAA",
        ] {
            assert!(sealer().open(garbage.as_bytes()).is_none(), "{garbage}");
        }
        assert!(sealer().open(&[0xFF, b':', 0xFE]).is_none());
    }
}
