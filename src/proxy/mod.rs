//! One request: guard, authorize, forward, recover, rewrite, answer.

mod answer;
mod client_body;
mod echo;
mod error;
mod exchange;
mod failure;
mod fairness;
pub mod headers;
mod inbound;
pub mod links;
mod local;
mod patience;
mod probe;
mod recorded;

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::code::ErrorCode;
use crate::credential::bearer::Bearer;
use crate::credential::digest::Digest;
use crate::fair::{Part, Places};
use crate::guard::{self, HostNames, Policy, RequiredHeader};
use crate::log::RequestRecord;
use crate::metrics::{AccountMetrics, DenyReason, ListenerMetrics, Metrics, UpstreamErrorKind};
use crate::upstream::{Upstream, UpstreamBody};

pub use answer::{BoxError, ResponseBody};
pub use client_body::{ClientBody, Rest};
pub use error::ProxyError;
pub use failure::{Failure, Failures, Seen};
pub use fairness::{Fairness, FairnessLimits};
pub use inbound::{RequestBody, RequestBodyError};
pub use probe::Prober;

use answer::{Content, Record};
use exchange::{Answered, Exchange};
use failure::Observer;
use inbound::{Inbound, InboundFacts, ReplayBudget, Source};
use links::{BodyPlan, LinkBody, LinkRewriter};

/// Who is at the other end of a client connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP peer.
    Ip(IpAddr),
    /// A peer on a unix socket, with its user id.
    Unix(u32),
}

impl fmt::Display for Peer {
    /// An address, or `unix:1000` with the user id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(uid) => write!(f, "unix:{uid}"),
        }
    }
}

/// What all listeners share.
pub struct Common {
    /// Metrics without listener or account.
    pub metrics: Arc<Metrics>,
    limits: BodyLimits,
    replay_budget: Arc<ReplayBudget>,
}

/// Bounds on request bodies.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// A larger body (bytes) is not recorded.
    pub replay_limit: usize,
    /// Recorded bytes of all requests together.
    pub replay_budget: usize,
    /// Longest pause within a body.
    pub request_body_idle_timeout: Duration,
    /// The least that a client must send of a body, bytes a second; 0: as slowly as it likes.
    pub request_body_min_rate: usize,
}

impl Common {
    /// `limits` bound what one request, and all together, may hold.
    pub fn new(metrics: Arc<Metrics>, limits: BodyLimits) -> Self {
        Self {
            metrics,
            limits,
            replay_budget: ReplayBudget::new(limits.replay_budget),
        }
    }

    /// The same with other bounds. The budget, of which requests in flight hold parts, stays.
    #[must_use]
    pub fn with_limits(&self, limits: BodyLimits) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            limits,
            replay_budget: Arc::clone(&self.replay_budget),
        }
    }
}

/// How an account's requests get their credential.
#[derive(Clone)]
pub enum Authorizer {
    /// A token of a service account.
    Bearer(Arc<Bearer>),
    /// A computed answer with an API key.
    Digest(Arc<Digest>),
}

/// A credential and the one upstream it may travel to, as they are in force. Never edited: see [`AccountSlot`].
pub struct Account {
    /// The credential.
    pub authorizer: Authorizer,
    /// Connections to its origin.
    pub upstream: Arc<Upstream<RequestBody>>,
    /// Turns links to the origin into links to the listener.
    pub links: LinkRewriter,
    /// Tells what a 401 is about.
    pub prober: Arc<Prober>,
}

/// An account by its name. What is in force for it is replaced as a whole, between two requests.
pub struct AccountSlot {
    /// The label in logs and metrics.
    pub name: String,
    /// Its metrics.
    pub metrics: Arc<AccountMetrics>,
    /// What Atlas refused, since the start.
    pub failures: Failures,
    /// Requests that may be on their way to its upstream at a time, shared by its listeners.
    pub places: Arc<Places>,
    current: ArcSwap<Account>,
}

impl AccountSlot {
    /// A slot with what is in force at first.
    pub fn new(name: String, metrics: Arc<AccountMetrics>, places: Arc<Places>, account: Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            name,
            metrics,
            failures: Failures::default(),
            places,
            current: ArcSwap::new(account),
        })
    }

    /// What is in force. Takes no lock.
    pub fn current(&self) -> Arc<Account> {
        self.current.load_full()
    }

    /// Puts another in force, and gives back what was.
    pub fn replace(&self, account: Arc<Account>) -> Arc<Account> {
        self.current.swap(account)
    }
}

/// One listener's view of a request's way.
pub struct Listener {
    /// The label in logs and metrics.
    pub name: String,
    /// `http` or `https`: what clients see.
    pub scheme: &'static str,
    /// Names that are ours.
    pub hosts: HostNames,
    /// The header that a request must carry.
    pub required_header: Option<RequiredHeader>,
    /// Methods and paths.
    pub policy: Policy,
    /// Whether links are rewritten.
    pub rewrite_links: bool,
    /// What it may use of Atlas.
    pub fairness_limits: FairnessLimits,
    /// What it has used.
    pub fairness: Arc<Fairness>,
    /// How long a request that Atlas answers 429 may wait for another try; `None`: it doesn't.
    pub retry_429: Option<Duration>,
    /// Its part of the places on the way to the account's upstream.
    pub part: Arc<Part>,
    /// Whose credential is added.
    pub account: Arc<AccountSlot>,
    /// Its metrics.
    pub metrics: Arc<ListenerMetrics>,
    /// What all listeners share.
    pub common: Arc<Common>,
}

/// Atlas's count of requests that may still be made.
static RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// What a request asked for, as far as its answer's links are concerned.
#[derive(Clone, Copy)]
struct Asked {
    /// The head alone.
    head: bool,
    /// Which representation it named.
    named: links::validators::Named,
}

/// What the guard let through.
struct Admitted {
    /// The authority that the client used.
    authority: String,
    path: PathAndQuery,
    /// What is answered here; else the rules let it through.
    local: Option<local::LocalEndpoint>,
}

impl Listener {
    /// Serves one request. Never fails: whatever goes wrong becomes an answer.
    pub async fn serve(self: &Arc<Self>, peer: Peer, request: Request<ClientBody>) -> Response<ResponseBody> {
        let version = request.version();
        let mut record = self.record(peer, &request);
        match self.answer(request, &mut record).await {
            Ok((mut response, content)) => {
                *response.version_mut() = version.max(Version::HTTP_11);
                record.status = response.status();
                let (mut parts, ()) = response.into_parts();
                close_after_half_a_body(&mut parts.headers, &record, version);
                close_without_length(&mut parts.headers, &content, version);
                headers::sandbox(&mut parts.headers);
                Response::from_parts(parts, ResponseBody::new(content, record))
            }
            Err(error) => {
                if let Some(reason) = deny_reason(error.code) {
                    self.metrics.denied(reason);
                }
                self.failed(error, record, version)
            }
        }
    }

    /// Refuses a request that breaks a bound of the server.
    pub fn refuse(
        self: &Arc<Self>,
        peer: Peer,
        request: &Request<ClientBody>,
        code: ErrorCode,
        detail: &str,
    ) -> Response<ResponseBody> {
        self.metrics.denied(deny_reason(code).unwrap_or(DenyReason::Malformed));
        let record = self.record(peer, request);
        self.failed(ProxyError::refused(code, detail), record, request.version())
    }

    /// Counts and logs a request that is not served because its connection has ended for the client: it may send it anew on
    /// another one (RFC 9113 section 8.7).
    pub fn refuse_late(self: &Arc<Self>, peer: Peer, request: &Request<ClientBody>) {
        let record = self.record(peer, request);
        let late = ProxyError::refused(ErrorCode::Overloaded, "The connection was to end.");
        drop(self.failed(late, record, request.version()));
    }

    /// Counts and logs a head that the HTTP parser refused; it has answered by itself.
    pub fn unparsable(&self, peer: Peer, why: &str) {
        tracing::debug!(listener = %self.name, %peer, why, "the HTTP parser refused a request");
        self.refuse_unparsed(peer, ErrorCode::BadRequest, Some(DenyReason::Malformed), why);
    }

    /// Refuses a peer whose bytes were not parsed as a request: counts and logs it, and gives a whole answer as bytes.
    pub fn refuse_unparsed(&self, peer: Peer, code: ErrorCode, reason: Option<DenyReason>, detail: &str) -> Vec<u8> {
        self.refuse_line(peer, code, reason, detail, ("", ""))
    }

    /// The same where method and path were understood: the record names them.
    pub fn refuse_line(
        &self,
        peer: Peer,
        code: ErrorCode,
        reason: Option<DenyReason>,
        detail: &str,
        (method, path): (&str, &str),
    ) -> Vec<u8> {
        self.common.metrics.error(code);
        if let Some(reason) = reason {
            self.metrics.denied(reason);
        }
        RequestRecord {
            listener: &self.name,
            account: &self.account.name,
            peer: &peer,
            method,
            path,
            status: code.status().as_u16(),
            upstream_status: None,
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            upstream_error: None,
            decision: code.as_str(),
        }
        .emit();
        error::unparsed(code, detail)
    }

    fn failed(&self, error: ProxyError, mut record: Box<Record>, version: Version) -> Response<ResponseBody> {
        record.status = error.code.status();
        record.denied = Some(error.code);
        self.common.metrics.error(error.code);
        if error.code.status().is_server_error() {
            tracing::warn!(listener = %self.name, account = %self.account.name, code = error.code.as_str(), detail = %error.detail, "request failed");
        }
        let mut response = error.into_response();
        close_after_half_a_body(response.headers_mut(), &record, version);
        headers::sandbox(response.headers_mut());
        if version == Version::HTTP_2 {
            // RFC 9113 section 8.2.2; one stream's error is no reason to close the connection.
            response.headers_mut().remove(header::CONNECTION);
        }
        answer::whole(response, record)
    }

    fn record(self: &Arc<Self>, peer: Peer, request: &Request<ClientBody>) -> Box<Record> {
        self.metrics.in_flight.inc();
        Box::new(Record {
            listener: Arc::clone(self),
            peer,
            method: request.method().clone(),
            path: request
                .uri()
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
            start: Instant::now(),
            status: StatusCode::OK,
            upstream_status: None,
            attempts: 0,
            denied: None,
            unread: !request.body().is_end_stream(),
            inbound: None,
            share: None,
            observer: None,
            authorization: None,
            bytes_out: 0,
            closed: false,
        })
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<ClientBody>,
        record: &mut Record,
    ) -> Result<(Response<()>, Content), ProxyError> {
        let (mut parts, incoming) = request.into_parts();
        let request_version = parts.version;
        let Admitted { authority, path, local } = self.admit(&parts)?;
        if let Some(endpoint) = local {
            // What clients post here is short: taken in, the connection serves on.
            record.unread = !local::take_in(incoming).await;
            let (parts, bytes) = local::answer(endpoint, &parts.method)?.into_parts();
            record.status = parts.status;
            return Ok((Response::from_parts(parts, ()), Content::Whole(Some(bytes))));
        }

        let share = self.fairness.share(self.fairness_limits);
        record.share = Some(share.map_err(|exceeded| ProxyError::exceeded(&exceeded))?);
        let had_length = parts.headers.contains_key(header::CONTENT_LENGTH);
        let wants_trailers = headers::clean_request(&mut parts.headers);
        if let Some(required) = &self.required_header {
            parts.headers.remove(required.name());
        }
        if self.rewrite_links {
            links::restrict_accept_encoding(&mut parts.headers);
        }
        let source = self.source(incoming, parts.version, record);
        frame(&mut parts.headers, &parts.method, &source, had_length);
        if wants_trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }

        let asked = Asked {
            head: parts.method == Method::HEAD,
            named: if self.rewrite_links {
                links::validators::unmark(&mut parts.headers)
            } else {
                links::validators::unmark_edits(&mut parts.headers);
                links::validators::Named::Nothing
            },
        };
        let exchange = Exchange::new(
            self,
            parts.method,
            path,
            parts.headers,
            source,
            record.inbound.clone(),
            &mut record.attempts,
        );
        let Answered {
            response,
            account,
            authorization,
        } = exchange.run(self.retry_429).await?;
        record.authorization = authorization;

        let (mut parts, body) = response.into_parts();
        record.upstream_status = Some(parts.status);
        let refused_early = ends_connection(&parts.headers) && parts.status.as_u16() >= 400;
        record.observer = Observer::of(parts.status, &parts.headers, record.path.query());
        self.account
            .metrics
            .rate_limit_remaining(rate_limit_remaining(&parts.headers));
        headers::clean_response(&mut parts.headers);
        if refused_early && record.inbound.is_some() && request_version != Version::HTTP_2 {
            // The upstream has ended its connection over the content, and may have taken in a part of it only.
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let content = if self.rewrite_links {
            let client = [self.scheme, "://", &authority].concat();
            self.with_links(&account.links, &mut parts, body, &client, asked)
                .await?
        } else {
            Content::Upstream(body)
        };
        Ok((Response::from_parts(parts, ()), content))
    }

    /// Rewrites links in header fields and, as it streams, in the body. A short body that is here already is rewritten
    /// whole, and keeps a length.
    async fn with_links(
        &self,
        links: &LinkRewriter,
        parts: &mut http::response::Parts,
        body: UpstreamBody<RequestBody>,
        client: &str,
        Asked { head, named }: Asked,
    ) -> Result<Content, ProxyError> {
        links.rewrite_headers(&mut parts.headers, client);
        let BodyPlan::Rewrite { gzip } = links::plan(parts.status, &parts.headers) else {
            if parts.status == StatusCode::NOT_MODIFIED {
                links::validators::not_modified(&mut parts.headers, named);
            }
            return Ok(Content::Upstream(body));
        };
        links::validators::mark(&mut parts.headers);
        if body.is_end_stream() {
            if head {
                // What GET would say of a body that may change: not its length, not its coding.
                links::forget_body_headers(&mut parts.headers);
            }
            return Ok(Content::Empty);
        }
        let mut body = LinkBody::new(body, links, client, gzip);
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        let first = match first {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            Poll::Ready(Some(Err(error))) => {
                // Nothing was said to the client yet: it can be told what happened.
                self.account.metrics.upstream_error(UpstreamErrorKind::Reset);
                return Err(ProxyError::response_broke(&error));
            }
            Poll::Ready(None) | Poll::Pending => None,
        };
        Ok(match first {
            Some(whole) if body.is_end_stream() => {
                if body.changed() {
                    links::forget_body_headers(&mut parts.headers);
                    parts
                        .headers
                        .insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
                }
                Content::Whole(Some(whole))
            }
            first => {
                links::forget_body_headers(&mut parts.headers);
                Content::Links(first, Box::new(body))
            }
        })
    }

    /// Target, Host, browser guard, required header, local endpoint or rules: in this order, and before a byte of the body is read.
    fn admit(&self, parts: &http::request::Parts) -> Result<Admitted, ProxyError> {
        let target = guard::target::resolve(&parts.method, &parts.uri, parts.version, &parts.headers, &self.hosts)
            .map_err(ProxyError::from)?;
        let own = guard::browser::Own {
            authority: target.authority,
            scheme: self.scheme,
        };
        guard::browser::check(&parts.headers, own).map_err(ProxyError::from)?;
        if let Some(required) = &self.required_header
            && !required.present(&parts.headers)
        {
            return Err(ProxyError::header_required(required.name()));
        }
        // The local endpoints come before rules: they use nothing of the account.
        let local = local::local_endpoint(target.path_and_query.path());
        if local.is_none() {
            self.policy
                .check(&parts.method, target.path_and_query.path())
                .map_err(ProxyError::from)?;
        }
        Ok(Admitted {
            authority: target.authority.to_owned(),
            path: target.path_and_query,
            local,
        })
    }

    fn source(&self, incoming: ClientBody, version: Version, record: &mut Record) -> Source {
        if incoming.is_end_stream() {
            return Source::Empty;
        }
        let multiplexed = version == Version::HTTP_2;
        let inbound = Inbound::new(incoming, multiplexed, &self.common.limits);
        record.inbound = Some(Arc::clone(inbound.facts()));
        Source::new(inbound, self.common.limits.replay_limit, &self.common.replay_budget)
    }
}

/// An answer that overtakes its request's body ends an HTTP/1.1 connection: what follows may be the rest of the body. The
/// client is told, so that it sends nothing more that would be lost (RFC 9112 section 9.6).
fn close_after_half_a_body(headers: &mut http::HeaderMap, record: &Record, version: Version) {
    let whole = match &record.inbound {
        Some(inbound) => inbound.ended(),
        None => !record.unread,
    };
    if !whole && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A client of HTTP/1.0 finds the end of an answer without a length at the end of the connection (RFC 9112 section 6.3): to
/// promise it another request would be a lie.
fn close_without_length(headers: &mut http::HeaderMap, content: &Content, version: Version) {
    if version == Version::HTTP_10 && !content.is_end_stream() && content.size_hint().exact().is_none() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// One unambiguous framing (RFC 9112 section 6): the length that was given, or chunked.
fn frame(headers: &mut http::HeaderMap, method: &Method, source: &Source, had_length: bool) {
    if source.is_empty() {
        // RFC 9110 section 8.6: a method that anticipates content says that there is none.
        let anticipates = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        headers.remove(header::CONTENT_LENGTH);
        if had_length || anticipates {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = source.length() {
        // As it was understood, and once: HTTP/2 may have brought it several times.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn ends_connection(headers: &http::HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

fn rate_limit_remaining(headers: &http::HeaderMap) -> Option<i64> {
    headers.get(&RATELIMIT_REMAINING)?.to_str().ok()?.trim().parse().ok()
}

fn deny_reason(code: ErrorCode) -> Option<DenyReason> {
    Some(match code {
        ErrorCode::IpDenied => DenyReason::Ip,
        ErrorCode::PeerDenied => DenyReason::Peer,
        ErrorCode::HostDenied => DenyReason::Host,
        ErrorCode::BrowserDenied => DenyReason::Browser,
        ErrorCode::HeaderRequired => DenyReason::Header,
        ErrorCode::RuleDenied => DenyReason::Rule,
        ErrorCode::MethodNotAllowed => DenyReason::Method,
        ErrorCode::BadRequest => DenyReason::Target,
        ErrorCode::RateLimited => DenyReason::Rate,
        _ => return None,
    })
}

/// Facts of a request body for errors that are really the client's.
fn client_fault(facts: Option<&Arc<InboundFacts>>) -> Option<ProxyError> {
    match facts?.fault()? {
        inbound::ClientFault::Idle => Some(ProxyError::request_body_timeout()),
        inbound::ClientFault::Slow => Some(ProxyError::request_body_slow()),
        inbound::ClientFault::Broken => Some(ProxyError::request_body_broken()),
    }
}
