//! DNS, TCP, the egress proxy, TLS.

use std::io;
use std::time::{Duration, SystemTime};

use rustls::{CertificateError, ClientConfig};

use super::certificate::not_after;
use super::{Patient, Status};
use crate::upstream::{ConnectError, TlsFacts, probe};

/// A certificate that expires sooner is worth a look: by then most are replaced.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: u64 = 24 * 3600;

impl Patient<'_> {
    /// How traffic leaves: the variables and settings about proxies.
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
            None => "directly".to_owned(),
        };
        let only_http = egress.is_none()
            && self
                .around
                .proxy_variables
                .iter()
                .any(|name| name.eq_ignore_ascii_case("http_proxy"))
            && !self
                .around
                .proxy_variables
                .iter()
                .any(|name| name.eq_ignore_ascii_case("https_proxy") || name.eq_ignore_ascii_case("all_proxy"));
        let hint = only_http.then(|| {
            "HTTP_PROXY is not looked at: for traffic to Atlas set HTTPS_PROXY, or `proxy` of the account".to_owned()
        });
        let status = if only_http { Status::Warn } else { Status::Ok };
        self.add("proxy", status, format!("{way}; set: {set}"), hint);
    }

    /// Whether the upstream is reached, and is what it says. Err: why later checks make no sense.
    pub(super) async fn network(&mut self, tls: &ClientConfig) -> Result<(), &'static str> {
        let probe = probe(&self.account.upstream, tls).await;
        let host = match &self.account.upstream.egress {
            Some(egress) => egress.host().to_owned(),
            None => self.origin().host().to_owned(),
        };
        match probe.addresses {
            Some(Ok(addresses)) => {
                let mut list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                list.dedup();
                self.add("dns", Status::Ok, format!("{host} is {}", list.join(", ")), None);
            }
            Some(Err(error)) => {
                let hint = "check the name (`--base-url`, `environment`), /etc/resolv.conf, and in Kubernetes the DNS policy and network policies";
                self.add("dns", Status::Fail, error.to_string(), Some(hint.to_owned()));
                self.skip(&["tcp", "tls"], "the name has no address");
                return Err("the name has no address");
            }
            None => {}
        }
        match probe.tcp {
            Some(Ok((address, took))) => {
                self.add(
                    "tcp",
                    Status::Ok,
                    format!("{address} answered in {} ms", took.as_millis()),
                    None,
                );
            }
            Some(Err(error)) => {
                let hint = match &error {
                    ConnectError::Timeout { .. } => {
                        "nobody answers: a firewall or network policy drops the packets, or there is an egress proxy to use (HTTPS_PROXY)"
                    }
                    _ => {
                        "nobody listens there, or a firewall refuses: check the port in the base URL, and whether there is an egress proxy to use (HTTPS_PROXY)"
                    }
                };
                self.add("tcp", Status::Fail, error.to_string(), Some(hint.to_owned()));
                self.skip(&["tls"], "there is no connection");
                return Err("there is no connection");
            }
            None => {}
        }
        match probe.tunnel {
            Some(Ok(())) => self.add(
                "tunnel",
                Status::Ok,
                format!("the egress proxy connects to {}", self.origin()),
                None,
            ),
            Some(Err(error)) => {
                let hint = "look at `proxy` and `proxy_credentials_file` of the account, or HTTPS_PROXY and NO_PROXY";
                self.add("tunnel", Status::Fail, error.to_string(), Some(hint.to_owned()));
                self.skip(&["tls"], "there is no tunnel");
                return Err("there is no tunnel");
            }
            None => {}
        }
        match probe.tls {
            Some(Ok(facts)) => {
                self.tls_is_good(&facts);
                Ok(())
            }
            Some(Err(error)) => {
                let hint = tls_hint(&error);
                self.add("tls", Status::Fail, error.to_string(), Some(hint));
                Err("the upstream has not shown who it is")
            }
            None => {
                self.add("tls", Status::Skip, "plain HTTP to this machine", None);
                Ok(())
            }
        }
    }

    fn tls_is_good(&mut self, facts: &TlsFacts) {
        let until = not_after(&facts.certificate);
        let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        let days = left.map_or_else(String::new, |left| {
            format!(", its certificate is good for {} days", left.as_secs() / DAY)
        });
        let soon = left.is_some_and(|left| left < EXPIRES_SOON);
        let hint = soon.then(|| "whoever runs the upstream has to renew its certificate".to_owned());
        let status = if soon { Status::Warn } else { Status::Ok };
        let found = format!("{} speaks {} and is trusted{days}", self.origin().host(), facts.version);
        self.add("tls", status, found, hint);
    }
}

fn tls_hint(error: &ConnectError) -> String {
    let ConnectError::Tls { source, .. } = error else {
        return "nobody answers the handshake: is something in between that takes connections and drops them?"
            .to_owned();
    };
    let said = match certificate_error(source) {
        Some(CertificateError::UnknownIssuer) => {
            "nobody we trust has signed its certificate: is there a private certificate authority, or a proxy that looks into TLS? \
             Name the authority's PEM file with `ca_file` (--upstream-ca)"
        }
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired, or this machine's clock is ahead: look at the clock first"
        }
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet, or this machine's clock is behind: look at the clock first"
        }
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "its certificate is for another name: the base URL must have the name that is in the certificate; or something else answers here"
        }
        Some(_) => "its certificate is not acceptable: `openssl s_client -connect HOST:PORT` shows it",
        None => "is that a TLS port? TLS 1.2 and later are spoken here",
    };
    said.to_owned()
}

fn certificate_error(error: &io::Error) -> Option<CertificateError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => Some(error.clone()),
        _ => None,
    }
}
