//! Key files, and the keys that are derived from theirs.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hkdf::{self, HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// AES-256, and as long as SHA-256.
const KEY_LEN: usize = 32;
/// How to get a key.
const MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

/// A key that others are derived from, each for one purpose. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey(Arc<Zeroizing<[u8; KEY_LEN]>>);

/// The keys of a key file: 64 hexadecimal digits a line, the current key first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// For what is made from now on.
    pub current: RootKey,
    /// For what was made before.
    pub previous: Option<RootKey>,
}

/// What is wrong with the content of a key file. No text of it holds any part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Nothing.
    #[error("the file is empty: {MAKE_ONE}")]
    Empty,
    /// A line that is no key.
    #[error("line {0} is no key of 64 hexadecimal digits: {MAKE_ONE}")]
    NoKey(usize),
    /// More than two.
    #[error("it has more than two keys: the first line is the current one, the second the previous one")]
    TooMany,
    /// Twice the same.
    #[error("both lines are the same key: the second is for the previous one")]
    Same,
}

impl KeyFile {
    /// Reads the content of a key file.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(content: &[u8]) -> Result<Self, KeyFileError> {
        let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut keys = Vec::new();
        for (at, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            keys.push(RootKey::parse(line).ok_or(KeyFileError::NoKey(at + 1))?);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(KeyFileError::Empty)?;
        let previous = keys.next();
        if keys.next().is_some() {
            return Err(KeyFileError::TooMany);
        }
        if previous.as_ref() == Some(&current) {
            return Err(KeyFileError::Same);
        }
        Ok(Self { current, previous })
    }
}

impl RootKey {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 2 * KEY_LEN {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(Arc::new(key)))
    }

    /// A key that lives as long as the process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut *key)?;
        Ok(Self(Arc::new(key)))
    }

    /// RFC 5869, with the purpose as `info`.
    pub fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; KEY_LEN]> {
        let info = [purpose.as_bytes()];
        let mut derived = Zeroizing::new([0; KEY_LEN]);
        Salt::new(HKDF_SHA256, b"atlas-auth-proxy")
            .extract(self.0.as_slice())
            .expand(&info, Length)
            .and_then(|okm| okm.fill(&mut *derived))
            .expect("32 bytes are within the bound of HKDF with SHA-256");
        derived
    }
}

/// The length of what is derived.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    #[test]
    fn a_key_file_has_one_key_or_two() {
        let other = ONE.replace("00", "ff");
        let one = KeyFile::parse(ONE.as_bytes()).unwrap();
        assert!(one.previous.is_none());
        let two = KeyFile::parse(format!("{ONE}\r\n{other}\n\n").as_bytes()).unwrap();
        assert_eq!(two.current, one.current);
        assert!(two.previous.is_some_and(|previous| previous != two.current));
        for (content, error) in [
            (String::new(), KeyFileError::Empty),
            (" \n".to_owned(), KeyFileError::Empty),
            (ONE[1..].to_owned(), KeyFileError::NoKey(1)),
            (format!("{ONE}\n{ONE}0"), KeyFileError::NoKey(2)),
            (ONE.replace('a', "g"), KeyFileError::NoKey(1)),
            (
                format!("{ONE}\n{other}\n{}", ONE.replace("00", "11")),
                KeyFileError::TooMany,
            ),
            (format!("{ONE}\n{ONE}"), KeyFileError::Same),
        ] {
            assert_eq!(KeyFile::parse(content.as_bytes()), Err(error), "{content:?}");
        }
        assert_eq!(format!("{:?}", one.current), "[secret]");
    }

    #[test]
    fn what_is_derived_differs_by_purpose_and_key_and_is_always_the_same() {
        let one = KeyFile::parse(ONE.as_bytes()).unwrap().current;
        let other = RootKey::generate().unwrap();
        assert_ne!(*one.derive("pass v1"), *one.derive("nonce v1"));
        assert_ne!(*one.derive("pass v1"), *other.derive("pass v1"));
        // By another implementation of RFC 5869: Python's hmac, salt "atlas-auth-proxy".
        let hex: String = one.derive("pass v1").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "96b59a6c7a95b9b2fe8f45b99ad6d44f8bb4c6371dcbd545f49e59e751d2df3b");
    }
}
