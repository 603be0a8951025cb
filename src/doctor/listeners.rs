//! The certificate that clients of a listener will see.

use std::time::SystemTime;

use super::network::{EXPIRES_SOON, of};
use super::{Report, span};
use crate::report::{Status, Step};
use crate::server::{Bind, ListenerSettings, ListenerTls, OutOfTime};
use crate::settings::Settings;

const CHECK: &str = "certificate";

pub(super) fn examine(settings: &Settings, now: SystemTime, report: &mut Report) {
    for listener in &settings.listeners {
        if let Some(tls) = &listener.tls {
            time(&label(listener), tls, now, report);
            names(listener, tls, report);
            unnamed(listener, tls, report);
        }
    }
}

fn label(listener: &ListenerSettings) -> String {
    match (&listener.name, &listener.bind) {
        (Some(name), _) => name.clone(),
        (None, Bind::Tcp(address)) => address.to_string(),
        (None, Bind::Localhost { port }) => format!("127.0.0.1:{port}"),
        (None, Bind::Unix { path, .. }) => path.display().to_string(),
        (None, Bind::Elsewhere { name }) => format!("systemd:{name}"),
    }
}

fn time(label: &str, tls: &ListenerTls, now: SystemTime, report: &mut Report) {
    let until = tls.expires_at();
    let on = until.map_or_else(String::new, |until| format!(" on {}", of(until)));
    let left = until.and_then(|until| until.duration_since(now).ok());
    let (status, found, hint) = match tls.in_time(now) {
        Err(OutOfTime::Expired) => (
            Status::Fail,
            format!(
                "the certificate of the listener {label} expired{on}; this machine's clock says {}",
                of(now)
            ),
            Some("renew it: no client accepts it. If that clock is ahead, set it"),
        ),
        Err(OutOfTime::NotYetValid) => (
            Status::Fail,
            format!(
                "the certificate of the listener {label} is not valid yet; this machine's clock says {}",
                of(now)
            ),
            Some("use one that is valid: no client accepts this one. If that clock is behind, set it"),
        ),
        Ok(()) => {
            let good = left.map_or_else(String::new, |left| format!(" for {}", span(left)));
            let soon = left.is_some_and(|left| left < EXPIRES_SOON);
            (
                if soon { Status::Warn } else { Status::Ok },
                format!("the certificate of the listener {label} is good{good}"),
                soon.then_some("renew it: the new one is taken as soon as the file has it"),
            )
        }
    };
    report.add(Step {
        hint: hint.map(str::to_owned),
        ..Step::new(CHECK, status, found)
    });
}

fn names(listener: &ListenerSettings, tls: &ListenerTls, report: &mut Report) {
    let missing: Vec<String> = listener
        .rules
        .hosts
        .named()
        .map(ToString::to_string)
        .filter(|name| !tls.is_for(name))
        .collect();
    if missing.is_empty() {
        return;
    }
    report.add(Step {
        hint: Some(
            "clients that use such a name refuse the certificate: have it made with all names as subject alternative \
             names, or take the name out of `hosts`"
                .to_owned(),
        ),
        ..Step::new(
            CHECK,
            Status::Fail,
            format!(
                "the certificate of the listener {} is not for {}",
                label(listener),
                missing.join(", ")
            ),
        )
    });
}

/// A client that uses a name which the certificate has and `hosts` lacks gets 421.
fn unnamed(listener: &ListenerSettings, tls: &ListenerTls, report: &mut Report) {
    let hosts = &listener.rules.hosts;
    let names = tls.names();
    let serves = |name: &String| match name.strip_prefix("*.") {
        Some(domain) => hosts.named().any(|host| {
            let host = host.to_string();
            host.split_once('.').is_some_and(|(_, rest)| rest == domain)
        }),
        None => hosts.knows(name),
    };
    let (served, missing): (Vec<String>, Vec<String>) = names.into_iter().partition(serves);
    if missing.is_empty() {
        return;
    }
    let (status, who) = match served.is_empty() {
        true => (Status::Fail, "no client that accepts the certificate is served"),
        false => (Status::Warn, "clients that use such a name are not served"),
    };
    report.add(Step {
        hint: Some(format!(
            "{who}, and get 421 PROXY_HOST_DENIED: add what they use to `hosts` of the listener (--host){}",
            if missing.iter().any(|name| name.starts_with('*')) {
                ", whole names in the place of `*`"
            } else {
                ""
            }
        )),
        ..Step::new(
            CHECK,
            status,
            format!(
                "the certificate of the listener {} is for {}, which `hosts` lacks",
                label(listener),
                missing.join(", ")
            ),
        )
    });
}
