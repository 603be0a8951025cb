//! Two readings of a path: the one that every server shares, or none; and the loosest one that any server might take.

use std::borrow::Cow;

/// Why a path has no single reading: servers differ in what they make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Does not begin with `/`.
    #[error("it does not begin with a slash")]
    Relative,
    /// `//`.
    #[error("it has an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("it has a dot segment (`.` or `..`)")]
    DotSegment,
    /// `;`, plain or encoded: some servers cut path parameters off.
    #[error("it has a semicolon")]
    Semicolon,
    /// `\`, plain or encoded: some servers take it for a slash.
    #[error("it has a backslash")]
    Backslash,
    /// A control character or a blank, or an encoded control character.
    #[error("it has a control character or an unencoded blank")]
    Control,
    /// A byte beyond ASCII that is not percent-encoded.
    #[error("it has a character beyond ASCII that is not percent-encoded")]
    NotAscii,
    /// `?` or `#`, which end a path.
    #[error("it has an encoded `?` or `#`")]
    Delimiter,
    /// `%` without two hexadecimal digits.
    #[error("it has a `%` without two hexadecimal digits after it")]
    BadPercent,
    /// `%25`: what it hides shows when it is decoded twice.
    #[error("it has an encoded percent sign (`%25`)")]
    EncodedPercent,
    /// `%2F`.
    #[error("it has an encoded slash (`%2F`)")]
    EncodedSlash,
    /// `%2E`, `%61`: a character that never needs encoding (RFC 3986 section 2.3).
    #[error("it has an encoded letter, digit, dot, `-`, `_` or `~`, which need no encoding")]
    EncodedUnreserved,
    /// Percent-encoded bytes that are no UTF-8, overlong forms among them.
    #[error("its percent-encoded bytes are not UTF-8")]
    NotUtf8,
    /// A character that some conversions turn into a slash, dot, backslash, semicolon or percent sign.
    #[error("it has a character that looks like a slash, dot, backslash, semicolon or percent sign")]
    Lookalike,
}

/// The path with its harmless percent-encodings (blanks, reserved characters, letters beyond ASCII) decoded, when all
/// servers agree on what it means. Segments stay where they were.
///
/// # Errors
/// When servers might differ; see [`Unclear`].
pub(crate) fn canonical(path: &str) -> Result<Cow<'_, str>, Unclear> {
    read(path, false)
}

/// The two readings of a path with `%2F`: with each one part of its segment, where it stays `%2F` (no other `%` stays,
/// so nothing else looks like it), and with each one a separator.
pub(crate) fn slash_readings(path: &str) -> [Result<Cow<'_, str>, Unclear>; 2] {
    let separated = path.replace("%2f", "/").replace("%2F", "/");
    let separated = canonical(&separated).map(|path| Cow::Owned(path.into_owned()));
    [read(path, true), separated]
}

fn read(path: &str, slash_stays: bool) -> Result<Cow<'_, str>, Unclear> {
    if !path.starts_with('/') {
        return Err(Unclear::Relative);
    }
    let mut encoded = false;
    let mut segment_start = 0;
    for (i, byte) in path.bytes().enumerate() {
        match byte {
            b'/' if i > 0 => {
                clear_segment(&path[segment_start + 1..i], true)?;
                segment_start = i;
            }
            b'%' => encoded = true,
            b';' => return Err(Unclear::Semicolon),
            b'\\' => return Err(Unclear::Backslash),
            b'?' | b'#' => return Err(Unclear::Delimiter),
            0..=b' ' | 0x7f => return Err(Unclear::Control),
            0x80.. => return Err(Unclear::NotAscii),
            _ => {}
        }
    }
    clear_segment(&path[segment_start + 1..], false)?;
    if encoded {
        decoded(path, slash_stays).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(path))
    }
}

/// The last segment may be empty: a trailing slash.
fn clear_segment(segment: &str, inner: bool) -> Result<(), Unclear> {
    match segment {
        "" if inner => Err(Unclear::EmptySegment),
        "." | ".." => Err(Unclear::DotSegment),
        _ => Ok(()),
    }
}

fn decoded(path: &str, slash_stays: bool) -> Result<String, Unclear> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'%' {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        let byte = hex_pair(&bytes[i + 1..]).ok_or(Unclear::BadPercent)?;
        match byte {
            b'%' => return Err(Unclear::EncodedPercent),
            b'/' if slash_stays => out.extend_from_slice(b"%2F"),
            b'/' => return Err(Unclear::EncodedSlash),
            b'\\' => return Err(Unclear::Backslash),
            b';' => return Err(Unclear::Semicolon),
            b'?' | b'#' => return Err(Unclear::Delimiter),
            0..=0x1f | 0x7f => return Err(Unclear::Control),
            b'.' | b'-' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                return Err(Unclear::EncodedUnreserved);
            }
            _ => out.push(byte),
        }
        i += 3;
    }
    let text = String::from_utf8(out).map_err(|_| Unclear::NotUtf8)?;
    for c in text.chars().filter(|c| !c.is_ascii()) {
        if c.is_control() {
            return Err(Unclear::Control);
        }
        if lookalike(c).is_some() {
            return Err(Unclear::Lookalike);
        }
    }
    Ok(text)
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (high, low) = (digit(bytes.first()?)?, digit(bytes.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

/// What Unicode's compatibility forms (NFKC) and Windows' "best fit" tables make of a character, where it matters.
fn lookalike(c: char) -> Option<char> {
    match c {
        '\u{ff0f}' | '\u{2044}' | '\u{2215}' | '\u{29f8}' => Some('/'),
        '\u{ff3c}' | '\u{fe68}' | '\u{2216}' | '\u{29f5}' => Some('\\'),
        '\u{ff0e}' | '\u{fe52}' | '\u{2024}' | '\u{2025}' => Some('.'),
        '\u{ff1b}' | '\u{fe54}' | '\u{fe14}' | '\u{37e}' => Some(';'),
        '\u{ff05}' | '\u{fe6a}' => Some('%'),
        _ => None,
    }
}

/// A segment as the most forgiving comparison sees it: no upper case, no blanks at its ends, wide letters narrow,
/// invisible characters gone. For what must not be walked around, never for what is to be let in.
pub(crate) fn folded(segment: &str) -> Cow<'_, str> {
    let trimmed = segment.trim();
    if trimmed.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return Cow::Borrowed(trimmed);
    }
    let visible = trimmed.chars().filter(|c| !invisible(*c)).map(|c| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    });
    let lower = visible.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    // Lower case of `İ` is an `i` with a combining dot.
    Cow::Owned(lower.filter(|c| !('\u{300}'..='\u{36f}').contains(c)).collect())
}

/// Whether a segment is one that [`folded`] makes `loose` of; allocates nothing for ordinary segments.
pub(crate) fn folds_to(segment: &str, loose: &str) -> bool {
    let plain = || segment.bytes().all(|b| b.is_ascii_graphic());
    segment.eq_ignore_ascii_case(loose) || (!plain() && folded(segment) == loose)
}

fn invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// What is left of a path when everything that any server might decode is decoded.
#[derive(Debug)]
pub(crate) struct Loosest {
    /// Its segments, folded, without the empty ones.
    pub(crate) segments: Vec<String>,
    /// Whether servers may differ about which segments stand where, or where one ends: dot segments, `;`, control
    /// characters (some servers end a path at an encoded NUL).
    pub(crate) movable: bool,
}

/// Reads a path as loosely as any server might: percent-encoding undone however often, overlong UTF-8 and `%uXXXX`
/// included, backslash, `?` and `#` as separators, path parameters cut off, control characters gone. Linear in length.
pub(crate) fn loosest(path: &str) -> Loosest {
    let mut bytes = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        bytes.push(byte);
        while reduced(&mut bytes) {}
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut movable = text.contains(char::is_control);
    let mut text: String = text
        .chars()
        .map(|c| lookalike(c).unwrap_or(c))
        .filter(|c| !invisible(*c))
        .collect();
    if text.contains('%') {
        // A lookalike percent sign may have made another encoding.
        let mut again = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            again.push(byte);
            while reduced(&mut again) {}
        }
        text = String::from_utf8_lossy(&again).into_owned();
        movable |= text.contains(char::is_control);
    }
    movable |= text.contains(';');
    let mut segments = Vec::new();
    for segment in text.split(['/', '\\', '?', '#']) {
        for part in segment.split(';') {
            let part = folded(part);
            movable |= matches!(&*part, "." | "..");
            if !part.is_empty() {
                segments.push(part.into_owned());
            }
        }
    }
    Loosest { segments, movable }
}

/// Decodes what the last bytes have just completed, if anything. Each step shortens the text, so all of them together
/// are linear, however often something was encoded.
fn reduced(bytes: &mut Vec<u8>) -> bool {
    let (used, byte) = match bytes.as_slice() {
        [.., b'%', b'u' | b'U', b'0', b'0', high, low] => match hex_pair(&[*high, *low]) {
            Some(byte) => (6, byte),
            None => return false,
        },
        [.., b'%', high, low] => match hex_pair(&[*high, *low]) {
            Some(byte) => (3, byte),
            None => return false,
        },
        // Overlong UTF-8 of two, three and four bytes.
        [.., first @ (0xc0 | 0xc1), last @ 0x80..=0xbf] => (2, ((first & 1) << 6) | (last & 0x3f)),
        [.., 0xe0, middle @ (0x80 | 0x81), last @ 0x80..=0xbf] => (3, ((middle & 1) << 6) | (last & 0x3f)),
        [.., 0xf0, 0x80, middle @ (0x80 | 0x81), last @ 0x80..=0xbf] => (4, ((middle & 1) << 6) | (last & 0x3f)),
        _ => return false,
    };
    bytes.truncate(bytes.len() - used);
    bytes.push(byte);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_themselves() {
        for path in [
            "/",
            "/api/atlas/v2/groups",
            "/api/atlas/v2/groups/",
            "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters/a-b_c.d~e/logs/mongodb.gz",
            "/api/atlas/v2/groups/1/clusters/c:pause",
            "/api/atlas/v2/groups/1/databaseUsers/$external/CN=a,OU=b@c!'()*+&",
            "/.well-known/...",
        ] {
            assert!(matches!(canonical(path), Ok(Cow::Borrowed(p)) if p == path), "{path}");
        }
    }

    #[test]
    fn harmless_encodings_are_decoded() {
        assert_eq!(canonical("/a%20b/%24external/%C3%a9%3a").unwrap(), "/a b/$external/é:");
    }

    #[test]
    fn what_servers_read_differently_is_unclear() {
        for (path, why) in [
            ("", Unclear::Relative),
            ("*", Unclear::Relative),
            ("a/b", Unclear::Relative),
            ("//a", Unclear::EmptySegment),
            ("/a//b", Unclear::EmptySegment),
            ("/a//", Unclear::EmptySegment),
            ("/./a", Unclear::DotSegment),
            ("/a/..", Unclear::DotSegment),
            ("/a/../b", Unclear::DotSegment),
            ("/a;x=1/b", Unclear::Semicolon),
            ("/a%3bx/b", Unclear::Semicolon),
            ("/a\\b", Unclear::Backslash),
            ("/a%5Cb", Unclear::Backslash),
            ("/a%00", Unclear::Control),
            ("/a%0d%0a", Unclear::Control),
            ("/a b", Unclear::Control),
            ("/a\0", Unclear::Control),
            ("/a%c2%85", Unclear::Control),
            ("/é", Unclear::NotAscii),
            ("/a%3f", Unclear::Delimiter),
            ("/a%23", Unclear::Delimiter),
            ("/a?b", Unclear::Delimiter),
            ("/a%", Unclear::BadPercent),
            ("/a%2", Unclear::BadPercent),
            ("/a%zz", Unclear::BadPercent),
            ("/a%u002e", Unclear::BadPercent),
            ("/a%+1", Unclear::BadPercent),
            ("/%252e%252e/a", Unclear::EncodedPercent),
            ("/a%2fb", Unclear::EncodedSlash),
            ("/%2e%2E/a", Unclear::EncodedUnreserved),
            ("/%61pi", Unclear::EncodedUnreserved),
            ("/%c0%ae%c0%ae/a", Unclear::NotUtf8),
            ("/%e0%80%af", Unclear::NotUtf8),
            ("/%ff", Unclear::NotUtf8),
            ("/%ef%bc%8f", Unclear::Lookalike),
            ("/%e2%80%a5/a", Unclear::Lookalike),
        ] {
            assert_eq!(canonical(path), Err(why), "{path}");
        }
    }

    #[test]
    fn the_loosest_reading_undoes_every_disguise() {
        for path in [
            "/api/oauth",
            "//API//oauth/",
            "/%61pi/%6F%61uth",
            "/api%2foauth",
            "/api%252foauth",
            "/api%25252525252foauth",
            "/api%2%35%32foauth",
            "/api%5coauth",
            "\\api\\oauth",
            "/api%c0%afoauth",
            "/api%e0%80%afoauth",
            "/api%f0%80%80%afoauth",
            "/api%u002foauth",
            "/api%ef%bc%8foauth",
            "/api/%20oauth%20",
            "/api/%ef%bd%8fauth",
            "/api%EF%BC%852foauth",
            "/api?oauth",
        ] {
            let read = loosest(path);
            assert_eq!(read.segments, ["api", "oauth"], "{path}");
            assert!(!read.movable, "{path}");
        }
        for path in [
            "/x/../api",
            "/x/%2e%2e/api",
            "/%252e/api",
            "/x;/api",
            "/x/..%2fapi",
            "/api%00x",
            "/%250aapi",
            "/%ef%bc%8500",
            "/%c0%ae./api",
        ] {
            assert!(loosest(path).movable, "{path}");
        }
    }

    #[test]
    fn deep_encoding_costs_linear_time() {
        let path = format!("/%{}2foauth", "25".repeat(30_000));
        assert_eq!(loosest(&path).segments, ["oauth"]);
    }

    #[test]
    fn folding() {
        for text in [
            "databaseusers",
            "DATABASEUSERS",
            " databaseUsers ",
            "databaſeUſers",
            "ｄatabaseusers",
        ] {
            assert_eq!(folded(text), "databaseusers", "{text}");
        }
        for text in ["kiss", "\u{212a}iss", "kıss", "kİss", "ki\u{200b}ß"] {
            assert_eq!(folded(text), "kiss", "{text}");
        }
    }
}
