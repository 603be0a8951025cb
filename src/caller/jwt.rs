//! JSON Web Tokens (RFC 7519) as they are written: nothing of one is believed before its signature is checked.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::log;

/// The longest token that is looked at.
const LONGEST: usize = 8 << 10;
/// By how much clocks may differ, seconds.
pub(super) const LEEWAY: u64 = 30;
/// The most of one claim that the log is told, bytes.
const MOST_TOLD: usize = 160;
/// Header parameters that would let a token choose its key, or change what its signature covers.
const REFUSED: [&str; 5] = ["crit", "jku", "jwk", "x5u", "b64"];
const SPIFFE: &str = "spiffe://";

/// A token, not verified.
pub(super) struct Token<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    message: &'a str,
    signature: &'a str,
    /// It has two readings, or no good one.
    is_odd: bool,
}

/// How a token is signed, by its own word.
pub(super) struct Signed<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<&'a str>,
}

impl<'a> Token<'a> {
    /// `None`: this has not the form of a token, so it is none of anybody's.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let Value::Object(read) = serde_json::from_slice(&claims).ok()? else {
            return None;
        };
        let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
        let read_header = serde_json::from_slice(&header).ok();
        let unambiguous = [&header, &claims].map(|part| serde_json::from_slice::<Unambiguous>(part).is_ok());
        Some(Self {
            is_odd: text.len() > LONGEST || unambiguous != [true; 2] || read_header.is_none(),
            header: read_header.unwrap_or_default(),
            claims: read,
            message,
            signature,
        })
    }

    /// `iss`
    pub(super) fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// The trust domain of `sub`, if that is a SPIFFE ID.
    pub(super) fn trust_domain(&self) -> Option<&str> {
        let (domain, _) = self.text("sub")?.strip_prefix(SPIFFE)?.split_once('/')?;
        Some(domain)
    }

    /// `sub`
    pub(super) fn subject(&self) -> Option<&str> {
        self.text("sub").filter(|subject| !subject.is_empty())
    }

    /// Whether `audience` is in `aud`.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// A claim as a text: of a string, a boolean or a whole number.
    pub(super) fn claim(&self, name: &str) -> Option<String> {
        match self.claims.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Bool(yes) => Some(yes.to_string()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        }
    }

    /// A claim as it is written, bounded, for the log.
    pub(super) fn told(&self, claim: &str) -> String {
        told(self.claims.get(claim))
    }

    /// `kid`, in the same way.
    pub(super) fn kid_told(&self) -> String {
        told(self.header.get("kid"))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// How it is signed.
    ///
    /// # Errors
    /// What makes it unacceptable, whoever signed it.
    pub(super) fn signed(&self) -> Result<Signed<'_>, &'static str> {
        if self.is_odd {
            return Err("the token has a name twice, is longer than 8 KiB, or its header can't be read");
        }
        if REFUSED.iter().any(|name| self.header.contains_key(*name)) {
            return Err("the token's header has `crit`, `jku`, `jwk`, `x5u` or `b64`, which are not taken");
        }
        let algorithm = self
            .header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(|alg| alg.parse().ok());
        let kid = match self.header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or("the token's `kid` is no text")?),
        };
        let algorithm = algorithm.ok_or("the token's `alg` is none of RS, PS, ES and EdDSA")?;
        Ok(Signed { algorithm, kid })
    }

    /// Checks the times against the wall clock `now`, seconds since 1970. Returns `exp`.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn times(&self, now: u64, max_life: Duration) -> Result<u64, &'static str> {
        let (Some(exp), Some(iat)) = (self.time("exp"), self.time("iat")) else {
            return Err("the token has no `exp` or no `iat`");
        };
        let nbf = match self.claims.get("nbf") {
            None => 0,
            Some(_) => self.time("nbf").ok_or("the token's `nbf` is no time")?,
        };
        if now >= exp.saturating_add(LEEWAY) {
            return Err("the token has expired");
        }
        if nbf > now.saturating_add(LEEWAY) || iat > now.saturating_add(LEEWAY) {
            return Err("the token is not valid yet");
        }
        match exp.checked_sub(iat) {
            Some(life) if life <= max_life.as_secs() => Ok(exp),
            Some(_) => Err("the token lives longer than `max_life` of its issuer"),
            None => Err("the token ends before it was issued"),
        }
    }

    /// A NumericDate (RFC 7519 section 2), which may have a fraction.
    fn time(&self, claim: &str) -> Option<u64> {
        let value = self.claims.get(claim)?;
        let of_fraction = |seconds: f64| (0.0..9e15).contains(&seconds).then_some(seconds as u64);
        value.as_u64().or_else(|| value.as_f64().and_then(of_fraction))
    }

    /// Whether `key` has signed it.
    pub(super) fn is_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), key, algorithm).unwrap_or(false)
    }
}

fn told(value: Option<&Value>) -> String {
    let written = value.map_or_else(|| "not there".to_owned(), Value::to_string);
    log::clean(&written, MOST_TOLD).into_owned()
}

/// JSON in which no object has a name twice: readers of such differ.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = all.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name is there twice"));
            }
            all.next_value::<Self>()?;
        }
        Ok(self)
    }
}
