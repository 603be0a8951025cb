//! Listeners and bounds on connections, as configured.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::ListenerTls;
use crate::guard::Allowlist;
use crate::proxy::RequestRules;

/// Where a listener binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `127.0.0.1` and, where there is one, `[::1]`, with the same port: some clients try only one of the two for `localhost`.
    Localhost {
        /// 0 takes a port that is free at both.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Its permission bits, such as `0o600`.
        mode: u32,
        /// User ids that may connect; empty: whoever the mode lets in.
        uids: Vec<u32>,
    },
    /// A socket that the service manager hands to another process than this one: where it is bound is not known here.
    Elsewhere {
        /// Its `FileDescriptorName=`.
        name: String,
    },
}

impl Bind {
    /// The TCP addresses, the one that is always there first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Tcp(address) => vec![*address],
            Self::Localhost { port } => vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()],
            Self::Unix { .. } | Self::Elsewhere { .. } => Vec::new(),
        }
    }
}

/// One port or socket; it binds one account.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// The label in logs and metrics; `None`: the bound address.
    pub name: Option<String>,
    /// Where it binds.
    pub bind: Bind,
    /// Name of the account whose credential it adds.
    pub account: String,
    /// TLS, when it speaks that.
    pub tls: Option<ListenerTls>,
    /// Who may connect.
    pub allow: Allowlist,
    /// Load balancers whose connections begin with a preamble of the PROXY protocol: the source that it names is the peer.
    pub proxy_protocol: Option<Allowlist>,
    /// Which requests pass, and what happens to them.
    pub rules: RequestRules,
}

/// How many client connections are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityLimits {
    /// Open client connections of all listeners together.
    pub max_connections: usize,
    /// Open client connections of one peer address; 0: no limit of its own.
    pub max_connections_per_peer: usize,
}

impl Default for CapacityLimits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_peer: 0,
        }
    }
}

/// Bounds of one client connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Longest life (`max_connection_age`); the connection ends after the answer that comes next.
    pub max_age: Duration,
    /// From the first byte of a head (or from accepting) to its end; also for a TLS handshake.
    pub header_read_timeout: Duration,
    /// Size of a request head, bytes.
    pub max_header_bytes: usize,
    /// Number of header fields of a request.
    pub max_headers: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(3600),
            header_read_timeout: Duration::from_secs(10),
            max_header_bytes: 64 << 10,
            max_headers: 100,
        }
    }
}
