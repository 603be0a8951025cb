//! Times and numbers, as people read them.

use crate::admin::status::At;

use super::html::{Html, html, put};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `42 s`, `42 min`, `3 h 5 min`, `2 d 3 h`, `42 days`.
pub(in crate::admin) fn span(seconds: i64) -> String {
    match seconds {
        ..MINUTE => format!("{} s", seconds.max(0)),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => match seconds % HOUR / MINUTE {
            0 => format!("{} h", seconds / HOUR),
            minutes => format!("{} h {minutes} min", seconds / HOUR),
        },
        _ if seconds < 3 * DAY => match seconds % DAY / HOUR {
            0 => format!("{} d", seconds / DAY),
            hours => format!("{} d {hours} h", seconds / DAY),
        },
        _ => format!("{} days", seconds / DAY),
    }
}

/// `3 min ago`, with the moment itself for whoever points at it.
pub(super) fn ago(at: Option<At>, now: At) -> Html {
    let Some(at) = at else {
        return html!("<span class=\"soft\">not known</span>");
    };
    let ago = match now.since(at) {
        ..5 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    };
    moment(at, &ago)
}

/// A moment, in these words.
pub(super) fn moment(at: At, words: &str) -> Html {
    html!("<time datetime=\"" (at) "\" title=\"" (at) "\">" (words) "</time>")
}

/// A sentence of ours: what it has between backticks is code.
pub(super) fn marked(text: &str) -> Html {
    let pieces: Vec<&str> = text.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return html!((text));
    }
    let mut out = Html::default();
    for (at, piece) in pieces.into_iter().enumerate() {
        if at % 2 == 1 {
            put!(out "<code>" (piece) "</code>");
        } else {
            put!(out(piece));
        }
    }
    out
}

/// `1,234`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 request`, `2 requests`.
pub(super) fn counted(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count(number))
}

/// `50 ms`, `2.5 s`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", (seconds * 1000.0).round())
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_or_two_units() {
        for (seconds, told) in [
            (-5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (3 * 3600 + 310, "3 h 5 min"),
            (86_400, "1 d"),
            (2 * 86_400 + 3 * 3600 + 1, "2 d 3 h"),
            (42 * 86_400 + 5, "42 days"),
        ] {
            assert_eq!(span(seconds), told, "{seconds}");
        }
    }

    #[test]
    fn what_is_between_backticks_is_code_and_escaped() {
        for (text, shown) in [
            ("a `b` c `<d>`", "a <code>b</code> c <code>&lt;d&gt;</code>"),
            ("a `b", "a `b"),
            ("", ""),
        ] {
            assert_eq!(marked(text).into_string(), shown);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, told) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), told);
        }
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(1200, "request"), "1,200 requests");
        assert_eq!(
            (duration(0.05), duration(2.5)),
            ("50 ms".to_owned(), "2.5 s".to_owned())
        );
    }
}
