//! A value that can be used but not shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A credential part (client secret, private key, token). Wiped on drop; `Debug` shows nothing of it; there is no
/// `Display` and no `Serialize`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes ownership of the value. The caller trims it before (see `config`).
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value itself, for the one place that puts it on the wire or into a hash.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Shows whether a reload brought another value. Both values are ours, so the comparison need not take constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
