//! A card for each account: until when its credential lasts, and what Atlas said last.

use super::html::{Html, html, put};
use super::table::MOST_ROWS;
use super::traffic;
use super::words::{self, ago, marked, moment};
use crate::admin::status::{Account, AccountHour, At, DigestUse, Failure, Status, URGENT};

/// From so long before its end a secret is worth a thought, seconds.
const SOON: i64 = 30 * 24 * 60 * 60;

pub(super) fn part(status: &Status) -> Html {
    let mut out = html!("<h2>Accounts</h2><div class=\"cards\">");
    let mut all: Vec<_> = status.accounts.iter().collect();
    if all.len() > MOST_ROWS {
        // What is wrong is not to be cut off.
        all.sort_by_key(|account| account.usable);
    }
    for account in all.into_iter().take(MOST_ROWS) {
        let hour = status.last_hour.accounts.get(&account.name);
        put!(out[card(account, hour, status.time)]);
    }
    put!(out "</div>");
    if let more @ 1.. = status.accounts.len().saturating_sub(MOST_ROWS) {
        put!(out "<p class=\"soft\">and " (words::count(more as u64)) " more, which /status.json has</p>");
    }
    out
}

fn card(account: &Account, hour: Option<&AccountHour>, now: At) -> Html {
    let (class, works) = if account.usable {
        ("good", "usable")
    } else {
        ("bad", "not usable")
    };
    let mut out = html!("<article class=\"card\"><h3>" (account.name) " <span class=\"badge " (class) "\">" (works) "</span></h3>"
        "<p class=\"soft\">" (realm(account)) "</p>");
    if let Some(hour) = hour {
        put!(out[traffic::of_account(&hour.minutes)]);
    }
    put!(out "<dl>");
    let mut fact = |name: &'static str, value: Html| put!(out "<dt>" (name) "</dt><dd>" [value] "</dd>");
    credential(account, now, &mut fact);
    if let Some(hour) = hour {
        fact("Last hour", html!((traffic::in_words(&hour.minutes))));
    }
    if let Some(AccountHour {
        p50: Some(p50), p95, ..
    }) = hour
    {
        let p95 = p95.map_or_else(|| "more than a minute".to_owned(), words::duration);
        fact(
            "Atlas answers",
            html!("half within " (words::duration(*p50)) ", 95 of 100 within " (p95)),
        );
    }
    if let Some(limit) = &account.rate_limit {
        fact(
            "Rate limit",
            html!((words::count(limit.remaining.max(0).unsigned_abs())) " left (" (limit.tag) ")"),
        );
    }
    fact("Connections", html!((account.connections) " open"));
    if let Some(way) = &account.way {
        fact("Way", marked(way));
    }
    if !account.errors.is_empty() {
        let errors: Vec<String> = account
            .errors
            .iter()
            .map(|(kind, count)| format!("{} {}", kind.replace('_', " "), words::count(*count)))
            .collect();
        fact("Errors so far", html!((errors.join(", "))));
    }
    put!(out "</dl>");
    if let Some(failure) = &account.token_failure {
        put!(out "<div class=\"failure bad\"><p><strong>No new token</strong>: " [marked(&failure.cause)] "</p></div>");
    }
    if let Some(failure) = account.failures.iter().max_by_key(|failure| failure.last_at) {
        put!(out[last_failure(failure, now)]);
    }
    put!(out "</article>");
    out
}

fn realm(account: &Account) -> String {
    let kind = match account.credential {
        "service_account" => "service account",
        "api_key" => "API key (Digest)",
        _ => "identity shown to a gateway",
    };
    match account.realm {
        Some("commercial") => format!("Atlas commercial, {kind}"),
        Some(_) => format!("Atlas for Government, {kind}"),
        None => format!("{}, {kind}", account.upstream),
    }
}

/// Until when it lasts.
fn credential(account: &Account, now: At, fact: &mut impl FnMut(&'static str, Html)) {
    if account.credential == "service_account" {
        fact("Token", token(account, now));
    }
    if account.credential == "service_account" {
        let unknown = || html!("<span class=\"soft\">end not known</span>");
        fact(
            "Client secret",
            account.secret_expires_at.map_or_else(unknown, |at| end(at, now)),
        );
    }
    if account.credential == "gateway" {
        let unknown = || html!("<span class=\"soft\">it doesn't say until when</span>");
        fact(
            "Identity",
            account.identity_expires_at.map_or_else(unknown, |at| end(at, now)),
        );
    }
    if let Some(digest) = &account.digest {
        fact("Nonces", nonces(digest));
    }
}

fn token(account: &Account, now: At) -> Html {
    let next = account.next_token_request_at.map(|at| at.since(now).max(0));
    let next = match (next, &account.token_failure) {
        (Some(wait), Some(_)) => html!(", asked for again in "(words::span(wait))),
        (Some(wait), None) => html!(", renewed in "(words::span(wait))),
        (None, _) => Html::default(),
    };
    match account.token_expires_at.map(|at| (at, at.since(now))) {
        Some((at, left @ 1..)) => html!("good for "[moment(at, &words::span(left))][next]),
        Some((at, _)) => html!("<span class=\"bad\">expired " [ago(Some(at), now)] "</span>" [next]),
        None => html!("<span class=\"warn\">none yet</span>"[next]),
    }
}

/// How urgent it is, in colour and in words.
fn end(at: At, now: At) -> Html {
    let left = at.since(now);
    let in_time = words::span(left);
    match left {
        ..=0 => html!("<strong class=\"bad\">expired " [ago(Some(at), now)] "</strong>"),
        _ if left < URGENT => html!("<strong class=\"bad\">urgent: expires in " [moment(at, &in_time)] "</strong>"),
        _ if left < SOON => html!("<span class=\"warn\">soon: expires in " [moment(at, &in_time)] "</span>"),
        _ => html!("expires in "[moment(at, &in_time)]),
    }
}

fn nonces(digest: &DigestUse) -> Html {
    match digest.reuse {
        Some(reuse) => {
            html!((format!("{:.1} %", (reuse * 1000.0).floor() / 10.0)) " of " (words::counted(digest.answers, "answer")) " needed no new challenge")
        }
        None => html!("<span class=\"soft\">no request yet</span>"),
    }
}

fn last_failure(failure: &Failure, now: At) -> Html {
    let code = failure.error_code.as_deref().unwrap_or_default();
    html!("<div class=\"failure\"><p><strong>Last failing answer</strong> " [ago(failure.last_at, now)] ": "
        (failure.status) " " (code) " (" (failure.kind.replace('_', " ")) ", " (words::count(failure.count)) " so far)</p>"
        "<p>" [marked(&failure.hint)] ". <span class=\"soft\">docs/TROUBLESHOOTING.md#what-atlas-says</span></p></div>")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn how_urgent_an_end_is_stands_there_in_words() {
        let at = |days: u64| At::of(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400)).unwrap_or(At::epoch());
        for (days, told) in [
            (100, "<strong class=\"bad\">expired "),
            (99, "<strong class=\"bad\">expired "),
            (106, "<strong class=\"bad\">urgent: expires in "),
            (107, "<span class=\"warn\">soon: expires in "),
            (129, "<span class=\"warn\">soon: expires in "),
            (130, "expires in "),
        ] {
            let shown = end(at(days), at(100)).into_string();
            assert!(shown.starts_with(told), "{days}: {shown}");
        }
    }
}
