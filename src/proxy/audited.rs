//! What the audit log is told of a request.

use http::{HeaderMap, Method, header};

use super::Peer;
use super::error::ProxyError;
use super::fairness::ConcurrencyGuard;
use super::pipeline::Pipeline;
use super::record::{Record, UNKNOWN_OPERATION};
use crate::access::Reading;
use crate::audit::{Audit, AuditOutcome, AuditRequest, NotRecorded, Ticket, Written};
use crate::caller::CallerName;
use crate::catalogue::is_id;

/// What the audit log is told beside what every record has. Only of requests that it records.
#[derive(Default)]
pub(super) struct Audited {
    path: String,
    project: Option<String>,
    organization: Option<String>,
    user_agent: Option<String>,
    /// The caller's rule that decided.
    pub(super) rule: Option<usize>,
    /// What names the request at Atlas.
    request_id: Option<String>,
    /// For the end of a change that was begun.
    ticket: Option<Ticket>,
}

impl Audited {
    /// Takes from Atlas's answer what names the request there.
    pub(super) fn answered(&mut self, headers: &HeaderMap) {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        self.request_id = id.map(str::to_owned);
    }

    fn bare(audit: &Audit, path: &str) -> Self {
        Self {
            path: audit.path(path, "", [None, None]).into_owned(),
            ..Self::default()
        }
    }
}

impl Pipeline {
    /// What the audit log, if there is one that records such requests, is told of this one.
    pub(super) fn audited(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path: &str,
        reading: &Reading<'_>,
    ) -> Option<Box<Audited>> {
        let audit = self.shared.audit.as_ref()?;
        if !audit.includes(method.as_str()) {
            return None;
        }
        // Whatever else stands in their place is text of the client, of any length.
        let ids = [reading.project(), reading.organization()].map(|id| id.filter(|id| is_id(id)));
        let [project, organization] = ids.map(|id| id.map(str::to_owned));
        let agent = headers.get(header::USER_AGENT);
        Some(Box::new(Audited {
            path: audit.path(path, reading.template(), ids).into_owned(),
            project,
            organization,
            user_agent: agent.map(|agent| Audit::user_agent(&String::from_utf8_lossy(agent.as_bytes())).into_owned()),
            ..Audited::default()
        }))
    }

    /// Returns when the begin of a change is on disk: only then may it be forwarded. Else its shares are given back.
    pub(super) async fn begin_audit(&self, audit: &Audit, record: &mut Record) -> Result<(), ProxyError> {
        let begun = self.begun(audit, record).await;
        if begun.is_err() {
            let shares = [record.share.take(), record.caller_share.take()];
            shares.into_iter().flatten().for_each(ConcurrencyGuard::give_back);
        }
        begun.map_err(ProxyError::from)
    }

    async fn begun(&self, audit: &Audit, record: &mut Record) -> Result<(), NotRecorded> {
        let Some(audited) = &record.audited else {
            return Ok(());
        };
        if !Audit::is_change(&record.method) {
            return Ok(());
        }
        let begun = audit.begin(
            &record.audit_request(audited, &record.peer.site()),
            &self.portion(record.who).audit,
        )?;
        let Some((ticket, on_disk)) = begun else {
            return Ok(());
        };
        // Before the wait: whatever becomes of the request meanwhile, its end is recorded.
        if let Some(audited) = &mut record.audited {
            audited.ticket = Some(ticket);
        }
        if let Some(on_disk) = on_disk
            && let Err(why) = on_disk.wait().await
            && !audit.may_forward_unrecorded(why)
        {
            return Err(why);
        }
        Ok(())
    }
}

impl Record {
    fn audit_request<'r>(&'r self, audited: &'r Audited, site: &'r Peer) -> AuditRequest<'r> {
        let pipeline = &self.pipeline;
        AuditRequest {
            caller: pipeline.callers.as_ref().map(|callers| callers.label(self.who)),
            claimed_caller: self.claimed_caller.as_ref().map(CallerName::as_str),
            identified_by: self.who.known_by(),
            peer: &self.peer,
            site,
            listener: &pipeline.name,
            account: &pipeline.account.name,
            operation: self
                .operation
                .map_or(UNKNOWN_OPERATION, |id| pipeline.shared.catalogue.get(id).name),
            method: self.method.as_str(),
            path: &audited.path,
            project: audited.project.as_deref(),
            organization: audited.organization.as_deref(),
            rule: audited.rule,
            user_agent: audited.user_agent.as_deref(),
        }
    }

    /// Tells the audit log, if there is one that records such requests, how this one ended.
    pub(super) fn end_audit(&mut self, outcome: &AuditOutcome<'_>) -> Option<Written> {
        let audit = self.pipeline.shared.audit.as_ref()?;
        let mut audited = match self.audited.take() {
            Some(audited) => audited,
            // Refused before anybody looked at it.
            None if audit.includes(self.method.as_str()) => Box::new(Audited::bare(audit, self.path.path())),
            None => return None,
        };
        let ticket = audited.ticket.take();
        let outcome = AuditOutcome {
            request_id: audited.request_id.as_deref(),
            ..*outcome
        };
        let site = self.peer.site();
        let request = self.audit_request(&audited, &site);
        match ticket {
            // What was never forwarded waits for nothing more.
            Some(ticket) => audit.end(ticket, &request, &outcome).filter(|_| self.attempts > 0),
            None => {
                audit.one(&request, &outcome, self.denied.is_some() && self.attempts == 0);
                None
            }
        }
    }
}
