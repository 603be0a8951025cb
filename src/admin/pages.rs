//! What the admin port answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::page::Page;
use super::status::Status;
use super::{AdminState, Peer};
use crate::guard::browser::{self, BrowserDenied};
use crate::guard::{HostNames, target};

pub(super) type Answer = Response<Full<Bytes>>;

/// Carries the word of our own page.
const PAGE_WORD: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-page");
/// The policy of everything but our own page: whatever a browser takes an answer for, it can do nothing.
const NOTHING: &str = "sandbox; default-src 'none'";

const FROM_A_PAGE: (StatusCode, &str) = (StatusCode::FORBIDDEN, "Web pages may not use this port.");

/// Everything that an answer is made of.
pub(super) struct Pages {
    state: Arc<dyn AdminState>,
    page: Page,
}

enum Open {
    Metrics,
    Health(Result<(), Vec<String>>),
    /// The same; what is wrong although it is ready stands in further lines.
    Ready(Result<(), Vec<String>>),
}

impl Pages {
    pub(super) fn new(state: Arc<dyn AdminState>) -> Self {
        Self {
            state,
            page: Page::new(),
        }
    }

    /// Whether a user may use the socket by the settings in force.
    pub(super) fn admits(&self, uid: u32) -> bool {
        self.state.admits(uid)
    }

    /// The last answer to a user who is no longer admitted.
    pub(super) fn no_longer(&self, uid: u32) -> Answer {
        tracing::warn!(
            uid,
            "admin socket: ended a connection of a user that is no longer among its `uids`"
        );
        let detail = "Your user id is no longer among the `uids` of this socket.";
        let mut answer = error(StatusCode::FORBIDDEN, detail, None);
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    /// The answer to a request.
    pub(super) fn answer<B>(&self, request: &Request<B>, peer: Peer) -> Answer {
        let state = self.state.as_ref();
        let path = request.uri().path();
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        // For the kubelet and Prometheus, from wherever they come and under any name: nothing here is secret or changes
        // anything. Web pages need not read it.
        let open = match path {
            "/metrics" => Some(Open::Metrics),
            "/livez" => Some(Open::Health(Ok(()))),
            "/readyz" => Some(Open::Ready(state.ready())),
            "/startupz" => Some(Open::Health(state.started())),
            _ => match path.strip_prefix("/readyz/") {
                Some(account) => match state.account_ready(account) {
                    Some(ready) => Some(Open::Ready(ready)),
                    None => return error(StatusCode::NOT_FOUND, "There is no such account.", None),
                },
                None => None,
            },
        };
        match open {
            Some(_) if is_of_a_page(request) => error(FROM_A_PAGE.0, FROM_A_PAGE.1, None),
            Some(_) if !read => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "This page can be read only.",
                Some("GET, HEAD"),
            ),
            Some(Open::Metrics) => text(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                state.metrics_text(),
            ),
            Some(Open::Ready(Ok(()))) => {
                let remarks = state.remarks();
                let lines = remarks.iter().map(|remark| format!("{remark}\n"));
                plain(StatusCode::OK, format!("ok\n{}", lines.collect::<String>()))
            }
            Some(Open::Health(Ok(()))) => plain(StatusCode::OK, "ok\n".to_owned()),
            Some(Open::Health(Err(missing)) | Open::Ready(Err(missing))) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
            }
            None => self.guarded(request, peer),
        }
    }

    /// For people and programs on this machine; guarded against web pages as a listener is.
    fn guarded<B>(&self, request: &Request<B>, peer: Peer) -> Answer {
        let (path, method) = (request.uri().path(), request.method());
        if !peer.is_local() {
            return error(
                StatusCode::FORBIDDEN,
                "This page is for programs on the proxy's own machine.",
                None,
            );
        }
        if let Err((status, detail)) = self.guard(request) {
            return error(status, detail, None);
        }
        let read = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/quitquitquit" if !self.state.may_quit() => error(
                StatusCode::NOT_FOUND,
                "This proxy is not ended from here. Whoever runs it can turn that on (`[admin] quit`, --admin-quit, \
                 ATLAS_PROXY_ADMIN_QUIT).",
                None,
            ),
            "/quitquitquit" if *method == Method::POST => {
                tracing::info!(%peer, "the admin port is asked to end the proxy");
                self.state.quit();
                plain(StatusCode::OK, "draining, then ending\n".to_owned())
            }
            "/quitquitquit" => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "The end is asked for with POST.",
                Some("POST"),
            ),
            "/status.json" | "/status.html" | "/" if !read => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "This page can be read only.",
                Some("GET, HEAD"),
            ),
            "/status.json" => text(StatusCode::OK, "application/json", json(&self.state.status())),
            "/status.html" => text(
                StatusCode::OK,
                "text/html; charset=utf-8",
                Page::parts(&self.state.status()),
            ),
            "/" => self.page(),
            _ => error(StatusCode::NOT_FOUND, "There is no such page; / lists them.", None),
        }
    }

    fn page(&self) -> Answer {
        let mut answer = text(
            StatusCode::OK,
            "text/html; charset=utf-8",
            self.page.html(&self.state.status()),
        );
        let headers = answer.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&self.page.policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        // Else a tab of an earlier program at this port, which opened this one, would read the page and its word.
        headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // A service worker that an earlier program left at this port would read what the page asks for.
        headers.insert("clear-site-data", HeaderValue::from_static("\"cache\", \"storage\""));
        answer
    }

    fn guard<B>(&self, request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
        let headers: &HeaderMap = request.headers();
        let hosts: &HostNames = self.state.hosts();
        let target = match target::resolve(request.method(), request.uri(), request.version(), headers, hosts) {
            Ok(target) => target,
            Err(target::TargetDenied::Host) => {
                return Err((
                    StatusCode::MISDIRECTED_REQUEST,
                    "The request names a host that is not this port's.",
                ));
            }
            Err(target::TargetDenied::Method) => return Err((StatusCode::METHOD_NOT_ALLOWED, "Not served here.")),
            Err(_) => return Err((StatusCode::BAD_REQUEST, "The request is malformed.")),
        };
        let own = browser::Own {
            authority: target.authority,
            scheme: "http",
        };
        match browser::check(headers, own) {
            Ok(()) => Ok(()),
            Err(BrowserDenied::FetchSite) if self.is_of_our_page(request) => Ok(()),
            Err(_) => Err(FROM_A_PAGE),
        }
    }

    /// Whether our own page asks for what it shows: its script says the word in a field, and a reload without script in the
    /// query.
    fn is_of_our_page<B>(&self, request: &Request<B>) -> bool {
        let (headers, uri) = (request.headers(), request.uri());
        let fetch = |what: &'static str| only(headers, &HeaderName::from_static(what));
        let word = match uri.path() {
            "/status.json" | "/status.html" => only(headers, &PAGE_WORD),
            "/" if fetch("sec-fetch-mode") == Some(b"navigate") && fetch("sec-fetch-dest") == Some(b"document") => uri
                .query()
                .and_then(|query| query.strip_prefix("word="))
                .map(str::as_bytes),
            _ => None,
        };
        fetch("sec-fetch-site") == Some(b"same-origin") && word.is_some_and(|word| self.page.knows(word))
    }
}

/// Whether a browser asks for the sake of a page, by the fields that it sends.
fn is_of_a_page<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let own = browser::Own {
        authority: host.unwrap_or_default(),
        scheme: "http",
    };
    browser::check(request.headers(), own).is_err()
}

/// The value of a field that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none()).map(HeaderValue::as_bytes)
}

/// Members in the order of the alphabet, as ever.
fn json(status: &Status) -> String {
    let value = serde_json::to_value(status).unwrap_or_default();
    format!("{value:#}\n")
}

fn plain(status: StatusCode, body: String) -> Answer {
    text(status, "text/plain; charset=utf-8", body)
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(NOTHING));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

fn error(status: StatusCode, detail: &str, allow: Option<&'static str>) -> Answer {
    let body = serde_json::json!({
        "error": status.as_u16(),
        "reason": status.canonical_reason().unwrap_or_default(),
        "detail": detail,
    });
    let mut response = text(status, "application/json", body.to_string());
    if let Some(allow) = allow {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}
