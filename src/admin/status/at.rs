//! Moments, as people and programs are told them.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment of the wall clock, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(Timestamp);

impl At {
    /// `None`: out of the range that RFC 3339 has.
    pub fn of(at: SystemTime) -> Option<Self> {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        Timestamp::from_second(i64::try_from(seconds).ok()?).ok().map(Self)
    }

    /// 1970, for a clock that is out of range.
    pub fn epoch() -> Self {
        Self(Timestamp::UNIX_EPOCH)
    }

    /// `2026-11-27 03:00:00 UTC`.
    pub(in crate::admin) fn in_words(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// Seconds from `earlier` to this moment; negative when it is the earlier one.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.as_second() - earlier.0.as_second()
    }
}

impl fmt::Display for At {
    /// RFC 3339, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
