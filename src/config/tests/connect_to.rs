//! `connect_to`: where it may lead, and what it leads past.

use std::net::IpAddr;

use super::super::Network;
use super::Case;
use crate::upstream::{ConnectTo, Origin};

/// A machine with the addresses 192.0.2.7 and 2001:db8::7, and some names.
pub(super) struct Names;

impl Network for Names {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let addresses: &[&str] = match name {
            // As /etc/hosts has it in transparent mode, and as DNS has it.
            "cloud.mongodb.com" => &["127.0.0.1"],
            "cloud.mongodb.com." => &["203.0.113.1", "203.0.113.2"],
            "this.example.org" => &["203.0.113.1", "192.0.2.7"],
            "mapped.example.org" => &["::ffff:192.0.2.7"],
            _ => &[],
        };
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || ["192.0.2.7", "2001:db8::7"]
                .iter()
                .any(|own| address == own.parse::<IpAddr>().unwrap())
    }
}

fn case(bind: &str, connect_to: &str) -> Case {
    Case::new().toml(&format!(
        "[[listener]]\nbind = '{bind}'\nallow = ['192.0.2.0/24']\ninsecure_plaintext = true\n[account.default]\nconnect_to = \
         '{connect_to}'"
    ))
}

#[test]
fn the_upstream_keeps_its_name_and_is_reached_elsewhere() {
    let settings = case("127.0.0.1:8080", "203.0.113.1:8443").settings();
    let upstream = &settings.accounts["default"].upstream;
    assert_eq!(upstream.origin, Origin::commercial());
    assert_eq!(upstream.connect_to, Some(ConnectTo::parse("203.0.113.1:8443").unwrap()));
    assert_eq!(upstream.target(), ("203.0.113.1", 8443));
}

#[test]
fn what_leads_back_to_a_listener_is_refused() {
    for (bind, to, found) in [
        ("127.0.0.1:443", "127.0.0.1:443", ""),
        ("[::1]:443", "[::1]:443", ""),
        ("[::1]:443", "localhost:443", "(`localhost` is ::1 on this machine)"),
        ("localhost:443", "127.0.0.1:443", ""),
        (
            "127.0.0.1:443",
            "cloud.mongodb.com:443",
            "(`cloud.mongodb.com` is 127.0.0.1 on this machine)",
        ),
        ("127.0.0.1:443", "0.0.0.0:443", ""),
        // Bound everywhere: every address of this machine.
        ("0.0.0.0:443", "127.0.0.1:443", ""),
        ("0.0.0.0:443", "192.0.2.7:443", ""),
        ("[::]:443", "192.0.2.7:443", ""),
        ("[::]:443", "[2001:db8::7]:443", ""),
        ("[::]:443", "[::ffff:192.0.2.7]:443", ""),
        (
            "0.0.0.0:443",
            "this.example.org:443",
            "(`this.example.org` is 192.0.2.7 on this machine)",
        ),
        ("192.0.2.7:443", "mapped.example.org:443", "192.0.2.7"),
    ] {
        let said = case(bind, to).error();
        assert!(
            said.starts_with("/etc/proxy.toml:6:14: `account.default.connect_to`: "),
            "{said}"
        );
        assert!(
            said.contains("this proxy's own listener") && said.contains(found),
            "{bind} {to}: {said}"
        );
    }
    let admin = case("127.0.0.1:443", "127.0.0.1:9091").error();
    assert!(admin.contains("own admin port"), "{admin}");
    let second = Case::bare().toml(
        "[[listener]]\nbind = '127.0.0.1:443'\naccount = 'a'\n[[listener]]\nbind = '127.0.0.1:444'\naccount = 'b'\n\
         [account.a]\nclient_id_file = '/id'\nclient_secret_file = '/secret'\nconnect_to = '127.0.0.1:444'\n\
         [account.b]\nclient_id_file = '/id'\nclient_secret_file = '/secret'",
    );
    let second = second.file("/id", super::ID).file("/secret", super::SECRET).error();
    assert!(
        second.contains("`127.0.0.1:444` is this proxy's own listener"),
        "{second}"
    );
}

#[test]
fn what_leads_elsewhere_is_taken() {
    for (bind, to) in [
        ("127.0.0.1:443", "127.0.0.1:444"),
        ("127.0.0.1:443", "127.0.0.2:443"),
        ("127.0.0.1:443", "192.0.2.7:443"),
        ("127.0.0.1:443", "cloud.mongodb.com.:443"),
        ("0.0.0.0:443", "203.0.113.1:443"),
        // Nobody says now what it is; the certificate will.
        ("0.0.0.0:443", "unknown.example.org:443"),
        ("0.0.0.0:443", "this.example.org:444"),
    ] {
        case(bind, to).settings();
    }
}

/// The egress proxy knows what its machine's loopback and its DNS lead to.
#[test]
fn behind_an_egress_proxy_it_is_not_this_machine_that_is_meant() {
    let proxied = || case("127.0.0.1:443", "127.0.0.1:443").env("HTTPS_PROXY", "http://egress:3128");
    assert!(proxied().settings().accounts["default"].upstream.egress.is_some());
    // Unless it is not used for that address.
    assert!(proxied().env("NO_PROXY", "127.0.0.1").error().contains("own listener"));
    let direct = |no: &str| {
        let case = case("127.0.0.1:443", "203.0.113.1:443").env("HTTPS_PROXY", "http://egress:3128");
        case.env("NO_PROXY", no).settings().accounts["default"]
            .upstream
            .egress
            .is_none()
    };
    assert!(direct("203.0.113.0/24") && direct(".mongodb.com") && !direct("192.0.2.0/24"));
}

#[test]
fn what_is_no_host_with_a_port_or_for_plain_http_is_refused() {
    for to in ["203.0.113.1", "https://cloud.mongodb.com", "cloud.mongodb.com"] {
        let said = case("127.0.0.1:443", to).error();
        assert!(said.contains("write `HOST:PORT`") && said.contains(to), "{said}");
    }
    let plain = case("127.0.0.1:443", "203.0.113.1:80").env("ATLAS_PROXY_BASE_URL", "http://127.0.0.1:8081");
    assert!(plain.error().contains("plain HTTP"), "{}", plain.error());
}

/// By default or as base URL.
#[test]
fn an_upstream_whose_name_clients_call_us_by_needs_connect_to() {
    let case = |port: u16, more: &str| {
        Case::new().toml(&format!(
            "[[listener]]\nbind = '127.0.0.1:{port}'\nhosts = ['cloud.mongodb.com']\nrequired_header = 'x'\n[account.default]\n{more}"
        ))
    };
    for url in ["", "base_url = 'https://cloud.mongodb.com'\n"] {
        let said = case(443, url).error();
        assert!(said.contains("`connect_to`"), "{said}");
        case(443, &format!("{url}connect_to = 'cloud.mongodb.com.:443'")).settings();
        case(8443, url).settings();
    }
    let said = case(443, "").error();
    assert!(
        said.starts_with("/etc/proxy.toml:5:10: `account.default`: `connect_to` is missing in [account.default]")
            && said.contains("(/etc/proxy.toml:2:8: `listener.bind`)"),
        "{said}"
    );
    // Where the account has no table.
    let bare =
        Case::new().toml("[[listener]]\nbind = '127.0.0.1:443'\nhosts = ['cloud.mongodb.com']\nrequired_header = 'x'");
    let said = bare.error();
    assert!(
        said.starts_with("`connect_to` is missing in [account.default]"),
        "{said}"
    );
    // Another realm, or an egress proxy, which looks up the name elsewhere.
    case(443, "environment = 'gov'").settings();
    case(443, "proxy = 'http://egress:3128'").settings();
}
