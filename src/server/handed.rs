//! Sockets that a service manager made and handed over (sd_listen_fds(3)): they listen from before this process until after it.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::Bind;
use super::bind::{BoundSocket, UnixSocketFile};

/// Every socket that was handed over, by its name. Clones share them: they stay open as long as one is there.
#[derive(Debug, Clone, Default)]
pub struct HandedSockets(Arc<Vec<Handed>>);

#[derive(Debug)]
struct Handed {
    name: String,
    socket: HandedSocket,
    at: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A socket that listens.
#[derive(Debug)]
pub enum HandedSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix stream socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Why the sockets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// A name stands for one bind.
    #[error("two sockets have the name `{0}`: give each a unit of its own, or `FileDescriptorName=`")]
    SameName(String),
    /// It is connected, or only bound.
    #[error("the socket `{0}` does not listen: its unit needs `ListenStream=` and `Accept=no`")]
    DoesNotListen(String),
    /// An abstract unix socket has no permissions.
    #[error("the unix socket `{0}` has no path: its unit needs `ListenStream=` with one that begins with a slash")]
    NoPath(String),
    /// The kernel does not tell what is asked of it.
    #[error("the socket `{0}`: {1}")]
    Unknown(String, io::Error),
}

impl HandedSockets {
    /// These sockets, each with its name.
    ///
    /// # Errors
    /// When one can't be listened on, or two have the same name.
    pub fn new(sockets: Vec<(String, HandedSocket)>) -> Result<Self, HandedError> {
        let mut all: Vec<Handed> = Vec::new();
        for (name, socket) in sockets {
            if all.iter().any(|one| one.name == name) {
                return Err(HandedError::SameName(name));
            }
            let (listens, at) = match &socket {
                HandedSocket::Tcp(socket) => (
                    SockRef::from(socket).is_listener(),
                    socket.local_addr().map(|at| Some(Place::Tcp(at))),
                ),
                HandedSocket::Unix(socket) => (
                    SockRef::from(socket).is_listener(),
                    socket
                        .local_addr()
                        .map(|at| at.as_pathname().map(|path| Place::Unix(path.to_owned()))),
                ),
            };
            match (listens, at) {
                (Ok(true), Ok(Some(at))) => all.push(Handed { name, socket, at }),
                (Ok(true), Ok(None)) => return Err(HandedError::NoPath(name)),
                (Ok(false), _) => return Err(HandedError::DoesNotListen(name)),
                (Err(error), _) | (_, Err(error)) => return Err(HandedError::Unknown(name, error)),
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|one| one.name.as_str())
    }

    /// Where the socket of this name is bound. A unix socket has the mode of its file; who may connect is not told.
    pub fn bind(&self, name: &str) -> Option<Bind> {
        let one = self.0.iter().find(|one| one.name == name)?;
        Some(match &one.at {
            Place::Tcp(address) => Bind::Tcp(*address),
            Place::Unix(path) => Bind::Unix {
                path: path.clone(),
                mode: mode(path),
                uids: Vec::new(),
            },
        })
    }

    /// The socket that is bound there, to be listened on here; `None`: none was handed over.
    pub(super) fn open(&self, bind: &Bind) -> Option<io::Result<BoundSocket>> {
        let one = self.0.iter().find(|one| match (&one.at, bind) {
            (Place::Tcp(at), Bind::Tcp(address)) => at == address,
            (Place::Unix(at), Bind::Unix { path, .. }) => at == path,
            _ => false,
        })?;
        Some(one.open())
    }
}

impl Handed {
    /// The socket once more, so that a listener may go and come again.
    fn open(&self) -> io::Result<BoundSocket> {
        match (&self.socket, &self.at) {
            (HandedSocket::Tcp(socket), Place::Tcp(address)) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Ok(BoundSocket::Tcp(TcpListener::from_std(socket)?, *address))
            }
            (HandedSocket::Unix(socket), Place::Unix(path)) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                let file = UnixSocketFile::of_another(path.clone());
                Ok(BoundSocket::Unix(UnixListener::from_std(socket)?, file))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Permission bits of the socket's file; those of nobody when it can't be looked at.
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(0, |of| of.permissions().mode() & 0o777)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{self as unix, UnixListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn tcp() -> HandedSocket {
        HandedSocket::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    #[test]
    fn each_has_a_name_of_its_own_and_listens() {
        let two = HandedSockets::new(vec![("web".to_owned(), tcp()), ("web".to_owned(), tcp())]);
        assert!(matches!(two, Err(HandedError::SameName(_))));
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound
            .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        let bound = HandedSockets::new(vec![("web".to_owned(), HandedSocket::Tcp(bound.into()))]);
        assert!(matches!(bound, Err(HandedError::DoesNotListen(_))));
        let nowhere = unix::SocketAddr::from_abstract_name(format!("handed-{}", std::process::id())).unwrap();
        let nowhere = HandedSocket::Unix(UnixListener::bind_addr(&nowhere).unwrap());
        let nowhere = HandedSockets::new(vec![("web".to_owned(), nowhere)]);
        assert!(matches!(nowhere, Err(HandedError::NoPath(_))));
    }

    #[tokio::test]
    async fn a_socket_can_be_opened_again_and_its_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = HandedSocket::Unix(UnixListener::bind(&path).unwrap());
        let sockets = HandedSockets::new(vec![("web".to_owned(), tcp()), ("local".to_owned(), socket)]).unwrap();
        assert_eq!(sockets.bind("none"), None);
        for name in ["web", "local"] {
            let bind = sockets.bind(name).unwrap();
            for _ in 0..2 {
                drop(sockets.open(&bind).unwrap().unwrap());
            }
        }
        assert!(path.exists());
        assert!(sockets.open(&Bind::Tcp("127.0.0.1:1".parse().unwrap())).is_none());
    }
}
