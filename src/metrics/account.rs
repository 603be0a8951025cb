//! The metrics of one account.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::labels::{
    AttemptCause, CLASSES, ChallengeCause, ReloadOutcome, TokenOutcome, UNKNOWN_TAG, UpstreamErrorKind, class_index,
};
use super::totals::AccountTotals;
use super::{Metrics, count, set_timestamp, totals};

impl Metrics {
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
        let tags = || self.tags.iter().map(String::as_str).chain([UNKNOWN_TAG]);
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
            by_tag: tags()
                .map(|tag| CLASSES.map(|class| f.requests_by_tag.with_label_values(&[name, tag, class])))
                .collect(),
            rate_limit: f.rate_limit_remaining.clone(),
            rate_limit_known: tags().map(|_| OnceLock::new()).collect(),
            tags: self.tags.clone(),
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
    /// By tag; the last is that of no operation.
    by_tag: Vec<[IntCounter; CLASSES.len()]>,
    rate_limit: IntGaugeVec,
    /// By tag.
    rate_limit_known: Vec<OnceLock<IntGauge>>,
    tags: Vec<String>,
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

    /// Requests so far by class of Atlas's answer.
    pub(super) fn classes(&self) -> [u64; CLASSES.len()] {
        let mut classes = [0; CLASSES.len()];
        for tag in &self.by_tag {
            for (sum, counter) in classes.iter_mut().zip(tag) {
                *sum += counter.get();
            }
        }
        classes
    }

    /// What was counted so far.
    pub fn totals(&self) -> AccountTotals {
        AccountTotals {
            classes: self.classes(),
            durations: totals::buckets(&self.upstream_duration),
        }
    }

    /// How many Digest answers were computed so far, and how many challenges came.
    pub fn digest_so_far(&self) -> (u64, u64) {
        let challenges = self.digest_challenges.values().map(IntCounter::get).sum();
        (self.digest_nonce_uses.get(), challenges)
    }

    /// Failures of the upstream, or of the way to it, so far: by kind, those that there were.
    pub fn upstream_errors_so_far(&self) -> BTreeMap<&'static str, u64> {
        let all = self
            .upstream_errors
            .iter()
            .map(|(kind, counter)| (*kind, counter.get()));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Of the sets of endpoints that Atlas has told of, the one with the fewest requests left.
    pub fn fewest_left(&self) -> Option<(i64, &str)> {
        let known = self.rate_limit_known.iter().enumerate();
        let left = known.filter_map(|(tag, gauge)| {
            let tag = self.tags.get(tag).map_or(UNKNOWN_TAG, String::as_str);
            Some((gauge.get()?.get(), tag))
        });
        left.min()
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

    /// A request has ended. `tag`: the index of its operation's tag, `None` where there is no such operation; `status`: of
    /// Atlas's answer.
    pub fn request_by_tag(&self, tag: Option<usize>, status: Option<StatusCode>) {
        if let Some(classes) = self.by_tag.get(tag.unwrap_or(self.tags.len())) {
            classes[class_index(status)].inc();
        }
    }

    /// What Atlas says is left, by tag as above; `None` says nothing new.
    pub fn rate_limit_remaining(&self, tag: Option<usize>, remaining: Option<i64>) {
        let Some(remaining) = remaining else { return };
        let tag = tag.unwrap_or(self.tags.len());
        let Some(known) = self.rate_limit_known.get(tag) else {
            return;
        };
        let label = || self.tags.get(tag).map_or(UNKNOWN_TAG, String::as_str);
        known
            .get_or_init(|| self.rate_limit.with_label_values(&[self.name.as_str(), label()]))
            .set(remaining);
    }
}
