//! What the configuration must say before anybody but programs on this machine can reach a listener.

use std::net::{IpAddr, SocketAddr};

use crate::config::problem::Problems;
use crate::config::source::Source;
use crate::guard::HostName;
use crate::server::ListenerTls;

/// What became of `[listener.tls]`.
pub(super) enum Tls {
    /// There is none.
    None,
    Ready(ListenerTls),
    /// What is wrong with it was noted.
    Wrong,
}

impl Tls {
    pub(super) fn of(built: Option<ListenerTls>) -> Self {
        built.map_or(Self::Wrong, Self::Ready)
    }

    pub(super) fn asks_for_certificates(&self) -> bool {
        matches!(self, Self::Ready(tls) if tls.asks_for_certificates())
    }

    pub(super) fn ready(self) -> Option<Option<ListenerTls>> {
        match self {
            Self::None => Some(None),
            Self::Ready(tls) => Some(Some(tls)),
            Self::Wrong => None,
        }
    }
}

/// A port that other machines reach gives them the use of the credential: the configuration must say who may connect.
pub(super) fn check_exposure(
    address: SocketAddr,
    tls: &Tls,
    plaintext: bool,
    explicit_allow: bool,
    source: &Source,
    problems: &mut Problems,
) {
    if is_loopback(address.ip()) {
        return;
    }
    let missing = match (tls, plaintext, explicit_allow) {
        (Tls::Wrong, ..) => return,
        (Tls::Ready(tls), ..) if explicit_allow || tls.asks_for_certificates() => return,
        (Tls::Ready(_), ..) => {
            "name the authorities of the clients' certificates with `client_ca` in [listener.tls], or the networks that \
             may connect with `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
        (Tls::None, true, true) => return,
        (Tls::None, true, false) => {
            "insecure_plaintext is set, but there is no allowlist: name the networks that may connect with \
                          `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
        (Tls::None, false, _) => {
            "bind a loopback address such as 127.0.0.1; or use TLS with certificates for clients ([listener.tls] in the \
             file); or, if the network itself is protected, set `insecure_plaintext` (--insecure-plaintext, ATLAS_PROXY_INSECURE_PLAINTEXT) and name the \
                       networks that may connect with `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
    };
    problems.add(
        source,
        format_args!(
            "`{address}` is reachable from other machines, and has the use of the account's credential: \
             {missing}"
        ),
    );
}

/// Browsers say what a request is for (`Sec-Fetch-*`) only to this machine's own names and over TLS. Under another name
/// a plain listener can't tell the `<img>` of a page from a program's request, and the page's host may let its own name
/// resolve to this listener.
pub(super) fn check_names(hosts: &[HostName], source: &Source, problems: &mut Problems) {
    let Some(name) = hosts.iter().find(|name| !name.is_loopback()) else {
        return;
    };
    problems.add(
        source,
        format_args!(
            "clients call this plain listener `{name}`, and under such a name browsers don't say which requests are a web \
             page's: name a header that every request must carry with `required_header` (--required-header, \
             ATLAS_PROXY_REQUIRED_HEADER); or use TLS ([listener.tls] in the file); or, if no browser can reach it, set \
             `insecure_plaintext` (--insecure-plaintext, ATLAS_PROXY_INSECURE_PLAINTEXT)"
        ),
    );
}

pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
