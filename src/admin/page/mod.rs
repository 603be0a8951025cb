//! The page for people at `/`: one answer that needs nothing else, written here; a few lines of script replace its parts as
//! `/status.html` gives them.

mod accounts;
mod callers;
mod html;
mod refusals;
mod settings;
mod table;
mod traffic;
mod verdict;
pub(super) mod words;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::status::Status;
use html::{Html, html, put};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, and what goes with it.
pub(super) struct Page {
    /// Without it no page gets anything of this port: a program that had the port before has the same origin, but does not
    /// know this page's word. `None`: there is no randomness, and so no word.
    word: Option<String>,
    /// Its `Content-Security-Policy`: our own style and script, by their hashes, and nothing else.
    pub(super) policy: String,
}

impl Page {
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        let word = getrandom::fill(&mut random)
            .ok()
            .map(|()| random.iter().map(|byte| format!("{byte:02x}")).collect());
        let hash = |text: &str| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            format!("'sha256-{}'", STANDARD.encode(hash.as_ref()))
        };
        Self {
            word,
            policy: format!(
                "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                 frame-ancestors 'none'",
                hash(SCRIPT),
                hash(STYLE)
            ),
        }
    }

    /// The page as HTML.
    pub(super) fn html(&self, status: &Status) -> String {
        let word = self.word.as_deref().unwrap_or_default();
        let mut out = html!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">"
            "<meta name=\"word\" content=\"" (word) "\"><title>" [title(status)] "</title>"
            "<noscript><meta http-equiv=\"refresh\" content=\"30;url=/?word=" (word) "\"></noscript><style>");
        out.markup(STYLE);
        put!(out "</style></head><body><a class=\"skip\" href=\"#main\">Skip to the status</a>"
            "<header><h1>atlas-auth-proxy</h1>" [as_of(status)] "<nav aria-label=\"Parts of this page\"><ul>");
        for (id, name, _) in PARTS {
            put!(out "<li><a href=\"#" (id) "\">" (name) "</a></li>");
        }
        put!(out "</ul></nav></header><main id=\"main\" tabindex=\"-1\"><p id=\"lost\" role=\"alert\" hidden></p>"
            [parts(status)] "</main><footer><h2>This port</h2>" [port()]
            "<noscript><p>Without script this page loads itself anew every 30 s. <a href=\"/?word=" (word) "\">Reload it now</a></p></noscript>"
            "</footer><script>");
        out.markup(SCRIPT);
        put!(out "</script></body></html>\n");
        out.into_string()
    }

    /// The parts alone, for the page's script.
    pub(super) fn parts(status: &Status) -> String {
        html!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" [title(status)] "</title></head><body>"
            [as_of(status)] [parts(status)] "</body></html>\n")
        .into_string()
    }

    /// Whether whoever says this word has read the page.
    pub(super) fn knows(&self, said: &[u8]) -> bool {
        let Some(word) = self.word.as_deref().map(str::as_bytes) else {
            return false;
        };
        // All bytes are compared, so that the time tells nothing.
        word.len() == said.len() && word.iter().zip(said).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

fn title(status: &Status) -> Html {
    html!((verdict::word(status.verdict.condition)) " · atlas-auth-proxy")
}

/// When it was so. Not within the verdict, which is read out to some whenever it changes.
fn as_of(status: &Status) -> Html {
    html!("<p id=\"as-of\" class=\"soft\" data-part>" [words::moment(status.time, &status.time.in_words())] "</p>")
}

/// A part: its id, its name in the navigation, and how it is written.
type Part = (&'static str, &'static str, fn(&Status) -> Html);

const PARTS: [Part; 8] = [
    ("verdict", "Status", verdict::part),
    ("traffic", "Last hour", |status| traffic::part(&status.last_hour)),
    ("accounts", "Accounts", accounts::part),
    ("refusals", "Refused", refusals::part),
    ("callers", "Callers", callers::part),
    ("sunset", "Sunset", callers::sunset),
    ("listeners", "Listeners", settings::listeners),
    ("settings", "Settings", |status| {
        html!([settings::around(status)][settings::in_force(status)])
    }),
];

fn parts(status: &Status) -> Html {
    let mut out = Html::default();
    for (id, name, write) in PARTS {
        // Whoever can't see hears of another verdict, and of nothing else.
        if id == "verdict" {
            put!(out "<section id=\"verdict\" aria-label=\"Status\" aria-live=\"polite\" data-part>");
        } else {
            put!(out "<section id=\"" (id) "\" aria-label=\"" (name) "\" data-part>");
        }
        put!(out [write(status)] "</section>");
    }
    out
}

/// What else there is. No links: a browser that follows one says that a page sent it, and gets nothing.
fn port() -> Html {
    html!("<dl class=\"wide\"><dt><code>/metrics</code></dt><dd>Prometheus metrics</dd>"
        "<dt><code>/livez</code></dt><dd>the process is alive</dd>"
        "<dt><code>/readyz</code></dt><dd>it serves, with a usable credential</dd>"
        "<dt><code>/readyz/ACCOUNT</code></dt><dd>the same of one account</dd>"
        "<dt><code>/startupz</code></dt><dd>listeners are bound and a first credential attempt was made</dd>"
        "<dt><code>/status.json</code></dt><dd>all that stands here, for programs</dd>"
        "<dt><code>POST /quitquitquit</code></dt><dd>drain, then end; where it is turned on</dd></dl>")
}
