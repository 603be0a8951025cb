//! Whatever a server sends as `WWW-Authenticate` and `Authentication-Info`: no panic, and an answer to it is one header
//! value that carries neither the key nor a control character.
#![no_main]

use std::sync::Arc;

use atlas_auth_proxy::credential::ApiKeyPair;
use atlas_auth_proxy::credential::digest::{BodyForDigest, ChallengeCause, Digest, DigestEvents, DigestParts, Verdict};
use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::time::SystemClock;
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

struct Silent;

impl DigestEvents for Silent {
    fn challenge(&self, _: ChallengeCause) {}
    fn nonce_used(&self) {}
    fn usable(&self, _: bool) {}
}

const KEY: &str = "the-private-key-of-the-fuzzer";

fuzz_target!(|data: &[u8]| {
    // What a server says of itself is repeated to it: that is no leak.
    if data.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
        return;
    }
    let digest = Digest::new(DigestParts {
        key: ApiKeyPair {
            public_key: "abcdefgh".to_owned(),
            private_key: Secret::new(KEY),
            max_concurrent: None,
        },
        clock: Arc::new(SystemClock),
        events: Arc::new(Silent),
    })
    .expect("the key is one");
    let mut used = None;
    // Several answers of a server in a row, several fields in each.
    for (attempt, answer) in data.split(|byte| *byte == b'\n').take(4).enumerate() {
        let mut headers = HeaderMap::new();
        for value in answer.split(|byte| *byte == b'\r') {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append("www-authenticate", value.clone());
                headers.append("authentication-info", value);
            }
        }
        let attempt = u32::try_from(attempt).unwrap_or(0);
        let verdict = digest.challenged(&headers, used.as_ref(), attempt);
        let body = BodyForDigest::Bytes(answer);
        used = digest.authorize(&Method::POST, "/api/atlas/v2/groups?a=\"b\"", body);
        if verdict == Verdict::Retry {
            assert!(used.is_some(), "who says retry can authorize");
        }
        if let Some(authorized) = &used {
            let value = authorized.header.as_bytes();
            assert!(value.starts_with(b"Digest ") && authorized.header.is_sensitive());
            // A quoted string may hold a tab (RFC 9110 section 5.6.4), and no other control character.
            assert!(value.iter().all(|byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..)));
            assert!(!value.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
            // No quote of a value is left open.
            let mut open = false;
            let mut escaped = false;
            for byte in value {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if open => escaped = true,
                    b'"' => open = !open,
                    _ => {}
                }
            }
            assert!(!open, "{:?}", String::from_utf8_lossy(value));
            digest.observe_success(&headers, authorized);
        }
    }
});
