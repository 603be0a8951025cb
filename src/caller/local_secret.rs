//! Local secrets: what a caller shows here, and never at Atlas.

use crate::secret::Secret;

/// The fewest and the most characters.
const LENGTH: std::ops::RangeInclusive<usize> = 32..=256;

/// What is wrong with a local secret. No text of it holds any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalSecretError {
    /// Fewer than 32, or more than 256.
    #[error("it has {0} characters, and must have 32 to 256: make one with `atlas-auth-proxy make-secret`")]
    Length(usize),
    /// One that some clients percent-encode, and others don't.
    #[error(
        "it has another character than A-Z a-z 0-9 - . _ ~, which clients do not all send alike: make one with `atlas-auth-proxy make-secret`"
    )]
    Character,
}

/// A local secret: 32 to 256 of the characters that no client percent-encodes (RFC 3986 section 2.3).
///
/// # Errors
/// When it is something else.
pub fn local_secret(text: &str) -> Result<Secret, LocalSecretError> {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !text.bytes().all(is_unreserved) {
        return Err(LocalSecretError::Character);
    }
    if !LENGTH.contains(&text.len()) {
        return Err(LocalSecretError::Length(text.len()));
    }
    Ok(Secret::new(text))
}

/// A new local secret: 43 characters that hold 256 random bits.
///
/// # Errors
/// When the system has no randomness.
pub fn make_secret() -> Result<Secret, getrandom::Error> {
    use base64::Engine;
    let mut random = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random)?;
    Ok(Secret::new(
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*random),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_characters_have_bounds() {
        for good in ["a".repeat(32), "Z9-._~".repeat(10), "x".repeat(256)] {
            assert_eq!(local_secret(&good).unwrap().expose(), good);
        }
        for length in [0, 31, 257] {
            assert_eq!(local_secret(&"a".repeat(length)), Err(LocalSecretError::Length(length)));
        }
        for bad in [" ", "+", "/", "=", ":", "%", "\n", "é", "\"", "&"] {
            let text = format!("{}{bad}", "a".repeat(40));
            let said = local_secret(&text).unwrap_err();
            assert_eq!(said, LocalSecretError::Character, "{bad:?}");
            assert!(!said.to_string().contains("aaa"));
        }
    }

    #[test]
    fn one_that_is_made_is_one() {
        let (one, other) = (make_secret().unwrap(), make_secret().unwrap());
        assert!(local_secret(one.expose()).is_ok());
        assert_ne!(one, other);
    }
}
