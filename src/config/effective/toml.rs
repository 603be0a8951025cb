//! Values as TOML.

use crate::config::problem::looks_like_a_secret;
use crate::config::shape::{Key, Kind};
use crate::config::value;
use crate::report::is_no_text;

const NOT_SHOWN: &str = "(not shown)";

pub(super) fn values_of(key: &Key, values: &[String]) -> String {
    let (is_list, kind) = match key.kind {
        Kind::Integers => (true, Kind::Integer),
        Kind::Texts | Kind::Command | Kind::Variables => (true, Kind::Text),
        kind => (false, kind),
    };
    let is_command = matches!(key.kind, Kind::Command);
    let values = values.iter().enumerate().map(|(at, value)| match is_command && at > 0 {
        // Arguments may hold what is secret.
        true => text(NOT_SHOWN),
        false => value_of(key.name, kind, value),
    });
    let values: Vec<String> = values.collect();
    match is_list {
        true => format!("[{}]", values.join(", ")),
        false => values.concat(),
    }
}

/// A value as TOML. What may be a secret is not shown, wherever it stands.
pub(super) fn value_of(key: &str, kind: Kind, given: &str) -> String {
    let is_id = match key {
        "client_id" => given.starts_with("mdb_sa_id_") && given.len() < 48,
        "public_key" => given.len() == 8 && given.bytes().all(|byte| byte.is_ascii_lowercase()),
        _ => false,
    };
    // A password may stand before an `@`, also without a scheme, or in a query.
    let names_user = given.rfind('@').is_some_and(|at| given[..at].contains(':'))
        || given.contains("://") && given.contains(['@', '?']);
    let is_short_of_an_id = matches!(key, "client_id" | "public_key") && !is_id;
    if is_short_of_an_id || names_user || !is_id && looks_like_a_secret(given) {
        return text(NOT_SHOWN);
    }
    match kind {
        Kind::Integer if given.bytes().all(|byte| byte.is_ascii_digit()) => given.to_owned(),
        Kind::Boolean => value::boolean(given).map_or_else(|_| text(given), |value| value.to_string()),
        _ => text(given),
    }
}

/// A basic string of TOML: JSON's strings are, but for characters that must be escaped there, or that a terminal acts on.
pub(super) fn text(value: &str) -> String {
    let mut text = String::new();
    for c in serde_json::Value::from(value).to_string().chars() {
        match is_no_text(c) {
            true => text += &format!("\\u{:04x}", u32::from(c)),
            false => text.push(c),
        }
    }
    text
}

/// A key of TOML.
pub(super) fn key_name(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        text(name)
    }
}

/// In a comment of one line.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| if is_no_text(c) { ' ' } else { c });
    shown.collect()
}
