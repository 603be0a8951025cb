//! Keeps the credential from coming back: what repeats it in the status line, a header field or a trailer of an answer
//! is dropped, whether the upstream put it there or something before it. For both kinds of credential; bodies are not
//! searched.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use memchr::memmem;

/// A shorter secret could stand in a field by chance. Atlas's tokens have hundreds of characters, a Digest response 32.
const LEAST: usize = 12;

/// Removes every trace of the credential from the head of an answer, which was sent with `authorization`.
pub(super) fn clean_head<B>(response: &mut Response<B>, authorization: &HeaderValue) {
    clean_reason(response);
    clean_fields(response.headers_mut(), authorization);
}

/// Replaces the reason phrase, free text of the upstream, by the standard one, or by none where the status has none.
pub(super) fn clean_reason<B>(response: &mut Response<B>) {
    response.extensions_mut().remove::<ReasonPhrase>();
    name_no_reason(response.status(), response.extensions_mut());
}

/// hyper writes `<none>` for a status that has no standard phrase.
fn name_no_reason(status: StatusCode, extensions: &mut http::Extensions) {
    if status.canonical_reason().is_none() {
        extensions.insert(ReasonPhrase::from_static(b""));
    }
}

/// Drops the fields, of a head or of trailers, that contain the credential of `authorization`: as it is, in base64
/// (alone or within something else), percent-encoded, or as a name.
///
/// The secret is longer than nearly every word of a field, so that a search is seldom needed.
pub(super) fn clean_fields(fields: &mut HeaderMap, authorization: &HeaderValue) {
    let secret = secret_of(authorization.as_bytes());
    let long_enough = |(name, value): (&HeaderName, &HeaderValue)| value.len().max(name.as_str().len()) >= secret.len();
    if secret.len() < LEAST || !fields.iter().any(long_enough) {
        return;
    }
    let needle = Needle::new(secret);
    let names: Vec<HeaderName> = fields
        .iter()
        .filter(|(name, value)| needle.is_in(value.as_bytes()) || needle.is_in(name.as_str().as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        fields.remove(name);
    }
}

/// Whether `text` contains `length` bytes of words in a row. Each window is searched from its end, so that most of a
/// text of short words is skipped.
fn has_word(text: &[u8], length: usize) -> bool {
    let mut begin = 0;
    while let Some(run) = text.get(begin..begin + length) {
        match run.iter().rposition(|byte| !is_of_a_word(*byte)) {
            None => return true,
            Some(at) => begin += at + 1,
        }
    }
    false
}

/// A byte of a token (RFC 6750 section 2.1), of a hash in hexadecimal digits, or of base64.
fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// The secret part of an `Authorization`: the token (RFC 6750), or the response of Digest (RFC 7616), without which the
/// other parameters are worth nothing.
fn secret_of(authorization: &[u8]) -> &[u8] {
    if let Some(token) = authorization.strip_prefix(b"Bearer ") {
        return token;
    }
    static RESPONSE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b" response=\""));
    let Some(at) = RESPONSE.find(authorization) else {
        return authorization;
    };
    let response = &authorization[at + RESPONSE.needle().len()..];
    let end = memchr::memchr(b'"', response).unwrap_or(response.len());
    &response[..end]
}

/// The secret to search for, in each of its forms.
struct Needle<'a> {
    secret: &'a [u8],
    /// The secret is a single word, and so is its base64: a text without a word of that length contains neither.
    one_word: bool,
    in_base64: OnceCell<Vec<Vec<u8>>>,
}

impl<'a> Needle<'a> {
    fn new(secret: &'a [u8]) -> Self {
        Self {
            secret,
            one_word: secret.iter().all(|byte| is_of_a_word(*byte)),
            in_base64: OnceCell::new(),
        }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        if text.len() < self.secret.len() {
            return false;
        }
        match percent_decoded(text) {
            Cow::Borrowed(text) => self.is_in_plain(text),
            Cow::Owned(decoded) => self.is_in_plain(text) || self.is_in_plain(&decoded),
        }
    }

    fn is_in_plain(&self, text: &[u8]) -> bool {
        let could_hold = |length| !self.one_word || has_word(text, length);
        could_hold(self.secret.len())
            && (contains_ignoring_case(text, self.secret)
                || could_hold(self.secret.len() * 4 / 3 - OUTER_BASE64)
                    && self
                        .in_base64
                        .get_or_init(|| inner_base64(self.secret))
                        .iter()
                        .any(|needle| contains_ignoring_case(text, needle)))
    }
}

/// The most characters of a secret's base64, at its two ends, that also hold bits of neighbouring bytes.
const OUTER_BASE64: usize = 4;

/// The inner part of a secret's base64, for each position in a group of three bytes at which the secret may begin.
fn inner_base64(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::with_capacity(6);
    for before in 0..3 {
        let padded = [&[0; 2][..before], secret].concat();
        // Left out are the characters that also hold neighbours' bits: at the front those of `before`, at the end an
        // unfinished one.
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(text.as_bytes()[first..last].to_vec());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// Names are in lower case here, whatever the upstream wrote; a hash may come in upper case.
fn contains_ignoring_case(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len())
        .any(|window| window.eq_ignore_ascii_case(needle))
}

/// Decoded until there is nothing more to decode, or three times over.
fn percent_decoded(value: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(value);
    for _ in 0..3 {
        if !text.contains(&b'%') {
            break;
        }
        text = Cow::Owned(percent_encoding::percent_decode(&text).collect());
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZGIifQ.c2lnbmF0dXJl-_x";
    const DIGEST: &str = "Digest username=\"abc\", realm=\"r\", nonce=\"n\", uri=\"/\", qop=auth, nc=00000001, cnonce=\"c\", \
                          response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5";

    fn passes(authorization: &str, name: &str, value: &str) -> bool {
        let mut fields = HeaderMap::new();
        fields.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        clean_fields(&mut fields, &authorization.parse().unwrap());
        !fields.is_empty()
    }

    #[test]
    fn a_credential_is_found_in_every_form() {
        let bearer = format!("Bearer {TOKEN}");
        let percent: String = TOKEN.bytes().map(|b| format!("%{b:02x}")).collect();
        let twice = percent.replace('%', "%25");
        for authorization in [&*bearer, DIGEST] {
            for (form, text) in [
                ("as it is", authorization.to_owned()),
                ("within", format!("you sent {authorization}, thank you")),
                ("in base64", STANDARD.encode(authorization)),
                ("in URL-safe base64", URL_SAFE_NO_PAD.encode(authorization)),
                ("behind a byte", STANDARD.encode(format!("x{authorization}"))),
                ("behind two bytes", STANDARD.encode(format!("xy{authorization}z"))),
                (
                    "within base64 that stands in something",
                    format!("a={};", STANDARD.encode(authorization)),
                ),
                (
                    "percent-encoded",
                    percent_encoding::utf8_percent_encode(authorization, percent_encoding::NON_ALPHANUMERIC)
                        .to_string(),
                ),
            ] {
                assert!(!passes(authorization, "x-echo", &text), "{form}: {text}");
            }
        }
        assert!(!passes(&bearer, "x-echo", &percent));
        assert!(!passes(&bearer, "x-echo", &twice));
        assert!(!passes(&bearer, "x-echo", &STANDARD.encode(TOKEN)));
        assert!(!passes(DIGEST, "x-echo", "0123456789ABCDEF0123456789ABCDEF"));
        // As a name, which reaches clients of HTTP/1.1 in the case in which it came.
        for authorization in [&*bearer, DIGEST] {
            let secret = secret_of(authorization.as_bytes());
            for name in [
                String::from_utf8(secret.to_vec()).unwrap(),
                URL_SAFE_NO_PAD.encode(secret),
                URL_SAFE_NO_PAD.encode([b"ab", secret].concat()),
                secret.iter().map(|b| format!("%{b:02x}")).collect(),
            ] {
                assert!(!passes(authorization, &name, "1"), "{name}");
                assert!(!passes(authorization, &format!("x-{name}"), "1"), "{name}");
            }
        }
    }

    proptest! {
        /// Alone, and between other bytes: no base64 form of it is shorter than the words that are searched.
        #[test]
        fn base64_of_any_secret_is_found(
            secret in "[a-z0-9]{12,80}", before in "[a-z]{0,5}", after in "[a-z]{0,5}", blank in "[ ;]?",
        ) {
            let authorization = format!("Bearer {secret}");
            let text = STANDARD.encode(format!("{before}{secret}{after}"));
            let value = format!("x{blank}{text}{blank}y");
            prop_assert!(!passes(&authorization, "x-echo", &value));
        }
    }

    #[test]
    fn everything_else_passes() {
        let bearer = format!("Bearer {TOKEN}");
        let long = "a".repeat(1000);
        for value in [
            "",
            "application/json",
            &long,
            &STANDARD.encode(&long),
            "%%%2",
            &"%".repeat(200),
            "sandbox; default-src 'none'; frame-ancestors https://cloud.mongodb.com",
        ] {
            assert!(passes(&bearer, "x-other", value), "{value}");
            assert!(passes(DIGEST, "x-other", value), "{value}");
        }
        assert!(
            passes("Bearer short", "x-other", "short"),
            "too short to tell from chance"
        );
    }

    #[test]
    fn reasons_are_the_standard_ones() {
        let mut response = Response::new(());
        response.extensions_mut().insert(ReasonPhrase::from_static(b"sesame"));
        clean_reason(&mut response);
        assert!(response.extensions().get::<ReasonPhrase>().is_none());
        *response.status_mut() = StatusCode::from_u16(299).unwrap();
        clean_reason(&mut response);
        assert_eq!(
            response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes),
            Some(&b""[..])
        );
    }
}
