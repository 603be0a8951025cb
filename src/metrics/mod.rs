//! Prometheus metrics: families made once, handles resolved once, only atomic additions per request.
//!
//! Labels come from closed sets: no path, project or text of a client ever becomes one.

mod gauge_guard;
mod labels;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::code::ErrorCode;

pub use gauge_guard::GaugeGuard;
pub use labels::{
    AttemptCause, ChallengeCause, DenyReason, Direction, ReloadOutcome, TokenOutcome, TokenStoreOutcome,
    UpstreamErrorKind,
};
pub use prometheus::IntGauge;

use labels::{METHODS, STATUSES, method_index, status_index};

/// From a local answer (a refusal) to the longest wait that the default timeouts allow. Atlas's own answers take 20 ms to a
/// few seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Statuses that exist at zero from the start, for each method: enough for rates and alerts to have a beginning.
const EXPECTED: &[u16] = &[200, 401, 403, 404, 429, 500, 502, 503, 504];

macro_rules! families {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident $name:literal [$($label:literal),*];)*) => {
        struct Families { $($(#[doc = $help])+ $field: $kind,)* }

        impl Families {
            fn new(registry: &Registry) -> Self {
                Self { $($field: registered(registry, $kind::family(
                    concat!("atlas_auth_proxy_", $name), concat!($($help),+).trim(), &[$($label),*])),)* }
            }
        }
    };
}

trait Family: Collector + Clone + 'static {
    fn family(name: &str, help: &str, labels: &[&str]) -> Self;
}

// Names, labels and buckets are constants of this file: a test builds them all.
const CONSTANT: &str = "a well-formed constant";

impl Family for IntCounterVec {
    fn family(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(CONSTANT)
    }
}

impl Family for IntGaugeVec {
    fn family(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(CONSTANT)
    }
}

impl Family for GaugeVec {
    fn family(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(CONSTANT)
    }
}

impl Family for HistogramVec {
    fn family(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels).expect(CONSTANT)
    }
}

fn registered<F: Family>(registry: &Registry, family: F) -> F {
    registry.register(Box::new(family.clone())).expect("each name once");
    family
}

// A field's doc comment is the family's help text, so the two cannot drift.
families! {
    /// Requests answered, whoever made the answer.
    requests: IntCounterVec "requests_total" ["listener", "account", "method", "status"];
    /// Seconds from the head of a request to the end of its answer.
    request_duration: HistogramVec "request_duration_seconds" ["listener"];
    /// Seconds from sending a request to the head of the upstream's answer, each try by itself.
    upstream_duration: HistogramVec "upstream_duration_seconds" ["account"];
    /// Requests being served.
    in_flight: IntGaugeVec "requests_in_flight" ["listener"];
    /// Open client connections.
    connections_open: IntGaugeVec "connections_open" ["listener"];
    /// Connections and requests refused, by reason.
    denied: IntCounterVec "denied_total" ["listener", "reason"];
    /// Answers that the proxy made itself, by errorCode.
    errors: IntCounterVec "proxy_errors_total" ["code"];
    /// Requests to the token endpoint.
    token_requests: IntCounterVec "token_requests_total" ["account", "outcome"];
    /// When the current token expires, seconds since 1970; absent without one.
    token_expiry: GaugeVec "token_expiry_timestamp_seconds" ["account"];
    /// When the current token was obtained, seconds since 1970; absent before the first.
    token_refresh: GaugeVec "token_refresh_timestamp_seconds" ["account"];
    /// 1 while the store that replicas share tokens in answers; absent without one.
    token_store_up: IntGaugeVec "token_store_up" [];
    /// Looks for a token in the store that replicas share, by how they ended; absent without one.
    token_store_operations: IntCounterVec "token_store_operations_total" ["account", "outcome"];
    /// When the client secret expires, seconds since 1970; absent while unknown.
    secret_expiry: GaugeVec "secret_expiry_timestamp_seconds" ["account"];
    /// 1 while the account has a credential that works, as far as is known.
    usable: IntGaugeVec "credential_usable" ["account"];
    /// Replacements of a credential.
    credential_reloads: IntCounterVec "credential_reloads_total" ["account", "outcome"];
    /// Digest challenges received, by cause.
    digest_challenges: IntCounterVec "digest_challenges_total" ["account", "cause"];
    /// Digest answers computed; divided by challenges, how long a nonce serves.
    digest_nonce_uses: IntCounterVec "digest_nonce_uses_total" ["account"];
    /// Requests sent upstream, by what caused the try.
    upstream_attempts: IntCounterVec "upstream_attempts_total" ["account", "cause"];
    /// Open upstream connections.
    upstream_connections: IntGaugeVec "upstream_connections_open" ["account"];
    /// Failures of the upstream or of the way to it, by kind.
    upstream_errors: IntCounterVec "upstream_errors_total" ["account", "kind"];
    /// What Atlas said last in RateLimit-Remaining; absent before.
    rate_limit_remaining: IntGaugeVec "rate_limit_remaining" ["account"];
    /// Bytes of bodies forwarded.
    bytes: IntCounterVec "bytes_total" ["direction"];
    /// Reloads of the configuration.
    config_reloads: IntCounterVec "config_reloads_total" ["outcome"];
    /// Log lines that were lost, because nobody read the log in time.
    log_lines_dropped: IntCounterVec "log_lines_dropped_total" [];
    /// 1: the settings that were read last are in force; 0: they were refused, and older ones are.
    config_last_reload: IntGaugeVec "config_last_reload_successful" [];
    /// When a listener's own certificate expires; absent without TLS.
    listener_certificate_expiry: GaugeVec "listener_certificate_expiry_timestamp_seconds" ["listener"];
    /// 1; the version is in the labels.
    build_info: IntGaugeVec "build_info" ["version"];
}

/// The metrics of one running app. No globals: two apps in a process count apart.
pub struct Metrics {
    registry: Registry,
    families: Families,
    errors: Vec<IntCounter>,
    to_upstream: IntCounter,
    to_client: IntCounter,
    /// One set of handles for each account, however often it is asked for.
    accounts: Mutex<HashMap<String, Arc<AccountMetrics>>>,
}

impl Metrics {
    /// All families, with what is known from the start at zero.
    pub fn new() -> Arc<Self> {
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
        }
        families.config_last_reload.with_label_values::<&str>(&[]).set(1);
        families
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let to_upstream = families.bytes.with_label_values(&[Direction::ToUpstream.as_str()]);
        let to_client = families.bytes.with_label_values(&[Direction::ToClient.as_str()]);
        Arc::new(Self {
            registry,
            families,
            errors,
            to_upstream,
            to_client,
            accounts: Mutex::default(),
        })
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.count_lost_lines();
        let mut text = Vec::new();
        // Only writing can fail, and a vector takes everything.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// The log is the process's, and counts for itself.
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

    /// When a listener's own certificate expires; `None`: it shows none, or there is no such listener any more.
    pub fn listener_certificate_expiry(&self, listener: &str, at: Option<SystemTime>) {
        set_timestamp(&self.families.listener_certificate_expiry, listener, at);
    }

    /// Counts bytes of a body.
    pub fn bytes(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::ToUpstream => self.to_upstream.inc_by(bytes),
            Direction::ToClient => self.to_client.inc_by(bytes),
        }
    }

    /// The handles of one listener.
    pub fn listener(&self, name: &str, account: &str) -> Arc<ListenerMetrics> {
        let f = &self.families;
        let listener = ListenerMetrics {
            labels: [name.to_owned(), account.to_owned()],
            family: f.requests.clone(),
            requests: std::iter::repeat_with(OnceLock::new)
                .take(METHODS.len() * STATUSES.len())
                .collect(),
            duration: f.request_duration.with_label_values(&[name]),
            in_flight: f.in_flight.with_label_values(&[name]),
            connections_open: f.connections_open.with_label_values(&[name]),
            denied: DenyReason::ALL
                .iter()
                .map(|r| f.denied.with_label_values(&[name, r.as_str()]))
                .collect(),
        };
        for method in 0..METHODS.len() {
            for status in EXPECTED.iter().map(|status| status_index(*status)) {
                listener.counter(method, status);
            }
        }
        Arc::new(listener)
    }

    /// The handle of the store of shared tokens.
    pub fn token_store_up(&self) -> TokenStoreUp {
        TokenStoreUp(self.families.token_store_up.clone())
    }

    /// The handles of one account's part in it.
    pub fn token_store_operations(&self, account: &str) -> TokenStoreOperations {
        let family = &self.families.token_store_operations;
        TokenStoreOperations(
            TokenStoreOutcome::NAMES
                .iter()
                .map(|name| (*name, family.with_label_values(&[account, name])))
                .collect(),
        )
    }

    /// The handles of one account.
    pub fn account(&self, name: &str) -> Arc<AccountMetrics> {
        let mut accounts = self.accounts.lock();
        let known = accounts.entry(name.to_owned());
        Arc::clone(known.or_insert_with(|| self.new_account(name)))
    }

    fn new_account(&self, name: &str) -> Arc<AccountMetrics> {
        let f = &self.families;
        let each = |family: &IntCounterVec, values: &[&'static str]| {
            values
                .iter()
                .map(|value| (*value, family.with_label_values(&[name, value])))
                .collect::<HashMap<_, _>>()
        };
        for outcome in ReloadOutcome::ALL {
            f.credential_reloads.with_label_values(&[name, outcome.as_str()]);
        }
        Arc::new(AccountMetrics {
            name: name.to_owned(),
            upstream_duration: f.upstream_duration.with_label_values(&[name]),
            token_requests: each(&f.token_requests, &TokenOutcome::NAMES),
            token_expiry: f.token_expiry.clone(),
            token_refresh: f.token_refresh.clone(),
            secret_expiry: f.secret_expiry.clone(),
            secret_expiry_known: Mutex::default(),
            usable: f.usable.with_label_values(&[name]),
            credential_reloads: f.credential_reloads.clone(),
            digest_challenges: each(&f.digest_challenges, &ChallengeCause::NAMES),
            digest_nonce_uses: f.digest_nonce_uses.with_label_values(&[name]),
            upstream_attempts: AttemptCause::ALL
                .iter()
                .map(|cause| f.upstream_attempts.with_label_values(&[name, cause.as_str()]))
                .collect(),
            upstream_connections_open: f.upstream_connections.with_label_values(&[name]),
            upstream_errors: each(&f.upstream_errors, &UpstreamErrorKind::NAMES),
            rate_limit: f.rate_limit_remaining.clone(),
            rate_limit_known: Mutex::new(None),
        })
    }
}

/// Whether the store of shared tokens answers; absent until that is known.
#[derive(Clone)]
pub struct TokenStoreUp(IntGaugeVec);

impl TokenStoreUp {
    /// It answers, or doesn't.
    pub fn set(&self, up: bool) {
        self.0.with_label_values::<&str>(&[]).set(i64::from(up));
    }
}

/// What comes of looking for one account's token in the store.
#[derive(Clone)]
pub struct TokenStoreOperations(HashMap<&'static str, IntCounter>);

impl TokenStoreOperations {
    /// Counts one.
    pub fn count(&self, outcome: TokenStoreOutcome) {
        count(&self.0, outcome.as_str());
    }
}

/// The metrics of one listener.
pub struct ListenerMetrics {
    labels: [String; 2],
    family: IntCounterVec,
    requests: Vec<OnceLock<IntCounter>>,
    duration: Histogram,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Open client connections.
    pub connections_open: IntGauge,
    denied: Vec<IntCounter>,
}

impl ListenerMetrics {
    /// Counts a request that was answered.
    pub fn request(&self, method: &Method, status: StatusCode, elapsed: Duration) {
        self.counter(method_index(method.as_str()), status_index(status.as_u16()))
            .inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    /// Counts a refusal.
    pub fn denied(&self, reason: DenyReason) {
        if let Some(counter) = self.denied.get(reason as usize) {
            counter.inc();
        }
    }

    fn counter(&self, method: usize, status: usize) -> &IntCounter {
        self.requests[method * STATUSES.len() + status].get_or_init(|| {
            let [listener, account] = &self.labels;
            self.family
                .with_label_values(&[listener.as_str(), account, METHODS[method], STATUSES[status].1])
        })
    }
}

/// The metrics of one account.
pub struct AccountMetrics {
    name: String,
    upstream_duration: Histogram,
    token_requests: HashMap<&'static str, IntCounter>,
    token_expiry: GaugeVec,
    token_refresh: GaugeVec,
    secret_expiry: GaugeVec,
    secret_expiry_known: Mutex<Option<SystemTime>>,
    usable: IntGauge,
    credential_reloads: IntCounterVec,
    digest_challenges: HashMap<&'static str, IntCounter>,
    digest_nonce_uses: IntCounter,
    upstream_attempts: Vec<IntCounter>,
    /// Open upstream connections.
    pub upstream_connections_open: IntGauge,
    upstream_errors: HashMap<&'static str, IntCounter>,
    rate_limit: IntGaugeVec,
    rate_limit_known: Mutex<Option<IntGauge>>,
}

impl AccountMetrics {
    /// One try, to the head of its answer.
    pub fn upstream_duration(&self, elapsed: Duration) {
        self.upstream_duration.observe(elapsed.as_secs_f64());
    }

    /// A token request ended.
    pub fn token_request(&self, outcome: TokenOutcome) {
        count(&self.token_requests, outcome.as_str());
    }

    /// When the current token expires; `None`: there is none.
    pub fn token_expiry(&self, at: Option<SystemTime>) {
        set_timestamp(&self.token_expiry, &self.name, at);
    }

    /// A token was obtained.
    pub fn token_refreshed(&self, at: SystemTime) {
        set_timestamp(&self.token_refresh, &self.name, Some(at));
    }

    /// When the client secret expires; `None`: not known.
    pub fn secret_expiry(&self, at: Option<SystemTime>) {
        *self.secret_expiry_known.lock() = at;
        set_timestamp(&self.secret_expiry, &self.name, at);
    }

    /// When the client secret expires, if that was told.
    pub fn known_secret_expiry(&self) -> Option<SystemTime> {
        *self.secret_expiry_known.lock()
    }

    /// Whether the credential works, as far as is known.
    pub fn usable(&self, usable: bool) {
        self.usable.set(i64::from(usable));
    }

    /// A credential was replaced, or not.
    pub fn credential_reload(&self, outcome: ReloadOutcome) {
        self.credential_reloads
            .with_label_values(&[self.name.as_str(), outcome.as_str()])
            .inc();
    }

    /// A Digest challenge came.
    pub fn digest_challenge(&self, cause: ChallengeCause) {
        count(&self.digest_challenges, cause.as_str());
    }

    /// A Digest answer was computed.
    pub fn digest_nonce_use(&self) {
        self.digest_nonce_uses.inc();
    }

    /// A request is sent upstream.
    pub fn upstream_attempt(&self, cause: AttemptCause) {
        if let Some(counter) = self.upstream_attempts.get(cause as usize) {
            counter.inc();
        }
    }

    /// The upstream, or the way to it, failed.
    pub fn upstream_error(&self, kind: UpstreamErrorKind) {
        count(&self.upstream_errors, kind.as_str());
    }

    /// What Atlas says is left; `None` says nothing new.
    pub fn rate_limit_remaining(&self, remaining: Option<i64>) {
        let Some(remaining) = remaining else { return };
        let mut known = self.rate_limit_known.lock();
        known
            .get_or_insert_with(|| self.rate_limit.with_label_values(&[self.name.as_str()]))
            .set(remaining);
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
    use super::*;

    #[test]
    fn counters_exist_at_zero_and_unknown_values_are_other() {
        let metrics = Metrics::new();
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
        account.token_expiry(None);
        assert!(!metrics.render().contains("token_expiry_timestamp_seconds{"));
    }
}
