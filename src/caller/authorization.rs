//! `Authorization` (RFC 9110 section 11.6.2) as far as its form goes.

use base64::Engine;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use super::NotIdentified;

/// What a field of it says.
pub(super) enum Authorization<'a> {
    /// RFC 7617.
    Basic(UserPass),
    /// RFC 7616: the parameters.
    Digest(&'a [u8]),
    /// RFC 6750: the token.
    Bearer(&'a str),
    /// Something else, or nothing that can be read: a placeholder.
    Other,
}

/// `name:secret`
pub(super) struct UserPass {
    text: Zeroizing<String>,
    colon: usize,
}

impl UserPass {
    pub(super) fn name(&self) -> &str {
        &self.text[..self.colon]
    }

    pub(super) fn secret(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

/// The field, if there is one.
pub(super) fn only_field(headers: &HeaderMap) -> Result<Option<&HeaderValue>, NotIdentified> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(NotIdentified::BadRequest),
        (field, None) => Ok(field),
    }
}

impl<'a> Authorization<'a> {
    pub(super) fn of(field: &'a HeaderValue) -> Self {
        let value = field.as_bytes().trim_ascii();
        let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"basic") {
            return user_pass(rest).map_or(Self::Other, Self::Basic);
        }
        if scheme.eq_ignore_ascii_case(b"digest") {
            return Self::Digest(rest);
        }
        match std::str::from_utf8(rest) {
            Ok(token) if scheme.eq_ignore_ascii_case(b"bearer") => Self::Bearer(token),
            _ => Self::Other,
        }
    }
}

fn user_pass(encoded: &[u8]) -> Option<UserPass> {
    // Some clients leave the padding out.
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG);
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    BASE64.decode_vec(encoded, &mut bytes).ok()?;
    let text = Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).ok()?);
    let colon = text.find(':')?;
    Some(UserPass { text, colon })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> String {
        let value = HeaderValue::from_str(value).unwrap();
        match Authorization::of(&value) {
            Authorization::Basic(user) => format!("basic {} {}", user.name(), user.secret()),
            Authorization::Digest(rest) => format!("digest {}", String::from_utf8_lossy(rest)),
            Authorization::Bearer(token) => format!("bearer {token}"),
            Authorization::Other => "other".to_owned(),
        }
    }

    #[test]
    fn schemes_are_read_without_case_and_blanks() {
        let basic = STANDARD.encode("billing:a:b");
        assert_eq!(read(&format!("Basic {basic}")), "basic billing a:b");
        assert_eq!(read(&format!("bASIC   {basic} ")), "basic billing a:b");
        assert_eq!(read(&format!("Basic {}", STANDARD.encode("a:bc"))), "basic a bc");
        assert_eq!(
            read(&format!("Basic {}", STANDARD.encode("a:bc").trim_end_matches('='))),
            "basic a bc"
        );
        assert_eq!(read("DIGEST username=\"a\""), "digest username=\"a\"");
        assert_eq!(read("Bearer a.b.c"), "bearer a.b.c");
        for other in [
            "",
            "Basic",
            "Basic !",
            "Basic YQ==",
            "Basicx YTpi",
            "Negotiate x",
            "Bearer\ta",
            "a",
        ] {
            assert_eq!(read(other), "other", "{other}");
        }
        assert_eq!(read(&format!("Basic {}", STANDARD.encode(b"a:\xff"))), "other");
    }

    #[test]
    fn one_field_is_taken_and_two_are_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(only_field(&headers), Ok(None));
        headers.append("authorization", HeaderValue::from_static("Bearer a"));
        assert!(only_field(&headers).unwrap().is_some());
        headers.append("authorization", HeaderValue::from_static("Bearer a"));
        assert_eq!(only_field(&headers), Err(NotIdentified::BadRequest));
    }

    proptest! {
        #[test]
        fn anything_is_read(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let _ = Authorization::of(&value);
            }
        }
    }
}
