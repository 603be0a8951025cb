//! A tunnel through the egress proxy (CONNECT, RFC 9110 section 9.3.6).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::EgressProxy;
use super::tcp::connect_host;

/// The most of the proxy's answers that is read, bytes.
const MOST_HEAD: usize = 16 << 10;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No connection to the proxy.
    #[error("it can't be reached: {0}")]
    Unreachable(io::Error),
    /// The connection to the proxy broke.
    #[error("the connection to it broke: {0}")]
    Broken(#[from] io::Error),
    /// 407.
    #[error(
        "it wants a user and a password, or others (HTTP 407): set them in `proxy` or `proxy_credentials_file`, or in HTTPS_PROXY"
    )]
    Authentication,
    /// A status other than 2xx.
    #[error("it refused with HTTP {0}: may it connect to this host and port?")]
    Refused(u16),
    /// No HTTP answer.
    #[error("its answer is not HTTP: is it an HTTP proxy?")]
    Malformed,
}

/// Connects to a host by way of the proxy.
pub(crate) async fn through(proxy: &EgressProxy, host: &str, port: u16) -> Result<TcpStream, TunnelError> {
    let stream = connect_host(proxy.host(), proxy.port()).await;
    let mut stream = stream.map_err(TunnelError::Unreachable)?;
    open(&mut stream, proxy, host, port).await?;
    Ok(stream)
}

/// Has the proxy at the other end of `stream` connect to the host; after that the stream leads to the host.
pub(crate) async fn open(
    stream: &mut TcpStream,
    proxy: &EgressProxy,
    host: &str,
    port: u16,
) -> Result<(), TunnelError> {
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;

    let mut left = MOST_HEAD;
    loop {
        let head = read_head(stream, &mut left).await?;
        return match status(&head) {
            // Before the final answer any number of 1xx answers may come (RFC 9110 section 15.2); 101 would be another
            // protocol.
            Some(100 | 102..=199) => continue,
            Some(200..=299) => Ok(()),
            Some(407) => Err(TunnelError::Authentication),
            Some(other) => Err(TunnelError::Refused(other)),
            None => Err(TunnelError::Malformed),
        };
    }
}

/// Reads to the empty line, and not a byte more: what follows is the next answer, or the upstream's data.
async fn read_head(stream: &mut TcpStream, left: &mut usize) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        *left = left.checked_sub(1).ok_or(TunnelError::Malformed)?;
        // One byte at a time: a tunnel is opened once in minutes.
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let ends = matches!(rest.first(), Some(b' ' | b'\r' | b'\n'));
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    ends.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for bad in [
            &b"HTTP/2 200\r\n\r\n"[..],
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/1.1 2000\r\n\r\n",
            b"SSH-2.0",
            b"",
            b"HTTP/1.",
        ] {
            assert_eq!(status(bad), None);
        }
    }
}
