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
