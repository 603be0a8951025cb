//! Figures with what they were measured with, as `--save` writes them, and how those of two runs are compared. The test suite
//! has this file, too (`tests/suite/instructions.rs`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More than this, in per cent, is no noise: two runs differ by one on a busy machine.
pub(crate) const TOLERANCE: f64 = 3.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    pub(crate) made_with: MadeWith,
    /// N; N and 2N requests are compared.
    pub(crate) requests: usize,
    /// Per request, by scenario.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What figures depend on beside the program and the libraries of its `Cargo.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeWith {
    pub(crate) architecture: String,
    /// Allocates, copies and compares.
    pub(crate) libc: String,
    pub(crate) rustc: String,
    /// Features of the processor that valgrind shows: glibc, the cryptography and memchr choose code by them.
    pub(crate) processor: Vec<String>,
    /// Variables of the measured process that take away what is not among these features.
    pub(crate) pinned: BTreeMap<String, String>,
}

impl MadeWith {
    /// Why figures made with this can't be compared with those made `here`.
    pub(crate) fn differs_from(&self, here: &Self) -> Option<String> {
        let listed = |pinned: &BTreeMap<String, String>| {
            let all: Vec<String> = pinned.iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.join(" ")
        };
        [
            ("architecture", self.architecture.clone(), here.architecture.clone()),
            ("libc", self.libc.clone(), here.libc.clone()),
            ("rustc", self.rustc.clone(), here.rustc.clone()),
            ("processor", self.processor.join(" "), here.processor.join(" ")),
            ("pinned", listed(&self.pinned), listed(&here.pinned)),
        ]
        .into_iter()
        .find(|(_, theirs, ours)| theirs != ours)
        .map(|(what, theirs, ours)| format!("the baseline's {what}: {theirs}; here: {ours}"))
    }
}

/// How much more `now` is than `before`, in per cent.
pub(crate) fn change(before: u64, now: u64) -> f64 {
    (now as f64 - before as f64) * 100.0 / before as f64
}

/// What is worse than `before` by more than noise, a line each.
pub(crate) fn losses(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    before
        .iter()
        .filter_map(|(name, &before)| match now.get(name) {
            None => Some(format!("{name}: {before} instructions before, and not measured now")),
            Some(&now) => {
                let change = change(before, now);
                (change > TOLERANCE).then(|| {
                    format!("{name}: {before} instructions before, {now} now: {change:+.1} %, where {TOLERANCE} % are allowed")
                })
            }
        })
        .collect()
}
