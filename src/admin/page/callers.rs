//! Who calls: callers with what they use of their shares, issuers of tokens, and who asks for what will vanish.

use super::html::{Html, html, put};
use super::table::{MOST_ROWS, number, plain, table};
use super::words::{self, ago};
use crate::admin::status::{Caller, Issuer, Share, Status, Sunset};

pub(super) fn part(status: &Status) -> Html {
    let mut out = html!("<h2>Callers</h2>");
    let mut all: Vec<_> = status.callers.iter().chain(&status.unnamed).collect();
    if all.is_empty() {
        put!(out "<p class=\"soft\">None are named: whoever may connect to a listener is served by it.</p>");
    } else {
        if all.len() > MOST_ROWS {
            all.sort_by_key(|caller| std::cmp::Reverse(caller.requests));
        }
        let columns = [
            plain("Caller"),
            plain("Listeners"),
            number("Requests"),
            number("2xx"),
            number("4xx"),
            number("5xx"),
            number("Refused"),
            plain("Share in use"),
        ];
        let rows = all.iter().map(|caller| row(caller));
        put!(out[table("Callers, and their requests since the start", columns, rows, all.len())]);
    }
    if !status.issuers.is_empty() {
        let columns = [plain("Issuer"), number("Keys"), plain("Age"), plain("Last error")];
        put!(
            out[table(
                "Issuers of tokens",
                columns,
                status.issuers.iter().map(issuer),
                status.issuers.len()
            )]
        );
    }
    out
}

fn row(caller: &Caller) -> [Html; 8] {
    let class = |class: &str| {
        let count = caller.answers.get(class).copied().unwrap_or_default();
        html!((words::count(count)))
    };
    let listeners = match (&caller.listeners, &caller.share) {
        (Some(listeners), _) => html!((listeners.join(", "))),
        (None, Some(_)) => html!("all"),
        (None, None) => html!("<span class=\"soft\">no caller</span>"),
    };
    let refused = if caller.refused > 0 { "warn" } else { "" };
    [
        html!((caller.name)),
        listeners,
        html!((words::count(caller.requests))),
        class("2xx"),
        class("4xx"),
        class("5xx"),
        html!("<span class=\"" (refused) "\">" (words::count(caller.refused)) "</span>"),
        caller
            .share
            .as_ref()
            .map_or_else(|| html!("<span class=\"soft\">none</span>"), share),
    ]
}

/// What is used of each bound, as a bar with its numbers.
pub(super) fn share(share: &Share) -> Html {
    let bounds = [
        (share.last_minute, share.per_minute, "a minute"),
        (share.now, share.at_once, "at once"),
    ];
    let mut out = Html::default();
    for (used, most, what) in bounds {
        let Some(most) = most else { continue };
        let full = used.min(most) * 100 / most.max(1);
        let class = if full >= 100 {
            "bad"
        } else if full >= 80 {
            "warn"
        } else {
            "good"
        };
        put!(out "<span class=\"share\"><svg class=\"bar " (class) "\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
            "<rect class=\"whole\" width=\"100\" height=\"8\" rx=\"2\"/><rect width=\"" (full) "\" height=\"8\" rx=\"2\"/></svg>"
            (used) " of " (most) " " (what) "</span>");
    }
    if share.per_minute.is_none() && share.at_once.is_none() {
        put!(out "<span class=\"soft\">no bound</span>");
    }
    out
}

fn issuer(issuer: &Issuer) -> [Html; 4] {
    let age = issuer.age_seconds.and_then(|age| i64::try_from(age).ok());
    [
        html!((issuer.name)),
        html!((issuer.keys)),
        html!((age.map_or_else(|| "never fetched".to_owned(), words::span))),
        match &issuer.last_error {
            Some(error) => html!("<span class=\"bad\">" (error) "</span>"),
            None => html!("none"),
        },
    ]
}

/// The sunset radar.
pub(super) fn sunset(status: &Status) -> Html {
    let mut out = html!("<h2>Sunset radar</h2>");
    if status.sunset.is_empty() {
        put!(out "<p class=\"soft\">Nobody has asked for a version that vanishes.</p>");
        return out;
    }
    let mut all: Vec<_> = status.sunset.iter().collect();
    // What ends first; what has no day is over, or is told nothing of.
    all.sort_by(|a, b| a.sunset.cmp(&b.sunset));
    let rows = all.iter().map(|call| vanishing(call, status));
    let columns = [
        plain("Operation"),
        plain("Caller"),
        plain("Asks for"),
        plain("Ends"),
        plain("Newest"),
        number("Count"),
        plain("Last"),
    ];
    put!(out[table("Who still asks for versions that vanish", columns, rows, all.len())]);
    out
}

fn vanishing(call: &Sunset, status: &Status) -> [Html; 7] {
    let told = |version: &Option<String>| html!((version.as_deref().unwrap_or("not known")));
    let ends = match (call.kind, &call.sunset) {
        ("gone", _) => html!("<strong class=\"bad\">is gone</strong>"),
        ("not_acceptable", _) => html!("<span class=\"bad\">never was</span>"),
        (_, Some(day)) => html!("<span class=\"warn\">" (day) "</span>"),
        (_, None) => html!("advised against"),
    };
    let caller = match call.caller.as_str() {
        "none" => html!("<span class=\"soft\">at listener</span> "(call.listener)),
        caller => html!((caller) " <span class=\"soft\">at " (call.listener) "</span>"),
    };
    [
        html!((call.operation)),
        caller,
        told(&call.version),
        ends,
        told(&call.newest_version),
        html!((words::count(call.count))),
        ago(call.last_at, status.time),
    ]
}
