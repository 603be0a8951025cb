//! Certificates, uids, Basic, networks; and which of them counts.

use super::*;

fn on(listeners: &[&str], identity: CallerIdentity) -> CallerIdentity {
    CallerIdentity {
        listeners: Some(listeners.iter().map(|name| (*name).to_owned()).collect()),
        ..identity
    }
}

fn by_network(text: &str, networks: &[&str]) -> CallerIdentity {
    CallerIdentity {
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..caller(text)
    }
}

fn by_certificate(text: &str, names: &[&str]) -> CallerIdentity {
    CallerIdentity {
        certificate_names: patterns(names),
        ..caller(text)
    }
}

fn by_uid(text: &str, uids: &[u32]) -> CallerIdentity {
    CallerIdentity {
        uids: uids.to_vec(),
        ..caller(text)
    }
}

#[test]
fn the_longest_prefix_of_a_network_counts() {
    let world = World::of(vec![
        by_network("wide", &["10.0.0.0/8", "2001:db8::/32"]),
        by_network("narrow", &["10.2.0.0/16"]),
        on(&["other"], by_network("elsewhere", &["10.2.3.0/24"])),
    ]);
    for (ip, who) in [
        ("10.1.0.1", "wide by network"),
        ("10.2.0.1", "narrow by network"),
        ("10.2.3.1", "narrow by network"),
        ("::ffff:10.2.0.1", "narrow by network"),
        ("2001:db8::1", "wide by network"),
        ("192.0.2.1", "anonymous"),
        ("::10.2.0.1", "anonymous"),
    ] {
        assert_eq!(world.who(&Request::default().peer(ip)), who, "{ip}");
    }
    assert_eq!(
        world.who(&Request::default().peer("10.2.3.1").on("other")),
        "elsewhere by network"
    );
    let unix = Request {
        peer_ip: None,
        ..Request::default()
    };
    assert_eq!(world.who(&unix), "anonymous");
}

#[test]
fn a_certificate_names_a_caller_by_uri_or_host() {
    let world = World::of(vec![
        by_certificate("billing", &["spiffe://example.org/ns/billing/sa/*", "app.example.org"]),
        by_certificate(
            "reports",
            &["spiffe://example.org/ns/reports/**", "reports.*.example.org"],
        ),
        on(
            &["other"],
            by_certificate("elsewhere", &["spiffe://example.org/ns/billing/**"]),
        ),
    ]);
    let uris = |uris: &[&str]| world.who(&Request::default().with_uris(uris));
    let dns = |dns: &[&str]| world.who(&Request::default().with_dns(dns));
    assert_eq!(
        uris(&["spiffe://example.org/ns/billing/sa/web"]),
        "billing by certificate"
    );
    assert_eq!(uris(&["spiffe://example.org/ns/reports/a/b"]), "reports by certificate");
    assert_eq!(uris(&["spiffe://example.org/ns/billing/sa/web\u{fffd}"]), "anonymous");
    assert_eq!(uris(&["spiffe://example.com/ns/billing/sa/web"]), "anonymous");
    assert_eq!(dns(&["app.example.org"]), "billing by certificate");
    assert_eq!(dns(&["reports.eu.example.org"]), "reports by certificate");
    assert_eq!(
        dns(&["reports.*.example.org"]),
        "anonymous",
        "a wildcard certificate is for many"
    );
    // A URI is no host name, and a host name no URI.
    assert_eq!(uris(&["app.example.org"]), "anonymous");
    assert_eq!(dns(&["spiffe://example.org/ns/billing/sa/web"]), "anonymous");
}

#[test]
fn a_certificate_that_fits_two_callers_is_refused() {
    let world = World::of(vec![
        by_certificate("a", &["spiffe://example.org/a", "a.example.org"]),
        by_certificate("b", &["spiffe://example.org/**", "b.example.org"]),
        on(&["other"], by_certificate("c", &["spiffe://example.org/c"])),
    ]);
    let two = |request: Request| {
        world
            .who(&request)
            .starts_with("unknown: what this request shows is that of two")
    };
    assert!(two(Request::default().with_uris(&["spiffe://example.org/a"])));
    assert!(two(Request::default().with_dns(&["a.example.org", "b.example.org"])));
    assert!(two(Request::default()
        .with_uris(&["spiffe://example.org/b"])
        .with_dns(&["a.example.org"])));
    // Who does not exist at this listener does not count.
    let here = Request::default().with_uris(&["spiffe://example.org/c"]);
    assert_eq!(world.who(&here), "b by certificate");
    assert!(two(here.on("other")));
}

#[test]
fn a_spiffe_certificate_has_exactly_one_uri() {
    let world = World::of(vec![by_certificate("a", &["spiffe://example.org/a", "urn:x:a"])]);
    for uris in [
        ["spiffe://example.org/a", "spiffe://example.org/b"],
        ["spiffe://example.org/a", "spiffe://example.org/a"],
        ["https://example.org/", "spiffe://example.org/a"],
        ["SPIFFE://example.org/b", "urn:x:a"],
    ] {
        let said = world.who(&Request::default().with_uris(&uris));
        assert!(said.starts_with("unknown: a SPIFFE certificate"), "{said}");
    }
    let others = Request::default().with_uris(&["https://example.org/", "urn:x:a"]);
    assert_eq!(world.who(&others), "a by certificate");
}

#[test]
fn the_user_at_the_other_end_of_a_unix_socket_is_known() {
    let world = World::of(vec![
        by_uid("a", &[1001, 1002]),
        by_uid("b", &[1002]),
        on(&["other"], by_uid("c", &[1003])),
    ]);
    assert_eq!(world.who(&Request::default().of_uid(1001)), "a by uid");
    assert!(world.who(&Request::default().of_uid(1002)).contains("two callers"));
    assert_eq!(world.who(&Request::default().of_uid(1003)), "anonymous");
    assert_eq!(world.who(&Request::default().of_uid(1003).on("other")), "c by uid");
}

#[test]
fn certificate_and_uid_name_the_same_caller_or_none() {
    let both = CallerIdentity {
        uids: vec![1],
        ..by_certificate("a", &["a.example.org"])
    };
    let world = World::of(vec![both, by_uid("b", &[2])]);
    let shown = |uid| world.who(&Request::default().of_uid(uid).with_dns(&["a.example.org"]));
    assert_eq!(shown(1), "a by certificate");
    assert_eq!(shown(3), "a by certificate");
    assert!(shown(2).contains("two callers"));
}

#[test]
fn basic_takes_the_current_and_the_next_secret() {
    let next = "n".repeat(40);
    let mut identity = with_secret("a");
    identity.secrets.next = Some(local_secret(&next).unwrap());
    let world = World::of(vec![identity, with_secret("b"), caller("c")]);
    let basic = |name: &str, secret: &str| world.who(&Request::default().basic(name, secret));
    assert_eq!(basic("a", &secret_of("a")), "a by basic");
    assert_eq!(basic("a", &next), "a by basic");
    assert_eq!(basic("b", &secret_of("b")), "b by basic");
    for (name, secret) in [
        ("a", secret_of("b")),
        ("b", next),
        ("a", String::new()),
        ("a", format!("{} ", secret_of("a"))),
        ("c", String::new()),
        ("c", secret_of("c")),
    ] {
        assert_eq!(basic(name, &secret), "nobody", "{name} {secret}");
    }
    for stranger in ["", "A", "d", "billing"] {
        assert_eq!(basic(stranger, &secret_of("a")), "anonymous", "{stranger}");
    }
}

#[test]
fn a_known_name_at_a_listener_of_others_is_wrong() {
    let world = World::of(vec![
        on(&["other"], with_secret("a")),
        by_network("net", &["192.0.2.0/24"]),
    ]);
    let request = Request::default().basic("a", &secret_of("a"));
    assert_eq!(world.who(&request), "nobody");
    assert_eq!(world.who(&request.on("other")), "a by basic");
}

#[test]
fn a_secret_is_not_taken_where_others_can_read_it() {
    let world = World::of(vec![with_secret("a"), by_network("net", &["192.0.2.0/24"])]);
    let said = world.who(&Request::default().basic("a", &secret_of("a")).in_plain());
    assert!(said.contains("only over TLS"), "{said}");
    // A wrong secret does not tell that there is such a caller.
    assert_eq!(world.who(&Request::default().basic("a", "wrong").in_plain()), "nobody");
    let placeholder = Request::default().basic("x", "y").in_plain();
    assert_eq!(world.who(&placeholder), "net by network");
}

/// Wrong counts as wrong whatever else is shown, a placeholder as nothing.
#[test]
fn precedence() {
    let world = World::of(vec![
        CallerIdentity {
            uids: vec![1],
            ..with_secret("a")
        },
        with_secret("b"),
        by_network("net", &["192.0.2.0/24"]),
    ]);
    let plain = Request::default;
    let right = |name: &str| plain().basic(name, &secret_of(name));
    for (request, who) in [
        (plain(), "net by network"),
        (plain().basic("placeholder", "x"), "net by network"),
        (plain().authorization("Bearer placeholder"), "net by network"),
        (plain().authorization("Negotiate x"), "net by network"),
        (right("b"), "b by basic"),
        (plain().basic("b", "wrong"), "nobody"),
        (plain().of_uid(1), "a by uid"),
        (plain().of_uid(1).basic("placeholder", "x"), "a by uid"),
        (right("a").of_uid(1), "a by uid"),
        (plain().of_uid(1).basic("a", "wrong"), "nobody"),
        (plain().of_uid(1).basic("b", "wrong"), "nobody"),
        (plain().of_uid(2).basic("b", &secret_of("b")), "b by basic"),
    ] {
        assert_eq!(world.who(&request), who);
    }
    let another = world.who(&right("b").of_uid(1));
    assert!(another.contains("another caller than the connection"), "{another}");
    let twice = right("b").authorization("Bearer placeholder");
    assert_eq!(world.who(&twice), "BadRequest");
}

#[test]
fn a_reload_changes_who_is_known() {
    let mut world = World::of(vec![with_secret("a"), with_secret("b")]);
    let request = Request::default().basic("b", &secret_of("b"));
    assert_eq!(world.who(&request), "b by basic");
    world.reload(settings(vec![with_secret("b")]));
    assert_eq!(world.who(&request), "b by basic");
    world.reload(settings(vec![with_secret("a")]));
    assert_eq!(world.who(&request), "anonymous");
}
