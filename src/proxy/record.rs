//! What is counted and logged of one request.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use tokio::time::Instant;

use super::audited::Audited;
use super::body::{BodyFacts, ClientBody};
use super::callers::Who;
use super::exchange::StillUnknown;
use super::fairness::ConcurrencyGuard;
use super::own_fields::GatewayError;
use super::upstream_failure::Observer;
use super::{Account, Peer, Pipeline, RequestBody, headers};
use crate::audit::{AuditOutcome, Written};
use crate::caller::CallerName;
use crate::catalogue::OperationId;
use crate::code::ErrorCode;
use crate::log::RequestRecord;
use crate::metrics::Direction;
use crate::trace::{Asked, Outcome, RequestSpan};
use crate::upstream::UpstreamBody;

/// What a request asks for that is in no catalogue.
pub(super) const UNKNOWN_OPERATION: &str = "unknown";

/// What is counted and logged of one request, once, when its answer is complete or broken off.
pub(super) struct Record {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) peer: Peer,
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) start: Instant,
    pub(super) status: StatusCode,
    pub(super) upstream_status: Option<StatusCode>,
    /// The operation that method and path are read as.
    pub(super) operation: Option<OperationId>,
    pub(super) who: Who,
    /// Whom the caller says that it acts for; believed by nobody.
    pub(super) claimed_caller: Option<CallerName>,
    /// The caller's rule that only warned.
    pub(super) warned: Option<usize>,
    pub(super) attempts: u32,
    pub(super) denied: Option<ErrorCode>,
    /// Why, for the log; where nothing is denied, why nobody is known.
    pub(super) why: Option<String>,
    /// Content came with the request, and nobody has taken it over to read it.
    pub(super) unread: bool,
    pub(super) inbound: Option<Arc<BodyFacts>>,
    /// Its share of what listener and caller may use, for as long as it is served.
    pub(super) share: Option<ConcurrencyGuard>,
    pub(super) caller_share: Option<ConcurrencyGuard>,
    /// The answer is one that a gateway before Atlas made itself.
    pub(super) gateway_error: Option<GatewayError>,
    /// The identity that the gateway does not know.
    pub(super) unknown_there: Option<StillUnknown>,
    /// What the audit log is told; `None`: nothing, or nobody has looked at the request yet.
    pub(super) audited: Option<Box<Audited>>,
    /// Reads a failing answer as it passes.
    pub(super) observer: Option<Box<Observer>>,
    /// The credential that the upstream was sent: nothing of it may come back in trailers.
    pub(super) authorization: Option<HeaderValue>,
    /// Its span, where requests are traced.
    pub(super) span: Option<Box<RequestSpan>>,
    pub(super) bytes_out: u64,
    pub(super) closed: bool,
}

impl Pipeline {
    /// The record of a request that has just come.
    pub(super) fn record(self: &Arc<Self>, peer: Peer, request: &Request<ClientBody>) -> Box<Record> {
        self.metrics.in_flight.inc();
        Box::new(Record {
            pipeline: Arc::clone(self),
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
            operation: None,
            who: Who::NotAsked,
            claimed_caller: None,
            warned: None,
            attempts: 0,
            denied: None,
            why: None,
            unread: !request.body().is_end_stream(),
            inbound: None,
            share: None,
            caller_share: None,
            gateway_error: None,
            unknown_there: None,
            audited: None,
            observer: None,
            authorization: None,
            span: self.begin_span(peer, request),
            bytes_out: 0,
            closed: false,
        })
    }

    fn begin_span(&self, peer: Peer, request: &Request<ClientBody>) -> Option<Box<RequestSpan>> {
        Some(self.shared.tracer.as_ref()?.request(&Asked {
            method: request.method(),
            version: request.version(),
            headers: request.headers(),
            scheme: self.scheme,
            listener: &self.name,
            account: &self.account.name,
            client: peer.ip(),
        }))
    }
}

impl Record {
    /// Notes what the upstream answered, before anything of it is changed.
    pub(super) fn answered(&mut self, account: &Account, answer: &Response<UpstreamBody<RequestBody>>) {
        self.upstream_status = Some(answer.status());
        if account.is_behind_gateway() {
            self.gateway_error = GatewayError::of(answer.status(), answer.headers());
            self.unknown_there = answer.extensions().get().cloned();
        }
        let made_by_gateway = self.gateway_error.as_ref().map(GatewayError::code);
        let remaining = headers::rate_limit_remaining(answer.headers());
        let (pipeline, operation) = (&self.pipeline, self.operation);
        let metrics = &pipeline.account.metrics;
        metrics.rate_limit_remaining(pipeline.tag(operation), remaining);
        if let Some(audited) = &mut self.audited {
            audited.answered(answer.headers());
        }
        self.observer = Observer::of(answer.status(), answer.headers(), self.path.query(), made_by_gateway);
    }

    /// Counts and logs the request, once. What is returned tells when its end is in the audit log, where it has to be there
    /// before the client has its answer.
    pub(super) fn close(&mut self, broken: bool) -> Option<Written> {
        if std::mem::replace(&mut self.closed, true) {
            return None;
        }
        (self.share, self.caller_share) = (None, None);
        let operation = self.operation.map(|id| self.pipeline.shared.catalogue.get(id));
        let failure = self.observer.take().and_then(|observer| observer.ended());
        let failure = failure.map(|failure| failure.with_roles(operation.map_or(&[], |operation| &operation.roles)));
        let elapsed = self.start.elapsed();
        let bytes_in = self.inbound.as_ref().map_or(0, |facts| facts.bytes());
        let pipeline = &self.pipeline;
        let decision = match (self.denied, broken) {
            (Some(code), _) => code.as_str(),
            (None, true) => "broken_off",
            (None, false) => "forwarded",
        };
        pipeline.metrics.request(&self.method, self.status, elapsed);
        pipeline.metrics.in_flight.dec();
        let tag = operation.map(|operation| operation.tag.index());
        pipeline.account.metrics.request_by_tag(tag, self.upstream_status);
        if let Some(caller) = pipeline.caller_metrics(self.who) {
            caller.request(self.status);
        }
        pipeline.shared.metrics.bytes(Direction::ToUpstream, bytes_in);
        pipeline.shared.metrics.bytes(Direction::ToClient, self.bytes_out);
        RequestRecord {
            listener: &pipeline.name,
            account: &pipeline.account.name,
            peer: &self.peer,
            caller: pipeline.callers.as_ref().map(|callers| callers.label(self.who)),
            claimed_caller: self.claimed_caller.as_ref().map(CallerName::as_str),
            identified_by: self.who.known_by(),
            operation: operation.map_or(UNKNOWN_OPERATION, |operation| operation.name),
            method: self.method.as_str(),
            path: self.path.path(),
            status: self.status.as_u16(),
            upstream_status: self.upstream_status.map(|status| status.as_u16()),
            attempts: self.attempts,
            bytes_in,
            bytes_out: self.bytes_out,
            duration: elapsed,
            upstream_error: failure.as_ref().map(|failure| failure.kind.as_str()),
            gateway_error: self.gateway_error.as_ref().map(GatewayError::code),
            needs: failure.as_ref().and_then(|failure| failure.needs.as_deref()),
            warned_by_rule: self.warned,
            decision,
            why: self.denied.and(self.why.as_deref()),
        }
        .emit();
        if let Some(span) = self.span.take() {
            let none_begun = broken && self.denied.is_none() && self.upstream_status.is_none();
            span.end(&Outcome {
                status: (!none_begun).then_some(self.status),
                error_code: self.denied.map(ErrorCode::as_str),
                broken_off: broken && self.denied.is_none(),
                operation: operation.map(|operation| operation.name),
                caller: pipeline.callers.as_ref().map(|callers| callers.label(self.who)),
            });
        }
        if let Some(StillUnknown(identity)) = self.unknown_there.take() {
            let detail = failure.as_ref().and_then(|failure| failure.detail.as_deref());
            identity.judged(Some(detail.unwrap_or("it does not say why")));
        }
        if let Some(failure) = failure {
            pipeline.account.metrics.upstream_error(failure.kind);
            pipeline.account.failures.add(failure, pipeline.shared.clock.wall());
        }
        pipeline.shared.audit.as_ref()?;
        self.end_audit(&AuditOutcome {
            status: self.status.as_u16(),
            upstream_status: self.upstream_status.map(|status| status.as_u16()),
            decision,
            attempts: self.attempts,
            duration: elapsed,
            bytes_in,
            bytes_out: self.bytes_out,
            request_id: None,
        })
    }
}

impl Drop for Record {
    /// A client that goes away drops its answer.
    fn drop(&mut self) {
        drop(self.close(true));
    }
}
