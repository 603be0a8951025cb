//! One request: guard, authorize, forward, recover, rewrite, answer.

mod account;
mod audited;
mod body;
mod callers;
mod credential_probe;
mod echo;
mod error;
mod exchange;
mod fairness;
mod framing;
pub mod headers;
pub mod links;
mod local;
mod own_fields;
mod peer;
mod pipeline;
mod record;
mod refusal;
mod response_body;
mod rules;
mod shared;
mod unparsed;
mod upstream_failure;

pub use account::{Account, AccountIdentity, AccountSlot, Authorizer};
pub use body::{BodyLimits, ClientBody, RequestBody, RequestBodyError, Unread};
pub use callers::{CallerTerms, ListenerCallers};
pub use credential_probe::Prober;
pub use error::ProxyError;
pub use fairness::{FairnessLimits, Usage};
pub use peer::{Client, Peer};
pub use pipeline::Pipeline;
pub use response_body::{BoxError, ResponseBody};
pub use rules::{CallersMode, RequestRules};
pub use shared::Shared;
pub use upstream_failure::{Failures, Seen, UpstreamFailure};
