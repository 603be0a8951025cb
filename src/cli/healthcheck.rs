//! `healthcheck`: asks the admin port whether the proxy is ready, for images without curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Bound on the connection, and on each read and write.
const PATIENCE: Duration = Duration::from_secs(2);
/// As much of the answer as the status line can take.
const STATUS_LINE: u64 = 64;

/// Why the proxy does not count as ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// No answer.
    #[error("nothing answers at http://{0}/readyz: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// Another status than 200.
    #[error("not ready: http://{0}/readyz answered {1}")]
    Answered(SocketAddr, String),
}

/// Succeeds when `/readyz` at `admin` answers 200.
pub(crate) fn check(admin: SocketAddr) -> Result<(), NotReady> {
    let admin = reachable(admin);
    let status = status_line(admin).map_err(|error| NotReady::Unreachable(admin, error))?;
    match status.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(code) => Err(NotReady::Answered(admin, code.escape_default().to_string())),
        None => Err(NotReady::Answered(admin, "nothing".to_owned())),
    }
}

/// A port bound to every address is asked on loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

fn status_line(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
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

    fn answering(answer: &'static str) -> SocketAddr {
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
            assert!(head.starts_with(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn ready_is_200_and_nothing_else() {
        assert!(check(answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).is_ok());
        let said = check(answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")).unwrap_err();
        assert!(said.to_string().ends_with("answered 503"), "{said}");
        assert!(check(answering("")).is_err());
    }

    #[test]
    fn nobody_there_is_not_ready() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(check(free), Err(NotReady::Unreachable(..))));
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9091"), "127.0.0.1:9091");
        assert_eq!(asked("[::]:9091"), "[::1]:9091");
        assert_eq!(asked("10.1.2.3:9091"), "10.1.2.3:9091");
    }
}
