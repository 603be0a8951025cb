//! The `rules` commands, as a user calls them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn rules(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"))
        .arg("rules")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[track_caller]
fn ends_with(arguments: &[&str], code: i32) -> String {
    let output = rules(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// The files that the example names are not there: nothing reads them.
#[test]
fn the_gateway_example_is_what_its_expectations_say() {
    let config = example("gateway-callers.toml");
    let expectations = example("gateway-callers.test.toml");
    let (config, expectations) = (config.to_str().unwrap(), expectations.to_str().unwrap());
    let said = ends_with(&["test", "--config", config, expectations], 0);
    assert!(said.contains(" 0 of them not met"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.toml");
    fs::write(
        &other,
        fs::read_to_string(expectations)
            .unwrap()
            .replace("\"deny\"", "\"allow\""),
    )
    .unwrap();
    let said = ends_with(&["test", "--config", config, other.to_str().unwrap()], 1);
    assert!(said.contains("allow is expected, and it is deny"), "{said}");
    fs::write(
        &other,
        "[[expect]]\ncaller = \"nobody\"\nmethod = \"GET\"\npath = \"/\"\nexpect = \"deny\"\n",
    )
    .unwrap();
    let said = ends_with(&["test", "--config", config, other.to_str().unwrap()], 2);
    assert!(
        said.contains("other.toml:1") && said.contains("callers are billing, terraform, dashboard"),
        "{said}"
    );
}

#[test]
fn explaining_names_the_line_of_the_rule() {
    let config = example("gateway-callers.toml");
    let config = config.to_str().unwrap();
    let path = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080ae0/clusters/c";
    let said = ends_with(
        &["explain", "--config", config, "--caller", "terraform", "DELETE", path],
        0,
    );
    let text = fs::read_to_string(config).unwrap();
    let rule = text
        .lines()
        .position(|line| line.contains("\"deleteGroupCluster\", \"deleteGroup\""))
        .unwrap();
    assert!(said.contains("deleteGroupCluster"), "{said}");
    assert!(said.contains("caller terraform: deny"), "{said}");
    assert!(said.contains(&format!("gateway-callers.toml:{rule}")), "{said} {rule}");
    let said = ends_with(&["explain", "--config", config, "--listener", "none", "GET", "/"], 2);
    assert!(said.contains("listeners are gateway"), "{said}");
}

#[test]
fn tables_can_be_read_and_compared() {
    let config = example("gateway-callers.toml");
    let config = config.to_str().unwrap();
    let text = ends_with(&["table", "--config", config, "--caller", "billing"], 0);
    assert!(
        text.contains("listGroupClusters") && !text.contains("terraform"),
        "{text}"
    );
    let markdown = ends_with(&["table", "--config", config, "--markdown"], 0);
    assert!(markdown.starts_with("| listener | account | caller |"), "{markdown}");
    let folder = tempfile::tempdir().unwrap();
    let (json, wider) = (folder.path().join("table.json"), folder.path().join("wider.toml"));
    fs::write(&json, rules(&["table", "--config", config, "--json"]).stdout).unwrap();
    let (json, wider) = (json.to_str().unwrap(), wider.to_str().unwrap());
    assert_eq!(
        ends_with(&["diff", "--config", config, "--against", json], 0),
        "nothing changes\n"
    );
    // `deleteGroupCluster` behind a wildcard.
    let before = fs::read_to_string(config).unwrap();
    let after = before.replace(
        "\"listGroupClusters\", \"getGroupCluster\"",
        "\"listGroupClusters\", \"*GroupCluster\"",
    );
    assert_ne!(before, after);
    fs::write(wider, after).unwrap();
    for against in [json, config] {
        let said = ends_with(&["diff", "--config", wider, "--against", against], 1);
        assert!(
            said.contains("WIDER listener gateway, account default, caller billing: deleteGroupCluster"),
            "{said}"
        );
    }
    let said = ends_with(&["diff", "--config", config, "--against", wider], 0);
    assert!(said.contains("caller billing: deleteGroupCluster"), "{said}");
}

#[test]
fn what_can_be_no_request_is_refused_with_what_to_write() {
    let config = example("gateway-callers.toml");
    let config = config.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.toml");
    let file = file.to_str().unwrap();
    let good = "/api/atlas/v2/groups";
    for (method, path, instead) in [
        ("get", good, "`GET`"),
        ("Delete", good, "`DELETE`"),
        ("GET IT", good, "not an HTTP method"),
        ("GET", "/api/atlas/v2/groups?pageNum=1", "write `/api/atlas/v2/groups`"),
        ("GET", "/api/atlas/v2/groups#x", "write `/api/atlas/v2/groups`"),
        (
            "GET",
            "https://localhost/api/atlas/v2/groups",
            "without scheme and host",
        ),
        ("GET", "api/atlas/v2/groups", "begin with a slash"),
        ("GET", "/api/atlas/v2/groups/{groupId}", "5a0a1e7e0f2912c554080adc"),
        ("GET", "/api/atlas/v2/groups/groupId}", "5a0a1e7e0f2912c554080adc"),
        ("GET", "/api/atlas/v2/groups/a b", "percent-encoded"),
    ] {
        let expectation =
            format!("[[expect]]\ncaller = \"billing\"\nmethod = \"{method}\"\npath = \"{path}\"\nexpect = \"deny\"\n");
        fs::write(file, expectation).unwrap();
        let line = if path == good { 3 } else { 4 };
        let said = ends_with(&["test", "--config", config, file], 2);
        assert!(
            said.contains(instead) && said.contains(&format!("odd.toml:{line}")),
            "{said}"
        );
        let said = ends_with(&["explain", "--config", config, method, path], 2);
        assert!(said.contains(instead), "{said}");
    }
}

#[test]
fn what_no_rule_decides_is_said_so() {
    let config = example("gateway-callers.toml");
    let config = config.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let explain =
        |method: &str, path: &str| ends_with(&["explain", "--config", config, "--caller", "billing", method, path], 0);
    let said = explain("POST", "/api/oauth/token");
    assert!(said.contains("caller billing: answered by the proxy"), "{said}");
    let said = explain("TRACE", "/api/atlas/v2/groups");
    assert!(
        said.contains("caller billing: deny") && said.contains("never served"),
        "{said}"
    );
    // Neither is an answer of a rule.
    let file = folder.path().join("local.toml");
    for expect in ["allow", "deny", "warn"] {
        let text = format!(
            "[[expect]]\ncaller = \"billing\"\nmethod = \"POST\"\npath = \"/API/OAuth/token\"\nexpect = \"{expect}\"\n"
        );
        fs::write(&file, text).unwrap();
        let said = ends_with(&["test", "--config", config, file.to_str().unwrap()], 1);
        assert!(said.contains("it is answered by the proxy"), "{said}");
    }
}

#[test]
fn a_credential_that_is_not_in_the_file_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let path = "/api/atlas/v2/orgs/5a0a1e7e0f2912c554080add/serviceAccounts";
    let explain = |account: &str, own: bool| {
        let caller = |name: &str| {
            format!(
                "[[caller]]\nname = \"{name}\"\nown_account = {own}\nuids = [1]\n[[caller.rule]]\nmethods = [\"GET\"]\naction = \"allow\"\n"
            )
        };
        fs::write(&file, format!("{account}{}{}", caller("a"), caller("b"))).unwrap();
        let said = ends_with(&["explain", "--config", file.to_str().unwrap(), "GET", path], 0);
        assert!(said.contains("caller b: allow"), "{said}");
        said.matches("cannot be told from here: account default").count()
    };
    assert_eq!(explain("", false), 1);
    assert_eq!(explain("[account.default]\nclient_id_file = \"/none\"\n", false), 1);
    assert_eq!(
        explain(
            "[account.default]\nclient_id = \"mdb_sa_id_0123456789abcdef01234567\"\n",
            false
        ),
        0
    );
    assert_eq!(explain("", true), 0);
}

/// What `diff` says of two texts, and its exit code.
#[track_caller]
fn difference(old: &str, new: &str, code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (before, after) = (path("old.toml"), path("new.toml"));
    fs::write(&before, old).unwrap();
    fs::write(&after, new).unwrap();
    ends_with(&["diff", "--config", &after, "--against", &before], code)
}

#[test]
fn the_authority_of_each_listener_is_a_way_of_its_own() {
    let caller = "[[caller]]\nname = \"app\"\ncertificate_names = [\"app.example.org\"]\n[[caller.rule]]\nmethods = [\"GET\"]\n\
                  action = \"allow\"\n";
    let listener = |name: &str, port: u16, ca: &str| {
        let tls = format!("[listener.tls]\ncertificate = \"c\"\nkey = \"k\"\n{ca}\n");
        format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\nallow = [\"127.0.0.1\"]\n{tls}")
    };
    let ca = "client_ca = \"/etc/ca.crt\"";
    let old = listener("l1", 1, ca) + &listener("l2", 2, "") + caller;
    let new = listener("l1", 1, ca) + &listener("l2", 2, ca) + caller;
    let said = difference(&old, &new, 1);
    assert!(
        said.contains("WIDER listener l2, account default, caller app: known by"),
        "{said}"
    );
    assert!(said.contains("+ certificate app.example.org of /etc/ca.crt"), "{said}");
    assert!(!said.contains("l1"), "{said}");
    assert!(difference(&new, &old, 0).contains("- certificate app.example.org"));
}

#[test]
fn what_is_too_much_to_try_ends_with_2_and_what_to_do() {
    let mut text = "[[caller]]\nname = \"app\"\nuids = [1]\n".to_owned();
    let mut rule = |keys: &str| text.push_str(&format!("[[caller.rule]]\n{keys}\n"));
    let path = "/api/atlas/v2/groups/*/hosts";
    for n in 0..60 {
        for rest in [
            format!("h{n}/fts/metrics/indexes/*/*"),
            format!("*/fts/metrics/indexes/d{n}/*"),
            format!("*/fts/metrics/indexes/*/c{n}"),
        ] {
            rule(&format!("path = \"{path}/{rest}/measurements\"\naction = \"deny\""));
        }
    }
    rule("operations = [\"listGroupHostFtsMetricIndexMeasurements\"]\naction = \"allow\"");
    let said = difference(&text, &text, 2);
    assert!(
        said.contains("`listGroupHostFtsMetricIndexMeasurements`") && said.contains("write `*`"),
        "{said}"
    );
}

#[test]
fn only_a_longer_life_of_tokens_is_wider() {
    let with = |life: &str| {
        format!(
            "[[issuer]]\nname = \"cluster\"\nissuer = \"https://k\"\naudience = \"a\"\njwks_url = \"https://k/keys\"\n{life}\n\
             [[caller]]\nname = \"app\"\njwt = [{{ issuer = \"cluster\", subject = \"s\" }}]\n[[caller.rule]]\n\
             methods = [\"GET\"]\naction = \"allow\"\n"
        )
    };
    let (hour, day, none) = (with("max_life = \"1h\""), with("max_life = \"24h\""), with(""));
    let said = difference(&day, &hour, 0);
    assert!(said.contains("life 86400 s at most"), "{said}");
    difference(&hour, &day, 1);
    difference(&hour, &none, 1);
    assert_eq!(difference(&day, &none, 0), "nothing changes\n");
}

#[test]
fn what_is_learned_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (log, learned) = (folder.path().join("log.jsonl"), folder.path().join("learned.toml"));
    let line = |method: &str| {
        format!(
            r#"{{"caller":"app","method":"{method}","path":"/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters","status":200,"decision":"forwarded"}}"#
        )
    };
    fs::write(&log, line("POST")).unwrap();
    let (log, learned) = (log.to_str().unwrap(), learned.to_str().unwrap());
    let said = ends_with(&["learn", "--from", log], 1);
    assert!(said.contains("--writes-only"), "{said}");
    ends_with(&["learn", "--from", log, "--writes-only"], 0);
    fs::write(log, line("POST") + "\n" + &line("GET")).unwrap();
    fs::write(learned, rules(&["learn", "--from", log]).stdout).unwrap();
    let table = ends_with(&["table", "--config", learned], 0);
    assert!(
        table.contains("createGroupCluster") && table.contains("5a0a1e7e0f2912c554080adc"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 3, "{table}");
}

/// The configuration's own parser reads what was learned, of odd requests, too.
#[test]
fn whatever_is_learned_is_read_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (log, learned) = (folder.path().join("log.jsonl"), folder.path().join("learned.toml"));
    let line = |caller: &str, method: &str, path: &str| {
        let line = serde_json::json!({ "caller": caller, "method": method, "path": path, "status": 200 });
        format!("{line}\n")
    };
    let id = "5a0a1e7e0f2912c554080adc";
    let cluster = format!("/api/atlas/v2/groups/{id}/clusters/c");
    let mut text = String::new();
    for (caller, method, path) in [
        // Nobody is not somebody who is called so.
        ("learned", "GET", cluster.as_str()),
        ("learned-2", "GET", &cluster),
        ("anonymous", "DELETE", &cluster),
        ("app", "GET", "/api/other/\"quoted\"'=&"),
        ("app", "GET", "/api/other/%E2%80%A6%20"),
        ("app", "GET", "/api/other/a%2Fb"),
        ("app", "GET", "/api/private/ipinfo"),
        ("app", "POST", "/API/OAuth/token"),
        ("app", "get", "/api/other"),
        ("app", "M-SEARCH", "/api/other"),
        ("app", "HEAD", "/"),
        ("app", "POST", &format!("/api/atlas/v2/groups/{id}:migrate")),
        ("app", "POST", "/api/atlas/v2/orgs/5a0a1e7e0f2912c554080add/apiKeys"),
        ("app", "GET", "/api/atlas/v1.0/groups/nothing/clusters"),
        ("only-odd", "GET", "/api/other/{x}"),
        ("No Name", "GET", "/api/other"),
    ] {
        text += &line(caller, method, path);
    }
    for n in 0..250 {
        text += &line("many", "GET", &format!("/api/other/{n}"));
    }
    fs::write(&log, text).unwrap();
    let output = rules(&["learn", "--from", log.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::write(&learned, &output.stdout).unwrap();
    let table = ends_with(&["table", "--config", learned.to_str().unwrap()], 0);
    let rows = |caller: &str| {
        table
            .lines()
            .filter(|row| row.split_whitespace().nth(2) == Some(caller))
            .count()
    };
    assert_eq!(
        [rows("learned"), rows("learned-2"), rows("learned-3"), rows("many")],
        [1, 1, 1, 200],
        "{table}"
    );
    assert!(
        !table
            .lines()
            .any(|row| row.contains(" learned ") && row.contains("DELETE")),
        "{table}"
    );
    assert!(
        !table.to_lowercase().contains("oauth") && !table.contains("only-odd"),
        "{table}"
    );
    let left_out = [
        "get /api/other",
        "/api/other/{x}",
        "a name that no caller can have",
        "caller many: 50 rules more",
    ];
    for what in left_out {
        assert!(told.contains(what), "{what}: {told}");
    }
}
