//! The one way by which the page is written: markup that stands in the program, and text, which is always escaped.

use std::fmt::{self, Display, Write};

use crate::report::is_no_text;

/// A piece of HTML. Nothing but literals of the program gets into it unescaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Markup of the program's own.
    pub(super) fn markup(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Text from anywhere; also good within an attribute's double quotes.
    pub(super) fn text(&mut self, text: impl Display) {
        // Writing to a string can't fail.
        let _ = write!(Escape(&mut self.0), "{text}");
    }

    /// A piece that was written in the same way.
    pub(super) fn piece(&mut self, piece: Self) {
        self.0.push_str(&piece.0);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Controls, and what turns the direction of the text around it.
                other if is_no_text(other) => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// Writes into an [`Html`]: a literal is markup, `(value)` text, `[piece]` another piece.
macro_rules! put {
    ($out:ident) => {{}};
    ($out:ident $markup:literal $($rest:tt)*) => {{
        $out.markup($markup);
        $crate::admin::page::html::put!($out $($rest)*);
    }};
    ($out:ident ($text:expr) $($rest:tt)*) => {{
        $out.text(&$text);
        $crate::admin::page::html::put!($out $($rest)*);
    }};
    ($out:ident [$piece:expr] $($rest:tt)*) => {{
        $out.piece($piece);
        $crate::admin::page::html::put!($out $($rest)*);
    }};
}
pub(super) use put;

/// A piece of HTML, written as by [`put`].
macro_rules! html {
    ($($part:tt)+) => {{
        let mut out = $crate::admin::page::html::Html::default();
        $crate::admin::page::html::put!(out $($part)+);
        out
    }};
}
pub(super) use html;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_has_no_character_that_means_something(text in any::<String>()) {
            let written = html!((&text)).into_string();
            prop_assert!(!written.contains(['<', '>', '"', '\'']));
            prop_assert!(!written.chars().any(char::is_control));
            let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
            let rest = entities.iter().fold(written.clone(), |rest, entity| rest.replace(entity, ""));
            prop_assert!(!rest.contains('&'), "{}", written);
            if !text.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{2069}').contains(&c)) {
                let back = written.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
                prop_assert_eq!(back.replace("&#39;", "'").replace("&amp;", "&"), text);
            }
        }
    }

    #[test]
    fn literals_are_markup_and_the_rest_is_not() {
        let piece = html!("<b>" ("<1>") "</b>");
        assert_eq!(
            html!("<p>" [piece] (2) "</p>").into_string(),
            "<p><b>&lt;1&gt;</b>2</p>"
        );
        assert_eq!(html!(("a\u{202e}b\n")).into_string(), "a\u{fffd}b\u{fffd}");
    }
}
