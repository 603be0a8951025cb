//! What a gateway says of an identity that it refuses.

use serde_json::Value;

/// The most characters of it that are shown.
const LONGEST: usize = 300;
/// The longest word of it: no signature of a token is shorter than 86 characters, and what a token is must not be shown.
const LONGEST_WORD: usize = 80;

/// The `detail` (RFC 9457) of an answer of a gateway: one line, bounded, without control characters or what may be a token.
pub fn detail(answer: &Value) -> Option<String> {
    let text = answer["detail"].as_str()?;
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split_inclusive(|c| !of_word(c)).map(|word| match word.len() {
        0..=LONGEST_WORD => word,
        _ => "... ",
    });
    let shown = words.flat_map(str::chars).map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = shown.take(LONGEST).collect();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Option<String> {
        detail(&json!({ "detail": text }))
    }

    #[test]
    fn it_is_one_line_without_a_token() {
        assert_eq!(of("the token has expired").as_deref(), Some("the token has expired"));
        assert_eq!(of("a\n\u{1b}[1mb").as_deref(), Some("a  [1mb"));
        assert_eq!(of(&format!("e30.{}", "A".repeat(86))).as_deref(), Some("e30...."));
        assert_eq!(of(" "), None);
        assert_eq!(detail(&json!([1])), None);
    }

    proptest! {
        #[test]
        fn it_is_bounded(text in any::<String>()) {
            if let Some(shown) = of(&text) {
                prop_assert!(shown.chars().count() <= LONGEST && !shown.chars().any(char::is_control));
            }
        }
    }
}
