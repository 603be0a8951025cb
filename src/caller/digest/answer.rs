//! The parameters of an answer to a Digest challenge (RFC 7616 section 3.4), read strictly and mostly without a copy.

use std::borrow::Cow;

/// A parameter's value, quotes and escapes resolved.
type Value<'a> = Cow<'a, [u8]>;

/// What a client answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) username: Option<Value<'a>>,
    pub(super) realm: Option<Value<'a>>,
    pub(super) nonce: Option<Value<'a>>,
    pub(super) uri: Option<Value<'a>>,
    pub(super) response: Option<Value<'a>>,
    pub(super) algorithm: Option<Value<'a>>,
    pub(super) cnonce: Option<Value<'a>>,
    pub(super) qop: Option<Value<'a>>,
    pub(super) nc: Option<Value<'a>>,
    pub(super) userhash: Option<Value<'a>>,
    /// Something is left that can't be read, or is there twice.
    pub(super) is_odd: bool,
}

impl<'a> Answer<'a> {
    /// Reads as far as it can be read.
    pub(super) fn read(mut rest: &'a [u8]) -> Self {
        let mut answer = Self::default();
        loop {
            rest = rest.trim_ascii_start();
            let Some(first) = rest.first() else { return answer };
            if *first == b',' {
                rest = &rest[1..];
                continue;
            }
            let Some((name, value, behind)) = parameter(rest) else {
                answer.is_odd = true;
                return answer;
            };
            if let Some(field) = answer.field(name) {
                let is_twice = field.is_some();
                field.get_or_insert(value);
                answer.is_odd |= is_twice;
            }
            rest = behind.trim_ascii_start();
            if !rest.is_empty() && rest[0] != b',' {
                answer.is_odd = true;
                return answer;
            }
        }
    }

    /// `None`: a parameter of no meaning here.
    fn field(&mut self, name: &[u8]) -> Option<&mut Option<Value<'a>>> {
        let fields: [(&[u8], &mut Option<Value<'a>>); 10] = [
            (b"username", &mut self.username),
            (b"realm", &mut self.realm),
            (b"nonce", &mut self.nonce),
            (b"uri", &mut self.uri),
            (b"response", &mut self.response),
            (b"algorithm", &mut self.algorithm),
            (b"cnonce", &mut self.cnonce),
            (b"qop", &mut self.qop),
            (b"nc", &mut self.nc),
            (b"userhash", &mut self.userhash),
        ];
        let found = fields.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        found.map(|(_, field)| field)
    }
}

/// `name=token` or `name="quoted"`, and what follows.
fn parameter(text: &[u8]) -> Option<(&[u8], Value<'_>, &[u8])> {
    let (name, rest) = token(text)?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    if let Some(inside) = rest.strip_prefix(b"\"") {
        let (value, rest) = quoted(inside)?;
        return Some((name, value, rest));
    }
    let (value, rest) = token(rest)?;
    Some((name, Cow::Borrowed(value), rest))
}

/// RFC 9110 section 5.6.2.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let end = text.iter().position(|byte| !is_tchar(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The rest of a quoted-string (RFC 9110 section 5.6.4) after its opening quote.
fn quoted(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut value = Cow::Borrowed(&text[..0]);
    let mut at = 0;
    loop {
        let byte = match text.get(at)? {
            b'"' => return Some((value, &text[at + 1..])),
            b'\\' => {
                // What stood before is copied at the first escape.
                value.to_mut();
                at += 1;
                text.get(at)?
            }
            plain => plain,
        };
        if byte.is_ascii_control() && *byte != b'\t' {
            return None;
        }
        at += 1;
        match &mut value {
            Cow::Borrowed(so_far) => *so_far = &text[..at],
            Cow::Owned(so_far) => so_far.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text<'a>(value: &'a Option<Value<'_>>) -> &'a str {
        value
            .as_deref()
            .map_or("-", |value| std::str::from_utf8(value).unwrap_or("?"))
    }

    #[test]
    fn parameters_are_read_quoted_and_not() {
        let answer =
            Answer::read(br#"USERNAME = "a\"b\\c" ,realm="", ,qop=auth,nc=00000001, other="x", uri="/a?b=\c""#);
        assert_eq!(text(&answer.username), r#"a"b\c"#);
        assert_eq!(text(&answer.realm), "");
        assert_eq!(text(&answer.qop), "auth");
        assert_eq!(text(&answer.nc), "00000001");
        assert_eq!(text(&answer.uri), "/a?b=c");
        assert_eq!(answer.nonce, None);
        assert!(!answer.is_odd);
        assert!(matches!(Answer::read(b"nonce=\"plain\"").nonce, Some(Cow::Borrowed(_))));
    }

    #[test]
    fn what_has_two_readings_or_none_is_odd_and_still_names_its_user() {
        for odd in [
            r#"username="a", username="b""#,
            r#"username="a" realm="b""#,
            r#"username="a", realm="b"#,
            r#"username="a", realm=b/c"#,
            r#"username="a", realm"#,
            r#"username="a", realm="#,
            r#"username="a", ="b""#,
            "username=\"a\", realm=\"\u{7f}\"",
            "username=\"a\", realm=\"\\\u{1}\"",
            r#"username="a", Digest realm="b""#,
        ] {
            let answer = Answer::read(odd.as_bytes());
            assert!(answer.is_odd, "{odd}");
            assert_eq!(text(&answer.username), "a", "{odd}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            Answer::read(&bytes);
        }

        #[test]
        fn a_value_comes_back_as_it_was_quoted(value in "[ -~]{0,20}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("nonce=\"{quoted}\", nc=1");
            let answer = Answer::read(line.as_bytes());
            prop_assert_eq!(text(&answer.nonce), value);
            prop_assert!(!answer.is_odd);
        }
    }
}
