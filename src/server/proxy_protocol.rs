//! The preamble of a trusted load balancer: who its client is (PROXY protocol, version 2, sections 2.2 and 2.3 of
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// With this no TLS handshake begins.
pub(super) const FIRST_BYTE: u8 = SIGNATURE[0];
/// Signature, version and command, family and protocol, length of the rest.
const HEAD: usize = 16;
/// The most that a preamble may have, bytes.
pub const LARGEST: usize = 536;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// Two addresses and two ports.
const IPV4_ADDRESSES: usize = 12;
const IPV6_ADDRESSES: usize = 36;

/// Why a connection of a load balancer is closed.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The first bytes are no preamble of version 2.
    #[error("it does not begin with the preamble of the PROXY protocol, version 2")]
    NoPreamble,
    /// Version 1 is text, without a bound that holds for all of it.
    #[error("its preamble is that of version 1: set version 2 in the load balancer")]
    Version1,
    /// Neither `LOCAL` nor `PROXY`.
    #[error("its preamble has the version and command {0:#04x}, not 0x21")]
    Command(u8),
    /// The load balancer speaks for itself: a health check.
    #[error("its preamble says LOCAL: no client")]
    Local,
    /// Datagrams, unix sockets, or no family.
    #[error("its preamble has the family and protocol {0:#04x}, not TCP over IPv4 or IPv6")]
    Family(u8),
    /// More than [`LARGEST`], or too little for its addresses.
    #[error("its preamble says that it has {0} bytes")]
    Length(usize),
    /// It has ended, or broken.
    #[error("it ended within its preamble: {0}")]
    Ended(io::Error),
    /// It was closed before anything came.
    #[error("it was closed before its preamble")]
    Nothing,
}

/// How far a preamble has been read.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has at least so many bytes in all.
    Needs(usize),
    /// It is whole; the address of the client, an IPv4-mapped one as IPv4.
    Source(IpAddr),
}

/// What the first bytes of a connection say: never more than [`LARGEST`] are asked for, and none behind the preamble.
///
/// # Errors
/// As soon as they can't be a preamble that names a client.
pub fn preamble(bytes: &[u8]) -> Result<Progress, NoClient> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(if bytes.starts_with(b"PROXY ") {
            NoClient::Version1
        } else if b"PROXY ".starts_with(bytes) {
            return Ok(Progress::Needs(b"PROXY ".len()));
        } else {
            NoClient::NoPreamble
        });
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(Progress::Needs(HEAD));
    };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    match command {
        PROXY => {}
        LOCAL => return Err(NoClient::Local),
        other => return Err(NoClient::Command(other)),
    }
    let addresses = match family {
        TCP_OVER_IPV4 => IPV4_ADDRESSES,
        TCP_OVER_IPV6 => IPV6_ADDRESSES,
        other => return Err(NoClient::Family(other)),
    };
    if length < addresses || HEAD + length > LARGEST {
        return Err(NoClient::Length(HEAD + length));
    }
    if rest.len() < length {
        return Ok(Progress::Needs(HEAD + length));
    }
    // What follows the addresses says nothing of the client.
    let source = match (rest.first_chunk::<4>(), rest.first_chunk::<16>()) {
        (Some(ip), _) if family == TCP_OVER_IPV4 => IpAddr::V4(Ipv4Addr::from(*ip)),
        (_, Some(ip)) => IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical(),
        _ => return Err(NoClient::Length(HEAD + length)),
    };
    Ok(Progress::Source(source))
}

/// Reads a preamble, and no byte more.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<IpAddr, NoClient> {
    let mut bytes = [0; LARGEST];
    let mut length = 0;
    loop {
        let most = match preamble(&bytes[..length])? {
            Progress::Source(source) => return Ok(source),
            Progress::Needs(most) => most,
        };
        match stream.read(&mut bytes[length..most]).await {
            Ok(0) if length == 0 => return Err(NoClient::Nothing),
            Ok(0) => return Err(NoClient::Ended(io::ErrorKind::UnexpectedEof.into())),
            Ok(more) => length += more,
            Err(error) => return Err(NoClient::Ended(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn source(bytes: &[u8]) -> Option<IpAddr> {
        match preamble(bytes) {
            Ok(Progress::Source(source)) => Some(source),
            _ => None,
        }
    }

    #[test]
    fn the_source_is_the_first_address() {
        let v4 = with(PROXY, TCP_OVER_IPV4, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!(source(&v4), Some("192.0.2.1".parse().unwrap()));
        let mut addresses = [0; IPV6_ADDRESSES];
        addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let v6 = with(PROXY, TCP_OVER_IPV6, &addresses);
        assert_eq!(source(&v6), Some("2001:db8::".parse().unwrap()));
        addresses[..16].copy_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        let mapped = with(PROXY, TCP_OVER_IPV6, &addresses);
        assert_eq!(source(&mapped), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn its_size_has_a_bound() {
        let whole = with(PROXY, TCP_OVER_IPV4, &[1; LARGEST - HEAD]);
        assert!(source(&whole).is_some());
        let one_more = with(PROXY, TCP_OVER_IPV4, &[1; LARGEST - HEAD + 1]);
        assert!(matches!(preamble(&one_more[..HEAD]), Err(NoClient::Length(537))));
        let short = with(PROXY, TCP_OVER_IPV6, &[1; IPV6_ADDRESSES - 1]);
        assert!(matches!(preamble(&short), Err(NoClient::Length(51))));
    }

    #[test]
    fn what_names_no_client_is_told_apart() {
        let rest = &[1; IPV6_ADDRESSES];
        assert!(matches!(preamble(&with(LOCAL, 0, &[])), Err(NoClient::Local)));
        assert!(matches!(
            preamble(&with(LOCAL, TCP_OVER_IPV4, rest)),
            Err(NoClient::Local)
        ));
        for command in [0x00, 0x01, 0x11, 0x22, 0x31] {
            assert!(matches!(
                preamble(&with(command, TCP_OVER_IPV4, rest)),
                Err(NoClient::Command(_))
            ));
        }
        for family in [0x00, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32, 0xff] {
            assert!(matches!(preamble(&with(PROXY, family, rest)), Err(NoClient::Family(_))));
        }
        for text in ["PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n", "PROXY UNKNOWN\r\n"] {
            assert!(matches!(preamble(text.as_bytes()), Err(NoClient::Version1)));
        }
        for text in ["GET / HTTP/1.1\r\n", "P", "\r\n\r\nG", "\x16\x03\x01"] {
            assert!(source(text.as_bytes()).is_none(), "{text}");
        }
        assert!(matches!(preamble(b"POST"), Err(NoClient::NoPreamble)));
    }

    proptest! {
        /// Whatever comes in whatever pieces: the same is found, and nothing behind it is read.
        #[test]
        fn pieces_change_nothing(
            command in prop_oneof![Just(PROXY), Just(LOCAL), any::<u8>()],
            family in prop_oneof![Just(TCP_OVER_IPV4), Just(TCP_OVER_IPV6), any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..600),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
            wrong in proptest::option::of((0..28_usize, any::<u8>())),
        ) {
            let mut bytes = with(command, family, &rest);
            if let Some((at, byte)) = wrong && at < bytes.len() {
                bytes[at] = byte;
            }
            bytes.extend(&behind);
            let whole = preamble(&bytes);
            let mut needed = 0;
            for end in 0..=bytes.len() {
                match preamble(&bytes[..end]) {
                    Ok(Progress::Needs(more)) => {
                        prop_assert!(more > end && more <= LARGEST);
                        // `P` may begin the text of version 1, which is short, and refused.
                        prop_assert!(more >= needed || whole.is_err());
                        needed = more;
                    }
                    Ok(Progress::Source(source)) => {
                        prop_assert_eq!(whole.unwrap(), Progress::Source(source));
                        prop_assert_eq!(end, needed);
                        break;
                    }
                    Err(_) => {
                        prop_assert!(whole.is_err());
                        break;
                    }
                }
            }
        }
    }
}
