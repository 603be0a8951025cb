//! The grammar under `WWW-Authenticate` and `Authentication-Info` (RFC 9110 sections 11.2 and 11.6): schemes, and
//! parameters with token or quoted-string values. Lenient where leniency cannot change a meaning (missing commas, blanks
//! around `=`), and it never fails: what it cannot read it reports as [`Item::Junk`].

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// As it stood between the quotes, escapes included: this goes back to the server unchanged.
    pub(super) raw: Box<[u8]>,
    /// What it means: escapes resolved. This goes into the hashes.
    pub(super) value: Box<[u8]>,
}

impl Text {
    /// Whether the value is `text`, letter case aside.
    pub(super) fn is(&self, text: &str) -> bool {
        self.value.eq_ignore_ascii_case(text.as_bytes())
    }
}

/// One thing found in a header value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// The start of a challenge: its scheme.
    Scheme(&'a [u8]),
    /// A parameter of the challenge before it.
    Param(&'a [u8], Text),
    /// Something that is neither.
    Junk,
}

/// The items of one header value, in order.
pub(super) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().take_while(|&&byte| belongs(byte)).count();
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    fn skip_byte(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips what cannot be read, up to the next comma.
    fn junk(&mut self) -> Item<'a> {
        self.take_while(|byte| byte != b',');
        Item::Junk
    }

    /// A quoted-string, or everything up to a blank or comma: more than a token, since nonces in base64 are seen unquoted.
    fn value(&mut self) -> Option<Text> {
        if self.skip_byte(b'"') {
            return self.quoted();
        }
        let plain = self.take_while(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\'));
        (!plain.is_empty()).then(|| Text {
            raw: plain.into(),
            value: plain.into(),
        })
    }

    /// The rest of a quoted-string (RFC 9110 section 5.6.4) after its opening quote. None: not closed, or a control
    /// character in it; then all that follows is lost, since where it ends is anybody's guess.
    fn quoted(&mut self) -> Option<Text> {
        let whole = std::mem::take(&mut self.rest);
        let mut value = Vec::new();
        let mut bytes = whole.iter().enumerate();
        while let Some((at, &byte)) = bytes.next() {
            let byte = match byte {
                b'"' => {
                    self.rest = &whole[at + 1..];
                    return Some(Text {
                        raw: whole[..at].into(),
                        value: value.into(),
                    });
                }
                b'\\' => *bytes.next()?.1,
                plain => plain,
            };
            if byte.is_ascii_control() && byte != b'\t' {
                return None;
            }
            value.push(byte);
        }
        None
    }

    /// Skips a token68 (RFC 9110 section 11.2), the other form of what may follow a scheme, if one stands here alone.
    fn skip_token68(&mut self) {
        let before = self.rest;
        let letters = self
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'));
        self.take_while(|byte| byte == b'=');
        self.skip_blanks();
        if letters.is_empty() || !matches!(self.rest.first(), None | Some(b',')) {
            self.rest = before;
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        self.take_while(|byte| is_blank(byte) || byte == b',');
        if self.rest.is_empty() {
            return None;
        }
        let name = self.take_while(is_tchar);
        if name.is_empty() {
            return Some(self.junk());
        }
        self.skip_blanks();
        if self.skip_byte(b'=') {
            self.skip_blanks();
            return Some(match self.value() {
                Some(text) => Item::Param(name, text),
                None => self.junk(),
            });
        }
        self.skip_token68();
        Some(Item::Scheme(name))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 section 5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Puts `text` into `out` as the inside of a quoted-string.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(value: &str) -> Vec<String> {
        Items::new(value.as_bytes())
            .map(|item| match item {
                Item::Scheme(name) => format!("[{}]", String::from_utf8_lossy(name)),
                Item::Param(name, text) => {
                    let value = String::from_utf8_lossy(&text.value).into_owned();
                    format!("{}:{value}", String::from_utf8_lossy(name))
                }
                Item::Junk => "junk".to_owned(),
            })
            .collect()
    }

    #[test]
    fn schemes_and_parameters_are_told_apart() {
        assert_eq!(
            items(r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#),
            [
                "[Newauth]",
                "realm:apps",
                "type:1",
                r#"title:Login to "apps""#,
                "[Basic]",
                "realm:simple"
            ],
            "the example of RFC 9110 section 11.6.1"
        );
        assert_eq!(items("Negotiate"), ["[Negotiate]"]);
        assert_eq!(
            items("Negotiate, NTLM ,Digest a=b"),
            ["[Negotiate]", "[NTLM]", "[Digest]", "a:b"]
        );
        assert_eq!(
            items("Negotiate oYG2/+A==, Digest a=b"),
            ["[Negotiate]", "[Digest]", "a:b"]
        );
        assert_eq!(
            items("Negotiate abc=,Digest a = \"b\""),
            ["[Negotiate]", "[Digest]", "a:b"]
        );
        assert_eq!(items("Digest\ta =\tb c=\"d\"e=f"), ["[Digest]", "a:b", "c:d", "e:f"]);
        assert_eq!(items("Digest nonce=ab/c+==, a=b"), ["[Digest]", "nonce:ab/c+==", "a:b"]);
        assert_eq!(items(" , ,, "), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_junk() {
        assert_eq!(items("Digest a=, b=c"), ["[Digest]", "b:c"], "this reads as a token68");
        assert_eq!(items("Digest x=y, a=, b=c"), ["[Digest]", "x:y", "junk", "b:c"]);
        assert_eq!(items("Digest a=\"never closed, b=c"), ["[Digest]", "junk"]);
        assert_eq!(items("Digest a=\"ends in \\"), ["[Digest]", "junk"]);
        assert_eq!(items("Digest a=\"\u{7}\", b=c"), ["[Digest]", "junk"]);
        assert_eq!(items("é Digest a=b, \"c\", d=e"), ["junk", "junk", "d:e"]);
    }
}
