//! Which `Host` names are ours. Any other name may be a sign of DNS rebinding.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name that clients may use for us: a DNS name or an IP address, without port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(Name);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

/// A text that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name: write a DNS name or an IP address without scheme, port or wildcard")]
pub struct HostNameError(pub String);

impl HostName {
    /// Reads a configured name.
    ///
    /// # Errors
    /// When it has anything but a name or an address.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let text = text.trim();
        let name = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|ip| Name::Ip(ip.into())),
            None => text.parse::<IpAddr>().ok().map(Name::Ip).or_else(|| dns(text)),
        };
        name.map(Self).ok_or_else(|| HostNameError(text.to_owned()))
    }

    /// Whether browsers take it for this machine itself: to such origins they send `Sec-Fetch-*` without TLS, too (W3C
    /// Secure Contexts section 3.1).
    pub fn is_loopback(&self) -> bool {
        match &self.0 {
            Name::Dns(name) => name == "localhost" || name.ends_with(".localhost"),
            Name::Ip(ip) => ip.to_canonical().is_loopback(),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Dns(name) => f.write_str(name),
            Name::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Name::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A DNS name in lower case. A text whose last label is a number is none: it would be an address in another spelling.
fn dns(text: &str) -> Option<Name> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x"));
    let valid = text.len() <= 253 && text.split('.').all(label) && !last_is_number;
    valid.then(|| Name::Dns(text.to_ascii_lowercase()))
}

/// The names that are ours; always `localhost`, `127.0.0.1` and `[::1]`, on any port.
#[derive(Debug, Clone)]
pub struct HostNames(Vec<HostName>);

impl HostNames {
    /// The ones that are always ours, and `more`.
    pub fn new(more: impl IntoIterator<Item = HostName>) -> Self {
        let always = [
            Name::Dns("localhost".to_owned()),
            Name::Ip(Ipv4Addr::LOCALHOST.into()),
            Name::Ip(Ipv6Addr::LOCALHOST.into()),
        ];
        Self(always.map(HostName).into_iter().chain(more).collect())
    }

    /// Also the address that a listener is bound to; a wildcard adds nothing.
    pub fn with_bound(mut self, bound: IpAddr) -> Self {
        if !bound.is_unspecified() {
            self.0.push(HostName(Name::Ip(bound.to_canonical())));
        }
        self
    }

    /// The names other than those that are always ours.
    pub fn named(&self) -> impl Iterator<Item = &HostName> {
        // `new` puts the three in front.
        self.0.iter().skip(3)
    }

    /// Whether a name is among those other than the ones that are always ours.
    pub fn named_dns(&self, host: &str) -> bool {
        let is = |name: &HostName| matches!(&name.0, Name::Dns(known) if known.eq_ignore_ascii_case(host));
        self.named().any(is)
    }

    /// Whether an authority (`host` or `host:port`, RFC 3986 section 3.2) is ours. Strict: user information, zones,
    /// percent-encoding, a trailing dot and other spellings of IPv4 addresses are not.
    pub fn knows(&self, authority: &str) -> bool {
        let Some((host, in_brackets)) = host_of(authority) else {
            return false;
        };
        if in_brackets {
            return host.parse::<Ipv6Addr>().is_ok_and(|ip| self.has_ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return self.has_ip(IpAddr::V4(ip));
        }
        self.0
            .iter()
            .any(|name| matches!(&name.0, Name::Dns(known) if known.eq_ignore_ascii_case(host)))
    }

    fn has_ip(&self, ip: IpAddr) -> bool {
        self.0
            .iter()
            .any(|name| matches!(name.0, Name::Ip(known) if known == ip))
    }
}

/// Host and port of an authority; where it names no port, that of `scheme` (`http`, `https`). `None`: the authority has
/// no single reading. Equal results lead to the same place.
pub(super) fn host_and_port(authority: &str, scheme: &str) -> Option<(String, u16)> {
    let (host, in_brackets) = host_of(authority)?;
    let port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && !port.ends_with(']') => port.parse().ok()?,
        _ if scheme.eq_ignore_ascii_case("https") => 443,
        _ if scheme.eq_ignore_ascii_case("http") => 80,
        _ => return None,
    };
    let host = if in_brackets {
        format!("[{}]", host.parse::<Ipv6Addr>().ok()?)
    } else {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            .then(|| host.to_ascii_lowercase())?
    };
    Some((host, port))
}

/// The host of an authority, and whether it stood in brackets.
fn host_of(authority: &str) -> Option<(&str, bool)> {
    let (host, rest, in_brackets) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest, true)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            (&authority[..end], &authority[end..], false)
        }
    };
    let port_is_right = match rest.strip_prefix(':') {
        None => rest.is_empty(),
        // The client's text goes into every link of an answer: zeros in front of a port could make it as long as the
        // client likes.
        Some(port) => {
            port.len() <= 5
                && (port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
        }
    };
    (port_is_right && !host.is_empty()).then_some((host, in_brackets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_not_ours() {
        let names = HostNames::new([HostName::parse("Atlas-Proxy.platform.svc").unwrap()])
            .with_bound("10.1.2.3".parse().unwrap());
        for yes in [
            "localhost",
            "LocalHost:1",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "[0:0:0:0:0:0:0:1]",
            "10.1.2.3:8080",
            "atlas-proxy.PLATFORM.svc:80",
        ] {
            assert!(names.knows(yes), "{yes}");
        }
        for no in [
            "",
            ":80",
            "localhost:65536",
            "localhost:008080",
            "localhost:+80",
            "localhost:80:80",
            "localhost.",
            "a@localhost",
            "localhost ",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "127.0.0.01",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%25lo]",
            "[::1%lo]",
            "local%68ost",
            "localhost/",
            "localhost\\",
            "localhost,evil",
            "evil",
            "10.1.2.4",
            "[::ffff:127.0.0.1]",
            "localhost#",
            "localhost\u{0}",
            "ｌocalhost",
        ] {
            assert!(!names.knows(no), "{no}");
        }
    }

    #[test]
    fn a_wildcard_bind_adds_nothing() {
        assert!(
            !HostNames::new([])
                .with_bound("0.0.0.0".parse().unwrap())
                .knows("0.0.0.0")
        );
    }

    #[test]
    fn configured_names_are_names() {
        for bad in [
            "",
            "*",
            "*.example.org",
            "http://x",
            "x:80",
            "a b",
            "a/b",
            "-.",
            "127.1",
            "a..b",
            "[x]",
        ] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
        for good in ["a", "a.b-c.d_e", "10.0.0.1", "[fd00::1]", "fd00::1"] {
            assert!(HostName::parse(good).is_ok(), "{good}");
        }
    }
}
