//! One step of a rotation: done, or failed.

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// A dry run: it would be done.
    Would,
    /// It works, but not as asked.
    Warn,
    /// It failed.
    Fail,
}

impl Status {
    /// For people and machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Would => "would",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One step. Holds nothing secret.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which.
    pub step: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was done or found, and what to do.
    pub detail: String,
}

/// Why a step failed, as one sentence or two.
pub(super) struct Failed(pub(super) &'static str, pub(super) String);

pub(super) fn ok(step: &'static str, detail: String) -> Step {
    Step {
        step,
        status: Status::Ok,
        detail,
    }
}
