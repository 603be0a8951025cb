//! The settings in force, as far as they may be shown.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::admin::status::{At, Configuration, RefusedReload};
use crate::settings::{AccountSettings, Settings};

/// Settings that were taken, and when.
pub(in crate::app) struct InForce {
    digest: String,
    loaded: SystemTime,
    after_restart: Vec<&'static str>,
    process: BTreeMap<&'static str, String>,
    limits: BTreeMap<&'static str, String>,
    /// How an account's connections get to its upstream, where they don't go directly.
    ways: BTreeMap<String, String>,
}

impl InForce {
    /// `after_restart`: what of them waits for the next start.
    pub(in crate::app) fn new(settings: &Settings, after_restart: Vec<&'static str>, loaded: SystemTime) -> Self {
        Self {
            digest: settings.digest.clone(),
            loaded,
            after_restart,
            process: process(settings),
            limits: limits(settings),
            ways: settings
                .accounts
                .iter()
                .filter_map(|(name, account)| Some((name.clone(), way(account)?)))
                .collect(),
        }
    }

    pub(super) fn way(&self, account: &str) -> Option<String> {
        self.ways.get(account).cloned()
    }

    pub(super) fn configuration(&self, last_refused: Option<RefusedReload>) -> Configuration {
        Configuration {
            digest: self.digest.clone(),
            loaded_at: At::of(self.loaded),
            after_restart: self.after_restart.clone(),
            last_refused,
            process: self.process.clone(),
            limits: self.limits.clone(),
        }
    }
}

fn process(settings: &Settings) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("drain_delay", seconds(settings.drain_delay)),
        ("drain_timeout", seconds(settings.drain_timeout)),
        ("log.level", settings.log.level.to_string()),
        ("admin.quit", settings.admin.quit.to_string()),
        ("workers", settings.workers.to_string()),
    ])
}

fn limits(settings: &Settings) -> BTreeMap<&'static str, String> {
    let limits = &settings.limits;
    let (capacity, connection) = (&limits.capacity, &limits.connection);
    let (body, upstream) = (&limits.body, &limits.upstream);
    BTreeMap::from([
        ("max_connections", capacity.max_connections.to_string()),
        (
            "max_connections_per_peer",
            capacity.max_connections_per_peer.to_string(),
        ),
        ("max_connection_age", seconds(connection.max_age)),
        ("header_read_timeout", seconds(connection.header_read_timeout)),
        ("max_header_bytes", bytes(connection.max_header_bytes)),
        ("max_headers", connection.max_headers.to_string()),
        ("replay_limit", bytes(body.replay_limit)),
        ("replay_budget", bytes(body.replay_budget)),
        ("request_body_idle_timeout", seconds(body.request_body_idle_timeout)),
        ("request_body_min_rate", bytes(body.request_body_min_rate)),
        ("connect_timeout", seconds(upstream.connect_timeout)),
        ("response_head_timeout", seconds(upstream.response_head_timeout)),
        (
            "response_body_idle_timeout",
            seconds(upstream.response_body_idle_timeout),
        ),
    ])
}

/// Through an egress proxy, or to another host than the URL's. No user and password.
fn way(account: &AccountSettings) -> Option<String> {
    let upstream = &account.upstream;
    let to = upstream.way();
    let through = upstream.egress.as_ref().map(|egress| format!("through {egress}"));
    match (to, through) {
        (Some(to), Some(through)) => Some(format!("{to}, {through}")),
        (to, through) => to.or(through),
    }
}

/// As the file has it.
fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.is_zero() => "0s".to_owned(),
        seconds if duration.subsec_nanos() > 0 || seconds % 60 > 0 => format!("{duration:?}"),
        seconds if seconds % 3600 > 0 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// As the file has it.
fn bytes(count: usize) -> String {
    for (unit, size) in [("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if count >= size && count.is_multiple_of(size) {
            return format!("{}{unit}", count / size);
        }
    }
    count.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_the_file_has_them() {
        for (milliseconds, told) in [
            (0, "0s"),
            (500, "500ms"),
            (30_000, "30s"),
            (90_000, "90s"),
            (300_000, "5m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), told);
        }
    }

    #[test]
    fn bytes_are_told_as_the_file_has_them() {
        for (count, told) in [
            (0, "0"),
            (1000, "1000"),
            (65_536, "64KiB"),
            (1 << 20, "1MiB"),
            (1025, "1025"),
        ] {
            assert_eq!(bytes(count), told);
        }
    }
}
