//! Where a listener's socket is, and what of it a reload can change.

use std::net::SocketAddr;

use crate::server::{self, Bind, BindError, BoundSocket};

/// Where a socket is bound.
#[derive(Clone)]
pub(super) enum BoundAddress {
    Tcp(SocketAddr),
    /// The first names the listener.
    Both([SocketAddr; 2]),
    Unix(String),
}

impl BoundAddress {
    pub(super) fn of(socket: &BoundSocket) -> Self {
        match socket {
            BoundSocket::Tcp(_, address) => Self::Tcp(*address),
            BoundSocket::Both([(_, first), (_, second)]) => Self::Both([*first, *second]),
            BoundSocket::Unix(..) => Self::Unix(socket.to_string()),
        }
    }

    pub(super) fn label(&self) -> String {
        match self {
            Self::Tcp(address) | Self::Both([address, _]) => address.to_string(),
            Self::Unix(path) => path.clone(),
        }
    }

    /// Whether no network carries what clients send there: a unix socket, or bound to loopback.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Both(_) | Self::Unix(_) => true,
        }
    }

    pub(super) fn second(&self) -> Option<SocketAddr> {
        match self {
            Self::Both([_, second]) => Some(*second),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

pub(super) fn bind_label(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Localhost { port } => format!("127.0.0.1:{port}"),
        Bind::Unix { path, .. } => format!("unix:{}", path.display()),
        Bind::Elsewhere { name } => format!("systemd:{name}"),
    }
}

/// Gives a socket that stays its new mode. Its user ids are checked for each request.
pub(super) fn take_mode(before: &Bind, after: &Bind) -> Result<(), BindError> {
    match (before, after) {
        (Bind::Unix { mode: old, .. }, Bind::Unix { path, mode: new, .. }) if old != new => {
            server::change_mode(path, *new)
        }
        _ => Ok(()),
    }
}

/// Whether both name the same socket.
pub(super) fn same_socket(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Unix { path: a, .. }, Bind::Unix { path: b, .. }) => a == b,
        _ => a == b,
    }
}
