//! Who still asks for what will vanish, and when: versions of Atlas's operations that come to their end, by listener, caller
//! and operation. A request that has nothing to do with that costs a look at its answer's head, no lock and no allocation.

mod finding;
mod versions;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::exchange::Answered;
use super::record::{Record, UNKNOWN_OPERATION};
use super::{Pipeline, callers};
use crate::catalogue::Catalogue;
use crate::metrics::Metrics;
use crate::time::SharedClock;

pub use finding::Fate;
use finding::Finding;
pub(super) use finding::{Sight, VersionFrom};
use versions::AllVersions;
pub use versions::Version;

/// The most listeners, callers and operations that are told apart; what comes beyond them is one more, `other`.
const MOST: usize = 1000;
const OTHER: &str = "other";
/// How many of them at the most stand for versions that there never were: a client can ask for any number of those, and must
/// not hide who asks for what really vanishes.
const MOST_UNACCEPTABLE: usize = MOST / 2;

/// How often the log tells of each.
const TOLD_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Who calls what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The listener's name.
    pub listener: String,
    /// The caller's name, as in the log: `none` where nobody is asked.
    pub caller: String,
    /// The operation's name, or `unknown`.
    pub operation: &'static str,
}

impl Call {
    fn labels(&self) -> [&str; 3] {
        [&self.listener, &self.caller, self.operation]
    }
}

/// What was seen of such calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanishing {
    /// What becomes of the version, as of the last one.
    pub fate: Fate,
    /// The version that was asked for last; `None`: none that there is.
    pub version: Option<Version>,
    /// The day from which Atlas no longer answers in it.
    pub sunset: Option<Date>,
    /// The newest version that the catalogue has.
    pub newest: Option<Version>,
    /// How many.
    pub count: u64,
    /// When the last one was.
    pub last_at: SystemTime,
    /// By the boot-time clock.
    told_at: Duration,
}

/// All of them.
pub struct Radar {
    versions: AllVersions,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    seen: Mutex<BTreeMap<Call, Vanishing>>,
}

impl Pipeline {
    /// Notes whether Atlas's answer, or the version that was asked for, tells of an end.
    pub(super) fn watch_for_sunset(&self, record: &Record, answered: &Answered, from: VersionFrom) {
        // What a gateway says of itself is about no version.
        if record.gateway_error.is_some() {
            return;
        }
        let sight = Sight {
            operation: record.operation,
            from,
            request: &answered.asked,
            status: answered.response.status(),
            answer: answered.response.headers(),
        };
        let radar = &self.shared.radar;
        let Some(finding) = Finding::of(sight, &radar.versions) else {
            return;
        };
        let operation = record.operation.map(|id| self.shared.catalogue.get(id).name);
        let callers = self.callers.as_ref();
        radar.note(
            Call {
                listener: self.name.clone(),
                caller: callers
                    .map_or(callers::NOT_ASKED, |callers| callers.label(record.who))
                    .to_owned(),
                operation: operation.unwrap_or(UNKNOWN_OPERATION),
            },
            finding,
        );
    }
}

impl Radar {
    /// One that has seen nothing.
    pub(super) fn new(catalogue: &Catalogue, metrics: Arc<Metrics>, clock: SharedClock) -> Self {
        Self {
            versions: AllVersions::new(catalogue),
            metrics,
            clock,
            seen: Mutex::default(),
        }
    }

    fn note(&self, call: Call, finding: Finding) {
        let (wall, boot) = (self.clock.wall(), self.clock.boot());
        let mut seen = self.seen.lock();
        let room = seen.contains_key(&call) || (seen.len() < MOST && has_room_for(finding.fate, &seen));
        let call = if room {
            call
        } else {
            let other = || OTHER.to_owned();
            Call {
                listener: other(),
                caller: other(),
                operation: OTHER,
            }
        };
        self.metrics.sunset_request(call.labels());
        let before = seen.get(&call);
        let (count, told_at) = before.map_or((0, None), |before| (before.count, Some(before.told_at)));
        let is_due = |told: Duration| boot.saturating_sub(told) >= TOLD_EVERY;
        // One line for all of a client's nonsense: the others are in the status.
        let due = told_at.is_none_or(is_due)
            && (finding.fate != Fate::NotAcceptable
                || unacceptable_of(&call, &seen).all(|other| is_due(other.told_at)));
        let now = Vanishing {
            fate: finding.fate,
            version: finding.version,
            sunset: finding.sunset,
            newest: finding.newest,
            count: count + 1,
            last_at: wall,
            told_at: told_at.filter(|_| !due).unwrap_or(boot),
        };
        seen.insert(call.clone(), now);
        drop(seen);
        if due {
            tell(&call, &finding, wall);
        }
    }

    /// All that was seen since the start.
    pub fn seen(&self) -> BTreeMap<Call, Vanishing> {
        self.seen.lock().clone()
    }

    /// Forgets those of which the settings say nothing any more, so that they keep no room. `known`: whether there is this
    /// caller at this listener.
    pub fn forget_others(&self, known: impl Fn(&str, &str) -> bool) {
        self.seen.lock().retain(|call, _| {
            let stays = call.operation == OTHER || known(&call.listener, &call.caller);
            if !stays {
                self.metrics.forget_sunset_requests(call.labels());
            }
            stays
        });
    }
}

fn has_room_for(fate: Fate, seen: &BTreeMap<Call, Vanishing>) -> bool {
    let unacceptable = |other: &&Vanishing| other.fate == Fate::NotAcceptable;
    fate != Fate::NotAcceptable || seen.values().filter(unacceptable).count() < MOST_UNACCEPTABLE
}

/// What the same caller of the same listener asked for that there never was, `other` aside.
fn unacceptable_of<'s>(call: &Call, seen: &'s BTreeMap<Call, Vanishing>) -> impl Iterator<Item = &'s Vanishing> {
    let (listener, caller) = (call.listener.clone(), call.caller.clone());
    let first = Call {
        operation: "",
        ..call.clone()
    };
    seen.range(first..)
        .take_while(move |(other, _)| other.listener == listener && other.caller == caller)
        .map(|(_, seen)| seen)
        .filter(|other| other.fate == Fate::NotAcceptable)
}

fn tell(call: &Call, finding: &Finding, wall: SystemTime) {
    if call.operation == OTHER {
        tracing::warn!(
            "more than {MOST} callers and operations use versions of Atlas's API that come to their end: the rest is counted as `{OTHER}`"
        );
        return;
    }
    let today = Timestamp::try_from(wall)
        .ok()
        .map(|at| at.to_zoned(TimeZone::UTC).date());
    tracing::warn!(
        listener = call.listener,
        caller = call.caller,
        operation = call.operation,
        kind = finding.fate.as_str(),
        version = finding.version.map(tracing::field::display),
        sunset = finding.sunset.map(tracing::field::display),
        newest_version = finding.newest.map(tracing::field::display),
        "{}",
        finding.told(call.operation, today)
    );
}

#[cfg(test)]
mod tests;
