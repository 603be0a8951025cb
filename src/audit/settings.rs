//! What `[audit]` says.

use std::path::PathBuf;

use super::keys::AuditKeys;
use crate::crypto::KeyFile;

/// What is recorded, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Where lines go.
    pub to: Destination,
    /// Which requests are recorded.
    pub include: Include,
    /// The shape of a line.
    pub format: AuditFormat,
    /// What happens to a change that would not be recorded.
    pub when_full: WhenFull,
    /// How much of a path is shown.
    pub path: PathShown,
    /// What each line is hashed with; `None`: nothing proves that lines were not altered.
    pub keys: Option<KeyFile>,
}

impl AuditSettings {
    /// What lines name their key by; `None`: there is none.
    pub fn key_id(&self) -> Option<String> {
        let keys = self.keys.as_ref()?;
        Some(AuditKeys::of(&keys.current).id().to_owned())
    }
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A regular file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// Which requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// All but GET, HEAD and OPTIONS.
    #[default]
    Changes,
    /// All.
    All,
}

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditFormat {
    /// One flat JSON object.
    #[default]
    Json,
    /// Open Cybersecurity Schema Framework: API Activity, class 6003.
    Ocsf,
}

/// What happens to a change that would not be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It is refused.
    #[default]
    Refuse,
    /// It is forwarded, and its line is counted as dropped.
    Drop,
}

/// How much of a path is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathShown {
    /// As it was sent.
    #[default]
    Full,
    /// What is neither project nor organization is hashed, such as names of users.
    Template,
}
