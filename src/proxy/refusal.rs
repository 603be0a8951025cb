//! Answers of the proxy's own to what it does not forward: counted, logged, in Atlas's error shape.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version, header};

use super::body::ClientBody;
use super::error::ProxyError;
use super::framing::close_after_half_a_body;
use super::record::{Record, UNKNOWN_OPERATION};
use super::{Peer, Pipeline, ResponseBody, headers, response_body, unparsed};
use crate::code::ErrorCode;
use crate::log::RequestRecord;
use crate::metrics::DenyReason;

impl Pipeline {
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
        self.note_unparsed(code, peer, method, path);
        if let Some(reason) = reason {
            self.metrics.denied(reason);
        }
        RequestRecord {
            listener: &self.name,
            account: &self.account.name,
            peer: &peer,
            caller: None,
            claimed_caller: None,
            identified_by: None,
            operation: UNKNOWN_OPERATION,
            method,
            path,
            status: code.status().as_u16(),
            upstream_status: None,
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            upstream_error: None,
            gateway_error: None,
            needs: None,
            warned_by_rule: None,
            decision: code.as_str(),
            why: Some(detail),
        }
        .emit();
        unparsed::answer(code, detail)
    }

    pub(super) fn failed(
        &self,
        error: ProxyError,
        mut record: Box<Record>,
        version: Version,
    ) -> Response<ResponseBody> {
        record.status = error.code.status();
        record.denied = Some(error.code);
        self.note_refusal(error.code, &record);
        let detail = error.logged.as_ref().unwrap_or(&error.detail);
        record.why = Some(match record.why.take() {
            Some(nobody) if error.code == ErrorCode::CallerUnknown => format!("{detail} ({nobody})"),
            _ => detail.clone(),
        });
        if error.code.status().is_server_error() {
            tracing::warn!(listener = %self.name, account = %self.account.name, code = error.code.as_str(), %detail, "request failed");
        }
        let mut response = error.into_response();
        close_after_half_a_body(response.headers_mut(), &record, version);
        headers::sandbox(response.headers_mut());
        if version == Version::HTTP_2 {
            // RFC 9113 section 8.2.2; one stream's error is no reason to close the connection.
            response.headers_mut().remove(header::CONNECTION);
        }
        response_body::whole(response, record)
    }
}

pub(super) fn deny_reason(code: ErrorCode) -> Option<DenyReason> {
    Some(match code {
        ErrorCode::IpDenied => DenyReason::Ip,
        ErrorCode::PeerDenied => DenyReason::Peer,
        ErrorCode::HostDenied => DenyReason::Host,
        ErrorCode::BrowserDenied => DenyReason::Browser,
        ErrorCode::HeaderRequired => DenyReason::Header,
        ErrorCode::RuleDenied => DenyReason::Rule,
        ErrorCode::CallerUnknown => DenyReason::Caller,
        ErrorCode::MethodNotAllowed => DenyReason::Method,
        ErrorCode::BadRequest => DenyReason::Target,
        ErrorCode::RateLimited => DenyReason::Rate,
        _ => return None,
    })
}
