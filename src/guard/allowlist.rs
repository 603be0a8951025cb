//! Which peer addresses may connect. Decided by the socket's address alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks whose addresses may connect. Never empty: "nobody" is a mistake, "everybody" must be spelled out
/// (`0.0.0.0/0`, `::/0`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowlist(Vec<IpNet>);

/// An allowlist without an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the allowlist is empty, so nobody could connect: name at least one network, such as 127.0.0.0/8")]
pub struct EmptyAllowlist;

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write an address (`10.1.2.3`) or a CIDR block (`10.0.0.0/8`, `fd00::/8`)")]
pub struct NetworkError(pub String);

/// Reads a CIDR block, or an address as the block of itself alone. Bits behind the prefix are ignored.
///
/// # Errors
/// When it is neither.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let text = text.trim();
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| NetworkError(text.to_owned()))
}

impl Allowlist {
    /// Allows these networks. An IPv4-mapped one (`::ffff:10.0.0.0/104`) counts as its IPv4 network.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(networks: Vec<IpNet>) -> Result<Self, EmptyAllowlist> {
        if networks.is_empty() {
            return Err(EmptyAllowlist);
        }
        Ok(Self(IpNet::aggregate(&networks.into_iter().map(unmapped).collect())))
    }

    /// `127.0.0.0/8` and `::1/128`.
    pub fn loopback() -> Self {
        Self(vec![
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        ])
    }

    /// Every address: for a listener that tells its clients apart by other means.
    pub fn everybody() -> Self {
        Self(vec![
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        ])
    }

    /// Its networks, neighbours put together.
    pub fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Whether an address of this network is among them.
    pub fn overlaps(&self, network: IpNet) -> bool {
        let network = unmapped(network);
        self.0.iter().any(|net| net.contains(&network) || network.contains(net))
    }

    /// Whether a peer may connect. An IPv4-mapped address is its IPv4 address (RFC 4291 section 2.5.5.2); an
    /// IPv4-compatible one (`::a.b.c.d`) is not.
    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|net| net.contains(&peer))
    }
}

fn unmapped(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(net) = IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96)
    {
        return net.trunc();
    }
    net.trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(nets: &[&str]) -> Allowlist {
        Allowlist::new(nets.iter().map(|n| parse_network(n).unwrap()).collect()).unwrap()
    }

    #[test]
    fn an_empty_list_is_refused() {
        assert_eq!(Allowlist::new(vec![]), Err(EmptyAllowlist));
    }

    #[test]
    fn edges_of_networks() {
        for (nets, yes, no) in [
            (
                &["10.0.0.0/8"][..],
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["11.0.0.0", "9.255.255.255", "::10.1.2.3"][..],
            ),
            (
                &["192.0.2.4/31"],
                &["192.0.2.4", "192.0.2.5"],
                &["192.0.2.3", "192.0.2.6"],
            ),
            (&["192.0.2.4"], &["192.0.2.4"], &["192.0.2.5"]),
            (&["0.0.0.0/0"], &["1.2.3.4", "::ffff:1.2.3.4"], &["::1"]),
            (&["::1"], &["::1"], &["::2", "127.0.0.1"]),
            (&["::ffff:10.0.0.0/104"], &["10.9.9.9"], &["11.0.0.0"]),
            (&["fd00::/8"], &["fdff::1"], &["fe80::1"]),
        ] {
            let list = list(nets);
            for ip in yes {
                assert!(list.allows(ip.parse().unwrap()), "{nets:?} {ip}");
            }
            for ip in no {
                assert!(!list.allows(ip.parse().unwrap()), "{nets:?} {ip}");
            }
        }
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        let list = list(&["10.0.0.0/24", "fd00::1"]);
        for net in ["10.0.0.0/8", "10.0.0.7", "::ffff:10.0.0.7/128", "fd00::/8", "0.0.0.0/0"] {
            assert!(list.overlaps(parse_network(net).unwrap()), "{net}");
        }
        for net in ["10.0.1.0/24", "fd00::2", "192.0.2.0/24"] {
            assert!(!list.overlaps(parse_network(net).unwrap()), "{net}");
        }
    }

    #[test]
    fn loopback_is_loopback() {
        let list = Allowlist::loopback();
        for ip in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            assert!(list.allows(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["128.0.0.1", "::2", "10.0.0.1", "::127.0.0.1"] {
            assert!(!list.allows(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn bad_networks_are_named() {
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0/8", "1.2.3.4/-1"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }
}
