//! Whether this machine and Atlas agree on the time.

use std::time::{Duration, SystemTime};

use http::header;

use super::{Patient, span};
use crate::own_http::HttpClient;
use crate::report::Status;

/// Beyond the first a look at the clock is worthwhile; beyond the second certificates and expiries go wrong.
const WORTH_A_LOOK: Duration = Duration::from_secs(30);
const WRONG: Duration = Duration::from_secs(300);
/// The bound on the request that brings the time.
const LIMIT: Duration = Duration::from_secs(15);
/// A path that needs no credential: any answer carries a `Date`.
const ANYTHING: &str = "/api/atlas/v2";

impl Patient<'_> {
    pub(super) async fn clock(&mut self, http: &HttpClient) {
        self.begin("clock", "asking the upstream for the time");
        let asked = self.around.clock.wall();
        let answer = http
            .send(http::Request::get(self.origin().url(ANYTHING)), "", LIMIT)
            .await;
        let now = self.around.clock.wall();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let why = error.reason();
                // The alert that says why may be lost with the connection: `caller` says more.
                if self.shows_certificate() && !error.is_timeout() {
                    return self.skip(&["clock"], "the gateway ended the connection");
                }
                let hint = format!(
                    "it takes connections, but gives no HTTP answer: is {} right?",
                    self.address_setting()
                );
                return self.add(
                    "clock",
                    Status::Warn,
                    format!("no answer to tell the time by: {why}"),
                    Some(hint),
                );
            }
        };
        let date = answer
            .headers()
            .get(header::DATE)
            .and_then(|date| http_date(date.to_str().ok()?));
        let Some(date) = date else {
            return self.add("clock", Status::Skip, "the upstream does not say what time it is", None);
        };
        // The upstream's time was true at some moment between request and answer; it is in whole seconds.
        let (ahead, behind) = (
            asked.duration_since(date + Duration::from_secs(1)).unwrap_or_default(),
            date.duration_since(now).unwrap_or_default(),
        );
        let (off, way) = if ahead > behind {
            (ahead, "ahead of")
        } else {
            (behind, "behind")
        };
        let found = format!("this machine's clock is {} {way} the upstream's", span(off));
        let hint = || {
            Some(
                "set the clock (NTP, chrony, the hypervisor's time): certificates and expiries are judged by it"
                    .to_owned(),
            )
        };
        match off {
            off if off > WRONG => self.add("clock", Status::Fail, found, hint()),
            off if off > WORTH_A_LOOK => self.add("clock", Status::Warn, found, hint()),
            _ => self.add(
                "clock",
                Status::Ok,
                "this machine and the upstream agree on the time",
                None,
            ),
        }
    }
}

/// RFC 9110 section 5.6.7, the IMF-fixdate format.
fn http_date(text: &str) -> Option<SystemTime> {
    let civil = jiff::civil::DateTime::strptime("%a, %d %b %Y %T GMT", text).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}
