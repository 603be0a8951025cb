//! The proxy on the way to an upstream: the account's own, or the one that the machine's variables name.

use std::net::IpAddr;

use super::account::FileAccount;
use super::inputs::Inputs;
use super::secret_place::SecretPlace;
use super::source::{Given, Source};
use super::variable;
use crate::upstream::{ConnectTo, EgressProxy, Origin};
use ipnet::IpNet;

/// The value of `proxy` for a direct connection, whatever the variables say.
const NONE: &str = "none";

/// The proxy for an account's traffic, if there is one.
pub(crate) fn choose(
    table: Option<&FileAccount>,
    origin: &Origin,
    connect_to: Option<&ConnectTo>,
    inputs: &mut Inputs<'_>,
) -> Option<EgressProxy> {
    let credentials = SecretPlace {
        file: table.and_then(|table| table.proxy_credentials_file.as_ref()),
        command: table.and_then(|table| table.proxy_credentials_command.as_ref()),
    };
    match table.and_then(|table| table.proxy.as_ref()) {
        Some(given) => own(given, credentials, origin, inputs),
        None => {
            if let Some(source) = credentials.source() {
                inputs.problems.add(source, "this is for `proxy`, which is not set");
            }
            of_machine(origin, connect_to, inputs)
        }
    }
}

fn own(
    given: &Given<String>,
    credentials: SecretPlace<'_>,
    origin: &Origin,
    inputs: &mut Inputs<'_>,
) -> Option<EgressProxy> {
    if given.value.trim() == NONE {
        if let Some(source) = credentials.source() {
            inputs.problems.add(
                source,
                "this is for a proxy, and `proxy = \"none\"` says that there is none: remove one of the two",
            );
        }
        return None;
    }
    if !origin.is_tls() {
        inputs.problems.add(
            &given.source,
            format_args!("the upstream {origin} is this machine, by plain HTTP: a credential does not go through a proxy in clear text. Remove this"),
        );
        return None;
    }
    let proxy = parse(given, inputs)?;
    if proxy.has_credentials() {
        inputs.problems.warn(format_args!(
            "{}: the configuration file holds the password of the proxy: put `user:password` into a file of its own and name that with `proxy_credentials_file`",
            given.source
        ));
    }
    if credentials.source().is_none() {
        return Some(proxy);
    }
    inputs.secret(credentials, |bytes| {
        let text = std::str::from_utf8(bytes.trim_ascii_end()).ok();
        text.and_then(|text| proxy.clone().with_credentials(text).ok())
            .ok_or_else(|| "this must be `user:password` in one line".to_owned())
    })
}

/// `HTTPS_PROXY`, else `ALL_PROXY`, unless `NO_PROXY` names the upstream, or where connections to it go; capitals win. Plain HTTP
/// goes to this machine only.
pub(crate) fn of_machine(
    origin: &Origin,
    connect_to: Option<&ConnectTo>,
    inputs: &mut Inputs<'_>,
) -> Option<EgressProxy> {
    if !origin.is_tls() {
        return None;
    }
    let first =
        |names: [&'static str; 2], inputs: &mut Inputs<'_>| names.into_iter().find_map(|name| inputs.variable(name));
    let given = first([variable::HTTPS_PROXY, variable::HTTPS_PROXY_SMALL], inputs)
        .or_else(|| first([variable::ALL_PROXY, variable::ALL_PROXY_SMALL], inputs))?;
    let no = first([variable::NO_PROXY, variable::NO_PROXY_SMALL], inputs);
    let direct = |no: Given<String>| {
        is_direct(&no.value, origin.host(), origin.port())
            || connect_to.is_some_and(|to| is_direct(&no.value, to.host(), to.port()))
    };
    if no.is_some_and(direct) {
        return None;
    }
    parse(&given, inputs)
}

/// Whether `NO_PROXY` names a host. Its entries stand between commas or blanks; each is `*`, a name (with everything
/// below it), `.name`, `*.name` (only what is below), an address or a network; with `:port` for that port alone. A dot
/// at the end of a name is ignored.
fn is_direct(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    no_proxy
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let (name, only) = without_port(entry);
            only.is_none_or(|only| only == port) && names(name, &host)
        })
}

/// An entry without its port.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((ip, rest)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (ip, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.rsplit_once(':') {
        // With more than one colon it is an IPv6 address.
        Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (entry, None),
    }
}

fn names(entry: &str, host: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        return entry.parse::<IpAddr>().is_ok_and(|entry| entry.to_canonical() == ip)
            || entry.parse::<IpNet>().is_ok_and(|net| net.contains(&ip));
    }
    let entry = entry.trim_end_matches('.').to_ascii_lowercase();
    let (name, itself) = match entry.strip_prefix("*.") {
        Some(name) => (name, false),
        None => (entry.strip_prefix('.').unwrap_or(&entry), true),
    };
    let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    !name.is_empty() && (below || itself && host == name)
}

fn parse(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<EgressProxy> {
    match EgressProxy::parse(&given.value) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            let hint = match given.source {
                Source::Variable(_) => " (NO_PROXY names hosts that are reached directly)",
                _ => "",
            };
            inputs.problems.add(&given.source, format_args!("{error}{hint}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_direct;

    #[test]
    fn no_proxy_names_hosts_in_every_usual_form() {
        for (no_proxy, host, port) in [
            ("*", "a.example.org", 443),
            ("example.org", "example.org", 443),
            ("example.org", "a.example.org", 443),
            (".example.org", "example.org", 443),
            ("*.example.org", "a.b.example.org", 443),
            ("EXAMPLE.org.", "a.example.org", 443),
            ("example.org", "example.org.", 443),
            ("example.org:8443", "example.org", 8443),
            ("*.example.org:443", "a.example.org", 443),
            ("other  example.org", "example.org", 443),
            ("other,\texample.org , x", "example.org", 443),
            ("10.0.0.0/8", "10.1.2.3", 443),
            ("10.1.2.3:443", "10.1.2.3", 443),
            ("::1", "::1", 443),
            ("[::1]:443", "::1", 443),
            ("fd00::/8", "fd00::1", 443),
        ] {
            assert!(is_direct(no_proxy, host, port), "{no_proxy}: {host}:{port}");
        }
        for (no_proxy, host, port) in [
            ("", "example.org", 443),
            (", ,", "example.org", 443),
            ("*.example.org", "example.org", 443),
            ("example.org", "xexample.org", 443),
            ("example.org:8443", "example.org", 443),
            ("[::1]:80", "::1", 443),
            ("10.0.0.0/8", "11.0.0.1", 443),
            ("a.example.org", "example.org", 443),
            (".", "example.org", 443),
            ("example.*", "example.org", 443),
        ] {
            assert!(!is_direct(no_proxy, host, port), "{no_proxy}: {host}:{port}");
        }
    }
}
