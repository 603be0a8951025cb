//! The line of a request.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::JSON;
use super::line::{Clean, Line};

const TARGET: &str = "atlas_auth_proxy::request";

/// One line for each request, at `info`. No query and no header value.
pub struct RequestRecord<'a> {
    /// The listener's label.
    pub listener: &'a str,
    /// The account's name.
    pub account: &'a str,
    /// The peer's address, or its user id on a unix socket.
    pub peer: &'a dyn fmt::Display,
    /// Who the caller is; `None`: the listener asks nobody.
    pub caller: Option<&'a str>,
    /// Whom a caller with `delegates` says that it acts for.
    pub claimed_caller: Option<&'a str>,
    /// What the caller was known by.
    pub identified_by: Option<&'a str>,
    /// The operation's name in Atlas's documentation, or `unknown`.
    pub operation: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path without query.
    pub path: &'a str,
    /// The status that the client got.
    pub status: u16,
    /// The status that the upstream sent.
    pub upstream_status: Option<u16>,
    /// Requests sent upstream.
    pub attempts: u32,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// What a failing answer of Atlas was about.
    pub upstream_error: Option<&'a str>,
    /// The code of an answer that a gateway before Atlas made itself.
    pub gateway_error: Option<&'a str>,
    /// The roles, any one of which the operation needs, where Atlas refused for a role.
    pub needs: Option<&'a str>,
    /// The caller's rule that only warns (`action = "warn"`), counted from 1, where one let the request through.
    pub warned_by_rule: Option<usize>,
    /// `forwarded`, `broken_off`, or the code of the answer made here.
    pub decision: &'a str,
    /// What was wrong with a request that was answered here.
    pub why: Option<&'a str>,
}

impl RequestRecord<'_> {
    /// Logs it; costs next to nothing when `info` is off.
    pub fn emit(&self) {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        if let Some(json) = JSON.get() {
            json.put(&self.json(Timestamp::now()));
            return;
        }
        self.event();
    }

    fn duration_ms(&self) -> f64 {
        (self.duration.as_secs_f64() * 1e6).round() / 1e3
    }

    fn event(&self) {
        tracing::info!(
            target: TARGET,
            listener = self.listener,
            account = self.account,
            peer = %self.peer,
            caller = self.caller,
            claimed_caller = self.claimed_caller,
            identified_by = self.identified_by,
            operation = self.operation,
            method = %Clean(self.method),
            path = %Clean(self.path),
            status = self.status,
            upstream_status = self.upstream_status,
            attempts = self.attempts,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = self.duration_ms(),
            upstream_error = self.upstream_error,
            gateway_error = self.gateway_error,
            needs = self.needs,
            warned_by_rule = self.warned_by_rule,
            decision = self.decision,
            why = self.why.map(|why| tracing::field::display(Clean(why))),
            "request"
        );
    }

    /// The line that [`Self::event`] would make as JSON. Written by hand, since no other line is written for each
    /// request: that costs an eighth.
    fn json(&self, at: Timestamp) -> Vec<u8> {
        let mut line = Line(Vec::with_capacity(512));
        line.0.extend_from_slice(b"{\"timestamp\":\"");
        // A Vec takes everything.
        let _ = write!(line.0, "{at:.6}");
        line.0
            .extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
        line.field("listener", self.listener);
        line.field("account", self.account);
        line.shown("peer", self.peer);
        if let Some(caller) = self.caller {
            line.field("caller", caller);
        }
        if let Some(claimed) = self.claimed_caller {
            line.field("claimed_caller", claimed);
        }
        if let Some(by) = self.identified_by {
            line.field("identified_by", by);
        }
        line.field("operation", self.operation);
        line.shown("method", &Clean(self.method));
        line.shown("path", &Clean(self.path));
        line.field("status", &self.status);
        if let Some(status) = &self.upstream_status {
            line.field("upstream_status", status);
        }
        line.field("attempts", &self.attempts);
        line.field("bytes_in", &self.bytes_in);
        line.field("bytes_out", &self.bytes_out);
        line.field("duration_ms", &self.duration_ms());
        if let Some(error) = self.upstream_error {
            line.field("upstream_error", error);
        }
        if let Some(code) = self.gateway_error {
            line.field("gateway_error", code);
        }
        if let Some(roles) = self.needs {
            line.field("needs", roles);
        }
        if let Some(rule) = &self.warned_by_rule {
            line.field("warned_by_rule", rule);
        }
        line.field("decision", self.decision);
        if let Some(why) = self.why {
            line.shown("why", &Clean(why));
        }
        line.field("target", TARGET);
        line.0.extend_from_slice(b"}\n");
        line.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// All that follows the timestamp.
    fn without_time(line: &[u8]) -> String {
        let line = String::from_utf8(line.to_vec()).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        let timestamp = parsed["timestamp"].as_str().unwrap();
        assert_eq!((timestamp.len(), &timestamp[26..]), (27, "Z"), "{line}");
        timestamp.parse::<Timestamp>().unwrap();
        line.replace(timestamp, "")
    }

    #[test]
    fn the_line_is_the_one_that_the_event_makes() {
        let whole = RequestRecord {
            listener: "a \"name\" \\ \u{e9}\n",
            account: "default",
            peer: &"unix:1000",
            caller: Some("billing"),
            claimed_caller: Some("report"),
            identified_by: Some("digest"),
            operation: "getGroupCluster",
            method: "GET",
            path: "/api/\"x\\y\"/\u{1b}é",
            status: 200,
            upstream_status: Some(201),
            attempts: 3,
            bytes_in: u64::MAX,
            bytes_out: 0,
            duration: Duration::from_micros(1_234_567),
            upstream_error: Some("rate_limited"),
            gateway_error: Some("PROXY_RATE_LIMITED"),
            needs: Some("Project Owner; Organization Owner"),
            warned_by_rule: Some(3),
            decision: "forwarded",
            why: Some("the secret of `billing` is \"wrong\" \\ \u{e9}\n"),
        };
        let least = RequestRecord {
            peer: &std::net::Ipv6Addr::LOCALHOST,
            caller: None,
            claimed_caller: None,
            identified_by: None,
            path: "",
            upstream_status: None,
            duration: Duration::ZERO,
            upstream_error: None,
            gateway_error: None,
            needs: None,
            warned_by_rule: None,
            why: None,
            ..whole
        };
        let long = RequestRecord {
            path: &"ü".repeat(600),
            duration: Duration::from_secs(100_000),
            ..least
        };
        for record in [&whole, &least, &long] {
            let written = Written::default();
            let to = written.clone();
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(move || to.clone());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || record.event());
            let expected = written.0.lock().clone();
            assert_eq!(without_time(&record.json(Timestamp::now())), without_time(&expected));
        }
    }
}
