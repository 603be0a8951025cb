//! What is in force: listeners, helpers, settings; no secret among them.

use std::collections::BTreeMap;

use super::callers::share;
use super::html::{Html, html, put};
use super::table::{plain, table};
use super::words::{self, ago, moment};
use crate::admin::status::{AuditLog, Configuration, Listener, Status, TokenStore, URGENT};

/// The listeners.
pub(super) fn listeners(status: &Status) -> Html {
    let columns = [
        plain("Listener"),
        plain("Bound to"),
        plain("Account"),
        plain("Who may connect"),
        plain("What passes"),
        plain("Share in use"),
    ];
    let rows = status.listeners.iter().map(|listener| {
        [
            html!((listener.name)),
            bound(listener, status),
            html!((listener.account)),
            who(listener),
            html!((what(listener).join(", "))),
            share(&listener.share),
        ]
    });
    html!("<h2>Listeners</h2>"[table("Listeners in force", columns, rows, status.listeners.len())])
}

fn bound(listener: &Listener, status: &Status) -> Html {
    let mut out = html!("<code class=\"whole\">" (listener.address) "</code>");
    if let Some(also) = &listener.also_at {
        put!(out " <code>" (also) "</code>");
    }
    if let Some(at) = listener.certificate_expires_at {
        let left = at.since(status.time);
        let class = if left < URGENT { "bad" } else { "soft" };
        let told = if left > 0 {
            format!("certificate for {}", words::span(left))
        } else {
            "certificate expired".to_owned()
        };
        put!(out "<br><span class=\"" (class) "\">" [moment(at, &told)] "</span>");
    }
    out
}

fn who(listener: &Listener) -> Html {
    let mut out = html!((listener.allow.join(", ")));
    if let Some(mode) = listener.client_certificates {
        put!(out "<br>client certificate " (mode));
    }
    if let Some(mode) = listener.callers {
        put!(out "<br>caller " (mode));
    }
    if let Some(header) = &listener.required_header {
        put!(out "<br>header <code>" (header) "</code>");
    }
    out
}

fn what(listener: &Listener) -> Vec<String> {
    let mut what = Vec::new();
    if listener.read_only {
        what.push("read only".to_owned());
    }
    what.push(match listener.rules {
        0 => "no rules".to_owned(),
        rules => words::counted(rules as u64, "rule"),
    });
    if let Some(date) = &listener.default_accept {
        what.push(format!("version {date} where none is named"));
    }
    if !listener.rewrite_links {
        what.push("links as they are".to_owned());
    }
    what
}

/// What stands around it: audit log and token store.
pub(super) fn around(status: &Status) -> Html {
    html!("<h2>Around it</h2><div class=\"cards\"><article class=\"card\"><h3>Audit log</h3>" [audit(status)]
        "</article><article class=\"card\"><h3>Token store</h3>" [store(status.token_store.as_ref())] "</article></div>")
}

fn audit(status: &Status) -> Html {
    let Some(log) = &status.audit_log else {
        return html!("<p class=\"soft\">Off: who changed what is not recorded.</p>");
    };
    let mut out = html!("<p>" [writes(log)] "</p><dl><dt>To</dt><dd><code>" (log.to) "</code></dd>");
    if let (Some(since), false) = (log.since, log.writes) {
        put!(out "<dt>Since</dt><dd>" [ago(Some(since), status.time)] "</dd>");
    }
    if let Some(cause) = &log.cause {
        put!(out "<dt>Cause</dt><dd>" (cause) "</dd>");
    }
    let member = |name: &str| status.audit.as_ref().and_then(|head| head.get(name)).cloned();
    if let (Some(chain), Some(line)) = (member("chain"), member("seq")) {
        let chain = chain.as_str().unwrap_or_default().to_owned();
        put!(out "<dt>Last line</dt><dd>" (line) " of chain <code>" (chain) "</code></dd>");
    }
    put!(out "<dt>Lines lost</dt><dd>" (words::count(log.lines_dropped)) "</dd></dl>");
    out
}

fn writes(log: &AuditLog) -> Html {
    match (log.writes, log.refuses_changes) {
        (true, _) => html!("<span class=\"badge good\">writes</span>"),
        (false, true) => html!("<span class=\"badge bad\">changes are refused</span> Reads go on."),
        (false, false) => html!("<span class=\"badge bad\">does not write</span> Changes are forwarded unrecorded."),
    }
}

fn store(store: Option<&TokenStore>) -> Html {
    let Some(store) = store else {
        return html!("<p class=\"soft\">None: this process asks for tokens of its own.</p>");
    };
    let (class, told) = match store.up {
        Some(true) => ("good", "answers"),
        Some(false) => ("bad", "does not answer"),
        None => ("calm", "not asked yet"),
    };
    let mut out = html!("<p><span class=\"badge " (class) "\">" (told) "</span> <code>" (store.address) "</code></p>");
    if let Some(cause) = &store.cause {
        put!(out "<p>" [words::marked(cause)] "</p>");
    }
    out
}

/// Program and settings.
pub(super) fn in_force(status: &Status) -> Html {
    let configuration = &status.configuration;
    let mut features = status.build.features.join(", ");
    if features.is_empty() {
        features = "none".to_owned();
    }
    let mut out = html!("<h2>In force</h2>" [refused(configuration, status)] "<article class=\"card\"><dl class=\"wide\"><dt>Version</dt><dd>" (status.version)
        "</dd><dt>Build</dt><dd>" (status.build.flavour) "; features: " (features) "</dd><dt>Started</dt><dd>" [ago(status.started_at, status.time)]
        "</dd><dt>Settings loaded</dt><dd>" [ago(configuration.loaded_at, status.time)] "</dd>");
    if !configuration.digest.is_empty() {
        put!(out "<dt>Their digest</dt><dd><code>" (configuration.digest) "</code></dd>");
    }
    if !configuration.after_restart.is_empty() {
        put!(out "<dt>Waits for a restart</dt><dd class=\"warn\">" (configuration.after_restart.join(", ")) "</dd>");
    }
    put!(out "</dl><details id=\"limits\"><summary id=\"limits-summary\">Limits and process</summary><dl class=\"wide\">"
        [facts(&configuration.process)] [facts(&configuration.limits)] "</dl></details></article>");
    out
}

fn facts(facts: &BTreeMap<&'static str, String>) -> Html {
    let mut out = Html::default();
    for (name, value) in facts {
        put!(out "<dt><code>" (name) "</code></dt><dd>" (value) "</dd>");
    }
    out
}

fn refused(configuration: &Configuration, status: &Status) -> Html {
    let Some(refused) = &configuration.last_refused else {
        return Html::default();
    };
    let mut out = html!("<div class=\"failure\"><p><strong>Settings refused</strong> " [ago(refused.at, status.time)]
        ": those before stay in force.</p><ul>");
    for message in &refused.messages {
        put!(out "<li>" [words::marked(message)] "</li>");
    }
    put!(out "</ul></div>");
    out
}
