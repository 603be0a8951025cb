//! Sockets to listen on.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::Bind;
use super::handed::HandedSockets;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(address, .source))]
pub struct BindError {
    address: String,
    source: io::Error,
}

/// What to do where a port can't be bound for want of a right. It may have to be this port: clients with a fixed address call 443.
pub const PORT_NEEDS_RIGHT: &str = "ports below 1024 need a right: choose another port, or give it, where it must be this one: the \
    capability CAP_NET_BIND_SERVICE (in a unit of systemd AmbientCapabilities=CAP_NET_BIND_SERVICE), the sysctl \
    net.ipv4.ip_unprivileged_port_start, or a socket of systemd (`bind = \"systemd:NAME\"`)";

fn hint(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there (`ss -ltnp` names it), or this one by a listener that a reload would replace: \
             stop it (restart), or choose another port with `--listen` (or `--admin-listen`)"
        }
        io::ErrorKind::PermissionDenied if address.starts_with("unix:") => {
            "; this user may not make files there: choose another folder, or give the right to write in this one"
        }
        io::ErrorKind::PermissionDenied => return format!("; {PORT_NEEDS_RIGHT}"),
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::NotFound => "; its folder does not exist: make it first",
        _ => "",
    }
    .to_owned()
}

/// A socket that listens.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(TcpListener, SocketAddr),
    /// `127.0.0.1` and `[::1]`, with the same port.
    Both([(TcpListener, SocketAddr); 2]),
    /// A unix socket.
    Unix(UnixListener, UnixSocketFile),
}

impl fmt::Display for BoundSocket {
    /// The address as a listener's label: `127.0.0.1:8080` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) | Self::Both([(_, address), _]) => address.fmt(f),
            Self::Unix(_, file) => write!(f, "unix:{}", file.path.display()),
        }
    }
}

/// Removes the socket file when it is dropped, unless another made it.
#[derive(Debug)]
pub struct UnixSocketFile {
    path: PathBuf,
    is_ours: bool,
}

impl UnixSocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a socket that was handed over.
    pub(super) fn of_another(path: PathBuf) -> Self {
        Self { path, is_ours: false }
    }
}

impl Drop for UnixSocketFile {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds, or takes the socket that was handed over for this address. Must be called within a tokio runtime.
///
/// # Errors
/// See [`BindError`].
pub fn bind(to: &Bind, handed: &HandedSockets) -> Result<BoundSocket, BindError> {
    if let Some(socket) = handed.open(to) {
        return socket.map_err(|source| BindError {
            address: "a socket that was handed over".to_owned(),
            source,
        });
    }
    match to {
        Bind::Tcp(address) => tcp(*address).map(|(socket, address)| BoundSocket::Tcp(socket, address)),
        Bind::Localhost { port } => bind_localhost(*port),
        Bind::Elsewhere { name } => Err(BindError {
            address: format!("systemd:{name}"),
            source: io::Error::new(io::ErrorKind::Unsupported, "another process has it"),
        }),
        Bind::Unix { path, mode, .. } => bind_unix(path, *mode)
            .map(|listener| {
                BoundSocket::Unix(
                    listener,
                    UnixSocketFile {
                        path: path.clone(),
                        is_ours: true,
                    },
                )
            })
            .map_err(|source| BindError {
                address: format!("unix:{}", path.display()),
                source,
            }),
    }
}

fn tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    bind_tcp(address).map_err(|source| BindError {
        address: address.to_string(),
        source,
    })
}

/// A port that is free at one address may be taken at the other: with port 0 others are tried, at most this many.
const TRIES: usize = 16;

fn bind_localhost(port: u16) -> Result<BoundSocket, BindError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let (first, address) = tcp((Ipv4Addr::LOCALHOST, port).into())?;
        match tcp((Ipv6Addr::LOCALHOST, address.port()).into()) {
            Ok(second) => return Ok(BoundSocket::Both([(first, address), second])),
            // A machine without IPv6, or whose loopback has none.
            Err(error) if is_absent(&error.source) => return Ok(BoundSocket::Tcp(first, address)),
            Err(error) if port == 0 && tries > 0 && error.source.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error
            .raw_os_error()
            .is_some_and(|code| [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT].contains(&Errno::from_raw_os_error(code)))
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections of the last run to time out (TIME_WAIT).
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // unix(7): the file gets the mode that the socket has, so that there is no moment at which it is wider than `mode`.
    // It may be narrower, by the umask, until the mode is set below.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    // Under a private name until it is right: there is no moment at which clients find it and are refused.
    let mut private = path.as_os_str().to_owned();
    private.push(format!(".{}.tmp", std::process::id()));
    let private = PathBuf::from(private);
    let _ = std::fs::remove_file(&private);
    socket.bind(&SockAddr::unix(&private)?)?;
    let ready = socket
        .listen(BACKLOG)
        .and_then(|()| set_mode(&private, mode))
        .and_then(|()| std::fs::rename(&private, path))
        .and_then(|()| UnixListener::from_std(socket.into()));
    if ready.is_err() {
        let _ = std::fs::remove_file(&private);
    }
    ready
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Changes the mode of a bound listener's socket file.
///
/// # Errors
/// When that cannot be done.
pub fn change_mode(path: &Path, mode: u32) -> Result<(), BindError> {
    set_mode(path, mode).map_err(|source| BindError {
        address: format!("unix:{}", path.display()),
        source,
    })
}

/// A socket file that nobody listens on any more is a leftover of a killed run.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    // A connect would block where the socket's owner accepts nobody: then there is an owner.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_named_by_what_was_to_be_bound() {
        let said = |address: &str| {
            let source = io::ErrorKind::PermissionDenied.into();
            let address = address.to_owned();
            BindError { address, source }.to_string()
        };
        let port = said("127.0.0.1:443");
        for way in [
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "net.ipv4.ip_unprivileged_port_start",
            "bind = \"systemd:NAME\"",
        ] {
            assert!(port.contains(way), "{port}");
        }
        let socket = said("unix:/run/proxy.sock");
        assert!(
            socket.contains("choose another folder") && !socket.contains("1024"),
            "{socket}"
        );
    }

    #[test]
    fn a_socket_whose_owner_accepts_nobody_has_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let stream = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let owner = stream();
        owner.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        owner.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let one = stream();
            one.set_nonblocking(true).unwrap();
            let connected = one.connect(&SockAddr::unix(&path).unwrap());
            waiting.push(one);
            if connected.is_err() {
                break;
            }
        }
        assert_eq!(remove_stale(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(owner);
        remove_stale(&path).unwrap();
        assert!(!path.exists());
    }
}
