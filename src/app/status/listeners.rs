//! What the status says of listeners and callers.

use std::collections::{BTreeMap, HashMap};

use super::State;
use crate::admin::status::{At, Caller, Listener, Share};
use crate::app::ListenerStatus;
use crate::metrics::CallerTotals;
use crate::proxy::{CallersMode, FairnessLimits, Usage};

/// The classes of answers by their place among the totals.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

pub(super) fn of(listener: &ListenerStatus) -> Listener {
    let settings = &listener.settings;
    let (tls, rules) = (settings.tls.as_ref(), &settings.rules);
    Listener {
        name: listener.name.clone(),
        address: listener.url.clone(),
        also_at: listener.also.clone(),
        account: listener.account.clone(),
        tls: tls.is_some(),
        client_certificates: tls.filter(|tls| tls.asks_for_certificates()).map(|tls| {
            if tls.certificates_are_optional() {
                "optional"
            } else {
                "required"
            }
        }),
        certificate_expires_at: tls.and_then(|tls| At::of(tls.expires_at()?)),
        allow: settings.allow.networks().map(ToString::to_string).collect(),
        read_only: rules.policy.is_read_only(),
        rules: rules.policy.rules(),
        callers: rules.callers.map(|mode| match mode {
            CallersMode::Required => "required",
            CallersMode::Optional => "optional",
        }),
        default_accept: rules.default_accept.as_ref().map(|accept| accept.date().to_string()),
        required_header: rules.required_header.as_ref().map(|header| header.name().to_string()),
        rewrite_links: rules.rewrite_links,
        share: share(rules.fairness, &listener.usage),
    }
}

fn share(limits: FairnessLimits, usage: &Usage) -> Share {
    let used = usage.in_use();
    Share {
        per_minute: limits.per_minute.map(Into::into),
        last_minute: used.last_minute,
        at_once: limits.at_once.map(Into::into),
        now: used.at_once,
    }
}

impl State {
    /// The callers of the settings, and those who are none.
    pub(super) fn callers_status(&self) -> (Vec<Caller>, Vec<Caller>) {
        let mut totals = BTreeMap::<String, CallerTotals>::new();
        for ((_, caller), of_listener) in self.metrics.callers_so_far() {
            let sum = totals.entry(caller).or_default();
            sum.refused += of_listener.refused;
            for (sum, count) in sum.classes.iter_mut().zip(of_listener.classes) {
                *sum += count;
            }
        }
        let terms = self.terms.load();
        let shares: HashMap<&str, Share> = terms
            .iter()
            .map(|(terms, usage)| (terms.name.as_str(), share(terms.limits, usage)))
            .collect();
        let callers = self.callers.load();
        let named = callers.settings().callers().iter().map(|caller| {
            let name = caller.name.as_str();
            let mut status = caller_of(name, totals.get(name).copied().unwrap_or_default());
            status.listeners.clone_from(&caller.listeners);
            status.share = shares.get(name).copied();
            status
        });
        let unnamed = ["anonymous", "unknown"].into_iter().filter_map(|name| {
            let totals = totals.get(name)?;
            Some(caller_of(name, *totals)).filter(|caller| caller.requests + caller.refused > 0)
        });
        (named.collect(), unnamed.collect())
    }
}

fn caller_of(name: &str, totals: CallerTotals) -> Caller {
    let by_class = CLASSES.into_iter().zip(totals.classes);
    Caller {
        name: name.to_owned(),
        listeners: None,
        requests: totals.classes.iter().sum(),
        answers: by_class.filter(|(_, count)| *count > 0).collect(),
        refused: totals.refused,
        share: None,
    }
}
