//! Prometheus metrics: families made once, handles resolved once, only atomic additions per request.
//!
//! Labels come from closed sets: no path, project or text of a client ever becomes one.

mod account;
mod caller;
mod families;
mod gauge_guard;
mod labels;
mod listener;
#[cfg(test)]
mod page;
mod token_store;
mod totals;
mod trace;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::{Encoder, GaugeVec, IntCounter, Registry, TextEncoder};

use crate::build;
use crate::code::ErrorCode;

pub use account::AccountMetrics;
pub use caller::CallerMetrics;
pub use gauge_guard::GaugeGuard;
pub use labels::{
    AttemptCause, ChallengeCause, DenyReason, Direction, ReloadOutcome, SpanOutcome, TokenOutcome, TokenStoreOutcome,
    UpstreamErrorKind,
};
pub use listener::ListenerMetrics;
pub use prometheus::IntGauge;
pub use token_store::{TokenStoreOperations, TokenStoreUp};
pub use totals::{ANSWER_CLASSES, AccountTotals, CallerTotals, DURATION_CLASSES, Denied, duration_bounds};
pub use trace::TraceSpans;

use families::Families;

/// The label of refusals where nobody was asked who it is.
const NOBODY: &str = "";

/// The metrics of one running app. No globals: two apps in a process count apart.
pub struct Metrics {
    registry: Registry,
    families: Families,
    errors: Vec<IntCounter>,
    to_upstream: IntCounter,
    to_client: IntCounter,
    /// Tags of the operations that requests are counted by.
    tags: Vec<String>,
    /// One set of handles for each account, however often it is asked for.
    accounts: Mutex<HashMap<String, Arc<AccountMetrics>>>,
}

impl Metrics {
    /// All families, with what is known from the start at zero. `tags` are those of the operations that requests are
    /// counted by.
    pub fn new(tags: &[&str]) -> Arc<Self> {
        let registry = Registry::new();
        let families = Families::new(&registry);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry
            .register(Box::new(process))
            .expect("process metrics have names of their own");
        let errors = ErrorCode::ALL
            .iter()
            .map(|code| families.errors.with_label_values(&[code.as_str()]))
            .collect();
        for outcome in ReloadOutcome::ALL {
            families.config_reloads.with_label_values(&[outcome.as_str()]);
            families.secret_command_runs.with_label_values(&[outcome.as_str()]);
        }
        families.audit_lines_dropped.with_label_values::<&str>(&[]);
        families.config_last_reload.with_label_values::<&str>(&[]).set(1);
        families.secret_commands_failing.with_label_values::<&str>(&[]);
        families
            .build_info
            .with_label_values(&[
                build::VERSION,
                build::FLAVOUR,
                &build::features().collect::<Vec<_>>().join(","),
            ])
            .set(1);
        let to_upstream = families.bytes.with_label_values(&[Direction::ToUpstream.as_str()]);
        let to_client = families.bytes.with_label_values(&[Direction::ToClient.as_str()]);
        Arc::new(Self {
            registry,
            families,
            errors,
            to_upstream,
            to_client,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            accounts: Mutex::default(),
        })
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.count_lost_lines();
        let mut text = Vec::new();
        // Only writing can fail, and a vector takes everything.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        // An empty label is the same as none.
        String::from_utf8(text).unwrap_or_default().replace("caller=\"\",", "")
    }

    /// The log belongs to the process, and keeps a count of its own.
    fn count_lost_lines(&self) {
        let _one_at_a_time = self.accounts.lock();
        let counter = self.families.log_lines_dropped.with_label_values::<&str>(&[]);
        counter.inc_by(crate::log::lines_dropped().saturating_sub(counter.get()));
    }

    /// Counts an answer made here.
    pub fn error(&self, code: ErrorCode) {
        if let Some(counter) = ErrorCode::ALL
            .iter()
            .position(|one| *one == code)
            .and_then(|at| self.errors.get(at))
        {
            counter.inc();
        }
    }

    /// Counts a reload of the configuration.
    pub fn config_reload(&self, outcome: ReloadOutcome) {
        self.families
            .config_reloads
            .with_label_values(&[outcome.as_str()])
            .inc();
        let successful = outcome == ReloadOutcome::Ok;
        self.families
            .config_last_reload
            .with_label_values::<&str>(&[])
            .set(i64::from(successful));
    }

    /// How many runs of secret commands there were so far, and how many commands' last one failed. One caller at a time.
    pub fn secret_commands(&self, good: u64, failed: u64, failing: usize) {
        for (outcome, so_far) in [(ReloadOutcome::Ok, good), (ReloadOutcome::Error, failed)] {
            let counter = self.families.secret_command_runs.with_label_values(&[outcome.as_str()]);
            counter.inc_by(so_far.saturating_sub(counter.get()));
        }
        let gauge = self.families.secret_commands_failing.with_label_values::<&str>(&[]);
        gauge.set(i64::try_from(failing).unwrap_or(i64::MAX));
    }

    /// When a listener's own certificate expires; `None`: it shows none, or there is no such listener any more.
    pub fn listener_certificate_expiry(&self, listener: &str, at: Option<SystemTime>) {
        set_timestamp(&self.families.listener_certificate_expiry, listener, at);
    }

    /// Counts lines of the audit log that were dropped.
    pub fn audit_lines_dropped(&self, lines: u64) {
        self.families
            .audit_lines_dropped
            .with_label_values::<&str>(&[])
            .inc_by(lines);
    }

    /// Counts a request for a version that comes to its end, by listener, caller and operation. Whoever calls it bounds how many
    /// there are.
    pub fn sunset_request(&self, labels: [&str; 3]) {
        self.families.sunset_requests.with_label_values(&labels).inc();
    }

    /// Ends such a series.
    pub fn forget_sunset_requests(&self, labels: [&str; 3]) {
        // An error says that it was absent already.
        let _ = self.families.sunset_requests.remove_label_values(&labels);
    }

    /// Counts bytes of a body.
    pub fn bytes(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::ToUpstream => self.to_upstream.inc_by(bytes),
            Direction::ToClient => self.to_client.inc_by(bytes),
        }
    }
}

fn count(counters: &HashMap<&'static str, IntCounter>, label: &'static str) {
    if let Some(counter) = counters.get(label) {
        counter.inc();
    }
}

/// A timestamp that is not known is absent, not 0.
fn set_timestamp(family: &GaugeVec, of: &str, at: Option<SystemTime>) {
    match at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        Some(since) => family.with_label_values(&[of]).set(since.as_secs_f64()),
        None => {
            // An error says that it was absent already.
            let _ = family.remove_label_values(&[of]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn counters_exist_at_zero_and_unknown_values_are_other() {
        let metrics = Metrics::new(&["Clusters"]);
        let listener = metrics.listener("l", "a");
        let account = metrics.account("a");
        let text = metrics.render();
        for line in [
            r#"atlas_auth_proxy_requests_total{account="a",listener="l",method="GET",status="200"} 0"#,
            r#"atlas_auth_proxy_denied_total{listener="l",reason="browser"} 0"#,
            r#"atlas_auth_proxy_proxy_errors_total{code="PROXY_IP_DENIED"} 0"#,
            r#"atlas_auth_proxy_token_requests_total{account="a",outcome="rate_limited"} 0"#,
            r#"atlas_auth_proxy_digest_challenges_total{account="a",cause="stale"} 0"#,
            r#"atlas_auth_proxy_upstream_attempts_total{account="a",cause="first"} 0"#,
            r#"atlas_auth_proxy_upstream_errors_total{account="a",kind="access_list"} 0"#,
            r#"atlas_auth_proxy_requests_by_tag_total{account="a",class="2xx",tag="Clusters"} 0"#,
            r#"atlas_auth_proxy_requests_by_tag_total{account="a",class="none",tag="unknown"} 0"#,
            r#"atlas_auth_proxy_bytes_total{direction="to_client"} 0"#,
            r#"atlas_auth_proxy_config_reloads_total{outcome="ok"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(
            !text.contains("timestamp_seconds{") && !text.contains("rate_limit_remaining{"),
            "{text}"
        );
        listener.request(
            &Method::from_bytes(b"BREW").unwrap(),
            StatusCode::IM_A_TEAPOT,
            Duration::ZERO,
        );
        account.token_expiry(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)));
        let text = metrics.render();
        assert!(text.contains(r#"method="other",status="other"} 1"#), "{text}");
        assert!(
            text.contains(r#"token_expiry_timestamp_seconds{account="a"} 7"#),
            "{text}"
        );
        account.request_by_tag(Some(0), Some(StatusCode::CREATED));
        account.request_by_tag(None, None);
        account.rate_limit_remaining(Some(0), Some(17));
        account.rate_limit_remaining(Some(0), None);
        let text = metrics.render();
        for line in [
            r#"requests_by_tag_total{account="a",class="2xx",tag="Clusters"} 1"#,
            r#"requests_by_tag_total{account="a",class="none",tag="unknown"} 1"#,
            r#"rate_limit_remaining{account="a",tag="Clusters"} 17"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        account.token_expiry(None);
        assert!(!metrics.render().contains("token_expiry_timestamp_seconds{"));
    }
}
