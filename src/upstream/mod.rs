//! Connections to the upstream: the one origin that an account's credential may travel to.
//!
//! This module knows nothing of credentials. It resolves, connects, checks the certificate, keeps connections warm and
//! says precisely how a request failed, because that decides whether it may be sent again.

mod body;
mod connect;
mod error;
mod last_words;
mod origin;
mod pool;
mod probe;
mod queue;
mod settings;
mod tls;

pub use crate::outbound::connect_host;
pub use body::{UpstreamBody, UpstreamBodyError};
pub use error::{ConnectError, SendError, SendFailure};
pub use origin::{Origin, OriginError};
pub use pool::{Outbound, Progress, Upstream};
pub use probe::{Probe, TlsFacts, probe};
pub use settings::{HttpVersion, UpstreamLimits, UpstreamSettings};
pub use tls::{TlsError, client_config, read_authorities, trusting};
