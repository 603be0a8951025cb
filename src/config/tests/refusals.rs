//! Bad configurations: each yields one clear line with its place.

use super::*;

#[test]
fn bad_files_yield_one_line_with_place_and_key() {
    let mut wrong = Vec::new();
    for (text, expected) in BAD_FILES {
        let lines = Case::new().toml(text).errors();
        let (place, what) = expected.split_once(' ').unwrap();
        let right =
            lines.len() == 1 && lines[0].starts_with(&format!("/etc/proxy.toml:{place}")) && lines[0].contains(what);
        if !right {
            wrong.push(format!("{text:?}: expected {expected:?}, got {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file, and `line:column: ` with what follows, then a part of the explanation after the first blank.
const BAD_FILES: &[(&str, &str)] = &[
    ("x = 1", "1:1: there is no such key; known here: listener, account"),
    (
        "worker = 1",
        "1:1: `worker`: there is no such key; did you mean `workers`?",
    ),
    ("\n  drain-timeout = '3s'", "2:3: did you mean `drain_timeout`?"),
    (
        "[[listener]]\nalow = []",
        "2:1: `listener.alow`: there is no such key; did you mean `allow`?",
    ),
    ("[[listener]]\nread-only = true", "2:1: did you mean `read_only`?"),
    (
        "[[listener.rule]]\npaht = '/'",
        "1:3: `listener`: this must be written `[[listener]]`",
    ),
    (
        "[[listener]]\n[[listener.rule]]\npaht = '/'",
        "3:1: `listener.rule.paht`: there is no such key; did you mean `path`?",
    ),
    (
        "[account.default]\nenviroment = 'gov'",
        "2:1: `account.default.enviroment`: there is no such key; did you mean `environment`?",
    ),
    (
        "[account]\nclient_id = 'x'",
        "2:1: stand in a table of its name, such as `[account.default]`",
    ),
    ("[limits]\nmax_connection = 1", "2:1: did you mean `max_connections`?"),
    ("[log]\nlevels = 'info'", "2:1: did you mean `level`?"),
    (
        "[admin]\nlisten = '127.0.0.1:1'",
        "2:1: `admin.listen`: there is no such key; known here: bind",
    ),
    (
        "[listener]\nbind = '127.0.0.1:1'",
        "1:1: this must be written `[[listener]]`",
    ),
    ("[[account]]", "1:1: this must be written `[account.NAME]`"),
    ("[listeners]", "1:2: write `[[listener]]`"),
    (
        "workers = 'two'",
        "1:11: `workers`: this must be an integer, without quotes, not a string",
    ),
    ("workers = 0", "1:11: `0` is not a number of threads from 1 to 512"),
    ("workers = 1.5", "1:11: not a float"),
    ("workers = 99999999999999999999", "1:11: is not a number of threads"),
    (
        "drain_timeout = 30",
        "1:17: this must be a string, in quotes, not an integer",
    ),
    ("drain_timeout = '30'", "1:17: `30` is not a duration"),
    ("drain_timeout = '2d'", "1:17: more than a day"),
    (
        "[[listener]]\ndefault_accept = 2025-03-12",
        "2:18: this must be a string, in quotes, not a",
    ),
    (
        "[[listener]]\ndefault_accept = '2025-02-29'",
        "2:18: `2025-02-29` is not a date: write a day that there is as `YYYY-MM-DD`, such as `2025-03-12`",
    ),
    (
        "[[listener]]\ndefault_accept = '2022-12-31'",
        "2:18: is before the first version of Atlas's API: write `2023-01-01` or later",
    ),
    (
        "[[listener]]\ndefault_accept = 'preview'",
        "2:18: `preview` is a version that few operations have",
    ),
    ("[limits]\nmax_headers = 0", "2:15: `0` is not within 1 and 4096"),
    (
        "[limits]\nmax_header_bytes = '1KiB'",
        "2:20: `1KiB` is not within 8192 and 1048576",
    ),
    ("[limits]\nreplay_limit = '1 MB/s'", "2:16: is not a size"),
    ("[limits]\nmax_connections = -1", "2:19: `-1` is not a whole number"),
    ("[limits]\nconnect_timeout = '0s'", "2:19: would end before it began"),
    (
        "[log]\nlevel = 'verbose'",
        "2:9: `verbose` is none of `error`, `warn`, `info`, `debug`, `trace`",
    ),
    ("[log]\nformat = 'jsn'", "2:10: did you mean `json`?"),
    (
        "[[listener]]\nbind = '8080'",
        "2:8: `8080` is not an IP address with a port: write it like `127.0.0.1:8080`",
    ),
    ("[[listener]]\nbind = 'example.org:80'", "2:8: not an IP address"),
    (
        "[[listener]]\nbind = 'unix:p.sock'",
        "2:8: not a unix socket with an absolute path",
    ),
    (
        "[[listener]]\nbind = '0.0.0.0:80'",
        "2:8: reachable from other machines",
    ),
    (
        "[[listener]]\nallow = []",
        "2:9: `listener.allow`: an empty allowlist would let nobody connect",
    ),
    (
        "[[listener]]\nallow = ['10.0.0.0/33']",
        "2:10: `10.0.0.0/33` is not a network",
    ),
    (
        "[[listener]]\nallow = '10.0.0.0/8'",
        "2:9: this must be an array of strings, not a string",
    ),
    ("[[listener]]\nhosts = ['*.example.org']", "2:10: `listener.hosts`"),
    (
        "[[listener]]\nread_only = 'true'",
        "2:13: this must be true or false, without quotes, not a string",
    ),
    (
        "[[listener]]\nrequired_header = 'X Y'",
        "2:19: not the name of a header",
    ),
    ("[[listener]]\nunmatched = 'deny'", "2:13: there is no rule"),
    (
        "[[listener]]\nunmatched = 'dney'\n[[listener.rule]]\npath = '/'\naction = 'allow'",
        "2:13: did you mean `deny`?",
    ),
    (
        "[[listener]]\n[[listener.rule]]\naction = 'allow'",
        "2:1: the rule has no `path`",
    ),
    (
        "[[listener]]\n[[listener.rule]]\npath = '/'",
        "2:1: the rule has no `action`",
    ),
    (
        "[[listener]]\n[[listener.rule]]\npath = 'x'\naction = 'deny'",
        "3:8: `listener.rule.path`",
    ),
    (
        "[[listener]]\n[[listener.rule]]\nmethods = ['get']\npath = '/'\naction = 'deny'",
        "3:12: in capitals: `GET`",
    ),
    (
        "[[listener]]\n[[listener.rule]]\nmethods = []\npath = '/'\naction = 'deny'",
        "3:11: matches no request",
    ),
    ("[[listener]]\nmode = '0600'", "2:8: for unix sockets only"),
    ("[[listener]]\nuids = [1]", "2:8: for unix sockets only"),
    (
        "[[listener]]\nbind = 'unix:/p'\nmode = '0888'",
        "3:8: `0888` is not a file mode",
    ),
    (
        "[[listener]]\nbind = 'unix:/p'\nuids = []",
        "3:8: would let nobody connect",
    ),
    (
        "[[listener]]\nbind = 'unix:/p'\nuids = [-1]",
        "3:9: `-1` is not a user id",
    ),
    (
        "[[listener]]\nbind = 'unix:/p'\nallow = ['10.0.0.0/8']",
        "3:9: a unix socket has no peer addresses",
    ),
    ("[[listener]]\nname = 'a b'", "2:8: `a b` is not a name"),
    (
        "[[listener]]\nbind = '127.0.0.1:1'\n[[listener]]\nbind = '127.0.0.1:1'",
        "4:8: `127.0.0.1:1` is bound twice",
    ),
    (
        "[[listener]]\nbind = '127.0.0.1:9091'",
        "2:8: a listener and the admin port both bind",
    ),
    (
        "[[listener]]\nname = 'a'\n[[listener]]\nbind = '127.0.0.1:1'\nname = 'a'",
        "4:8: two listeners are called `a`",
    ),
    (
        "[[listener]]\naccount = 'b'\n[account.a]",
        "2:11: there is no account `b`; there is: `a`",
    ),
    (
        "[account.default]\nenvironment = 'government'",
        "2:15: `government` is none of `commercial`, `gov`",
    ),
    (
        "[account.default]\nbase_url = 'http://cloud.mongodb.com'",
        "2:12: in clear text",
    ),
    ("[account.default]\nbase_url = 'https://h/api'", "2:12: has a path"),
    (
        "[account.default]\nca_file = 'none.pem'",
        "2:11: cannot read the file `/etc/none.pem`",
    ),
    (
        "[account.default]\nca_file = 'proxy.toml'",
        "2:11: the file `/etc/proxy.toml` holds no certificate",
    ),
    ("[account.default]\nhttp = 3", "2:8: `3` is none of `auto`, `1`, `2`"),
    (
        "[account.default]\nclient_secret = 'x'",
        "2:1: name that with `client_secret_file`",
    ),
    (
        "[account.default]\ndigest_max_concurrent = 2",
        "2:25: for API keys only",
    ),
    (
        "[account.default]\napi_key_id = '5c47503320eef5699e1cce8d'",
        "2:14: for API keys only",
    ),
    (
        "[account.default]\nproxy = 'socks5://h:1'",
        "2:9: `account.default.proxy`: a proxy is reached by `http://` here",
    ),
    ("workers = 1\nworkers = 2", "2:1: this is not TOML: duplicate key"),
    ("workers == 1", "1:10: this is not TOML"),
    ("[[listener]\n", "1:12: this is not TOML"),
    ("# ü\nworkers = 'ü' 'x'", "2:15: this is not TOML"),
];

#[test]
fn bad_flags_and_variables_are_called_by_name() {
    let cases: [(&str, Case, &str); 16] = [
        (
            "--config",
            Case::new().flags(|f| f.config = Some("/none.toml".into())),
            "cannot read the file `/none.toml`",
        ),
        (
            "ATLAS_PROXY_CONFIG",
            Case::new().env("ATLAS_PROXY_CONFIG", "/none.toml"),
            "cannot read the file",
        ),
        (
            "--listen",
            Case::new().flags(|f| f.listen = vec![":80".into()]),
            "`127.0.0.1:80`",
        ),
        (
            "ATLAS_PROXY_LISTEN",
            Case::new().env("ATLAS_PROXY_LISTEN", " ,"),
            "names no address",
        ),
        (
            "--allow",
            Case::new().flags(|f| f.allow = vec![String::new()]),
            "is not a network",
        ),
        (
            "ATLAS_PROXY_ALLOW",
            Case::new().env("ATLAS_PROXY_ALLOW", ","),
            "empty allowlist",
        ),
        ("--host", Case::new().flags(|f| f.host = vec!["a b".into()]), "`a b`"),
        (
            "ATLAS_PROXY_READ_ONLY",
            Case::new().env("ATLAS_PROXY_READ_ONLY", "maybe"),
            "neither `true` nor `false`",
        ),
        (
            "--rewrite-links",
            Case::new().flags(|f| f.rewrite_links = Some("2".into())),
            "neither `true` nor `false`",
        ),
        (
            "--environment",
            Case::new().flags(|f| f.environment = Some("cloud".into())),
            "`commercial`, `gov`",
        ),
        (
            "MONGODB_ATLAS_SERVICE",
            Case::new().env("MONGODB_ATLAS_SERVICE", "cloud-gov"),
            "did you mean `cloudgov`?",
        ),
        (
            "MONGODB_ATLAS_BASE_URL",
            Case::new().env("MONGODB_ATLAS_BASE_URL", "cloud.mongodb.com"),
            "is not the URL of a server",
        ),
        (
            "--upstream-ca",
            Case::new().flags(|f| f.upstream_ca = Some("x.pem".into())),
            "cannot read the file `x.pem`",
        ),
        (
            "--workers",
            Case::new().flags(|f| f.workers = Some("many".into())),
            "`many`",
        ),
        (
            "--drain-timeout",
            Case::new().flags(|f| f.drain_timeout = Some("soon".into())),
            "`soon` is not a duration",
        ),
        (
            "--admin-listen",
            Case::new().flags(|f| f.admin_listen = Some("x".into())),
            "not an IP address",
        ),
    ];
    for (name, case, expected) in cases {
        let said = case.error();
        assert!(said.starts_with(&format!("{name}: ")), "{name}: {said}");
        assert!(said.contains(expected), "{name}, {expected}: {said}");
    }
}

#[test]
fn every_problem_is_told_at_once_in_order() {
    let errors = Case::bare()
        .toml("[limits]\nmax_headers = 0\nreplay_limit = 'x'\n[log]\nlevel = 'loud'")
        .env("ATLAS_PROXY_WORKERS", "0")
        .flags(|f| f.drain_timeout = Some("x".into()))
        .errors();
    let starts = [
        "--drain-timeout: ",
        "ATLAS_PROXY_WORKERS: ",
        "/etc/proxy.toml:2:15: ",
        "/etc/proxy.toml:3:16: ",
        "/etc/proxy.toml:5:9: ",
        "no credential for account `default`",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for (line, start) in errors.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn every_unknown_key_is_told_at_once() {
    let errors = Case::bare().toml("wrkers = 1\n[lmits]\n[[listener]]\nbnd = 1").errors();
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

#[test]
fn a_line_is_a_line() {
    let said = Case::new().env("ATLAS_PROXY_LOG_LEVEL", "a\nb\u{1b}[31m").error();
    assert!(!said.contains(['\n', '\u{1b}']), "{said:?}");
    let said = Case::new().toml("\"a\\nb\" = 1").error();
    assert!(!said.contains('\n'), "{said:?}");
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let mut case = Case::new().file("/etc/proxy.toml", b"a\xFF");
    case.flags.config = Some("/etc/proxy.toml".into());
    assert!(case.error().contains("not UTF-8 text (at byte 1)"));
    Case::new().toml("\u{feff}workers = 1").settings();
}

#[test]
fn no_text_makes_the_reader_panic() {
    use proptest::prelude::*;
    let pieces = prop::sample::select(vec![
        "[", "]", "[[", "]]", "listener", "account", ".", "=", "'", "\"", "\n", "1", "rule", "allow", "ü", "{", "}",
        ",", "limits", "bind", "#", "\\", "default", "true", " ",
    ]);
    proptest!(|(pieces in prop::collection::vec(pieces, 0..40))| {
        let _ = Case::new().toml(&pieces.concat()).try_load();
    });
}

#[test]
fn a_variable_of_ours_that_there_is_none_of_is_a_mistake() {
    for (name, meant) in [
        ("ATLAS_PROXY_READONLY", "did you mean `ATLAS_PROXY_READ_ONLY`?"),
        ("ATLAS_PROXY_HOST", "did you mean `ATLAS_PROXY_HOSTS`?"),
        ("ATLAS_PROXY_UPSTREAM_CA_FILE", "`ATLAS_PROXY_UPSTREAM_CA`?"),
        ("ATLAS_PROXY_NOTHING_LIKE_IT", "docs/CONFIGURATION.md"),
    ] {
        let said = Case::new().env(name, "tell-nobody").error();
        assert!(
            said.starts_with(&format!("{name}: there is no such variable")),
            "{said}"
        );
        assert!(said.contains(meant) && !said.contains("tell-nobody"), "{said}");
    }
    let port = Case::new().env("ATLAS_PROXY_PORT", "9000").error();
    assert!(port.contains("did you mean `ATLAS_PROXY_LISTEN`?"), "{port}");
    // An empty one counts as unset; other programs' are not ours.
    Case::new()
        .env("ATLAS_PROXY_READONLY", "")
        .env("ATLAS_PROXYX", "1")
        .settings();
    let links = Case::new()
        .env("ATLAS_PROXY_SERVICE_HOST", "10.0.0.1")
        .env("ATLAS_PROXY_PORT_8080_TCP_ADDR", "10.0.0.1")
        .env("ATLAS_PROXY_PORT", "tcp://10.0.0.1:8080")
        .warnings();
    let [line] = &links[..] else { panic!("{links:?}") };
    assert!(
        line.contains("ATLAS_PROXY_PORT, ATLAS_PROXY_PORT_8080_TCP_ADDR, ATLAS_PROXY_SERVICE_HOST"),
        "{line}"
    );
}

#[test]
fn no_part_of_a_password_in_a_url_is_repeated() {
    for (key, url) in [
        ("MONGODB_ATLAS_BASE_URL", "https://u:hun/ter2@h"),
        ("MONGODB_ATLAS_BASE_URL", "https://u:1234/ter2@h"),
        ("ATLAS_PROXY_BASE_URL", "http://u:hun?ter2@h"),
        ("ATLAS_PROXY_BASE_URL", "https://u:hun#ter2@h/x"),
        ("ATLAS_PROXY_BASE_URL", "https:u:hun\\ter2@h"),
        ("ATLAS_PROXY_BASE_URL", "u:hunter2@h"),
        ("HTTPS_PROXY", "http://u:hun/ter2@h"),
        ("HTTPS_PROXY", "http://u:1234/ter2@h"),
        ("ATLAS_PROXY_LISTEN", "http://u:hun/ter2@h"),
        ("ATLAS_PROXY_ALLOW", "http://u:hun/ter2@h"),
        ("ATLAS_PROXY_HOSTS", "http://u:hun/ter2@h"),
        ("ATLAS_PROXY_ADMIN_LISTEN", "http://u:hun/ter2@h"),
    ] {
        let said = Case::new().env(key, url).errors().join("\n");
        for part in ["hun", "ter2", "1234"] {
            assert!(!said.contains(part), "{key}={url}: {said}");
        }
    }
    #[cfg(feature = "token-store")]
    for url in [
        "redis://u:hun/ter2@h",
        "redis://u:1234/ter2@h",
        "redis://u:1234/9?ter2@h",
    ] {
        let table = format!("[token_store]\nurl = '{url}'\nkey_file = '/k'");
        let said = Case::new().file("/k", STORE_KEY).toml(&table).errors().join("\n");
        for part in ["hun", "ter2", "1234"] {
            assert!(!said.contains(part), "{url}: {said}");
        }
    }
}
