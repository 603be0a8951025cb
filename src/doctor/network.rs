//! DNS, TCP, the egress proxy, TLS.

use std::io;
use std::time::{Duration, SystemTime};

use rustls::{CertificateError, ClientConfig};

use super::{Patient, span};
use crate::certificate::not_after;
use crate::report::Status;
use crate::upstream::{AUTHORITY_AS_SERVER, PROXY_NOT_ATLAS, is_authority_as_server, is_of_make_ca};
use crate::upstream::{ConnectError, TlsFacts, Untrusted, inspect};

/// A certificate that expires sooner is worth a warning: most are replaced before.
pub(super) const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

impl Patient<'_> {
    /// Reports how traffic leaves: the variables and settings about proxies.
    pub(super) fn say_proxy(&mut self) {
        let set = self.around.proxy_variables.join(", ");
        let set = if set.is_empty() {
            "no proxy variable".to_owned()
        } else {
            set
        };
        let egress = self.account.upstream.egress.as_ref();
        let way = match egress {
            Some(egress) => format!(
                "through {egress} ({})",
                if egress.has_credentials() {
                    "with credentials"
                } else {
                    "without credentials"
                }
            ),
            None if names_proxy(&self.around.proxy_variables) => {
                "directly, as NO_PROXY names the upstream, or `proxy` of the account is \"none\"".to_owned()
            }
            None => "directly".to_owned(),
        };
        let only_http = egress.is_none()
            && self
                .around
                .proxy_variables
                .iter()
                .any(|name| name.eq_ignore_ascii_case("http_proxy"))
            && !names_proxy(&self.around.proxy_variables);
        let hint = only_http.then(|| {
            "HTTP_PROXY is not looked at: for traffic to Atlas set HTTPS_PROXY, or `proxy` of the account".to_owned()
        });
        let status = if only_http { Status::Warn } else { Status::Ok };
        self.add("proxy", status, format!("{way}; set: {set}"), hint);
    }

    /// Whether the upstream can be reached and proves its name. Err: why later checks make no sense.
    pub(super) async fn network(&mut self, tls: &ClientConfig) -> Result<(), &'static str> {
        self.begin("network", format!("connecting to {}", self.origin()));
        let found = inspect(&self.account.upstream, tls).await;
        let egress = self.account.upstream.egress.as_ref();
        let (host, whose) = match egress {
            Some(egress) => (egress.host(), "the egress proxy "),
            None => (self.account.upstream.target().0, ""),
        };
        match found.addresses {
            Some(Ok(addresses)) => {
                let mut list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                list.dedup();
                let found = match list.as_slice() {
                    [only] if only == host => format!("{whose}{host} is an address already"),
                    list => format!("{whose}{host} is {}", list.join(", ")),
                };
                self.add("dns", Status::Ok, found, None);
            }
            Some(Err(error)) => {
                let hint = match egress {
                    Some(_) => {
                        "check the name of the egress proxy (HTTPS_PROXY, `proxy` of the account) and /etc/resolv.conf"
                    }
                    None => &format!(
                        "check the name ({}), /etc/resolv.conf, and in Kubernetes the DNS policy and network policies; where only an \
                         egress proxy knows names, set HTTPS_PROXY",
                        self.target_setting()
                    ),
                };
                let found = match &error {
                    ConnectError::Timeout { after, .. } => {
                        format!(
                            "nobody resolved the name {host} within {} s (`connect_timeout`)",
                            after.as_secs_f32()
                        )
                    }
                    other => said(other, self.way_here()),
                };
                self.add("dns", Status::Fail, found, Some(hint.to_owned()));
                self.skip(&["tcp", "tls"], "the name has no address");
                return Err("the name has no address");
            }
            None => {}
        }
        match found.tcp {
            Some(Ok((address, took))) => {
                self.add(
                    "tcp",
                    Status::Ok,
                    format!("{address} answered in {} ms", took.as_millis()),
                    None,
                );
            }
            Some(Err(error)) => {
                let hint = match (&error, egress) {
                    (_, Some(_)) => "the egress proxy is not there: check HTTPS_PROXY, or `proxy` of the account",
                    (ConnectError::Timeout { .. }, None) => {
                        "nobody answers: a firewall or network policy drops the packets, or there is an egress proxy to use (HTTPS_PROXY)"
                    }
                    (_, None) => &format!(
                        "nobody listens there, or a firewall refuses: check the port in {}, and whether there is an egress proxy to use (HTTPS_PROXY)",
                        self.target_setting()
                    ),
                };
                self.add(
                    "tcp",
                    Status::Fail,
                    said(&error, self.way_here()),
                    Some(hint.to_owned()),
                );
                self.skip(&["tls"], "there is no connection");
                return Err("there is no connection");
            }
            None => {}
        }
        match found.tunnel {
            Some(Ok(())) => self.add(
                "tunnel",
                Status::Ok,
                match &self.account.upstream.connect_to {
                    None => format!("the egress proxy connects to {}", self.origin()),
                    Some(to) => format!("the egress proxy connects to {to} for {}", self.origin()),
                },
                None,
            ),
            Some(Err(error)) => {
                let hint = "look at `proxy` and `proxy_credentials_file` of the account, or HTTPS_PROXY and NO_PROXY";
                self.add(
                    "tunnel",
                    Status::Fail,
                    said(&error, self.account.upstream.way()),
                    Some(hint.to_owned()),
                );
                self.skip(&["tls"], "there is no tunnel");
                return Err("there is no tunnel");
            }
            None => {}
        }
        match found.tls {
            Some(Ok(facts)) => {
                self.tls_is_good(&facts);
                Ok(())
            }
            Some(Err(error)) => {
                let way = self.account.upstream.way();
                let (found, hint) =
                    tls_trouble(&error, way.as_deref(), self.address_setting(), self.around.clock.wall());
                self.add("tls", Status::Fail, found, Some(hint));
                Err("the upstream has not shown who it is")
            }
            None => {
                self.add("tls", Status::Skip, "plain HTTP to this machine", None);
                Ok(())
            }
        }
    }

    /// Where the first connection goes, if `connect_to` says it.
    fn way_here(&self) -> Option<String> {
        let upstream = &self.account.upstream;
        upstream.way().filter(|_| upstream.egress.is_none())
    }

    fn tls_is_good(&mut self, facts: &TlsFacts) {
        let until = not_after(&facts.certificate);
        let left = until.and_then(|until| until.duration_since(self.around.clock.wall()).ok());
        let days = left.map_or_else(String::new, |left| {
            format!(", its certificate is good for {}", span(left))
        });
        let soon = left.is_some_and(|left| left < EXPIRES_SOON);
        let hint = soon.then(|| "whoever runs the upstream has to renew its certificate".to_owned());
        let status = if soon { Status::Warn } else { Status::Ok };
        let found = format!("{} speaks {} and is trusted{days}", self.origin().host(), facts.version);
        self.add("tls", status, found, hint);
    }
}

/// Whether a variable says to use a proxy for `https`.
fn names_proxy(variables: &[&str]) -> bool {
    let names = |name: &&str| name.eq_ignore_ascii_case("https_proxy") || name.eq_ignore_ascii_case("all_proxy");
    variables.iter().any(names)
}

/// What happened, without the error's own advice: the doctor's fits better. `way`: by `connect_to`.
fn said(error: &ConnectError, way: Option<String>) -> String {
    match (error, way) {
        (ConnectError::Dns { host, source }, None) => format!("the name {host} cannot be resolved: {source}"),
        (ConnectError::Dns { source, .. }, Some(way)) => format!("no address is found for {way}: {source}"),
        (ConnectError::Tcp { host, port, source }, None) => format!("no TCP connection to {host}:{port}: {source}"),
        (ConnectError::Tcp { source, .. }, Some(way)) => format!("no TCP connection to {way}: {source}"),
        (other, None) => other.to_string(),
        (other, Some(way)) => format!("{other} ({way})"),
    }
}

/// The finding about a handshake that failed, and what to do. `way`: by `connect_to`. `setting` names where the upstream's name is
/// from.
fn tls_trouble(error: &ConnectError, way: Option<&str>, setting: &str, now: SystemTime) -> (String, String) {
    let place = |host: &str, port: u16| way.map_or_else(|| format!("{host}:{port}"), str::to_owned);
    let ConnectError::Tls { host, port, source } = error else {
        let found = match error {
            ConnectError::Timeout { host, port, after } => format!(
                "{} took the connection, and did not answer the TLS handshake within {} s (`connect_timeout`)",
                place(host, *port),
                after.as_secs_f32()
            ),
            other => other.to_string(),
        };
        let hint = "something in between takes connections and does nothing with them (a firewall, a load balancer without a server), or this is no TLS port";
        return (found, hint.to_owned());
    };
    let place = place(host, *port);
    let not_there = || {
        format!(
            "what stands at `connect_to` is not Atlas, or whatever {setting} names: give the address at which that is, or a name that leads \
             there from this machine (docs/TRANSPARENT.md)"
        )
    };
    if let Some(untrusted) = Untrusted::of(source) {
        let advice = match way {
            None => untrusted.advice(),
            Some(_) => format!("{}; where it is right: {}", not_there(), untrusted.advice()),
        };
        return (format!("no trusted TLS connection to {place}: {untrusted}"), advice);
    }
    let certificate = certificate_error(source);
    let tls = source.get_ref().and_then(|error| error.downcast_ref());
    if tls.is_some_and(is_of_make_ca) {
        let found = format!("{place} shows what `make-ca` made");
        return (found, PROXY_NOT_ATLAS.to_owned());
    }
    let authority = tls.is_some_and(is_authority_as_server);
    let found = match &certificate {
        Some(CertificateError::ExpiredContext { not_after, .. }) => format!(
            "the certificate of {place} expired on {}; this machine's clock says {}",
            of_unix(not_after.as_secs()),
            of(now)
        ),
        Some(CertificateError::NotValidYetContext { not_before, .. }) => format!(
            "the certificate of {place} is valid from {} on; this machine's clock says {}",
            of_unix(not_before.as_secs()),
            of(now)
        ),
        _ if authority => format!("{place} shows the certificate of an authority as if it were a server's"),
        _ => format!("no trusted TLS connection to {place}: {source}"),
    };
    let hint = match certificate {
        _ if authority => AUTHORITY_AS_SERVER,
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) if way.is_some() => {
            &not_there()
        }
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "if that clock is right, whoever runs the upstream has to renew the certificate; if it is ahead, set it"
        }
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "if that clock is right, whoever runs the upstream has to replace the certificate; if it is behind, set it"
        }
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => &format!(
            "its certificate is for another name: {setting} must have the name that is in the certificate; or something else answers here"
        ),
        Some(_) => "its certificate is not acceptable: `openssl s_client -connect HOST:PORT` shows it",
        None => "is that a TLS port? TLS 1.2 and later are spoken here",
    };
    (found, hint.to_owned())
}

pub(super) fn of(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    of_unix(seconds.as_secs())
}

/// `2026-11-24 03:00 UTC`.
fn of_unix(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(
        || "an impossible time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

fn certificate_error(error: &io::Error) -> Option<CertificateError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => Some(error.clone()),
        _ => None,
    }
}
