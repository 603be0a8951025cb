//! Where the connections of an origin go, when that is not where its name leads.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::DnsName;

use super::Origin;

/// Host and port that connections go to in place of the origin's (`connect_to`). TLS and `Host` stay those of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    host: String,
    port: u16,
}

/// A text that is no host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a host with a port: write `HOST:PORT`, such as `192.0.2.1:443` or `[2001:db8::1]:443`, without a scheme"
)]
pub struct ConnectToError;

impl ConnectTo {
    /// Reads `HOST:PORT`: a name, with a dot at its end or not, or an address, an IPv6 one in brackets.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, ConnectToError> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(ConnectToError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ConnectToError)?;
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (in_brackets, host.parse::<IpAddr>()) {
            (Some(inside), _) => match inside.parse::<IpAddr>() {
                Ok(ip @ IpAddr::V6(_)) => ip.to_string(),
                _ => return Err(ConnectToError),
            },
            (None, Ok(ip @ IpAddr::V4(_))) => ip.to_string(),
            (None, _) if DnsName::try_from(host).is_ok() => host.to_ascii_lowercase(),
            _ => return Err(ConnectToError),
        };
        Ok(Self { host, port })
    }

    /// The name or the address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What logs and `check` say of a failure on the way: whom the connection was for, and where it went. Clients are told of the
    /// origin alone.
    pub fn way(&self, origin: &Origin) -> String {
        format!("{} at {self}, by `connect_to`", origin.host())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_an_address_with_a_port() {
        for (text, shown) in [
            ("192.0.2.1:443", "192.0.2.1:443"),
            (" [2001:DB8::1]:8443 ", "[2001:db8::1]:8443"),
            ("Atlas.example.org:443", "atlas.example.org:443"),
            // Looked up in DNS alone, not in /etc/hosts.
            ("cloud.mongodb.com.:443", "cloud.mongodb.com.:443"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(ConnectTo::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "192.0.2.1",
            "cloud.mongodb.com",
            "https://cloud.mongodb.com:443",
            "https://cloud.mongodb.com",
            "user@host:443",
            "host:443/path",
            ":443",
            "host:",
            "host:0",
            "host:65536",
            "2001:db8::1:443",
            "[192.0.2.1]:443",
            "[host]:443",
            "1.2.3:443",
            "a..b:443",
        ] {
            assert!(ConnectTo::parse(bad).is_err(), "{bad}");
        }
    }
}
