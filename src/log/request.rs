//! The line of a request.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::STDERR;
use super::line::Clean;
use super::shape::{Fields, Shape};

const TARGET: &str = "atlas_auth_proxy::request";

/// One line for each request, at `info`. No query and no header value.
pub struct RequestRecord<'a> {
    /// The listener's label.
    pub listener: &'a str,
    /// The account's name.
    pub account: &'a str,
    /// The peer's address, or its user id on a unix socket.
    pub peer: &'a dyn fmt::Display,
    /// Who the caller is; `None`: the listener asks nobody.
    pub caller: Option<&'a str>,
    /// Whom a caller with `delegates` says that it acts for.
    pub claimed_caller: Option<&'a str>,
    /// What the caller was known by.
    pub identified_by: Option<&'a str>,
    /// The operation's name in Atlas's documentation, or `unknown`.
    pub operation: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path without query.
    pub path: &'a str,
    /// The status that the client got.
    pub status: u16,
    /// The status that the upstream sent.
    pub upstream_status: Option<u16>,
    /// Requests sent upstream.
    pub attempts: u32,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// What a failing answer of Atlas was about.
    pub upstream_error: Option<&'a str>,
    /// The code of an answer that a gateway before Atlas made itself.
    pub gateway_error: Option<&'a str>,
    /// The roles, any one of which the operation needs, where Atlas refused for a role.
    pub needs: Option<&'a str>,
    /// The caller's rule that only warns (`action = "warn"`), counted from 1, where one let the request through.
    pub warned_by_rule: Option<usize>,
    /// `forwarded`, `broken_off`, or the code of the answer made here.
    pub decision: &'a str,
    /// What was wrong with a request that was answered here.
    pub why: Option<&'a str>,
}

impl RequestRecord<'_> {
    /// Logs it; costs next to nothing when `info` is off.
    pub fn emit(&self) {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        match STDERR.get() {
            Some(stderr) => stderr.outlet.put(&self.line(stderr.shape, Timestamp::now())),
            // Somebody else's subscriber.
            None => self.event(),
        }
    }

    fn duration_ms(&self) -> f64 {
        (self.duration.as_secs_f64() * 1e6).round() / 1e3
    }

    fn event(&self) {
        tracing::info!(
            target: TARGET,
            listener = self.listener,
            account = self.account,
            peer = %self.peer,
            caller = self.caller,
            claimed_caller = self.claimed_caller,
            identified_by = self.identified_by,
            operation = self.operation,
            method = %Clean(self.method),
            path = %Clean(self.path),
            status = self.status,
            upstream_status = self.upstream_status,
            attempts = self.attempts,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = self.duration_ms(),
            upstream_error = self.upstream_error,
            gateway_error = self.gateway_error,
            needs = self.needs,
            warned_by_rule = self.warned_by_rule,
            decision = self.decision,
            why = self.why.map(|why| tracing::field::display(Clean(why))),
            "request"
        );
    }

    /// The line that is made of [`Self::event`] otherwise. Written by hand, since no other line is written for each
    /// request.
    fn line(&self, shape: Shape, at: Timestamp) -> Vec<u8> {
        let mut line = Fields::begin(shape, at, TARGET, "request");
        line.text("listener", self.listener);
        line.text("account", self.account);
        line.shown("peer", self.peer);
        if let Some(caller) = self.caller {
            line.text("caller", caller);
        }
        if let Some(claimed) = self.claimed_caller {
            line.text("claimed_caller", claimed);
        }
        if let Some(by) = self.identified_by {
            line.text("identified_by", by);
        }
        line.text("operation", self.operation);
        line.clean("method", self.method);
        line.clean("path", self.path);
        line.value("status", self.status);
        if let Some(status) = self.upstream_status {
            line.value("upstream_status", status);
        }
        line.value("attempts", self.attempts);
        line.value("bytes_in", self.bytes_in);
        line.value("bytes_out", self.bytes_out);
        line.value("duration_ms", self.duration_ms());
        if let Some(error) = self.upstream_error {
            line.text("upstream_error", error);
        }
        if let Some(code) = self.gateway_error {
            line.text("gateway_error", code);
        }
        if let Some(roles) = self.needs {
            line.text("needs", roles);
        }
        if let Some(rule) = self.warned_by_rule {
            line.value("warned_by_rule", rule);
        }
        line.text("decision", self.decision);
        if let Some(why) = self.why {
            line.clean("why", why);
        }
        line.end(TARGET)
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
