//! Lines of JSON that are written by hand, and text of clients made safe for them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::Serialize;

/// The most of a client's text that is logged, bytes.
pub(super) const MOST_TEXT: usize = 512;

/// Text of a client, made safe for a log: everything but printable ASCII escaped, cut off.
pub(super) struct Clean<'a>(pub(super) &'a str);

impl<'a> Clean<'a> {
    pub(super) fn text(&self) -> Cow<'a, str> {
        if self.0.len() <= MOST_TEXT && self.0.bytes().all(|b| matches!(b, b' '..=b'~')) {
            Cow::Borrowed(self.0)
        } else {
            Cow::Owned(self.to_string())
        }
    }
}

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.0.char_indices() {
            if at >= MOST_TEXT {
                return f.write_char('…');
            }
            if matches!(c, ' '..='~') {
                f.write_char(c)?;
            } else {
                // Letters of other scripts, too: some run backwards, some look like others.
                write!(f, "{}", c.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Marks a text that was cut off.
const CUT: char = '…';

/// Text of a client as printable ASCII, everything else escaped, in at most `most` bytes; what is longer is cut off and ends in
/// `…`.
pub fn clean(text: &str, most: usize) -> Cow<'_, str> {
    let plain = |c: char| matches!(c, ' '..='~');
    if text.len() <= most && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let room = most.saturating_sub(CUT.len_utf8());
    let mut clean = String::with_capacity(most.min(2 * text.len()));
    let mut fits = 0;
    for c in text.chars() {
        if plain(c) {
            clean.push(c);
        } else {
            clean.extend(c.escape_default());
        }
        if clean.len() > most {
            clean.truncate(fits);
            clean.push(CUT);
            break;
        }
        if clean.len() <= room {
            fits = clean.len();
        }
    }
    Cow::Owned(clean)
}

/// A JSON object that grows: what it is given is added before its end. It needs a member before the first.
pub struct Line(pub Vec<u8>);

impl Line {
    /// Adds a name, whose value is to follow.
    pub fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Adds a member.
    pub fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        // Of numbers and text, into a Vec: nothing can fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_reach_a_log() {
        assert_eq!(
            Clean("/a\r\nb\u{1b}[31m\u{85}é\u{202e}").to_string(),
            "/a\\r\\nb\\u{1b}[31m\\u{85}\\u{e9}\\u{202e}"
        );
        assert!(Clean(&"x".repeat(600)).to_string().chars().count() < 520);
    }

    #[test]
    fn clean_text_has_a_bound_and_its_cut_is_marked() {
        assert_eq!(clean("/a b", 4), "/a b");
        assert_eq!(clean("/a\nb", 20), "/a\\nb");
        assert_eq!(clean(&"x".repeat(9), 8), "xxxxx…");
        // Never within an escape.
        assert_eq!(clean("xééé", 19), "x\\u{e9}\\u{e9}\\u{e9}");
        assert_eq!(clean("xééé", 18), "x\\u{e9}\\u{e9}…");
        for most in 3..40 {
            assert!(clean(&"aé".repeat(40), most).len() <= most);
        }
    }
}
