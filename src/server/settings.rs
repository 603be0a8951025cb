//! Listeners and limits, as configured.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::ListenerTls;
use crate::guard::{Allowlist, HostNames, Policy, RequiredHeader};
use crate::proxy::FairnessLimits;

/// Where a listener binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `127.0.0.1` and, where there is one, `[::1]`, with the same port: some clients try only one of the two for `localhost`.
    Localhost {
        /// 0 takes one that is free at both.
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
}

impl Bind {
    /// The TCP addresses, the one that is always there first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Tcp(address) => vec![*address],
            Self::Localhost { port } => vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()],
            Self::Unix { .. } => Vec::new(),
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
    /// Which `Host` names are ours (the bound address is added when it is known).
    pub hosts: HostNames,
    /// The header that a request must carry.
    pub required_header: Option<RequiredHeader>,
    /// Which methods and paths are let through.
    pub policy: Policy,
    /// Whether links to the upstream are turned into links to the listener.
    pub rewrite_links: bool,
    /// What it may use of Atlas.
    pub fairness: FairnessLimits,
    /// How long a request that Atlas answers 429 may wait for another try; `None`: it doesn't.
    pub retry_429: Option<Duration>,
}

/// Bounds of the serving side (`[limits]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections of all listeners together.
    pub max_connections: usize,
    /// Open client connections of one peer address; 0: no limit of its own.
    pub max_connections_per_peer: usize,
    /// Longest life of a client connection; it ends after the answer that comes next.
    pub max_connection_age: Duration,
    /// From the first byte of a request to the end of its head; also how long a connection may stay silent at first.
    pub header_read_timeout: Duration,
    /// Size of a request head, bytes.
    pub max_header_bytes: usize,
    /// Number of header fields of a request.
    pub max_headers: usize,
    /// Longest pause within a request body.
    pub request_body_idle_timeout: Duration,
    /// The least that a client must send of a request body, bytes a second over 30 s of waiting for it; 0: no such bound.
    pub request_body_min_rate: usize,
    /// DNS, TCP and TLS to the upstream together.
    pub connect_timeout: Duration,
    /// Wait for the response head.
    pub response_head_timeout: Duration,
    /// Longest pause within a response body.
    pub response_body_idle_timeout: Duration,
    /// Age at which an upstream connection serves no further request.
    pub upstream_connection_max_age: Duration,
    /// A body known or found to be larger (bytes) is streamed and never recorded.
    pub replay_limit: usize,
    /// Recorded bytes of all requests together.
    pub replay_budget: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_peer: 0,
            max_connection_age: Duration::from_secs(3600),
            header_read_timeout: Duration::from_secs(10),
            max_header_bytes: 64 << 10,
            max_headers: 100,
            request_body_idle_timeout: Duration::from_secs(30),
            request_body_min_rate: 1 << 10,
            connect_timeout: Duration::from_secs(5),
            response_head_timeout: Duration::from_secs(60),
            response_body_idle_timeout: Duration::from_secs(60),
            upstream_connection_max_age: Duration::from_secs(300),
            replay_limit: 1 << 20,
            replay_budget: 16 << 20,
        }
    }
}
