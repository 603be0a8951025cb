//! Keys of an issuer (RFC 7517): those that can be used, each with the algorithms that it decides for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of a set.
const MOST_KEYS: usize = 100;
/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The most keys that one token is tried with: each try costs a signature's check.
const MOST_TRIED: usize = 4;

const OF_RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why an answer is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwksError {
    #[error("it is no JSON Web Key Set (RFC 7517)")]
    Form,
    #[error("it has more than {MOST_KEYS} keys")]
    TooMany,
    #[error("none of its keys can be used: {0}")]
    NoneUsable(&'static str),
}

/// The keys that can be used.
pub(super) struct KeySet(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUse {
    /// `sig`, or not said.
    Signature,
    /// `jwt-svid` of a SPIFFE trust bundle.
    JwtSvid,
}

#[derive(Deserialize)]
struct Answer {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Raw {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads an answer. Keys that can't be used are passed over.
    pub(super) fn parse(body: &[u8], usage: KeyUse) -> Result<Self, JwksError> {
        let Answer { keys } = serde_json::from_slice(body).map_err(|_| JwksError::Form)?;
        if keys.len() > MOST_KEYS {
            return Err(JwksError::TooMany);
        }
        let usable: Vec<Key> = keys.into_iter().filter_map(|key| Key::of(key, usage)).collect();
        if usable.is_empty() {
            return Err(JwksError::NoneUsable(match usage {
                KeyUse::Signature => "RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 for signatures are",
                KeyUse::JwtSvid => "those for `jwt-svid` are, RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519",
            }));
        }
        Ok(Self(usable))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key has just this `kid`.
    pub(super) fn has(&self, kid: Option<&str>) -> bool {
        kid.is_some() && self.0.iter().any(|key| key.kid.as_deref() == kid)
    }

    /// The keys that a token may be signed with; empty: it names a key that is not here. A key without `kid` may be any, and comes
    /// after those that the token names.
    pub(super) fn for_token(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let is_named = move |key: &&Key| kid.is_some() && key.kid.as_deref() == kid;
        let may_be = move |key: &&Key| kid.is_none() || key.kid.is_none();
        self.0
            .iter()
            .filter(is_named)
            .chain(self.0.iter().filter(may_be))
            .filter(move |key| key.algorithms.contains(&algorithm))
            .map(|key| &key.key)
            .take(MOST_TRIED)
    }
}

impl Key {
    fn of(key: Value, wanted: KeyUse) -> Option<Self> {
        let raw: Raw = serde_json::from_value(key).ok()?;
        let is_for = match wanted {
            KeyUse::Signature => raw.usage.as_deref().is_none_or(|usage| usage == "sig"),
            KeyUse::JwtSvid => raw.usage.as_deref() == Some("jwt-svid"),
        };
        let verifies = raw
            .key_ops
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !is_for || !verifies {
            return None;
        }
        let (key, fitting) = raw.material()?;
        let algorithms = match &raw.alg {
            // The key decides.
            Some(alg) => vec![alg.parse().ok().filter(|alg| fitting.contains(alg))?],
            None => fitting.to_vec(),
        };
        Some(Self {
            kid: raw.kid,
            algorithms,
            key,
        })
    }
}

impl Raw {
    fn material(&self) -> Option<(DecodingKey, &'static [Algorithm])> {
        match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                RSA_BITS
                    .contains(&bits(&n))
                    .then(|| (DecodingKey::from_rsa_raw_components(&n, &e), OF_RSA))
            }
            ("EC", Some("P-256")) => Some((self.point(32)?, &[Algorithm::ES256])),
            ("EC", Some("P-384")) => Some((self.point(48)?, &[Algorithm::ES384])),
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&self.x).filter(|x| x.len() == 32)?;
                Some((DecodingKey::from_ed_der(&x), &[Algorithm::EdDSA]))
            }
            _ => None,
        }
    }

    /// Uncompressed (SEC 1 section 2.3.3).
    fn point(&self, len: usize) -> Option<DecodingKey> {
        let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
        let right = x.len() == len && y.len() == len;
        right.then(|| DecodingKey::from_ec_der(&[&[4], &*x, &*y].concat()))
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()
}

fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let rest = &number[zeros..];
    let in_first = rest.first().map_or(0, |byte| byte.leading_zeros() as usize);
    rest.len() * 8 - in_first
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rsa(bits: usize) -> Value {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] = 0xff >> (n.len() * 8 - bits);
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"})
    }

    fn with(mut key: Value, more: Value) -> Value {
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn ec(curve: &str, len: usize) -> Value {
        let coordinate = URL_SAFE_NO_PAD.encode(vec![1; len]);
        json!({"kty": "EC", "crv": curve, "x": coordinate, "y": coordinate})
    }

    fn ed() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32])})
    }

    fn parse(keys: Value, usage: KeyUse) -> Result<KeySet, JwksError> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), usage)
    }

    #[test]
    fn the_key_decides_the_algorithm() {
        let of = |key: Value| {
            let set = parse(json!([key]), KeyUse::Signature).unwrap();
            set.0[0].algorithms.clone()
        };
        assert_eq!(of(rsa(2048)), OF_RSA);
        assert_eq!(of(rsa(4096)), OF_RSA);
        assert_eq!(
            of(with(rsa(2048), json!({"alg": "RS256", "use": "sig"}))),
            [Algorithm::RS256]
        );
        assert_eq!(of(ec("P-256", 32)), [Algorithm::ES256]);
        assert_eq!(of(ec("P-384", 48)), [Algorithm::ES384]);
        assert_eq!(of(with(ed(), json!({"key_ops": ["verify"]}))), [Algorithm::EdDSA]);
    }

    #[test]
    fn keys_that_cannot_be_used_are_passed_over() {
        let unusable = [
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "oct", "k": "AAAA", "alg": "HS256"}),
            rsa(2047),
            rsa(1024),
            rsa(4097),
            with(rsa(2048), json!({"alg": "HS256"})),
            with(rsa(2048), json!({"alg": "none"})),
            with(rsa(2048), json!({"alg": "ES256"})),
            with(rsa(2048), json!({"use": "enc"})),
            with(rsa(2048), json!({"use": "jwt-svid"})),
            with(rsa(2048), json!({"key_ops": ["sign"]})),
            with(rsa(2048), json!({"n": "!"})),
            with(rsa(2048), json!({"kid": 7})),
            ec("P-256", 48),
            ec("P-521", 66),
            ec("secp256k1", 32),
            with(ed(), json!({"crv": "Ed448"})),
            with(ed(), json!({"x": "AAAA"})),
            json!("text"),
            json!({}),
        ];
        for key in &unusable {
            let said = parse(json!([key]), KeyUse::Signature).err();
            assert!(matches!(said, Some(JwksError::NoneUsable(_))), "{key}");
        }
        let mut keys = unusable.to_vec();
        keys.push(rsa(3072));
        assert_eq!(parse(json!(keys), KeyUse::Signature).unwrap().len(), 1);
    }

    #[test]
    fn a_trust_bundle_has_keys_for_other_things_too() {
        let keys = json!([
            rsa(2048),
            with(ed(), json!({"use": "x509-svid"})),
            with(ed(), json!({"use": "jwt-svid", "kid": "a"}))
        ]);
        let set = parse(keys, KeyUse::JwtSvid).unwrap();
        assert_eq!((set.len(), set.0[0].kid.as_deref()), (1, Some("a")));
    }

    #[test]
    fn what_is_no_set_of_keys_is_refused() {
        for (body, error) in [
            ("", JwksError::Form),
            ("<html>", JwksError::Form),
            ("[]", JwksError::Form),
            ("{}", JwksError::Form),
            (r#"{"keys": {}}"#, JwksError::Form),
        ] {
            assert_eq!(
                KeySet::parse(body.as_bytes(), KeyUse::Signature).err(),
                Some(error),
                "{body}"
            );
        }
        assert!(matches!(
            parse(json!([]), KeyUse::Signature).err(),
            Some(JwksError::NoneUsable(_))
        ));
        assert_eq!(parse(json!(vec![ed(); 100]), KeyUse::Signature).unwrap().len(), 100);
        assert_eq!(
            parse(json!(vec![ed(); 101]), KeyUse::Signature).err(),
            Some(JwksError::TooMany)
        );
    }

    #[test]
    fn a_token_names_its_key_or_may_be_of_a_few() {
        let named = |kid: &str| with(ed(), json!({"kid": kid}));
        let set = parse(json!([named("a"), named("b"), ed(), rsa(2048)]), KeyUse::Signature).unwrap();
        let count = |kid| set.for_token(kid, Algorithm::EdDSA).count();
        assert_eq!((count(Some("a")), count(Some("c")), count(None)), (2, 1, 3));
        assert_eq!(set.for_token(Some("a"), Algorithm::ES256).count(), 0);
        let named_alone = parse(json!([named("a")]), KeyUse::Signature).unwrap();
        assert_eq!(named_alone.for_token(Some("b"), Algorithm::EdDSA).count(), 0);
        let last = parse(json!([ed(), ed(), ed(), ed(), named("a")]), KeyUse::Signature).unwrap();
        let first = last.for_token(Some("a"), Algorithm::EdDSA).next().unwrap();
        assert!(std::ptr::eq(first, &last.0[4].key), "the key that is named comes first");
        let many = parse(json!(vec![ed(); 9]), KeyUse::Signature).unwrap();
        assert_eq!(many.for_token(None, Algorithm::EdDSA).count(), MOST_TRIED);
    }

    proptest! {
        #[test]
        fn anything_is_read(body in any::<String>()) {
            let _ = KeySet::parse(body.as_bytes(), KeyUse::Signature);
        }
    }
}
