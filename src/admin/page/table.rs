//! Tables that stay tables for screen readers where a narrow screen shows their rows as cards: hence the roles.

use super::html::{Html, html, put};
use super::words;

/// The most rows that the page shows.
pub(super) const MOST_ROWS: usize = 50;

/// A column: its heading, and the class of its cells.
pub(super) type Column = (&'static str, &'static str);

/// A column of numbers.
pub(super) const fn number(heading: &'static str) -> Column {
    (heading, "number")
}

/// A column of anything else.
pub(super) const fn plain(heading: &'static str) -> Column {
    (heading, "plain")
}

/// A table; the first cell of a row is its heading. `all`: how many rows there would be without a bound.
pub(super) fn table<const N: usize>(
    caption: &'static str,
    columns: [Column; N],
    rows: impl IntoIterator<Item = [Html; N]>,
    all: usize,
) -> Html {
    let mut out =
        html!("<table role=\"table\"><caption>" (caption) "</caption><thead role=\"rowgroup\"><tr role=\"row\">");
    for (heading, class) in columns {
        put!(out "<th role=\"columnheader\" scope=\"col\" class=\"" (class) "\">" (heading) "</th>");
    }
    put!(out "</tr></thead><tbody role=\"rowgroup\">");
    for row in rows.into_iter().take(MOST_ROWS) {
        put!(out "<tr role=\"row\">");
        for (at, (cell, (heading, class))) in row.into_iter().zip(columns).enumerate() {
            if at == 0 {
                put!(out "<th role=\"rowheader\" scope=\"row\">" [cell] "</th>");
            } else {
                put!(out "<td role=\"cell\" class=\"" (class) "\" data-label=\"" (heading) "\"><div>" [cell] "</div></td>");
            }
        }
        put!(out "</tr>");
    }
    put!(out "</tbody></table>");
    if let more @ 1.. = all.saturating_sub(MOST_ROWS) {
        put!(out "<p class=\"soft\">and " (words::count(more as u64)) " more, which /status.json has</p>");
    }
    out
}
