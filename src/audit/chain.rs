//! The chain of lines: each is numbered, names the hash of the line before, and has a keyed hash over itself.

use std::sync::Arc;

use serde::Serialize;

use super::keys::AuditKeys;
use super::settings::AuditFormat;

/// Begins the member that a line ends with; the hash covers all that stands before.
pub(super) const HASH_MEMBER: &[u8] = b",\"hash\":\"";
/// The most that sealing adds to a line: names of chain and key, number, two hashes.
pub(super) const SEAL_MOST: usize = 320;

/// The last line of a chain: whoever keeps it elsewhere can prove later that nothing was cut off before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The chain's name.
    pub chain: String,
    /// The number of the last line.
    pub seq: u64,
    /// Its hash; `None`: lines are not hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What the next line follows.
#[derive(Clone)]
pub(super) struct Chain {
    id: Arc<str>,
    seq: u64,
    last: Option<String>,
    keys: Option<Arc<AuditKeys>>,
}

impl Chain {
    pub(super) fn new(id: Arc<str>, keys: Option<Arc<AuditKeys>>) -> Self {
        Self {
            id,
            seq: 0,
            last: None,
            keys,
        }
    }

    pub(super) fn head(&self) -> Head {
        Head {
            chain: self.id.to_string(),
            seq: self.seq,
            hash: self.last.clone(),
        }
    }

    pub(super) fn take_keys(&mut self, keys: Option<Arc<AuditKeys>>) {
        self.keys = keys;
        if self.keys.is_none() {
            self.last = None;
        }
    }

    /// Ends a line, which has no end yet, as the next one of the chain.
    pub(super) fn seal(&mut self, line: &[u8], format: AuditFormat, into: &mut Vec<u8>) {
        let from = into.len();
        self.seq += 1;
        into.extend_from_slice(line);
        into.extend_from_slice(b",\"chain\":\"");
        into.extend_from_slice(self.id.as_bytes());
        into.extend_from_slice(b"\",\"seq\":");
        into.extend_from_slice(self.seq.to_string().as_bytes());
        if let Some(keys) = &self.keys {
            into.extend_from_slice(b",\"key\":\"");
            into.extend_from_slice(keys.id().as_bytes());
            into.push(b'"');
            if let Some(last) = &self.last {
                into.extend_from_slice(b",\"prev\":\"");
                into.extend_from_slice(last.as_bytes());
                into.push(b'"');
            }
            let hash = keys.hash(&into[from..]);
            into.extend_from_slice(HASH_MEMBER);
            into.extend_from_slice(hash.as_bytes());
            into.push(b'"');
            self.last = Some(hash);
        }
        into.extend_from_slice(end(format));
    }
}

/// What ends a line of standard output, which has no chain.
pub(super) fn end(format: AuditFormat) -> &'static [u8] {
    match format {
        AuditFormat::Json => b"}\n",
        AuditFormat::Ocsf => b"}}\n",
    }
}
