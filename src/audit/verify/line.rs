//! A line that was read back.

use serde::Deserialize;

use crate::audit::chain::HASH_MEMBER;

/// A line, as far as the proof is concerned.
#[derive(Default, Deserialize)]
pub(super) struct Line {
    pub(super) event: Option<String>,
    pub(super) id: Option<String>,
    pub(super) caller: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) time: Option<serde_json::Value>,
    pub(super) chain: Option<String>,
    pub(super) seq: Option<u64>,
    pub(super) key: Option<String>,
    pub(super) prev: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) new_key: Option<String>,
    pub(super) torn: Option<bool>,
    pub(super) decision: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) changes: Option<u64>,
    /// Of OCSF: all members of ours.
    pub(super) unmapped: Option<Box<Line>>,
}

/// The part of a line that its hash covers, and the hash.
pub(in crate::audit) fn hash_of(line: &[u8]) -> Option<(&[u8], &str)> {
    let at = line
        .windows(HASH_MEMBER.len())
        .rposition(|window| window == HASH_MEMBER)?;
    let rest = std::str::from_utf8(&line[at + HASH_MEMBER.len()..]).ok()?;
    let hash = rest
        .trim_end_matches('}')
        .strip_suffix('"')
        .filter(|_| rest.ends_with('}'))?;
    let hexadecimal = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal && rest.len() <= hash.len() + 3).then_some((&line[..at], hash))
}

/// Whether a part of a line may be one of ours.
pub(super) fn begins_like_ours(line: &[u8]) -> bool {
    ["{\"event\":\"", "{\"activity_id\":"].iter().any(|ours| {
        let length = ours.len().min(line.len());
        line[..length] == ours.as_bytes()[..length]
    })
}
