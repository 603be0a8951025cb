//! Names and addresses: the same for connections of clients' requests and for the proxy's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::blocking;

/// How long one address may stay silent before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// A connection to a host by its name. Not bounded in time.
///
/// # Errors
/// What the resolver or the last address said.
pub async fn connect_host(host: &str, port: u16) -> io::Result<TcpStream> {
    race(resolve(host, port).await?).await
}

/// The addresses of a host, at least one.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host == "localhost" {
        // RFC 6761 section 6.3: always loopback, no need to ask.
        return Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    let found = blocking::lookup(host, port).await?;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    }
    Ok(found)
}

/// A connection to the first of the addresses that accepts one.
pub(crate) async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let stream = first_of(addresses).await?;
    // Small requests must not wait for the acknowledgement of earlier segments (RFC 1122 section 4.2.3.4).
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Tries the addresses in order; starts the next beside the last when that fails or stays silent (RFC 8305).
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    loop {
        let next = waiting.next();
        let more = next.is_some();
        if let Some(address) = next {
            running.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            done = running.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last_error = error,
                Some(Err(_cancelled)) => {}
                None => return Err(last_error),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}
