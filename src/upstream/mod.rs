//! Connections to the upstream: the one origin that an account's credential may travel to.
//!
//! This module knows nothing of credentials. It resolves, connects, checks the certificate, keeps connections warm and
//! says precisely how a request failed, because that decides whether it may be sent again.

mod body;
mod client;
mod connect;
mod connector;
mod drop_writes;
mod error;
mod framing;
mod http2;
mod origin;
mod pool;
mod probe;
mod queue;
mod request;
mod settings;
mod tls;

pub use crate::outbound::connect_host;
pub use body::{UpstreamBody, UpstreamBodyError};
pub use client::Upstream;
pub use error::{ConnectError, SendError, SendFailure};
pub use origin::{Origin, OriginError};
pub use probe::{Probe, TlsFacts, probe};
pub use request::{Progress, SendableBody, UpstreamRequest};
pub use settings::{HttpVersion, UpstreamLimits, UpstreamSettings};
pub use tls::{TlsError, client_config, read_authorities, trusting};
