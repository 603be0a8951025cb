//! What was refused or failed here, why, and where the cure stands.

use std::collections::BTreeMap;

use super::html::{Html, html, put};
use super::table::{number, plain, table};
use super::words::{self, ago};
use crate::admin::status::{LastRefusal, Status};

pub(super) fn part(status: &Status) -> Html {
    let mut out = html!("<h2>Refused and failed here</h2>");
    if status.refusals.is_empty() && status.denied.is_empty() {
        put!(out "<p class=\"soft\">Nothing so far.</p>");
        return out;
    }
    if !status.refusals.is_empty() {
        let mut all: Vec<_> = status.refusals.iter().collect();
        all.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        let rows = all.iter().map(|refusal| {
            let last = refusal.last.as_ref();
            [
                html!("<code class=\"whole\">" (refusal.code) "</code> <span class=\"soft\">" (refusal.status) "</span>"),
                html!((words::count(refusal.count))),
                html!([ago(last.and_then(|last| last.at), status.time)][last.map(where_it_was).unwrap_or_default()]),
                html!([words::marked(refusal.meaning)] " <span class=\"soft\">" (refusal.section()) "</span>"),
            ]
        });
        let columns = [plain("Code"), number("Count"), plain("Last"), plain("Meaning")];
        put!(
            out[table(
                "The proxy's own answers since the start, by code",
                columns,
                rows,
                all.len()
            )]
        );
    }
    let mut reasons: Vec<_> = reasons(status).into_iter().collect();
    reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    if !reasons.is_empty() {
        let rows = reasons.iter().map(|(reason, (count, places))| {
            [
                html!((in_words(reason)) " <span class=\"soft\">" (reason) "</span>"),
                html!((words::count(*count))),
                html!((places.join(", "))),
            ]
        });
        let columns = [plain("Reason"), number("Count"), plain("Where")];
        put!(
            out[table(
                "Connections and requests refused since the start, by reason",
                columns,
                rows,
                reasons.len()
            )]
        );
    }
    out
}

fn where_it_was(last: &LastRefusal) -> Html {
    let caller = last
        .caller
        .as_ref()
        .map_or_else(String::new, |caller| format!(", caller {caller}"));
    let method = last
        .method
        .as_ref()
        .map_or_else(String::new, |method| format!("{method} "));
    html!("<br><span class=\"soft\">" (method) (last.what) ", listener " (last.listener) ", from " (last.peer) (caller) "</span>")
}

/// By reason: how many, and at which listeners and of which callers.
fn reasons(status: &Status) -> BTreeMap<&str, (u64, Vec<String>)> {
    let mut reasons = BTreeMap::<&str, (u64, Vec<String>)>::new();
    for denied in &status.denied {
        let (count, places) = reasons.entry(&denied.reason).or_default();
        *count += denied.count;
        let caller = match denied.caller.as_str() {
            "" => String::new(),
            caller => format!(" ({caller})"),
        };
        if places.len() < super::table::MOST_ROWS {
            places.push(format!("{}{caller}: {}", denied.listener, words::count(denied.count)));
        }
    }
    reasons
}

fn in_words(reason: &str) -> &'static str {
    match reason {
        "ip" => "Address or user is not allowed",
        "peer" => "No longer allowed",
        "host" => "Called by a name that is not ours",
        "browser" => "Sent by a web page",
        "header" => "Required header is missing",
        "rule" => "A rule, or read-only",
        "method" => "CONNECT or TRACE",
        "target" => "Target is not ours, or none",
        "malformed" => "Malformed, ambiguous or too large",
        "connections" => "Too many connections",
        "tls" => "TLS handshake failed",
        "preamble" => "No good PROXY protocol preamble",
        "flood" => "HTTP/2 flood",
        "rate" => "More requests than the share",
        "caller" => "Wrong or no caller",
        "challenge" => "Asked to show who it is",
        _ => "Refused",
    }
}
