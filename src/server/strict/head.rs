//! One request head, line by line (RFC 9112 sections 2 to 6), stricter than a general server: what has more than one
//! reading is refused, because another server behind us may take the other one.

use std::sync::Arc;

use memchr::memchr;

use super::{Refusal, TargetByte};

/// How the content of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    /// Bytes, with the empty line.
    pub(super) bytes: usize,
    /// Field lines.
    pub(super) fields: usize,
}

/// Methods in use have less than a dozen letters.
const LONGEST_METHOD: usize = 64;
/// The longest URI that the parser's types hold.
const LONGEST_TARGET: usize = 65_534;
/// 18 digits always fit 63 bits: another server may count with a sign.
const LONGEST_LENGTH: usize = 18;

/// Reads the bytes of a head as they come; each byte once.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    scanned: usize,
    line_start: usize,
    request_line: Option<Version>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl HeadScanner {
    /// `bytes` begins with the first byte of the head, and may have grown since the last call. When the head is complete:
    /// its size, and how the content that follows is delimited.
    ///
    /// # Errors
    /// When the head has no reading, or more than one.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<(usize, Framing)>, Refusal> {
        if self.scanned == 0 {
            first_byte(bytes)?;
        }
        while let Some(found) = memchr(b'\n', &bytes[self.scanned..]) {
            let end = self.scanned + found;
            if end >= limits.bytes {
                return Err(Refusal::HeadTooLarge(limits.bytes));
            }
            self.scanned = end + 1;
            let line = bytes[self.line_start..end]
                .strip_suffix(b"\r")
                .ok_or(Refusal::Malformed("a line of its head ends with LF alone"))?;
            self.line_start = self.scanned;
            match (line, self.request_line) {
                // RFC 9112 section 2.2: an empty line before the request line is skipped.
                ([], None) => {}
                ([], Some(_)) => return Ok(Some((self.scanned, self.framing()))),
                (line, None) => self.request_line = Some(request_line(line)?),
                (line, Some(version)) => {
                    self.fields += 1;
                    if self.fields > limits.fields {
                        return Err(Refusal::TooManyFields(limits.fields));
                    }
                    self.field(line, version)?;
                }
            }
        }
        self.scanned = bytes.len();
        if self.scanned >= limits.bytes {
            return Err(Refusal::HeadTooLarge(limits.bytes));
        }
        Ok(None)
    }

    fn framing(&self) -> Framing {
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        }
    }

    fn field(&mut self, line: &[u8], version: Version) -> Result<(), Refusal> {
        let (name, value) = field_line(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::Malformed("it has more than one Content-Length"));
            }
            self.length = Some(content_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked {
                return Err(Refusal::Malformed("it has more than one Transfer-Encoding"));
            }
            if version == Version::Http10 {
                return Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed(
                    "its Transfer-Encoding is another than `chunked` alone",
                ));
            }
            self.chunked = true;
        } else {
            return Ok(());
        }
        if self.chunked && self.length.is_some() {
            // RFC 9112 section 6.1: the mark of request smuggling.
            return Err(Refusal::Malformed("it has both Content-Length and Transfer-Encoding"));
        }
        Ok(())
    }
}

/// A peer that speaks something else is told at once, not when the head's time is over.
fn first_byte(bytes: &[u8]) -> Result<(), Refusal> {
    match bytes.first() {
        // A TLS record of type handshake (RFC 8446 section 5.1).
        Some(0x16) => Err(Refusal::Malformed(
            "it is TLS, and this listener speaks plain HTTP: use http://",
        )),
        Some(&byte) if !is_token(byte) && !matches!(byte, b'\r' | b'\n') => {
            Err(Refusal::Malformed("it does not begin with a method"))
        }
        _ => Ok(()),
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), with single spaces.
fn request_line(line: &[u8]) -> Result<Version, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed(
            "its first line is not `method target version` with single spaces",
        ));
    };
    if method.is_empty() || method.len() > LONGEST_METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed("its method is not one"));
    }
    if target.len() > LONGEST_TARGET {
        return Err(Refusal::Malformed("its target has more than 65534 bytes"));
    }
    if target.first() != Some(&b'/') || !target.iter().all(|byte| is_target(*byte)) {
        odd_target(method, target)?;
    }
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Refusal::Malformed("its version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

/// Checks a target that is not in origin-form, or has bytes that no URL has unencoded. What the parser's types hold is
/// forwarded byte for byte, as most servers do it; the parser would answer anything else with a bare 400.
fn odd_target(method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    // A fragment is never sent (RFC 9110 section 7.1): hyper would cut it off in silence.
    if target.is_empty()
        || target
            .iter()
            .any(|byte| *byte <= b' ' || *byte == 0x7f || *byte == b'#')
    {
        return Err(Refusal::Malformed(
            "its target is empty, or has a control character or a `#`",
        ));
    }
    let not_utf8 = std::str::from_utf8(target).err().map(|error| error.valid_up_to());
    let query = memchr(b'?', target).unwrap_or(target.len());
    let unheld = |(at, byte): (usize, &u8)| match byte {
        b'<' | b'>' => true,
        b'`' => at < query,
        b'"' => at > query,
        _ => false,
    };
    let unheld = target.iter().enumerate().position(unheld);
    if let Some(at) = [not_utf8, unheld].into_iter().flatten().min() {
        return Err(Refusal::TargetByte(Arc::new(TargetByte {
            byte: target[at],
            method: String::from_utf8_lossy(method).into_owned(),
            path: escaped(&target[..query]),
        })));
    }
    if http::Uri::try_from(target).is_err() {
        return Err(Refusal::Malformed("its target is not one (RFC 9112 section 3.2)"));
    }
    Ok(())
}

/// For a log: at most as many bytes as a log line shows, each one printable.
fn escaped(path: &[u8]) -> String {
    let mut text = String::new();
    for byte in path.iter().take(512) {
        if byte.is_ascii_graphic() {
            text.push(char::from(*byte));
        } else {
            text.extend(byte.escape_ascii().map(char::from));
        }
    }
    text
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Malformed("a header is folded over two lines"));
    }
    let colon = memchr(b':', line).ok_or(Refusal::Malformed("a line of its head has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed(
            "a header name is empty, or has a space or another character that no name has",
        ));
    }
    if !value.iter().all(|byte| is_value(*byte)) {
        return Err(Refusal::Malformed("a header value has a control character"));
    }
    Ok((name, trim_ows(value)))
}

/// `1*DIGIT` (RFC 9110 section 8.6). No list, no sign.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.len() <= LONGEST_LENGTH && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::Malformed("its Content-Length is not one number"))
}

/// Optional white space is space and tab, nothing else (RFC 9110 section 5.6.3).
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A table of the bytes for which something holds.
macro_rules! bytes_that {
    ($byte:ident => $holds:expr) => {{
        let mut table = [false; 256];
        let mut at = 0;
        while at < table.len() {
            let $byte = at as u8;
            table[at] = $holds;
            at += 1;
        }
        table
    }};
}

/// RFC 9110 section 5.6.2.
static TOKEN: [bool; 256] = bytes_that!(byte => byte.is_ascii_alphanumeric()
    || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'));
/// What most targets are made of; [`odd_target`] judges the rest.
static TARGET: [bool; 256] =
    bytes_that!(byte => byte > b' ' && byte < 0x7f && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`'));
/// RFC 9110 section 5.5.
static VALUE: [bool; 256] = bytes_that!(byte => byte == b'\t' || (byte >= b' ' && byte != 0x7f));

pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

fn is_target(byte: u8) -> bool {
    TARGET[usize::from(byte)]
}

pub(super) fn is_value(byte: u8) -> bool {
    VALUE[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 4 };

    fn scan(head: &[u8]) -> Result<Option<(usize, Framing)>, Refusal> {
        HeadScanner::default().advance(head, LIMITS)
    }

    #[test]
    fn one_reading() {
        for (head, framing) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("\r\nGET / HTTP/1.0\r\n\r\n", Framing::None),
            (
                "POST /a?b=c HTTP/1.1\r\ncontent-LENGTH: \t7 \r\n\r\n",
                Framing::Length(7),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
            ),
            ("OPTIONS * HTTP/1.1\r\nX: \u{e9}\t\r\n\r\n", Framing::None),
            ("GET http://localhost/ HTTP/1.1\r\nX:\r\n\r\n", Framing::None),
        ] {
            assert_eq!(scan(head.as_bytes()), Ok(Some((head.len(), framing))), "{head:?}");
            let more = format!("{head}more");
            assert_eq!(scan(more.as_bytes()), Ok(Some((head.len(), framing))), "{head:?}");
            // However the bytes are cut.
            let mut scanner = HeadScanner::default();
            for end in 0..head.len() {
                assert_eq!(scanner.advance(&head.as_bytes()[..end], LIMITS), Ok(None), "{head:?}");
            }
            assert_eq!(
                scanner.advance(head.as_bytes(), LIMITS),
                Ok(Some((head.len(), framing)))
            );
        }
    }

    #[test]
    fn no_reading_or_more_than_one() {
        for head in [
            "\u{16}\u{3}\u{1}",
            " GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\n",
            "\nGET / HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET /\t/ HTTP/1.1\r\n",
            "GET /#a HTTP/1.1\r\n",
            "GET /\u{0} HTTP/1.1\r\n",
            "GET / HTTP/1.2\r\n",
            "GET / http/1.1\r\n",
            "GET / HTTP/2.0\r\n",
            "G(T / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n X: folded\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n b\r\n",
            "GET / HTTP/1.1\r\nX: a\n\r\n",
            "GET / HTTP/1.1\r\nX: a\rb\r\n",
            "GET / HTTP/1.1\r\nX : a\r\n",
            "GET / HTTP/1.1\r\nX\r\n",
            "GET / HTTP/1.1\r\n: a\r\n",
            "GET / HTTP/1.1\r\nX: \u{0}\r\n",
            "GET / HTTP/1.1\r\nX: \u{7f}\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: \r\n",
            "GET / HTTP/1.1\r\nContent-Length: 0x1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: \u{b}1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding:\r\n",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(
                matches!(scan(head.as_bytes()), Err(Refusal::Malformed(_))),
                "{head:?}: {:?}",
                scan(head.as_bytes())
            );
        }
    }

    #[test]
    fn a_byte_that_cannot_go_on_is_named() {
        for target in [
            "/a\"b",
            "/a{b}|\\^",
            "/\u{e9}?\u{e9}",
            "/a?`",
            "http://localhost/\"?`",
            "*",
            "a:80",
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert!(matches!(scan(head.as_bytes()), Ok(Some(_))), "{target}");
        }
        for (target, byte, path) in [
            (&b"/a<b?c<"[..], b'<', "/a<b"),
            (b"/a>b", b'>', "/a>b"),
            (b"/a`b", b'`', "/a`b"),
            (b"/a?\"", b'"', "/a"),
            (b"/\xc3\xa9?<", b'<', "/\\xc3\\xa9"),
            (b"/a\xff<", 0xff, "/a\\xff<"),
            (b"/<\xff", b'<', "/<\\xff"),
            (b"/?\xc3", 0xc3, "/"),
            (b"http://localhost/\x80", 0x80, "http://localhost/\\x80"),
        ] {
            let head = [b"PATCH ", target, b" HTTP/1.1\r\n"].concat();
            let Err(refusal @ Refusal::TargetByte(_)) = scan(&head) else {
                panic!("{target:?}: {:?}", scan(&head));
            };
            let said = refusal.to_string();
            assert!(said.contains(&format!("percent-encode it, as `%{byte:02X}`")), "{said}");
            let Refusal::TargetByte(at) = refusal else {
                unreachable!()
            };
            assert_eq!((at.byte, at.method.as_str(), at.path.as_str()), (byte, "PATCH", path));
        }
        for target in ["http://[/", "a b:c:d", "http://a\"b/", "x/y", "http://:a@/"] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert!(scan(head.as_bytes()).is_err(), "{target}");
        }
        // Longer than what a URI of the parser holds.
        let limits = HeadLimits {
            bytes: 1 << 20,
            fields: 4,
        };
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(65_534));
        assert!(HeadScanner::default().advance(long.as_bytes(), limits).is_err());
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(65_533));
        assert!(HeadScanner::default().advance(long.as_bytes(), limits).is_ok());
    }

    #[test]
    fn bounds() {
        let fields = "X: a\r\n".repeat(4);
        assert!(matches!(
            scan(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()),
            Ok(Some(_))
        ));
        assert_eq!(
            scan(format!("GET / HTTP/1.1\r\nX: a\r\n{fields}\r\n").as_bytes()),
            Err(Refusal::TooManyFields(4))
        );
        let long = "x".repeat(600);
        assert_eq!(scan(long.as_bytes()), Err(Refusal::HeadTooLarge(512)));
        let long = format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n");
        assert_eq!(scan(long.as_bytes()), Err(Refusal::HeadTooLarge(512)));
        let empty = "\r\n".repeat(300);
        assert_eq!(scan(empty.as_bytes()), Err(Refusal::HeadTooLarge(512)));
    }
}
