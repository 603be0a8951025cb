//! Whatever a token endpoint answers: a grant is a token that can stand in a header, with a believable life; a refusal
//! repeats nothing of what the server wrote.
#![no_main]

use std::time::{Duration, SystemTime};

use atlas_auth_proxy::credential::bearer::{MOST_LIFE, MOST_TOKEN_BYTES, parse_answer};
use http::{HeaderMap, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

/// What a server that echoes the request could say.
const ECHO: &str = "mdb_sa_sk_secret-of-the-fuzzer";

fuzz_target!(|data: &[u8]| {
    let Some((status, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let status = StatusCode::from_u16(u16::from_be_bytes(*status) % 600).unwrap_or(StatusCode::OK);
    let (header, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&b""[..], rest),
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.insert("retry-after", value);
    }
    for body in [
        body.to_vec(),
        [body, ECHO.as_bytes()].concat(),
        [ECHO.as_bytes(), body].concat(),
    ] {
        match parse_answer(
            status,
            &headers,
            &body,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        ) {
            Ok(granted) => {
                assert_eq!(status, StatusCode::OK);
                let value = granted.header();
                let token = value.as_bytes().strip_prefix(b"Bearer ").expect("a bearer token");
                assert!(value.is_sensitive() && !token.is_empty() && token.len() <= MOST_TOKEN_BYTES);
                // RFC 6749 appendix A.12, less the space, which would end it in a header.
                assert!(
                    token.iter().all(u8::is_ascii_graphic),
                    "{:?}",
                    String::from_utf8_lossy(token)
                );
                assert!(granted.life() >= Duration::from_secs(1) && granted.life() <= MOST_LIFE);
            }
            Err(refusal) => assert!(!format!("{refusal} {refusal:?}").contains(ECHO)),
        }
    }
});
