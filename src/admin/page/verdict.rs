//! The headline: how the proxy is, and why.

use super::html::{Html, html, put};
use super::words;
use crate::admin::status::{Condition, Status};

/// In a word, for the headline and the window's title.
pub(super) fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Serving => "Serving",
        Condition::Degraded => "Degraded",
        Condition::NotServing => "Not serving",
        Condition::Draining => "Draining",
    }
}

pub(super) fn part(status: &Status) -> Html {
    let condition = status.verdict.condition;
    // A form of its own for each: colour alone tells nothing to many.
    let (class, sign) = match condition {
        Condition::Serving => (
            "good",
            html!("<circle cx=\"12\" cy=\"12\" r=\"11\"/><path d=\"M7 12.5l3.5 3.5L17 9\"/>"),
        ),
        Condition::Degraded => (
            "warn",
            html!("<path class=\"solid\" d=\"M12 1.5L23.5 22H.5z\"/><path d=\"M12 9v6M12 18v1\"/>"),
        ),
        Condition::NotServing => (
            "bad",
            html!(
                "<path class=\"solid\" d=\"M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z\"/><path d=\"M8 8l8 8M16 8l-8 8\"/>"
            ),
        ),
        Condition::Draining => (
            "calm",
            html!("<circle cx=\"12\" cy=\"12\" r=\"11\"/><path d=\"M12 6v9M8 12l4 4 4-4\"/>"),
        ),
    };
    let mut out = html!(
        "<div class=\"verdict " (class) "\"><svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">" [sign] "</svg>"
        "<div><h2>" (word(condition)) "</h2><p>" (summary(status)) "</p>"
    );
    let reasons = &status.verdict.reasons;
    if !reasons.is_empty() {
        put!(out "<ul>");
        for reason in reasons.iter().take(super::table::MOST_ROWS) {
            put!(out "<li><strong>" (reason.about) "</strong>: " [words::marked(&reason.what)]);
            if let Some(cure) = &reason.cure {
                put!(out " <span class=\"cure\">" [words::marked(cure)] "</span>");
            }
            put!(out "</li>");
        }
        put!(out "</ul>");
    }
    put!(out "</div></div>");
    out
}

/// In a sentence, when all is well and when not.
fn summary(status: &Status) -> String {
    let all = status.accounts.len() as u64;
    let usable = status.accounts.iter().filter(|account| account.usable).count() as u64;
    let accounts = if usable == all {
        format!("{} with a credential that works", words::counted(all, "account"))
    } else {
        format!(
            "{usable} of {} with a credential that works",
            words::counted(all, "account")
        )
    };
    let listeners = words::counted(status.listeners.len() as u64, "listener");
    let up = words::span(i64::try_from(status.uptime_seconds).unwrap_or(i64::MAX));
    format!("{accounts}, {listeners}, up for {up}")
}
