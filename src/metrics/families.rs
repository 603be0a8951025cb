//! Every metric family, in one table: name, kind, labels, help text.

#[cfg(test)]
use super::labels::{
    AttemptCause, ChallengeCause, DenyReason, Direction, ReloadOutcome, SpanOutcome, TokenOutcome, TokenStoreOutcome,
    UpstreamErrorKind,
};
use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// From a local answer (a refusal) to the longest wait that the default timeouts allow. Atlas's own answers take 20 ms to a
/// few seconds.
pub(super) const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

macro_rules! families {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident $name:literal [$($label:literal $(= $values:ident)?),*];)*) => {
        pub(super) struct Families { $($(#[doc = $help])+ pub(super) $field: $kind,)* }

        impl Families {
            pub(super) fn new(registry: &Registry) -> Self {
                Self { $($field: registered(registry, $kind::family(
                    concat!("atlas_auth_proxy_", $name), concat!($($help),+).trim(), &[$($label),*])),)* }
            }
        }

        /// What docs/METRICS.md says of them.
        #[cfg(test)]
        pub(super) const DESCRIBED: &[Described] = &[$(Described {
            name: $name,
            kind: stringify!($kind),
            help: concat!($($help),+),
            labels: &[$(($label, &[$($values::DESCRIBED)?])),*],
        },)*];
    };
}

/// Values of a label, with what each means.
#[cfg(test)]
type Meanings = &'static [(&'static str, &'static str)];

/// A family, as its page tells of it.
#[cfg(test)]
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    /// Each label, with its values and their meanings where these are a closed set of its own.
    pub(super) labels: &'static [(&'static str, &'static [Meanings])],
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
    /// Connections and requests refused before Atlas, by reason; caller: where it is known who it was.
    denied: IntCounterVec "denied_total" ["listener", "caller", "reason" = DenyReason];
    /// Requests that a rule with `action = "warn"` let through.
    rule_warnings: IntCounterVec "rule_warnings_total" ["listener"];
    /// Answers that the proxy made itself, by errorCode.
    errors: IntCounterVec "proxy_errors_total" ["code"];
    /// Requests to the token endpoint.
    token_requests: IntCounterVec "token_requests_total" ["account", "outcome" = TokenOutcome];
    /// When the current token expires, seconds since 1970; absent without one.
    token_expiry: GaugeVec "token_expiry_timestamp_seconds" ["account"];
    /// When the current token was obtained, seconds since 1970; absent before the first.
    token_refresh: GaugeVec "token_refresh_timestamp_seconds" ["account"];
    /// 1 while the store that replicas share tokens in answers; absent without one.
    token_store_up: IntGaugeVec "token_store_up" [];
    /// Looks for a token in the store that replicas share, by how they ended; absent without one.
    token_store_operations: IntCounterVec "token_store_operations_total" ["account", "outcome" = TokenStoreOutcome];
    /// When the client secret expires, seconds since 1970; absent while unknown.
    secret_expiry: GaugeVec "secret_expiry_timestamp_seconds" ["account"];
    /// 1 while the account has a credential that works, as far as is known; before a gateway: while its identity is not over.
    usable: IntGaugeVec "credential_usable" ["account"];
    /// Replacements of a credential, taken or refused by Atlas.
    credential_reloads: IntCounterVec "credential_reloads_total" ["account", "outcome" = ReloadOutcome];
    /// Digest challenges received, by cause.
    digest_challenges: IntCounterVec "digest_challenges_total" ["account", "cause" = ChallengeCause];
    /// Digest answers computed; divided by challenges, how long a nonce serves.
    digest_nonce_uses: IntCounterVec "digest_nonce_uses_total" ["account"];
    /// Requests sent upstream, by what caused the try.
    upstream_attempts: IntCounterVec "upstream_attempts_total" ["account", "cause" = AttemptCause];
    /// Open upstream connections.
    upstream_connections: IntGaugeVec "upstream_connections_open" ["account"];
    /// Failures of the upstream or of the way to it, by kind.
    upstream_errors: IntCounterVec "upstream_errors_total" ["account", "kind" = UpstreamErrorKind];
    /// What Atlas said last in RateLimit-Remaining, by tag of the operation; absent before.
    rate_limit_remaining: IntGaugeVec "rate_limit_remaining" ["account", "tag"];
    /// Requests by tag of their operation and class of Atlas's answer; none: Atlas gave no answer.
    requests_by_tag: IntCounterVec "requests_by_tag_total" ["account", "tag", "class"];
    /// Requests by caller and class of the answer; absent where no callers are named.
    requests_by_caller: IntCounterVec "requests_by_caller_total" ["listener", "caller", "class"];
    /// Requests for versions that Atlas has ended, will end, or does not know; series appear when first seen, other: beyond 1,000.
    sunset_requests: IntCounterVec "sunset_requests_total" ["listener", "caller", "operation"];
    /// Bytes of bodies forwarded.
    bytes: IntCounterVec "bytes_total" ["direction" = Direction];
    /// Reloads of the configuration.
    config_reloads: IntCounterVec "config_reloads_total" ["outcome" = ReloadOutcome];
    /// Log lines that were lost, because nobody read the log in time.
    log_lines_dropped: IntCounterVec "log_lines_dropped_total" [];
    /// Spans of requests and of sends upstream, by what became of them; absent without traces.
    trace_spans: IntCounterVec "trace_spans_total" ["outcome" = SpanOutcome];
    /// Lines of the audit log that were dropped, because there was no room or the file could not be written.
    audit_lines_dropped: IntCounterVec "audit_lines_dropped_total" [];
    /// 1: the settings that were read last are in force; 0: they were refused, and older ones are.
    config_last_reload: IntGaugeVec "config_last_reload_successful" [];
    /// Runs of commands that print secrets.
    secret_command_runs: IntCounterVec "secret_command_runs_total" ["outcome" = ReloadOutcome];
    /// Commands that print secrets whose last run failed: what they gave before is in force.
    secret_commands_failing: IntGaugeVec "secret_commands_failing" [];
    /// When a listener's own certificate expires; absent without TLS.
    listener_certificate_expiry: GaugeVec "listener_certificate_expiry_timestamp_seconds" ["listener"];
    /// 1; the version, which build it is (standard, fips) and its features are in the labels.
    build_info: IntGaugeVec "build_info" ["version", "build", "features"];
}
