//! An answer of the proxy's own as bytes, for connections on which no request was parsed.

use super::error::body;
use super::headers::SANDBOX;
use crate::code::ErrorCode;

/// A field's name in the case that old programs, which compare bytes, expect.
fn title_case(name: &str) -> String {
    let mut begins = true;
    name.chars()
        .map(|c| {
            let upper = std::mem::replace(&mut begins, c == '-');
            if upper { c.to_ascii_uppercase() } else { c }
        })
        .collect()
}

/// A whole answer as bytes, for connections on which no request was parsed.
pub(super) fn answer(code: ErrorCode, detail: &str) -> Vec<u8> {
    let (status, body) = (code.status(), body(code, detail));
    let sandbox: String = SANDBOX
        .iter()
        .map(|(name, value)| {
            let value = value.to_str().unwrap_or_default();
            format!("{}: {value}\r\n", title_case(name.as_str()))
        })
        .collect();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Atlas-Auth-Proxy-Error: {}\r\nCache-Control: no-store\r\n\
         {sandbox}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        code.as_str(),
        body.len(),
    )
    .into_bytes()
}
