//! An issuer of JSON Web Tokens: its keys, its key set, and tokens of it, right or as wrong as a test wants them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key that signs tokens.
pub struct IssuerKey {
    kid: Option<String>,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    /// With the name of its curve.
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

impl IssuerKey {
    /// RSA of 2048 bits.
    pub fn rsa(kid: &str) -> Self {
        Self::of(kid, Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::of(kid, Pair::Ec(pair, "P-256"))
    }

    pub fn p384(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self::of(kid, Pair::Ec(pair, "P-384"))
    }

    pub fn ed25519(kid: &str) -> Self {
        Self::of(kid, Pair::Ed(Ed25519KeyPair::generate().unwrap()))
    }

    fn of(kid: &str, pair: Pair) -> Self {
        Self {
            kid: Some(kid.to_owned()),
            pair,
        }
    }

    /// The same without a `kid`, in the key set and in tokens.
    pub fn nameless(mut self) -> Self {
        self.kid = None;
        self
    }

    /// The algorithm of tokens that don't say otherwise.
    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_, "P-256") => "ES256",
            Pair::Ec(..) => "ES384",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// The public key as a JSON Web Key, for `sig`.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)})
            }
            Pair::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())}),
        };
        key["use"] = json!("sig");
        if let Some(kid) = &self.kid {
            key["kid"] = json!(kid);
        }
        key
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(json!({}), claims)
    }

    /// A token whose header has these parameters besides, or instead.
    pub fn token_with(&self, header: Value, claims: &Value) -> String {
        let mut whole = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = &self.kid {
            whole["kid"] = json!(kid);
        }
        whole
            .as_object_mut()
            .unwrap()
            .extend(header.as_object().unwrap().clone());
        self.sign(&whole.to_string(), &claims.to_string())
    }

    /// A token of any header and claims. Signed as `alg` says, as far as the key can; else as it would be by default.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let read: Value = serde_json::from_str(header).unwrap_or_default();
                let encoding: &'static dyn RsaEncoding = match read["alg"].as_str() {
                    Some("RS384") => &RSA_PKCS1_SHA384,
                    Some("RS512") => &RSA_PKCS1_SHA512,
                    Some("PS256") => &RSA_PSS_SHA256,
                    Some("PS384") => &RSA_PSS_SHA384,
                    Some("PS512") => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair, _) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The key set of an issuer (RFC 7517).
pub fn jwks(keys: &[&IssuerKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}
