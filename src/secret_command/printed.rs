//! What a program printed: the secret itself, or JSON that says when it expires.

use std::fmt;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use zeroize::Zeroizing;

use super::CommandError;

/// A secret, as it was printed.
pub struct Printed {
    /// The secret.
    pub value: Zeroizing<Vec<u8>>,
    /// When it ends to be good, if the program said so.
    pub expires_at: Option<SystemTime>,
}

/// JSON is what begins with a brace; keys that are not known here say nothing.
#[derive(Deserialize)]
struct Json {
    value: Value,
    expires_at: Option<String>,
}

/// A string that is wiped.
struct Value(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value(Zeroizing::new(text.as_bytes().to_vec())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads what a program printed.
///
/// # Errors
/// When it is JSON without a `value`, or with an `expires_at` that is no time of RFC 3339, or is over.
pub fn printed(output: Zeroizing<Vec<u8>>, now: SystemTime) -> Result<Printed, CommandError> {
    let unusable = |why: &str| Err(CommandError::Unusable(why.to_owned()));
    if output.trim_ascii_start().first() != Some(&b'{') {
        return Ok(Printed {
            value: output,
            expires_at: None,
        });
    }
    // The parser's own words may quote what it read.
    let Ok(json) = serde_json::from_slice::<Json>(&output) else {
        return unusable(
            "it begins with a brace, and is no JSON like {\"value\": \"…\", \"expires_at\": \"2030-01-31T12:00:00Z\"}",
        );
    };
    let expires_at = match json.expires_at.map(|text| text.parse::<jiff::Timestamp>()) {
        None => None,
        Some(Ok(time)) => Some(SystemTime::from(time)),
        Some(Err(_)) => return unusable("`expires_at` is no time like 2030-01-31T12:00:00Z (RFC 3339)"),
    };
    if expires_at.is_some_and(|time| time <= now) {
        return unusable("`expires_at` is over");
    }
    Ok(Printed {
        value: json.value.0,
        expires_at,
    })
}
