//! What a listener's settings say of its requests. Made by `config`, carried whole, put in force whole.

use std::time::Duration;

use super::{DefaultAccept, FairnessLimits};
use crate::crypto;
use crate::guard::{HostNames, Policy, RequiredHeader};

/// Whether a caller must show who it is (`callers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallersMode {
    /// Whoever shows nothing is refused.
    Required,
    /// Whoever shows nothing may do what the listener's rules allow.
    Optional,
}

/// Which requests pass a listener, and what happens to them.
#[derive(Debug, Clone)]
pub struct RequestRules {
    /// Which `Host` names are ours (that of the bound address is added when it is known).
    pub hosts: HostNames,
    /// The header that a request must carry.
    pub required_header: Option<RequiredHeader>,
    /// Which methods and paths are let through.
    pub policy: Policy,
    /// Whether links to the upstream are turned into links to the listener.
    pub rewrite_links: bool,
    /// What the listener may use of Atlas.
    pub fairness: FairnessLimits,
    /// Whether a caller must show who it is; `None`: nobody is asked.
    pub callers: Option<CallersMode>,
    /// Whether a write without the content that its operation needs is answered with a Digest challenge, as `curl --digest`
    /// expects.
    pub digest_compatible: bool,
    /// Whether MD5 is among the Digest challenges that clients get.
    pub digest_md5: bool,
    /// How long a request that Atlas answers 429 may wait for another try; `None`: it doesn't.
    pub retry_429: Option<Duration>,
    /// The version that a request gets whose client names none; `None`: Atlas says what it thinks of that.
    pub default_accept: Option<DefaultAccept>,
}

impl RequestRules {
    /// Whether whoever connects must show who it is.
    pub fn requires_callers(&self) -> bool {
        self.callers == Some(CallersMode::Required)
    }
}

impl Default for RequestRules {
    /// No name but those of the bound address, every method and path, no bounds.
    fn default() -> Self {
        Self {
            hosts: HostNames::new([]),
            required_header: None,
            policy: Policy::allow_all(),
            rewrite_links: true,
            fairness: FairnessLimits::default(),
            callers: None,
            digest_compatible: true,
            digest_md5: crypto::MD5_ALLOWED,
            retry_429: None,
            default_accept: None,
        }
    }
}
