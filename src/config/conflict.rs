//! Conflicts between parts that are valid by themselves: two listeners on one address, a base URL that is our own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::account;
use super::listener;
use super::problem::Problems;
use super::source::{Given, Network, Source};
use crate::credential::CredentialSettings;
use crate::server::{Bind, ListenerSettings};
use crate::settings::{AccountSettings, AdminSettings};
use crate::upstream::{ConnectTo, Origin};

/// Notes every conflict.
pub(crate) fn check(
    listeners: &[Given<ListenerSettings>],
    accounts: &BTreeMap<String, account::BuiltAccount>,
    admin: &Given<AdminSettings>,
    network: &dyn Network,
    problems: &mut Problems,
) {
    check_addresses(listeners, admin, problems);
    check_names(listeners, problems);
    for (name, account) in accounts {
        let upstream = &account.settings.upstream;
        if let (Some(to), Some(source)) = (&upstream.connect_to, &account.connect_to) {
            // An egress proxy connects from another machine, to what is there.
            if upstream.egress.is_none() {
                check_connect_to(to, source, listeners, admin, network, problems);
            }
        } else if let Some(source) = &account.base_url {
            check_base_url(&account.settings, source, listeners, admin, problems);
        } else if upstream.egress.is_none() {
            check_realm(name, account, listeners, problems);
        }
        if !listeners.iter().any(|l| l.value.account == *name) {
            problems.warn(format_args!("no listener uses the account `{name}`"));
        }
    }
}

fn check_addresses(listeners: &[Given<ListenerSettings>], admin: &Given<AdminSettings>, problems: &mut Problems) {
    for (i, later) in listeners.iter().enumerate() {
        let bind = &later.value.bind;
        let twice = listeners[..i].iter().any(|earlier| same(&earlier.value.bind, bind));
        if twice {
            problems.add(&later.source, format_args!("{} is bound twice", show(bind)));
        } else if admin.value.bind.as_ref().is_some_and(|admin| same(bind, admin)) {
            let source = if admin.source == Source::Nowhere {
                &later.source
            } else {
                &admin.source
            };
            problems.add(
                source,
                format_args!(
                    "a listener and the admin port both bind {}: they need an address each",
                    show(bind)
                ),
            );
        }
    }
}

fn same(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Unix { path: a, .. }, Bind::Unix { path: b, .. }) => a == b,
        (Bind::Elsewhere { name: a }, Bind::Elsewhere { name: b }) => a == b,
        _ => {
            let others = b.addresses();
            a.addresses()
                .iter()
                .any(|address| address.port() != 0 && others.contains(address))
        }
    }
}

fn show(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => format!("`{address}`"),
        Bind::Localhost { port } => format!("`localhost:{port}`"),
        Bind::Unix { path, .. } => format!("`unix:{}`", path.display()),
        Bind::Elsewhere { name } => format!("`systemd:{name}`"),
    }
}

fn check_names(listeners: &[Given<ListenerSettings>], problems: &mut Problems) {
    for (i, later) in listeners.iter().enumerate() {
        let Some(name) = &later.value.name else { continue };
        if listeners[..i].iter().any(|l| l.value.name.as_ref() == Some(name)) {
            problems.add(
                &later.source,
                format_args!("two listeners are called `{name}`: give each a name of its own"),
            );
        }
    }
}

/// Clients find the proxy through the same variables that name the upstream. Inherited by the proxy itself, they would
/// make it call itself without end.
fn check_base_url(
    account: &AccountSettings,
    source: &Source,
    listeners: &[Given<ListenerSettings>],
    admin: &Given<AdminSettings>,
    problems: &mut Problems,
) {
    let origin = &account.upstream.origin;
    let gateway = matches!(account.credential, CredentialSettings::Identity(_));
    let ours = listeners.iter().any(|l| {
        l.value.bind.addresses().into_iter().any(|address| {
            names(origin, address)
                || origin.port() == address.port() && l.value.rules.hosts.knows(origin.authority().as_str())
        })
    });
    if ours && gateway {
        problems.add(
            source,
            format_args!(
                "`{origin}` is this proxy's own listener; a gateway is another proxy of this program: set `gateway` (ATLAS_PROXY_GATEWAY) to \
                 where that is"
            ),
        );
    } else if ours {
        problems.add(
            source,
            format_args!(
                "`{origin}` is this proxy's own listener, not Atlas. The variable that shows clients the way to the \
                 proxy must not reach the proxy: unset it here, or set ATLAS_PROXY_BASE_URL (--base-url), which wins; or, if \
                 clients call the proxy by Atlas's own name, set `connect_to` of the account"
            ),
        );
    } else if matches!(admin.value.bind, Some(Bind::Tcp(address)) if names(origin, address)) {
        problems.add(
            source,
            format_args!(
                "`{origin}` is this proxy's own admin port, not {}",
                if gateway { "a gateway" } else { "Atlas" }
            ),
        );
    }
}

/// A listener that clients take for Atlas, and an account whose connections go where Atlas's name leads.
fn check_realm(
    name: &str,
    account: &account::BuiltAccount,
    listeners: &[Given<ListenerSettings>],
    problems: &mut Problems,
) {
    let origin = &account.settings.upstream.origin;
    let called_so = |listener: &&Given<ListenerSettings>| {
        let addresses = listener.value.bind.addresses();
        addresses.iter().any(|address| address.port() == origin.port())
            && listener.value.rules.hosts.knows(origin.authority().as_str())
    };
    if let Some(listener) = listeners.iter().find(called_so) {
        problems.add(
            &account.place,
            format_args!(
                "`connect_to` is missing in [account.{name}]: clients call a listener `{}` ({}), and this account has that as its upstream. Say \
                 where Atlas is, so that no request comes back here (docs/TRANSPARENT.md)",
                origin.host(),
                listener.source
            ),
        );
    }
}

/// In transparent mode the upstream's name leads to the proxy itself, and `connect_to` must not lead there, too. What it does
/// beyond this machine, or once a name has another address, is found out by the certificate that is shown there.
fn check_connect_to(
    to: &ConnectTo,
    source: &Source,
    listeners: &[Given<ListenerSettings>],
    admin: &Given<AdminSettings>,
    network: &dyn Network,
    problems: &mut Problems,
) {
    let at_port = |binds: &mut dyn Iterator<Item = &Bind>| -> Vec<IpAddr> {
        let addresses = binds.flat_map(Bind::addresses);
        let at_port = addresses.filter(|address| address.port() == to.port());
        at_port.map(|address| address.ip().to_canonical()).collect()
    };
    let ours = at_port(&mut listeners.iter().map(|listener| &listener.value.bind));
    let admins = at_port(&mut admin.value.bind.iter());
    if ours.is_empty() && admins.is_empty() {
        return;
    }
    let addresses = match to.host().parse() {
        Ok(address) => vec![address],
        Err(_) if to.host() == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Err(_) => network.addresses(to.host()),
    };
    let leads_to = |bound: &[IpAddr]| {
        addresses.iter().map(IpAddr::to_canonical).find(|address| {
            let reaches = |at: &IpAddr| {
                // Whoever connects to the address 0.0.0.0 gets to this machine, too.
                at == address || address.is_unspecified() || at.is_unspecified() && network.is_own(*address)
            };
            bound.iter().any(reaches)
        })
    };
    let (address, what) = match (leads_to(&ours), leads_to(&admins)) {
        (Some(address), _) => (address, "listener"),
        (None, Some(address)) => (address, "admin port"),
        (None, None) => return,
    };
    let found = if to.host().parse::<IpAddr>().is_ok() {
        String::new()
    } else {
        format!(" (`{}` is {address} on this machine)", to.host())
    };
    problems.add(
        source,
        format_args!(
            "`{to}` is this proxy's own {what}{found}, not Atlas: name the address at which Atlas is, or a name that leads there \
             from this machine (docs/TRANSPARENT.md)"
        ),
    );
}

/// Whether the origin is this address, or loopback with its port.
fn names(origin: &Origin, address: SocketAddr) -> bool {
    let ip: Option<IpAddr> = origin.host().parse().ok();
    let same_host = match ip {
        Some(ip) => listener::is_loopback(ip) || ip.to_canonical() == address.ip().to_canonical(),
        None => origin.host() == "localhost" || origin.host().ends_with(".localhost"),
    };
    same_host && origin.port() == address.port()
}
