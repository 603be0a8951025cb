//! Connections to the upstream: the one origin that an account's credential may travel to.
//!
//! This module knows nothing of credentials. It resolves, connects, checks the certificate, keeps connections warm and
//! says precisely how a request failed, because that decides whether it may be sent again.

mod body;
mod client;
mod connect;
mod connector;
mod egress;
mod era;
mod error;
mod handshake;
pub mod http1;
mod http2;
mod inspection;
mod origin;
mod overtaking;
mod pool;
mod queue;
mod request;
mod settings;
mod target;
mod tcp;
mod tls;
mod trust;
mod tunnel;

pub use body::{UpstreamBody, UpstreamBodyError};
pub use client::Upstream;
pub use egress::{EgressProxy, EgressProxyError};
pub use era::Era;
pub use error::{BrokenBy, ConnectError, SendError, SendFailure};
pub use handshake::{AUTHORITY_AS_SERVER, certificate_refusal, is_authority_as_server, root_text};
pub use inspection::{Inspection, TlsFacts, inspect};
pub use origin::{Origin, OriginError};
pub use request::{Head, Progress, SendableBody, UpstreamRequest};
pub use settings::{HttpVersion, UpstreamLimits, UpstreamSettings};
pub use target::{ConnectTo, ConnectToError};
pub use tcp::connect_host;
pub use tls::{TlsError, client_config, read_authorities, trusting};
pub use trust::{PROXY_NOT_ATLAS, UNKNOWN_ISSUER, Untrusted, is_of_make_ca};
pub use tunnel::TunnelError;
pub(crate) use tunnel::through as connect_through;
