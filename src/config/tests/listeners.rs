//! Listeners: several of them, unix sockets, rules, and which binds are refused.

use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::server::Bind;

#[test]
fn a_list_of_addresses_makes_a_listener_each() {
    let case = Case::new().env("ATLAS_PROXY_LISTEN", "127.0.0.1:1, [::1]:2,unix:/run/p.sock");
    let binds: Vec<Bind> = case.settings().listeners.into_iter().map(|l| l.bind).collect();
    assert_eq!(binds.len(), 3);
    assert_eq!(
        binds[2],
        Bind::Unix {
            path: "/run/p.sock".into(),
            mode: 0o600,
            uids: vec![]
        }
    );
}

#[test]
fn addresses_take_the_place_of_the_only_listeners_bind() {
    let case = Case::new()
        .toml("[[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\nread_only = true")
        .flags(|f| f.listen = vec!["127.0.0.1:2".into()]);
    let listeners = case.settings().listeners;
    assert_eq!(listeners[0].name.as_deref(), Some("a"));
    let case = case.flags(|f| f.listen.push("127.0.0.1:3".into()));
    let listeners = case.settings().listeners;
    assert_eq!(listeners.len(), 2);
    for listener in listeners {
        assert_eq!(listener.name, None);
        assert!(listener.rules.policy.check(&Method::POST, "/").is_err());
    }
}

#[test]
fn addresses_cannot_choose_among_several_listeners() {
    let said = Case::new()
        .toml("[[listener]]\nbind = '127.0.0.1:1'\n[[listener]]\nbind = '127.0.0.1:2'")
        .env("ATLAS_PROXY_LISTEN", "127.0.0.1:3")
        .error();
    assert!(
        said.starts_with("ATLAS_PROXY_LISTEN: the file has 2 listeners"),
        "{said}"
    );
}

#[test]
fn unix_settings() {
    let load = |text: &str| Case::new().toml(&format!("[[listener]]\nbind = 'unix:/p'\n{text}"));
    for (text, expected) in [
        ("mode = '0660'", 0o660),
        ("mode = 0o640", 0o640),
        ("mode = '777'\nuids = [0]", 0o777),
    ] {
        assert!(matches!(load(text).settings().listeners[0].bind, Bind::Unix { mode, .. } if mode == expected));
        assert_eq!(load(text).warnings().len(), 0);
    }
    assert!(load("mode = '0666'").warnings()[0].contains("every user of this machine may connect"));
}

#[test]
fn rules_and_required_header() {
    let listeners = Case::new()
        .toml(
            "[[listener]]\nrequired_header = 'X-Mine'\n\
             [[listener.rule]]\nmethods = ['GET']\npath = '/api/atlas/v2/groups/**'\naction = 'allow'\n\
             [[listener.rule]]\npath = '/api/atlas/v2/orgs/**'\naction = 'deny'\n",
        )
        .settings()
        .listeners;
    let allowed = |method: &Method, path: &str| listeners[0].rules.policy.check(method, path).is_ok();
    assert!(allowed(&Method::GET, "/api/atlas/v2/groups/a"));
    assert!(!allowed(&Method::POST, "/api/atlas/v2/groups/a"));
    assert!(!allowed(&Method::GET, "/api/atlas/v2/orgs/a"));
    assert!(
        !allowed(&Method::GET, "/elsewhere"),
        "with rules, what matches none is refused"
    );
    let required = listeners[0].rules.required_header.as_ref().unwrap();
    let mut headers = HeaderMap::new();
    assert!(!required.present(&headers));
    headers.insert("x-mine", HeaderValue::from_static("1"));
    assert!(required.present(&headers));
    let open = "[[listener]]\nunmatched = 'allow'\n[[listener.rule]]\npath = '/a'\naction = 'deny'";
    let policy = &Case::new().toml(open).settings().listeners[0].rules.policy;
    assert!(policy.check(&Method::GET, "/b").is_ok() && policy.check(&Method::GET, "/a").is_err());
}

#[test]
fn a_plain_listener_with_a_name_beyond_loopback_takes_a_required_header() {
    let named = |host: &str, rest: &str| Case::new().toml(&format!("[[listener]]\nhosts = ['{host}']\n{rest}"));
    for host in [
        "atlas-proxy.platform.svc",
        "10.1.2.3",
        "[fd00::1]",
        "localhost.example.org",
        "xlocalhost",
    ] {
        let said = named(host, "").error();
        for accepted in [
            "hosts`: clients call this plain listener",
            "required_header",
            "--required-header",
            "ATLAS_PROXY_REQUIRED_HEADER",
            "[listener.tls]",
            "insecure_plaintext",
            "--insecure-plaintext",
            "ATLAS_PROXY_INSECURE_PLAINTEXT",
        ] {
            assert!(said.contains(accepted), "{host}, {accepted}: {said}");
        }
        assert!(said.starts_with("/etc/proxy.toml:2:"), "{said}");
        named(host, "required_header = 'X-Mine'").settings();
        named(host, "insecure_plaintext = true").settings();
        named(host, "bind = 'unix:/p'").settings();
        named(host, "").env("ATLAS_PROXY_REQUIRED_HEADER", "X-Mine").settings();
        named(host, "")
            .flags(|f| f.required_header = Some("X-Mine".into()))
            .settings();
    }
    for loopback in ["localhost", "atlas.localhost", "127.0.0.9", "[::1]"] {
        named(loopback, "").settings();
    }
    let by_flag = Case::new().flags(|f| f.host = vec!["proxy.example.org".into()]).error();
    assert!(by_flag.starts_with("--host: "), "{by_flag}");
    let by_variable = Case::new().env("ATLAS_PROXY_HOSTS", "proxy.example.org").error();
    assert!(by_variable.starts_with("ATLAS_PROXY_HOSTS: "), "{by_variable}");
}

#[test]
fn exposure_takes_two_settings() {
    let bind = |bind: &str, plaintext: bool, allow: &[&str]| {
        Case::new().flags(|f| {
            f.listen = vec![bind.to_owned()];
            f.insecure_plaintext = plaintext.then(|| "true".to_owned());
            f.allow = allow.iter().map(|net| (*net).to_owned()).collect();
        })
    };
    for loopback in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost:1",
        "unix:/p",
    ] {
        bind(loopback, false, &[]).settings();
    }
    for exposed in [
        "0.0.0.0:1",
        "[::]:1",
        "10.0.0.1:1",
        "[fd00::1]:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        for (plaintext, allow, hint) in [
            (false, &[][..], "bind a loopback address"),
            (false, &["10.0.0.0/8"][..], "bind a loopback address"),
            (true, &[][..], "there is no allowlist"),
        ] {
            let said = bind(exposed, plaintext, allow).error();
            assert!(said.starts_with("--listen: ") && said.contains(hint), "{said}");
        }
        bind(exposed, true, &["10.0.0.0/8"]).settings();
    }
}

#[test]
fn an_own_listener_is_no_upstream() {
    for (variable, listen, url) in [
        ("MONGODB_ATLAS_BASE_URL", "127.0.0.1:8080", "http://localhost:8080"),
        ("MONGODB_ATLAS_BASE_URL", "127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("MONGODB_ATLAS_OPS_MANAGER_URL", "[::1]:8080", "http://[::1]:8080"),
        (
            "ATLAS_PROXY_BASE_URL",
            "127.0.0.1:1,127.0.0.1:8443",
            "https://127.0.0.1:8443",
        ),
        ("ATLAS_PROXY_BASE_URL", "127.0.0.1:443", "https://proxy.example"),
    ] {
        let said = Case::new()
            .env(variable, url)
            .env("ATLAS_PROXY_LISTEN", listen)
            .env("ATLAS_PROXY_HOSTS", "proxy.example")
            .env("ATLAS_PROXY_REQUIRED_HEADER", "X-Mine")
            .error();
        assert!(
            said.starts_with(&format!("{variable}: ")) && said.contains("own listener"),
            "{said}"
        );
    }
    let admin = Case::new().env("ATLAS_PROXY_BASE_URL", "http://127.0.0.1:9091").error();
    assert!(admin.contains("own admin port"), "{admin}");
    for fine in [
        "http://127.0.0.1:8081",
        "https://cloud.mongodb.com:8080",
        "https://proxy.example",
    ] {
        Case::new().env("ATLAS_PROXY_BASE_URL", fine).settings();
    }
    // The proxy's own variable wins over the one that clients follow.
    Case::new()
        .env("MONGODB_ATLAS_BASE_URL", "http://localhost:8080")
        .env("ATLAS_PROXY_BASE_URL", "https://cloud.mongodb.com")
        .settings();
}

#[test]
fn an_account_without_a_listener_is_worth_a_warning() {
    let case = Case::new()
        .file("/s", SECRET)
        .toml("[[listener]]\naccount = 'default'\n[account.spare]\nclient_id = 'i'\nclient_secret_file = '/s'");
    assert_eq!(case.warnings(), ["no listener uses the account `spare`"]);
}

#[test]
fn load_balancers_that_are_believed_are_networks_that_no_caller_has() {
    let loads = |toml: &str| Case::new().toml(toml).settings();
    let settings = loads("[[listener]]\nproxy_protocol = ['10.0.0.1', 'fd00::/64']\nallow = ['192.0.2.0/24']");
    let balancers = settings.listeners[0].proxy_protocol.as_ref().unwrap();
    assert!(balancers.allows("10.0.0.1".parse().unwrap()) && !balancers.allows("10.0.0.2".parse().unwrap()));
    assert_eq!(loads("[[listener]]").listeners[0].proxy_protocol, None);
    let caller = |network: &str| {
        format!(
            "[[listener]]\nproxy_protocol = ['10.0.0.1/32']\nallow = ['10.0.0.0/8']\n[[caller]]\nname = 'a'\n\
             networks = ['192.0.2.1', '{network}']\n[[caller.rule]]\noperations = ['listGroups']\naction = 'allow'"
        )
    };
    loads(&caller("10.0.1.0/24"));
    for network in ["10.0.0.1", "10.0.0.0/24", "::ffff:10.0.0.0/120", "0.0.0.0/0"] {
        let said = Case::new().toml(&caller(network)).error();
        assert!(
            said.contains("caller.networks") && said.contains("overlaps with load balancers"),
            "{said}"
        );
    }
    for (toml, says) in [
        ("proxy_protocol = []", "trusts no load balancer"),
        ("proxy_protocol = ['lb.example.org']", "is not a network"),
        (
            "bind = 'unix:/s'\nproxy_protocol = ['10.0.0.1']",
            "has no peer addresses",
        ),
    ] {
        let said = Case::new().toml(&format!("[[listener]]\n{toml}")).error();
        assert!(
            said.contains(says) && said.contains("listener.proxy_protocol"),
            "{said}"
        );
    }
    let warned = Case::new()
        .toml("[[listener]]\nproxy_protocol = ['10.0.0.1']")
        .warnings()
        .join("\n");
    assert!(warned.contains("name their networks with `allow`"), "{warned}");
    for (trusted, warned_of) in [
        ("'10.0.0.0/8', '2001:db8::/32'", None),
        ("'10.0.0.0/7'", Some("`10.0.0.0/7`")),
        ("'2001:db8::/31'", Some("`2001:db8::/31`")),
        ("'0.0.0.0/1', '128.0.0.0/1'", Some("`0.0.0.0/0`")),
        ("'::ffff:0.0.0.0/96'", Some("`0.0.0.0/0`")),
    ] {
        let warnings = Case::new()
            .toml(&format!(
                "[[listener]]\nproxy_protocol = [{trusted}]\nallow = ['192.0.2.0/24']"
            ))
            .warnings()
            .join("\n");
        let said = warned_of.is_some_and(|of| warnings.contains(of) && warnings.contains("say which client it is"));
        assert!(
            said || warned_of.is_none() && warnings.is_empty(),
            "{trusted}: {warnings}"
        );
    }
}

#[test]
fn a_socket_of_systemd_counts_as_bound_where_it_is() {
    use crate::server::{HandedSocket, HandedSockets};
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let sockets = vec![
        ("web".to_owned(), HandedSocket::Tcp(tcp)),
        ("local".to_owned(), HandedSocket::Unix(unix)),
    ];
    let sockets = HandedSockets::new(sockets).unwrap();
    let load = |toml: &str| {
        let case = Case::new().toml(toml);
        load(Sources {
            flags: &case.flags,
            environment: &case.environment,
            files: &case.files,
            sockets: Some(&sockets),
            commands: &NoCommands,
            network: &super::connect_to::Names,
            machine: Machine {
                overflow_uid: 65534,
                cores: NonZeroUsize::MIN,
                log_to_terminal: true,
            },
        })
    };
    let good = "[[listener]]\nbind = 'systemd:web'\n[[listener]]\nbind = 'systemd:local'\n";
    let loaded = load(&format!("{good}uids = [7]")).unwrap();
    assert_eq!(loaded.settings.listeners[0].bind, Bind::Tcp(address));
    let local = Bind::Unix {
        path,
        mode: 0o666,
        uids: vec![7],
    };
    assert_eq!(loaded.settings.listeners[1].bind, local);
    assert_eq!(loaded.warnings, [""; 0]);
    let warned = load(good).unwrap().warnings.join("\n");
    assert!(
        warned.contains("every user of this machine may connect (mode 0666"),
        "{warned}"
    );
    for (toml, says) in [
        (
            "[[listener]]\nbind = 'systemd:web'",
            "named `local`, and nothing is bound to it",
        ),
        (&format!("{good}mode = '0600'"), "SocketMode="),
        (&format!("{good}allow = ['10.0.0.0/8']"), "has no peer addresses"),
        (&format!("{good}[[listener]]\nbind = 'systemd:web'"), "bound twice"),
        (
            &format!("{good}[[listener]]\nbind = 'systemd:'"),
            "there is: web, local",
        ),
        (
            "[[listener]]\nbind = 'systemd:web'\nuids = [1]\n[admin]\nbind = 'systemd:local'",
            "for unix sockets only",
        ),
    ] {
        let said = load(toml).unwrap_err().to_string();
        assert!(said.contains(says), "{toml}: {said}");
    }
}
