//! One request: guard, authorize, forward, recover, rewrite, answer.

mod account;
mod answer;
mod body;
mod echo;
mod error;
mod exchange;
mod failure;
mod fairness;
mod framing;
pub mod headers;
pub mod links;
mod local;
mod peer;
mod pipeline;
mod probe;
mod record;
mod refusal;
mod rules;
mod shared;

pub use account::{Account, AccountSlot, Authorizer};
pub use answer::{BoxError, ResponseBody};
pub use body::{BodyLimits, ClientBody, RequestBody, RequestBodyError, Unread};
pub use error::ProxyError;
pub use failure::{Failures, Seen, UpstreamFailure};
pub use fairness::{FairnessLimits, Usage};
pub use peer::Peer;
pub use pipeline::Pipeline;
pub use probe::Prober;
pub use rules::RequestRules;
pub use shared::Shared;
