//! `healthcheck`: asks the proxy whether it is ready, for images without curl.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::HealthTarget;
use crate::server::Bind;

/// Bound on the connection, and on each read and write.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of the answer is read, in bytes: enough for the status line.
const STATUS_LINE: u64 = 64;
/// A request that the proxy answers by itself, without a credential and without Atlas, even where it refuses the
/// request.
const LOCAL: &str = "POST /api/oauth/revoke";

/// Why the proxy does not count as ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// No answer.
    #[error("nothing answers at {0}: {1}")]
    Unreachable(Endpoint, io::Error),
    /// An unexpected status.
    #[error("not ready: {0} answered {1}")]
    Answered(Endpoint, String),
}

/// Who was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Endpoint {
    /// A port bound to every address is asked on loopback.
    fn of(bind: &Bind) -> Self {
        match bind {
            Bind::Unix { path, .. } => Self::Unix(path.clone()),
            Bind::Localhost { port } => Self::Tcp((Ipv4Addr::LOCALHOST, *port).into()),
            // `config::health` has refused it.
            Bind::Elsewhere { name } => Self::Unix(name.into()),
            Bind::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    ip => ip,
                };
                Self::Tcp(SocketAddr::new(ip, address.port()))
            }
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// Succeeds when `/readyz` of the admin port answers 200; without an admin port, when the first listener answers with
/// 2xx to 4xx. A TLS listener may demand a client certificate, so for that a TCP connection is enough.
pub(crate) fn check(asked: &HealthTarget) -> Result<(), NotReady> {
    let (bind, request, tls) = match asked {
        HealthTarget::Admin(bind) => (bind, "GET /readyz", false),
        HealthTarget::Listener { bind, tls } => (bind, LOCAL, *tls),
    };
    let endpoint = Endpoint::of(bind);
    let status = match answer(&endpoint, request, tls) {
        Ok(None) => return Ok(()),
        Ok(Some(status)) => status,
        Err(error) => return Err(NotReady::Unreachable(endpoint, error)),
    };
    let code = status.split_ascii_whitespace().nth(1).unwrap_or("nothing");
    let good = match asked {
        HealthTarget::Admin(_) => code == "200",
        HealthTarget::Listener { .. } => code.len() == 3 && matches!(code.as_bytes()[0], b'2'..=b'4'),
    };
    if good {
        Ok(())
    } else {
        Err(NotReady::Answered(endpoint, code.escape_default().to_string()))
    }
}

/// The status line; `None`: nothing was asked.
fn answer(endpoint: &Endpoint, request: &str, tls: bool) -> io::Result<Option<String>> {
    let host = endpoint.host();
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            if tls {
                return Ok(None);
            }
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            status_line(stream, request, &host).map(Some)
        }
        Endpoint::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Also bounds the connect, which blocks until the listener has room for the connection.
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(&SockAddr::unix(path)?)?;
            let stream = UnixStream::from(OwnedFd::from(socket));
            status_line(stream, request, &host).map(Some)
        }
    }
}

fn status_line(mut stream: impl Read + Write, request: &str, host: &str) -> io::Result<String> {
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(STATUS_LINE).read_to_end(&mut answer)?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str, asked: &'static str) -> Bind {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let start = format!("{asked} HTTP/1.1\r\nHost: 127.0.0.1:");
            assert!(head.starts_with(start.as_bytes()));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Bind::Tcp(address)
    }

    fn admin(answer: &'static str) -> Result<(), NotReady> {
        check(&HealthTarget::Admin(answering(answer, "GET /readyz")))
    }

    fn listener(answer: &'static str) -> Result<(), NotReady> {
        let bind = answering(answer, "POST /api/oauth/revoke");
        check(&HealthTarget::Listener { bind, tls: false })
    }

    #[test]
    fn ready_is_200_and_nothing_else() {
        assert!(admin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok());
        let said = admin("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err();
        assert!(said.to_string().ends_with("answered 503"), "{said}");
        assert!(admin("").is_err());
        assert!(admin("HTTP/1.1 403 Forbidden\r\n\r\n").is_err());
    }

    #[test]
    fn a_listener_need_only_answer() {
        for good in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
            assert!(listener(good).is_ok(), "{good}");
        }
        for bad in ["", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 \u{e9}\r\n"] {
            assert!(listener(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_there_is_not_ready() {
        let free = Bind::Tcp(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let gone = Bind::Unix {
            path: "/nowhere/at/all".into(),
            mode: 0,
            uids: Vec::new(),
        };
        for bind in [free, gone] {
            for asked in [
                HealthTarget::Admin(bind.clone()),
                HealthTarget::Listener {
                    bind: bind.clone(),
                    tls: true,
                },
            ] {
                assert!(matches!(check(&asked), Err(NotReady::Unreachable(..))));
            }
        }
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        let asked = |text: &str| Endpoint::of(&Bind::Tcp(text.parse().unwrap())).to_string();
        assert_eq!(asked("0.0.0.0:9091"), "http://127.0.0.1:9091");
        assert_eq!(asked("[::]:9091"), "http://[::1]:9091");
        assert_eq!(asked("10.1.2.3:9091"), "http://10.1.2.3:9091");
    }
}
