//! How a line of the log looks, and fields written that way by hand, as the general formatter would write them.

use std::cell::Cell;
use std::fmt;
use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::Printable;
use super::line::Clean;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One JSON object.
    Json,
    /// For people.
    Text {
        /// A terminal shows it, which has colours.
        colours: bool,
    },
}

/// A line that grows by one field after the other.
pub(super) struct Fields {
    line: Vec<u8>,
    shape: Shape,
}

impl Fields {
    /// Begins the line of an event at `info`.
    pub(super) fn begin(shape: Shape, at: Timestamp, target: &str, message: &str) -> Self {
        let mut fields = Self {
            line: Vec::with_capacity(768),
            shape,
        };
        let at = time(at);
        match shape {
            Shape::Json => {
                fields.put(b"{\"timestamp\":\"");
                fields.put(&at);
                fields.put(b"\",\"level\":\"INFO\"");
                fields.text("message", message);
            }
            Shape::Text { colours: false } => {
                fields.put(&at);
                fields.put(b"  INFO ");
                fields.put(target.as_bytes());
                fields.put(b": ");
                fields.put(message.as_bytes());
            }
            Shape::Text { colours: true } => {
                fields.put(b"\x1b[2m");
                fields.put(&at);
                fields.put(b"\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2m");
                fields.put(target.as_bytes());
                fields.put(b"\x1b[0m\x1b[2m:\x1b[0m ");
                fields.put(message.as_bytes());
            }
        }
        fields
    }

    /// Ends the line.
    pub(super) fn end(mut self, target: &str) -> Vec<u8> {
        if self.shape == Shape::Json {
            self.text("target", target);
            self.put(b"}");
        }
        self.put(b"\n");
        self.line
    }

    /// A field: text of our own, or of the settings.
    #[inline]
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    /// A field: text of a client. For people it has no quotes.
    #[inline]
    pub(super) fn clean(&mut self, name: &str, value: &str) {
        self.name(name);
        let value = Clean(value).text();
        if self.shape == Shape::Json {
            self.quoted(&value);
        } else {
            self.printable(format_args!("{value}"));
        }
    }

    /// A field that shows itself as printable ASCII without quotes and backslashes.
    #[inline]
    pub(super) fn shown(&mut self, name: &str, value: &dyn fmt::Display) {
        self.name(name);
        let quote: &[u8] = if self.shape == Shape::Json { b"\"" } else { b"" };
        self.put(quote);
        // A Vec takes everything.
        let _ = write!(self.line, "{value}");
        self.put(quote);
    }

    /// A field: a number, or in a line of JSON any value.
    #[inline]
    pub(super) fn value(&mut self, name: &str, value: impl Serialize) {
        self.name(name);
        self.json(&value);
    }

    /// Inlined with those that call it, so that the name's length is known and it is copied without a call.
    #[inline(always)]
    fn name(&mut self, name: &str) {
        match self.shape {
            Shape::Json => {
                self.put(b",\"");
                self.put(name.as_bytes());
                self.put(b"\":");
            }
            Shape::Text { colours: false } => {
                self.put(b" ");
                self.put(name.as_bytes());
                self.put(b"=");
            }
            Shape::Text { colours: true } => {
                self.put(b" \x1b[3m");
                self.put(name.as_bytes());
                self.put(b"\x1b[0m\x1b[2m=\x1b[0m");
            }
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
    }

    fn quoted(&mut self, value: &str) {
        if self.shape == Shape::Json {
            self.json(value);
        } else if plain(value) {
            self.put(b"\"");
            self.put(value.as_bytes());
            self.put(b"\"");
        } else {
            self.printable(format_args!("{value:?}"));
        }
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        // Of numbers and text, into a Vec: nothing can fail.
        let _ = serde_json::to_writer(&mut self.line, value);
    }

    fn printable(&mut self, value: fmt::Arguments<'_>) {
        let mut printable = Printable {
            to: &mut self.line,
            colours: false,
        };
        // Likewise.
        let _ = printable.write_fmt(value);
    }
}

/// Whether a text looks the same in quotes.
fn plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

/// A time to the microsecond.
type Time = [u8; "2026-11-25T12:00:00.123456Z".len()];

/// Shows a time as both formatters do it. What stays the same for a second is kept for the next line.
fn time(at: Timestamp) -> Time {
    thread_local! {
        static LAST: Cell<(i64, Time)> = const { Cell::new((i64::MIN, [0; _])) };
    }
    let (second, mut time) = LAST.get();
    if second == at.as_second() && second > 0 {
        let mut micros = at.subsec_microsecond();
        for digit in time[20..26].iter_mut().rev() {
            *digit = b'0' + u8::try_from(micros % 10).unwrap_or(0);
            micros /= 10;
        }
    } else {
        // The years of a Timestamp have four digits.
        let _ = write!(&mut time[..], "{at:.6}");
        LAST.set((at.as_second(), time));
    }
    time
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_microsecond() {
        for seconds in [0, 1, 1_795_608_000, 1_795_608_000, 1_795_608_001, -1, -1] {
            for nanos in [0, 999, 1_000, 123_456_789, 999_999_999] {
                let at = Timestamp::new(seconds, nanos).unwrap();
                assert_eq!(String::from_utf8(time(at).to_vec()).unwrap(), format!("{at:.6}"));
            }
        }
    }
}
