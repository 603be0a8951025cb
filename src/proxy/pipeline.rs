//! The way of one request: guard, authorize, forward, recover, rewrite, answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body as _;

use super::body::{BodySource, ClientBody, Inbound};
use super::callers::{self, ListenerCallers, Place, Who};
use super::exchange::{Answered, Exchange};
use super::framing::{close_after_half_a_body, close_without_length, frame};
use super::links::{self, BodyPlan, LinkBody, LinkRewriter};
use super::own_fields::Hops;
use super::record::Record;
use super::response_body::Content;
use super::{
    AccountSlot, Client, Portion, ProxyError, RequestBody, RequestRules, ResponseBody, Shared, Usage, headers, local,
};
use crate::access::Reading;
use crate::caller;
use crate::catalogue::{self, OperationId};
use crate::fair::{Part, Step};
use crate::guard;
use crate::metrics::{CallerMetrics, DenyReason, ListenerMetrics, UpstreamErrorKind};
use crate::upstream::UpstreamBody;
use crate::upstream::http1::connection_says;

/// The way of a listener's requests, with the rules that are in force. Never edited: a reload makes another.
pub struct Pipeline {
    /// The label in logs and metrics.
    pub name: String,
    /// `http` or `https`: what clients see.
    pub scheme: &'static str,
    /// Whether it is a unix socket or bound to loopback: what clients send there no network carries.
    pub local: bool,
    /// What its settings say of requests.
    pub rules: RequestRules,
    /// The callers that it knows; `None`: nobody is asked who it is.
    pub callers: Option<ListenerCallers>,
    /// What it has used of Atlas.
    pub usage: Arc<Usage>,
    /// Its part of all connections: what connects takes a place of it.
    pub connections: Arc<Part>,
    /// Its part of what all share, for whoever is no caller.
    pub portion: Portion,
    /// Whose credential is added.
    pub account: Arc<AccountSlot>,
    /// Its metrics.
    pub metrics: Arc<ListenerMetrics>,
    /// What all listeners share.
    pub shared: Arc<Shared>,
}

/// What a request asked for, as far as its answer's links are concerned.
#[derive(Clone, Copy)]
struct Asked {
    /// The head alone.
    head: bool,
    /// Which representation it named.
    named: links::validators::Named,
}

/// A request that the guard let through.
struct Admitted {
    /// The authority that the client used.
    authority: String,
    /// The proxies that it had passed before this one.
    hops: Hops,
    path: PathAndQuery,
    /// The endpoint that is answered here; `None`: the request is to be forwarded, and the rules allow it.
    local: Option<local::LocalEndpoint>,
}

impl Pipeline {
    /// Serves one request. Never fails: whatever goes wrong becomes an answer.
    pub async fn serve(self: &Arc<Self>, client: Client<'_>, request: Request<ClientBody>) -> Response<ResponseBody> {
        let version = request.version();
        let mut record = self.record(client.peer, &request);
        match self.answer(client, request, &mut record).await {
            Ok((mut response, content)) => {
                *response.version_mut() = version.max(Version::HTTP_11);
                record.status = response.status();
                let (mut parts, ()) = response.into_parts();
                close_after_half_a_body(&mut parts.headers, &record, version);
                close_without_length(&mut parts.headers, &content, version);
                headers::sandbox(&mut parts.headers);
                let mut body = ResponseBody::new(content, record);
                body.settle().await;
                Response::from_parts(parts, body)
            }
            Err(error) => {
                if let Some(reason) = error.deny_reason() {
                    self.denied(record.who, reason);
                }
                self.failed(error, record, version)
            }
        }
    }

    async fn answer(
        self: &Arc<Self>,
        client: Client<'_>,
        request: Request<ClientBody>,
        record: &mut Record,
    ) -> Result<(Response<()>, Content), ProxyError> {
        let (mut parts, incoming) = request.into_parts();
        let request_version = parts.version;
        // What was asked for is recorded of refused requests, too.
        let asked_for = record.path.clone();
        let reading = Reading::of(&self.shared.catalogue, &parts.method, asked_for.path());
        record.operation = reading.operation();
        if let Some(span) = &mut record.span {
            span.found(reading.template());
        }
        record.audited = self.audited(&parts.method, &parts.headers, asked_for.path(), &reading);
        let Admitted {
            authority,
            hops,
            path,
            local,
        } = self.admit(&parts)?;
        if let Some(span) = &mut record.span {
            span.asked_for(&authority);
        }
        if let Some(endpoint) = local {
            self.portion.processor.turn(Step::Begin).await;
            // What clients post here is short: once it is read, the connection can serve on.
            let content = local::take_in(incoming, endpoint, &parts.method).await;
            record.unread = content.is_none();
            let answer = self.answer_here(endpoint, client, &parts, content.unwrap_or_default(), record);
            let (parts, bytes) = Box::pin(answer).await?.into_parts();
            self.count_connection(client, record.who)?;
            record.status = parts.status;
            return Ok((Response::from_parts(parts, ()), Content::Whole(Some(bytes))));
        }
        let identified = match &self.callers {
            // In a box of its own: where nobody is asked, a request needs no room for it.
            Some(callers) => Box::pin(callers.identify(self.place(), client, &parts, &mut record.why)).await,
            None => Ok(Who::NotAsked),
        };
        record.who = *identified.as_ref().unwrap_or(&Who::Unknown);
        self.portion(record.who).processor.turn(Step::Begin).await;
        identified?;
        self.count_connection(client, record.who)?;
        let claimed = |callers: &ListenerCallers| callers.claimed_by(record.who, &parts.headers);
        record.claimed_caller = self.callers.as_ref().and_then(claimed);
        self.permit(&parts.method, path.path(), &reading, record)?;
        // Not before: whoever is asked who it is need not be anonymous.
        self.count_anonymous(client, record.who)?;
        if self.rules.digest_compatible && callers::is_trial(&parts) && self.needs_content(record.operation) {
            return Err(ProxyError::content_is_missing(self.trial_challenges()));
        }

        if let Some(callers) = &self.callers {
            record.caller_share = callers.share(record.who)?;
        }
        let share = self.usage.share(self.rules.fairness).map_err(|exceeded| {
            // What others have used up is not counted against the caller.
            if let Some(share) = record.caller_share.take() {
                share.give_back();
            }
            ProxyError::exceeded("This listener", &exceeded)
        });
        record.share = Some(share?);
        if let Some(audit) = &self.shared.audit {
            Box::pin(self.begin_audit(audit, record)).await?;
        }
        let had_length = parts.headers.contains_key(header::CONTENT_LENGTH);
        let wants_trailers = headers::clean_request(&mut parts.headers);
        if let Some(required) = &self.rules.required_header {
            parts.headers.remove(required.name());
        }
        if self.rules.rewrite_links {
            links::restrict_accept_encoding(&mut parts.headers);
        }
        let version_from = self.settle_version(&reading, path.path(), &mut parts.headers);
        let source = self.source(incoming, parts.version, record);
        frame(&mut parts.headers, &parts.method, &source, had_length);
        if wants_trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }

        let asked = Asked {
            head: parts.method == Method::HEAD,
            named: if self.rules.rewrite_links {
                links::validators::unmark(&mut parts.headers)
            } else {
                links::validators::unmark_edits(&mut parts.headers);
                links::validators::Named::Nothing
            },
        };
        let exchange = Exchange::new(self, parts.method, path, parts.headers, source, hops, record);
        let answered = exchange.run(self.rules.retry_429).await;
        // What Atlas said is known from now on, also if the client goes away while it waits for its turn.
        if let Ok(answered) = &answered {
            record.answered(&answered.account, &answered.response);
            self.watch_for_sunset(record, answered, version_from);
        }
        // Failures, too: what fails often fails for many at once.
        self.portion(record.who).processor.turn(Step::Answer).await;
        let Answered {
            response,
            account,
            authorization,
            ..
        } = answered?;
        record.authorization = authorization;

        let (mut parts, body) = response.into_parts();
        let refused_early = connection_says(&parts.headers, "close") && parts.status.as_u16() >= 400;
        headers::clean_response(&mut parts.headers);
        if let Some(error) = &record.gateway_error {
            error.put(&mut parts.headers);
        }
        if refused_early && record.inbound.is_some() && request_version != Version::HTTP_2 {
            // The upstream ends its connection because of the content, and may have read only a part of it.
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let content = if self.rules.rewrite_links {
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
                // As GET would say of a body that may be rewritten: no length, no coding.
                links::forget_body_headers(&mut parts.headers);
            }
            return Ok(Content::Empty);
        }
        let mut body = LinkBody::new(body, links, client, gzip);
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        let first = match first {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            Poll::Ready(Some(Err(error))) => {
                // Nothing was sent to the client yet, so that an error answer can still be given.
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

    /// Target, Host, browser guard, required header, local endpoint: in this order, and before a byte of the body is read.
    fn admit(&self, parts: &http::request::Parts) -> Result<Admitted, ProxyError> {
        let target = guard::target::resolve(
            &parts.method,
            &parts.uri,
            parts.version,
            &parts.headers,
            &self.rules.hosts,
        )
        .map_err(|denied| ProxyError::target_denied(denied, &self.rules.hosts, self.scheme))?;
        let own = guard::browser::Own {
            authority: target.authority,
            scheme: self.scheme,
        };
        guard::browser::check(&parts.headers, own).map_err(ProxyError::from)?;
        if let Some(required) = &self.rules.required_header
            && !required.present(&parts.headers)
        {
            return Err(ProxyError::header_required(required.name()));
        }
        Ok(Admitted {
            authority: target.authority.to_owned(),
            hops: Hops::of(&parts.headers)?,
            // The local endpoints come before rules: they use nothing of the account.
            local: local::local_endpoint(target.path_and_query.path()),
            path: target.path_and_query,
        })
    }

    /// Whether the rules of both listener and caller let the request through.
    fn permit(
        &self,
        method: &Method,
        path: &str,
        reading: &Reading<'_>,
        record: &mut Record,
    ) -> Result<(), ProxyError> {
        let by_listener = self.rules.policy.check(method, path);
        let Some(callers) = &self.callers else {
            return by_listener.map_err(ProxyError::from);
        };
        match by_listener {
            Err(_) if record.who == Who::Anonymous => return Err(callers.not_for_anonymous()),
            by_listener => by_listener.map_err(ProxyError::from)?,
        }
        let (rule, permitted) = callers.permit(record.who, reading, &self.shared.catalogue);
        if let (Some(audited), Some(_)) = (&mut record.audited, rule) {
            audited.rule = rule;
        }
        record.warned = permitted?;
        if record.warned.is_some() {
            self.metrics.warned();
        }
        Ok(())
    }

    /// Counts a refusal, as the caller's where it is known who that is.
    pub(super) fn denied(&self, who: Who, reason: DenyReason) {
        match self.caller_metrics(who) {
            Some(caller) => caller.denied(reason),
            None => self.metrics.denied(reason),
        }
    }

    pub(super) fn caller_metrics(&self, who: Who) -> Option<&CallerMetrics> {
        self.callers.as_ref()?.metrics(who)
    }

    /// Where a request came in.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            listener: &self.name,
            encrypted: self.scheme == "https",
            local: self.local,
            account: &self.account,
        }
    }

    fn needs_content(&self, operation: Option<OperationId>) -> bool {
        operation.is_some_and(|id| self.shared.catalogue.get(id).body == catalogue::Content::Required)
    }

    fn trial_challenges(&self) -> Vec<HeaderValue> {
        match &self.callers {
            Some(callers) => callers.challenges(false),
            // Without randomness there is no nonce, and the client learns only that content is missing.
            None => caller::placeholder_challenges(self.rules.digest_md5).unwrap_or_default(),
        }
    }

    /// The index of the operation's tag.
    pub(super) fn tag(&self, operation: Option<OperationId>) -> Option<usize> {
        Some(self.shared.catalogue.get(operation?).tag.index())
    }

    fn source(&self, incoming: ClientBody, version: Version, record: &mut Record) -> BodySource {
        if incoming.is_end_stream() {
            return BodySource::Empty;
        }
        let inbound = Inbound::new(incoming, version == Version::HTTP_2, &self.shared.limits);
        record.inbound = Some(Arc::clone(inbound.facts()));
        let budget = &self.portion(record.who).replay;
        BodySource::new(inbound, self.shared.limits.replay_limit, budget)
    }
}
