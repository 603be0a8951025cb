//! Clocks as a parameter, and a timer of waits: what depends on time takes a [`Clock`], so that tests hand in their own.

mod wait;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

pub use wait::WaitTimer;

/// The two clocks that decide whether a credential is still valid.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump either way.
    fn wall(&self) -> SystemTime;
    /// Time since boot *including sleep* (`CLOCK_BOOTTIME`): a laptop that slept two hours sees two hours pass.
    fn boot(&self) -> Duration;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the clock that is passed in elsewhere")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both parts of a CLOCK_BOOTTIME reading are never negative.
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

/// RFC 9110 section 10.2.3: seconds or a date. A date is compared with the answer's own `Date`, so that a wrong clock
/// here does no harm; with `now` where there is none. `None`: it is absent, or can't be read. Bounds are the caller's
/// business.
pub fn retry_after(headers: &HeaderMap, now: Option<SystemTime>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = http_date(text)?;
    let base = headers
        .get(header::DATE)
        .and_then(|v| http_date(v.to_str().ok()?))
        .or(now)?;
    Some(then.duration_since(base).unwrap_or(Duration::ZERO))
}

/// RFC 9110 section 5.6.7: the one format in use and the two obsolete ones that must be understood.
pub fn http_date(text: &str) -> Option<SystemTime> {
    ["%a, %d %b %Y %T GMT", "%A, %d-%b-%y %T GMT", "%a %b %e %T %Y"]
        .iter()
        .find_map(|format| {
            let civil = jiff::civil::DateTime::strptime(format, text).ok()?;
            Some(SystemTime::from(
                civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
            ))
        })
}
