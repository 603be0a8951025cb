//! Faults on demand.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;

use super::respond::{self, Answer};
use super::server::bare;

/// The requests that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Everything but the OAuth endpoints.
    Api,
    /// The token endpoint.
    Token,
    /// The revocation endpoint.
    Revoke,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The answer is late by `delay_ms`.
    Delay,
    /// Another status, with `body` and `retry_after`.
    Status,
    /// The connection breaks without an answer.
    Reset,
    /// The answer breaks off in the middle.
    Truncate,
    /// 200 with something that is no JSON.
    Garbage,
    /// No answer ever.
    Hang,
    /// 200 without content.
    Empty,
}

/// One fault, as it is ordered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The requests that it is for.
    pub target: Target,
    /// What happens.
    pub kind: FaultKind,
    /// How often; 0: until it is taken back.
    #[serde(default = "once")]
    pub times: u32,
    /// Milliseconds before anything else.
    #[serde(default)]
    pub delay_ms: u64,
    /// For `status`.
    pub status: Option<u16>,
    /// For `status`: seconds.
    pub retry_after: Option<u32>,
    /// For `status`.
    pub body: Option<String>,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// A fault that happens once.
    pub fn once(target: Target, kind: FaultKind) -> Self {
        Self {
            target,
            kind,
            times: 1,
            delay_ms: 0,
            status: None,
            retry_after: None,
            body: None,
        }
    }

    /// `None`: the request goes on to its usual answer.
    pub(super) async fn play(self, cut: &Notify) -> Option<Answer> {
        if self.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        }
        match self.kind {
            FaultKind::Delay => None,
            FaultKind::Status => {
                let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
                let mut answer = bare(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
                if let Some(seconds) = self.retry_after {
                    answer
                        .headers_mut()
                        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                if let Some(body) = self.body {
                    answer
                        .headers_mut()
                        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    *answer.body_mut() = respond::full(body);
                }
                Some(answer)
            }
            FaultKind::Reset => {
                cut.notify_one();
                std::future::pending().await
            }
            FaultKind::Hang => std::future::pending().await,
            FaultKind::Truncate => {
                let mut answer = bare(StatusCode::OK);
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                answer
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000"));
                *answer.body_mut() = respond::broken(Bytes::from_static(br#"{"results":[{"#));
                Some(answer)
            }
            FaultKind::Garbage => {
                let mut answer = bare(StatusCode::OK);
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *answer.body_mut() = respond::full("<html>not JSON\u{0}");
                Some(answer)
            }
            FaultKind::Empty => Some(bare(StatusCode::OK)),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<VecDeque<Fault>>);

impl Faults {
    pub(super) fn order(&self, fault: Fault) {
        self.0.lock().push_back(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn next(&self, target: Target) -> Option<Fault> {
        let mut orders = self.0.lock();
        let at = orders.iter().position(|fault| fault.target == target)?;
        let fault = orders[at].clone();
        match orders[at].times {
            0 => {}
            1 => {
                orders.remove(at);
            }
            more => orders[at].times = more - 1,
        }
        Some(fault)
    }
}
