//! Whether lines are written now: for the status page and `/readyz`.

use std::time::SystemTime;

use parking_lot::Mutex;

use super::{Audit, Destination, NotRecorded, WhenFull};

/// Why lines are not written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTrouble {
    /// Since when; `None`: a disk that does not answer has been waited for in vain.
    pub since: Option<SystemTime>,
    /// What the system says.
    pub cause: String,
}

/// What the writer met.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<Option<AuditTrouble>>);

impl Troubles {
    /// The file can't be written. Whether it could before.
    pub(super) fn begin(&self, cause: String, now: SystemTime) -> bool {
        let mut trouble = self.0.lock();
        let since = trouble.as_ref().and_then(|before| before.since);
        let is_new = trouble.is_none();
        *trouble = Some(AuditTrouble {
            since: since.or(Some(now)),
            cause,
        });
        is_new
    }

    /// It can be written again.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl Audit {
    /// Why lines are not written now; `None`: they are.
    pub fn trouble(&self) -> Option<AuditTrouble> {
        let failing = self.trouble.0.lock().clone();
        failing.or_else(|| {
            self.queue.is_stuck().then(|| AuditTrouble {
                since: None,
                cause: NotRecorded::Slow.to_string(),
            })
        })
    }

    /// Whether changes that would not be recorded are refused.
    pub fn refuses_changes(&self) -> bool {
        self.when_full == WhenFull::Refuse
    }

    /// Where lines go, by the settings.
    pub fn to(&self) -> &Destination {
        &self.to
    }
}
