//! Until when an identity is good, by its own word. Nothing is verified: the gateway does that.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Shown;
use crate::certificate;

impl Shown {
    /// `exp` (RFC 7519 section 4.1.4) of a token, `notAfter` of a certificate; `None`: it does not say.
    pub fn until(&self) -> Option<SystemTime> {
        match self {
            Self::Token(_) => time(&self.claims()?, "exp"),
            Self::Certificate(pair) => certificate::not_after(pair.cert.first()?),
        }
    }

    /// What a token says of itself.
    pub fn claims(&self) -> Option<Value> {
        match self {
            Self::Token(field) => claims(field.to_str().ok()?.strip_prefix("Bearer ")?),
            Self::Certificate(_) => None,
        }
    }

    /// Whether it has ended at `now`.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// `until 2026-11-24T03:00:00Z`, for logs.
    pub(super) fn life(&self) -> String {
        self.until().map_or_else(
            || "for as long as it does not say".to_owned(),
            |until| format!("until {}", told(until)),
        )
    }
}

/// A time of a token: seconds since 1970, perhaps with a fraction (RFC 7519 section 2); `None`: it has none.
pub fn time(claims: &Value, claim: &str) -> Option<SystemTime> {
    let seconds = &claims[claim];
    let whole = seconds.as_u64().map(Duration::from_secs);
    let life = whole.or_else(|| Duration::try_from_secs_f64(seconds.as_f64()?).ok())?;
    SystemTime::UNIX_EPOCH.checked_add(life)
}

/// The claims of a JSON Web Token (RFC 7519): three parts in base64url, the second of which is a JSON object.
pub(super) fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
    let (Ok(_), Ok(claims), Ok(_), None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = serde_json::from_slice::<Value>(&claims).ok()?;
    claims.is_object().then_some(claims)
}

/// RFC 3339, in UTC, to the second.
pub(super) fn told(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).ok();
    let at = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "an impossible time".to_owned(), |at| at.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn three_parts_and_an_object_are_a_token() {
        assert!(claims(&token("{}")).is_some());
        let odd = [token("[1]"), token("x"), format!("{}.c2ln", token("{}"))];
        for none in ["", "junk", "e30.e30", "e30.%.c2ln", "a.e30.c2ln"]
            .into_iter()
            .chain(odd.iter().map(|odd| &**odd))
        {
            assert_eq!(claims(none), None, "{none}");
        }
    }

    #[test]
    fn it_is_over_at_the_end_that_it_names() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let shown = |claims: &str| Shown::token(token(claims).as_bytes()).unwrap();
        assert!(!shown("{\"exp\":100}").is_over(at(99)));
        assert!(shown("{\"exp\":100}").is_over(at(100)));
        assert!(shown("{\"exp\":100.5}").is_over(at(101)));
        for endless in [
            "{}",
            "{\"exp\":\"x\"}",
            "{\"exp\":-1}",
            "{\"exp\":1e300}",
            "{\"exp\":18446744073709551615}",
        ] {
            assert!(!shown(endless).is_over(at(u32::MAX.into())), "{endless}");
        }
        let pair = rcgen::generate_simple_self_signed(["leaf".to_owned()]).unwrap();
        let shown =
            Shown::certificate(pair.cert.pem().as_bytes(), pair.signing_key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(shown.until(), certificate::not_after(pair.cert.der()));
    }
}
