//! For every row of the table of settings: flag over environment over file over default.

use std::time::Duration;

use super::*;
use crate::log::LogFormat;
use crate::server::Bind;
use crate::upstream::HttpVersion;

/// One row: how to give a setting in each way, and what the settings then say.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) flag: (fn(&mut Flags), &'static str),
    pub(super) variable: (&'static str, &'static str, &'static str),
    pub(super) file: (&'static str, &'static str),
    pub(super) default: &'static str,
    pub(super) read: fn(&Settings) -> String,
}

const CA: &str = "/etc/ca.pem";

pub(super) fn certificate() -> String {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .unwrap()
        .cert
        .pem()
}

fn allows(settings: &Settings) -> String {
    let allow = &settings.listeners[0].allow;
    ["127.0.0.1", "10.1.1.1", "10.2.1.1", "10.3.1.1"]
        .into_iter()
        .filter(|ip| allow.allows(ip.parse().unwrap()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn knows(settings: &Settings) -> String {
    let hosts = &settings.listeners[0].rules.hosts;
    ["localhost", "flag.localhost", "variable.localhost", "file.localhost"]
        .into_iter()
        .filter(|host| hosts.knows(host))
        .collect::<Vec<_>>()
        .join(" ")
}

fn account(settings: &Settings) -> &crate::settings::AccountSettings {
    &settings.accounts["default"]
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "listen",
            flag: (|f| f.listen = vec!["127.0.0.1:1".into()], "127.0.0.1:1"),
            variable: ("ATLAS_PROXY_LISTEN", "[::1]:2", "[::1]:2"),
            file: ("[[listener]]\nbind = '127.0.0.1:3'", "127.0.0.1:3"),
            default: "localhost:8080",
            read: |s| match &s.listeners[0].bind {
                Bind::Tcp(address) => address.to_string(),
                Bind::Localhost { port } => format!("localhost:{port}"),
                Bind::Unix { path, .. } => path.display().to_string(),
                Bind::Elsewhere { name } => name.clone(),
            },
        },
        Row {
            name: "allow",
            flag: (|f| f.allow = vec!["10.1.0.0/16".into()], "10.1.1.1"),
            variable: ("ATLAS_PROXY_ALLOW", "10.2.0.0/16, 127.0.0.1", "127.0.0.1 10.2.1.1"),
            file: ("[[listener]]\nallow = ['10.3.0.0/16']", "10.3.1.1"),
            default: "127.0.0.1",
            read: allows,
        },
        Row {
            name: "host",
            flag: (|f| f.host = vec!["flag.localhost".into()], "localhost flag.localhost"),
            variable: (
                "ATLAS_PROXY_HOSTS",
                "variable.localhost",
                "localhost variable.localhost",
            ),
            file: ("[[listener]]\nhosts = ['file.localhost']", "localhost file.localhost"),
            default: "localhost",
            read: knows,
        },
        Row {
            name: "required-header",
            flag: (|f| f.required_header = Some("X-Flag".into()), "x-flag"),
            variable: ("ATLAS_PROXY_REQUIRED_HEADER", "X-Variable", "x-variable"),
            file: ("[[listener]]\nrequired_header = 'X-File'", "x-file"),
            default: "none",
            read: |s| {
                let required = s.listeners[0].rules.required_header.as_ref();
                required.map_or("none", |required| required.name().as_str()).to_owned()
            },
        },
        Row {
            name: "read-only",
            flag: (|f| f.read_only = Some("true".into()), "refused"),
            variable: ("ATLAS_PROXY_READ_ONLY", "0", "allowed"),
            file: ("[[listener]]\nread_only = true", "refused"),
            default: "allowed",
            read: |s| {
                let verdict = s.listeners[0]
                    .rules
                    .policy
                    .check(&http::Method::POST, "/api/atlas/v2/groups");
                if verdict.is_ok() { "allowed" } else { "refused" }.to_owned()
            },
        },
        Row {
            name: "environment",
            flag: (
                |f| f.environment = Some("commercial".into()),
                "https://cloud.mongodb.com",
            ),
            variable: ("MONGODB_ATLAS_SERVICE", "cloudgov", "https://cloud.mongodbgov.com"),
            file: (
                "[account.default]\nenvironment = 'commercial'",
                "https://cloud.mongodb.com",
            ),
            default: "https://cloud.mongodb.com",
            read: |s| account(s).upstream.origin.to_string(),
        },
        Row {
            name: "base-url",
            flag: (
                |f| f.base_url = Some("https://flag.example".into()),
                "https://flag.example",
            ),
            variable: (
                "ATLAS_PROXY_BASE_URL",
                "https://variable.example",
                "https://variable.example",
            ),
            file: (
                "[account.default]\nbase_url = 'https://file.example'",
                "https://file.example",
            ),
            default: "https://cloud.mongodb.com",
            read: |s| account(s).upstream.origin.to_string(),
        },
        Row {
            name: "upstream-ca",
            flag: (|f| f.upstream_ca = Some("/etc/flag.pem".into()), "/etc/flag.pem"),
            variable: ("ATLAS_PROXY_UPSTREAM_CA", "/etc/variable.pem", "/etc/variable.pem"),
            file: ("[account.default]\nca_file = 'ca.pem'", CA),
            default: "none",
            read: |s| {
                let path = account(s).upstream.ca_file.as_ref();
                path.map_or("none".to_owned(), |path| path.display().to_string())
            },
        },
        Row {
            name: "upstream-http",
            flag: (|f| f.upstream_http = Some("1".into()), "Http1"),
            variable: ("ATLAS_PROXY_UPSTREAM_HTTP", "2", "Http2"),
            file: ("[account.default]\nhttp = 1", "Http1"),
            default: "Auto",
            read: |s| format!("{:?}", account(s).upstream.http),
        },
        Row {
            name: "admin-listen",
            flag: (|f| f.admin_listen = Some("127.0.0.1:1".into()), "127.0.0.1:1"),
            variable: ("ATLAS_PROXY_ADMIN_LISTEN", "0.0.0.0:2", "0.0.0.0:2"),
            file: ("[admin]\nbind = 'localhost:3'", "127.0.0.1:3"),
            default: "127.0.0.1:9091",
            read: |s| match &s.admin.bind {
                Some(Bind::Tcp(address)) => address.to_string(),
                Some(Bind::Localhost { port }) => format!("localhost:{port}"),
                Some(Bind::Unix { path, .. }) => format!("unix:{}", path.display()),
                Some(Bind::Elsewhere { name }) => name.clone(),
                None => "off".to_owned(),
            },
        },
        Row {
            name: "admin-quit",
            flag: (|f| f.admin_quit = Some("true".into()), "true"),
            variable: ("ATLAS_PROXY_ADMIN_QUIT", "1", "true"),
            file: ("[admin]\nquit = true", "true"),
            default: "false",
            read: |s| s.admin.quit.to_string(),
        },
        Row {
            name: "rewrite-links",
            flag: (|f| f.rewrite_links = Some("false".into()), "false"),
            variable: ("ATLAS_PROXY_REWRITE_LINKS", "on", "true"),
            file: ("[[listener]]\nrewrite_links = false", "false"),
            default: "true",
            read: |s| s.listeners[0].rules.rewrite_links.to_string(),
        },
        Row {
            name: "workers",
            flag: (|f| f.workers = Some("1".into()), "1"),
            variable: ("ATLAS_PROXY_WORKERS", "2", "2"),
            file: ("workers = 3", "3"),
            default: "4",
            read: |s| s.workers.to_string(),
        },
        Row {
            name: "drain-timeout",
            flag: (|f| f.drain_timeout = Some("0s".into()), "0ns"),
            variable: ("ATLAS_PROXY_DRAIN_TIMEOUT", "1m30s", "90s"),
            file: ("drain_timeout = '500ms'", "500ms"),
            default: "30s",
            read: |s| format!("{:?}", s.drain_timeout),
        },
        Row {
            name: "drain-delay",
            flag: (|f| f.drain_delay = Some("1s".into()), "1s"),
            variable: ("ATLAS_PROXY_DRAIN_DELAY", "2s", "2s"),
            file: ("drain_delay = '10s'", "10s"),
            default: "0ns",
            read: |s| format!("{:?}", s.drain_delay),
        },
        Row {
            name: "log-level",
            flag: (|f| f.log_level = Some("trace".into()), "trace"),
            variable: ("ATLAS_PROXY_LOG_LEVEL", "WARN", "warn"),
            file: ("[log]\nlevel = 'debug'", "debug"),
            default: "info",
            read: |s| s.log.level.to_string(),
        },
        Row {
            name: "log-format",
            flag: (|f| f.log_format = Some("json".into()), "Json"),
            variable: ("ATLAS_PROXY_LOG_FORMAT", "text", "Text"),
            file: ("[log]\nformat = 'json'", "Json"),
            default: "Text",
            read: |s| format!("{:?}", s.log.format),
        },
    ]
}

#[test]
fn flag_over_variable_over_file_over_default() {
    for row in rows() {
        let Row { name, read, .. } = row;
        let pem = certificate();
        let case = ["/etc/flag.pem", "/etc/variable.pem", CA]
            .into_iter()
            .fold(Case::new(), |case, path| case.file(path, &pem));
        assert_eq!(read(&case.settings()), row.default, "{name}: default");
        let case = case.toml(row.file.0);
        assert_eq!(read(&case.settings()), row.file.1, "{name}: file");
        let (variable, value, expected) = row.variable;
        let empty = case.env(variable, "");
        assert_eq!(
            read(&empty.settings()),
            row.file.1,
            "{name}: an empty variable is unset"
        );
        let case = empty.env(variable, value);
        assert_eq!(read(&case.settings()), expected, "{name}: variable");
        let case = case.flags(row.flag.0);
        assert_eq!(read(&case.settings()), row.flag.1, "{name}: flag");
    }
}

#[test]
fn insecure_plaintext_in_each_way() {
    let exposed = |extra: &str| {
        Case::new().toml(&format!(
            "[[listener]]\nbind = '0.0.0.0:8080'\nallow = ['10.0.0.0/8']\n{extra}"
        ))
    };
    assert!(exposed("").error().contains("reachable from other machines"));
    exposed("insecure_plaintext = true").settings();
    exposed("").env("ATLAS_PROXY_INSECURE_PLAINTEXT", "true").settings();
    exposed("insecure_plaintext = false")
        .env("ATLAS_PROXY_INSECURE_PLAINTEXT", "no")
        .flags(|f| f.insecure_plaintext = Some("true".into()))
        .settings();
    let refused = exposed("insecure_plaintext = true").flags(|f| f.insecure_plaintext = Some("false".into()));
    assert!(refused.error().contains("reachable from other machines"));
}

#[test]
fn the_configuration_file_itself_by_flag_or_variable() {
    let files = Case::new()
        .file("/a.toml", "workers = 1")
        .file("/b.toml", "workers = 2");
    let by_variable = files.env("ATLAS_PROXY_CONFIG", "/a.toml");
    assert_eq!(by_variable.settings().workers.get(), 1);
    let by_flag = by_variable.flags(|f| f.config = Some("/b.toml".into()));
    assert_eq!(by_flag.settings().workers.get(), 2);
}

#[test]
fn base_urls_in_their_order() {
    let origin = |case: &Case| case.settings().accounts["default"].upstream.origin.to_string();
    let case = Case::new().toml("[account.default]\nbase_url = 'https://e.example'");
    assert_eq!(origin(&case), "https://e.example");
    let case = case.env("MONGODB_ATLAS_OPS_MANAGER_URL", "https://d.example/");
    assert_eq!(origin(&case), "https://d.example");
    let case = case.env("MONGODB_ATLAS_BASE_URL", "https://c.example");
    assert_eq!(origin(&case), "https://c.example");
    let case = case.env("ATLAS_PROXY_BASE_URL", "https://b.example");
    assert_eq!(origin(&case), "https://b.example");
    let case = case.flags(|f| f.base_url = Some("https://a.example".into()));
    assert_eq!(origin(&case), "https://a.example");
}

#[test]
fn a_base_url_wins_over_the_environment_and_says_so() {
    let case = Case::new()
        .toml("[account.default]\nbase_url = 'https://om.example'")
        .flags(|f| f.environment = Some("gov".into()));
    assert_eq!(
        case.settings().accounts["default"].upstream.origin.to_string(),
        "https://om.example"
    );
    let warnings = case.warnings();
    assert!(
        warnings[0].contains("https://om.example") && warnings[0].contains("--environment"),
        "{warnings:?}"
    );
}

#[test]
fn a_flag_of_a_boolean_can_say_no() {
    let case = Case::new()
        .toml("[[listener]]\nread_only = true")
        .flags(|f| f.read_only = Some("false".into()));
    let policy = &case.settings().listeners[0].rules.policy;
    assert!(policy.check(&http::Method::POST, "/api/atlas/v2/groups").is_ok());
}

#[test]
fn defaults_follow_the_machine() {
    let load = |cores: usize, log_to_terminal| {
        let case = Case::new();
        let settings = load(Sources {
            flags: &case.flags,
            environment: &case.environment,
            files: &case.files,
            sockets: None,
            commands: &NoCommands,
            network: &super::connect_to::Names,
            machine: Machine {
                overflow_uid: 65534,
                cores: NonZeroUsize::new(cores).unwrap(),
                log_to_terminal,
            },
        })
        .unwrap()
        .settings;
        (settings.workers.get(), settings.log.format)
    };
    assert_eq!(load(2, false), (2, LogFormat::Json));
    assert_eq!(load(64, true), (4, LogFormat::Text));
}

#[test]
fn limits_come_from_the_file_and_reach_the_upstream() {
    let limits =
        "[limits]\nmax_connections = 7\nmax_header_bytes = 9000\nreplay_limit = '2MiB'\nconnect_timeout = '1s'";
    let settings = Case::new().toml(limits).settings();
    assert_eq!(settings.limits.capacity.max_connections, 7);
    assert_eq!(settings.limits.connection.max_header_bytes, 9000);
    assert_eq!(settings.limits.body.replay_limit, 2 << 20);
    let upstream = &settings.accounts["default"].upstream;
    assert_eq!(upstream.limits.connect_timeout, Duration::from_secs(1));
    assert_eq!(upstream.limits.response_head_timeout, Duration::from_secs(60));
    assert_eq!(upstream.http, HttpVersion::Auto);
}
