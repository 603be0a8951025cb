//! Values as TOML.

use crate::config::problem::looks_like_a_secret;
use crate::config::shape::{Key, Kind};
use crate::config::value;

pub(super) fn values_of(key: &Key, values: &[String]) -> String {
    let (is_list, kind) = match key.kind {
        Kind::Integers => (true, Kind::Integer),
        Kind::Texts | Kind::Command | Kind::Variables => (true, Kind::Text),
        kind => (false, kind),
    };
    let values: Vec<String> = values.iter().map(|value| value_of(key.name, kind, value)).collect();
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
    let names_user = given.contains("://") && given.contains('@');
    let is_short_of_an_id = matches!(key, "client_id" | "public_key") && !is_id;
    if is_short_of_an_id || names_user || !is_id && looks_like_a_secret(given) {
        return text("(not shown)");
    }
    match kind {
        Kind::Integer if given.bytes().all(|byte| byte.is_ascii_digit()) => given.to_owned(),
        Kind::Boolean => value::boolean(given).map_or_else(|_| text(given), |value| value.to_string()),
        _ => text(given),
    }
}

/// A basic string of TOML: JSON's strings are, but for one character that must be escaped.
pub(super) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
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
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
