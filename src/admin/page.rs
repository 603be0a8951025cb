//! The page for people at `/`: one file, which reads `/status.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, and what goes with it.
pub(super) struct Page {
    /// Without it a browser gets no `/status.json`: a program that had the port before has the same origin, but does
    /// not know this page's word. `None`: there is no randomness, and so no word.
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

    /// The page as HTML. The word is of hexadecimal digits: nothing in it needs escaping.
    pub(super) fn html(&self) -> String {
        let word = self.word.as_deref().unwrap_or_default();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>atlas-auth-proxy</title>\n\
             <meta name=\"word\" content=\"{word}\"><style>{STYLE}</style></head>\n\
             <body><h1>atlas-auth-proxy</h1><main id=\"status\">This page shows what /status.json says, and needs \
             JavaScript for that.</main>\n<h2>This port</h2>\n<dl>\
             <dt><a href=\"/metrics\">/metrics</a><dd>Prometheus metrics\
             <dt><a href=\"/livez\">/livez</a><dd>the process is alive\
             <dt><a href=\"/readyz\">/readyz</a><dd>it serves, with a usable credential\
             <dt>/readyz/ACCOUNT<dd>the same of one account\
             <dt><a href=\"/startupz\">/startupz</a><dd>listeners are bound and a first credential attempt was made\
             <dt>/status.json<dd>listeners and accounts, for programs\
             <dt>POST /quitquitquit<dd>drain, then end; where it is turned on\
             </dl>\n<script>{SCRIPT}</script></body></html>\n"
        )
    }

    /// Whether whoever sends this word has read the page.
    pub(super) fn knows(&self, said: &[u8]) -> bool {
        let Some(word) = self.word.as_deref().map(str::as_bytes) else {
            return false;
        };
        // All bytes are compared, so that the time tells nothing.
        word.len() == said.len() && word.iter().zip(said).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}
