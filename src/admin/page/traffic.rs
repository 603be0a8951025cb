//! Requests by minute, drawn here: bars of SVG, with their sums in words.

use super::html::{Html, html, put};
use super::words;
use crate::admin::status::{ANSWERS, CLASSES, LastHour, MINUTES};

/// What each class is called, and the CSS class that gives it its colour.
type Names<const N: usize> = [(&'static str, &'static str); N];

const NAMES: Names<{ CLASSES.len() }> = [
    ("2xx", "c2"),
    ("3xx", "c3"),
    ("4xx of Atlas", "c4"),
    ("5xx of Atlas", "c5"),
    ("refused here", "cr"),
    ("failed here", "cf"),
];
const ANSWER_NAMES: Names<{ ANSWERS.len() }> = [
    ("2xx", "c2"),
    ("3xx", "c3"),
    ("4xx", "c4"),
    ("5xx", "c5"),
    ("without an answer of Atlas", "cn"),
];

/// The drawing's own units: each minute is this wide, with the gap behind it.
const STEP: usize = 10;
const BAR: usize = 8;
const HEIGHT: u64 = 100;

pub(super) fn part(hour: &LastHour) -> Html {
    let sums = sums(&hour.minutes);
    let all: u64 = sums.iter().sum();
    let mut out = html!("<h2>Last hour</h2>");
    if all == 0 {
        put!(out "<p class=\"soft\">No requests.</p>");
        return out;
    }
    put!(out [chart("chart", "Requests by minute", &NAMES, &hour.minutes, with_numbers)] "<ul class=\"legend\">");
    for ((name, class), sum) in NAMES.iter().zip(sums) {
        let none = if sum == 0 { "none" } else { "some" };
        put!(out "<li class=\"" (none) "\"><svg class=\"swatch " (class) "\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect width=\"10\" height=\"10\" rx=\"2\"/></svg>"
            (name) " <b>" (words::count(sum)) "</b></li>");
    }
    put!(out "</ul>");
    out
}

/// The small one of an account.
pub(super) fn of_account(minutes: &[[u32; ANSWERS.len()]]) -> Html {
    if sums(minutes).iter().sum::<u64>() == 0 {
        return Html::default();
    }
    let what = "Requests by minute and Atlas's answer";
    chart("chart small", what, &ANSWER_NAMES, minutes, outlines)
}

fn sums<const N: usize>(minutes: &[[u32; N]]) -> [u64; N] {
    let mut sums = [0; N];
    for minute in minutes {
        for (sum, count) in sums.iter_mut().zip(minute) {
            *sum += u64::from(*count);
        }
    }
    sums
}

/// `bars`: what is drawn.
fn chart<const N: usize>(
    class: &'static str,
    what: &'static str,
    names: &Names<N>,
    minutes: &[[u32; N]],
    bars: impl Fn(&Names<N>, &[[u32; N]], u64) -> Html,
) -> Html {
    let total = |minute: &[u32; N]| minute.iter().map(|count| u64::from(*count)).sum::<u64>();
    let most = minutes.iter().map(total).max().unwrap_or_default();
    let top = nice(most);
    html!("<figure class=\"" (class) "\"><svg role=\"img\" viewBox=\"0 0 " (STEP * MINUTES) " " (HEIGHT)
        "\" preserveAspectRatio=\"none\" aria-label=\"" (told(what, names, minutes, most)) "\">"
        "<path class=\"grid\" d=\"M0 .5H" (STEP * MINUTES) "M0 50H" (STEP * MINUTES) "\"/>" [bars(names, minutes, top)]
        "</svg><span class=\"top\" aria-hidden=\"true\">" (words::count(top)) " a minute</span>"
        "<span class=\"from\" aria-hidden=\"true\">1 h ago</span><span class=\"to\" aria-hidden=\"true\">now</span></figure>")
}

/// Where the bar of a minute stands: for each class that there was its place, its upper end and its height.
fn stacked<const N: usize>(minute: &[u32; N], top: u64) -> impl Iterator<Item = (usize, String, String)> {
    let mut below = 0;
    let some = minute.iter().enumerate().filter(|(_, count)| **count > 0);
    some.map(move |(class, count)| {
        let (from, to) = (tall(below, top), tall(below + u64::from(*count), top));
        below += u64::from(*count);
        // Whatever there was is seen.
        let height = (to - from).max(1.5);
        (class, tenth(100.0 - from - height), tenth(height))
    })
}

/// A group for each minute, which says its numbers to whoever points at it.
fn with_numbers<const N: usize>(names: &Names<N>, minutes: &[[u32; N]], top: u64) -> Html {
    let mut out = Html::default();
    for (at, minute) in minutes.iter().enumerate().filter(|(_, minute)| **minute != [0; N]) {
        put!(out "<g><title>" (title(minutes.len() - 1 - at, names, minute)) "</title>");
        for (class, y, height) in stacked(minute, top) {
            put!(out "<rect class=\"" (names[class].1) "\" x=\"" (at * STEP) "\" y=\"" (y) "\" width=\"" (BAR)
                "\" height=\"" (height) "\"/>");
        }
        put!(out "</g>");
    }
    out
}

/// A path for each class: there may be many such drawings.
fn outlines<const N: usize>(names: &Names<N>, minutes: &[[u32; N]], top: u64) -> Html {
    let mut paths: [String; N] = std::array::from_fn(|_| String::new());
    for (at, minute) in minutes.iter().enumerate() {
        for (class, y, height) in stacked(minute, top) {
            paths[class].push_str(&format!("M{} {y}h{BAR}v{height}h-{BAR}z", at * STEP));
        }
    }
    let mut out = Html::default();
    for ((_, class), path) in names.iter().zip(paths).filter(|(_, path)| !path.is_empty()) {
        put!(out "<path class=\"" (class) "\" d=\"" (path) "\"/>");
    }
    out
}

/// The upper end of the scale: a digit and zeros.
fn nice(most: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [1, 2, 3, 4, 5, 6, 8] {
            let top = unit.saturating_mul(step);
            if top >= most {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a drawing")]
fn tall(count: u64, top: u64) -> f64 {
    count as f64 * 100.0 / top as f64
}

fn tenth(length: f64) -> String {
    format!("{:.1}", length.max(0.0))
}

fn title<const N: usize>(ago: usize, names: &Names<N>, minute: &[u32; N]) -> String {
    let when = match ago {
        0 => "this minute".to_owned(),
        1 => "a minute ago".to_owned(),
        ago => format!("{ago} minutes ago"),
    };
    let counts = names.iter().zip(minute).filter(|(_, count)| **count > 0);
    let counts: Vec<String> = counts.map(|((name, _), count)| format!("{count} {name}")).collect();
    format!("{when}: {}", counts.join(", "))
}

/// The drawing in words.
fn told<const N: usize>(what: &str, names: &Names<N>, minutes: &[[u32; N]], most: u64) -> String {
    let sums = sums(minutes);
    let all = words::counted(sums.iter().sum(), "request");
    format!(
        "{what}, over the last hour: {all}, of these {}; {} in the busiest minute",
        listed(names, sums),
        words::count(most)
    )
}

/// An account's last hour in words.
pub(super) fn in_words(minutes: &[[u32; ANSWERS.len()]]) -> String {
    match sums(minutes) {
        sums if sums.iter().all(|sum| *sum == 0) => "no requests".to_owned(),
        sums => listed(&ANSWER_NAMES, sums),
    }
}

fn listed<const N: usize>(names: &Names<N>, sums: [u64; N]) -> String {
    let some = names.iter().zip(sums).filter(|(_, sum)| *sum > 0);
    let some: Vec<String> = some
        .map(|((name, _), sum)| format!("{} {name}", words::count(sum)))
        .collect();
    some.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number_that_is_high_enough() {
        for (most, top) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 3),
            (7, 8),
            (6, 6),
            (9, 10),
            (11, 20),
            (99, 100),
            (201, 300),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(nice(most), top, "{most}");
        }
    }

    #[test]
    fn each_minute_with_requests_has_a_bar_for_each_class_and_none_leaves_the_drawing() {
        let mut minutes = vec![[0; CLASSES.len()]; MINUTES];
        minutes[3] = [1, 0, 0, 0, 0, 999];
        minutes[59] = [7, 0, 1, 0, 2, 0];
        let drawn = part(&LastHour {
            classes: CLASSES,
            minutes,
            accounts: std::collections::BTreeMap::new(),
        });
        let drawn = drawn.into_string();
        assert_eq!(drawn.matches("<g>").count(), 2);
        assert_eq!(drawn.matches("<rect class=").count(), 5);
        assert!(
            drawn.contains("<title>56 minutes ago: 1 2xx, 999 failed here</title>"),
            "{drawn}"
        );
        assert!(
            drawn.contains("<title>this minute: 7 2xx, 1 4xx of Atlas, 2 refused here</title>"),
            "{drawn}"
        );
        assert!(
            drawn.contains("1,010 requests, of these 8 2xx, 1 4xx of Atlas"),
            "{drawn}"
        );
        assert!(!drawn.contains("y=\"-"), "{drawn}");
    }
}
