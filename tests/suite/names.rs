//! What docs, examples, alerts and dashboard name exists: metrics with their labels' values, alerts, codes, variables, flags;
//! and what exists is named. (Unit tests compare docs/METRICS.md, docs/CONFIGURATION.md and docs/TROUBLESHOOTING.md with the
//! code, and the keys of configuration files everywhere: `metrics/page.rs`, `config/tests/reference.rs`, `code.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::PROGRAM;

/// What users read or install, by its path in the repository.
fn texts() -> BTreeMap<String, String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = ["README.md", "SECURITY.md", "docs", "deploy", "config"]
        .map(|name| top.join(name))
        .into();
    let mut texts = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            // What is no text has no names.
            texts.insert(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned(), text);
        }
    }
    texts
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The words of a text that begin so, as far as such a character goes on; not those that go on before it.
fn words<'t>(text: &'t str, start: &'t str, goes_on: fn(char) -> bool) -> impl Iterator<Item = (usize, &'t str)> {
    text.match_indices(start).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = &text[at..];
        let end = rest[start.len()..]
            .find(|c| !goes_on(c))
            .map_or(rest.len(), |end| start.len() + end);
        let whole = !before.is_some_and(goes_on) && end > start.len();
        whole.then_some((at, rest[..end].trim_end_matches(['_', '-'])))
    })
}

fn of_variable(c: char) -> bool {
    c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()
}

fn of_metric(c: char) -> bool {
    c.is_ascii_lowercase() || c == '_'
}

fn of_alert(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

fn of_flag(c: char) -> bool {
    c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()
}

/// The first cells of the page's tables, by the heading that they stand below.
fn cells(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut heading = "";
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches(['#', ' ']);
        } else if let Some(name) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            found.entry(heading.to_owned()).or_default().insert(name.to_owned());
        }
    }
    found
}

/// A family by the name of one of its series, and the text behind it.
fn family<'t>(name: &'t str, families: &BTreeSet<String>) -> Option<&'t str> {
    let endings = ["", "_bucket", "_sum", "_count"];
    let mut names = endings.iter().filter_map(|ending| name.strip_suffix(ending));
    names.find(|name| families.contains(*name))
}

/// `label="a"`, `label=~"a|b"` of a selector.
fn matchers(selector: &str) -> Vec<(&str, Vec<&str>)> {
    let parts = selector.split(',').filter_map(|part| part.split_once('='));
    parts
        .map(|(label, values)| {
            let values = values.trim_matches(['~', '"', '\\', ' ']).split('|');
            (label.trim_matches(['!', ' ']), values.collect())
        })
        .collect()
}

#[test]
fn metrics_and_the_values_of_their_labels_exist() {
    let known = cells(&page("docs/METRICS.md"));
    let families = &known["Families"];
    let mut asked = 0;
    for (path, text) in texts() {
        for (_, name) in words(&text, "atlas_auth_proxy_", of_metric) {
            let short = &name["atlas_auth_proxy_".len()..];
            assert!(family(short, families).is_some(), "{path}: there is no metric {name}");
            asked += 1;
        }
        for family in families {
            for (at, _) in text.match_indices(&format!("{family}{{")) {
                let selector = &text[at + family.len() + 1..];
                let selector = selector.split('}').next().unwrap();
                for (label, values) in matchers(selector) {
                    let Some(known) = known.get(&format!("{label} of {family}")) else {
                        continue;
                    };
                    for value in values
                        .iter()
                        .filter(|value| value.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
                    {
                        assert!(known.contains(*value), "{path}: {family} has no {label} {value}");
                        asked += 1;
                    }
                }
            }
        }
    }
    assert!(asked > 200, "only {asked}");
}

#[test]
fn alerts_exist_and_have_a_section_and_a_test() {
    let alerts = page("deploy/prometheus/alerts.yml");
    let alerts: BTreeSet<&str> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    for (path, text) in texts() {
        for (_, name) in words(&text, "AtlasAuthProxy", of_alert) {
            assert!(alerts.contains(name), "{path}: there is no alert {name}");
        }
    }
    let (runbook, tests, rules) = (
        page("docs/OPERATIONS.md"),
        page("deploy/prometheus/alerts.test.yml"),
        page("deploy/prometheus/alerts.yml"),
    );
    for alert in alerts {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "{alert} has no section");
        let named = format!("runbook: \"docs/OPERATIONS.md#{}\"", alert.to_ascii_lowercase());
        assert!(rules.contains(&named), "{alert} does not name its section");
        assert!(tests.contains(&named), "{alert} fires in no test");
    }
}

#[test]
fn codes_and_variables_exist() {
    let codes = page("docs/TROUBLESHOOTING.md");
    let codes: BTreeSet<&str> = codes
        .lines()
        .filter_map(|line| line.strip_prefix("## PROXY_"))
        .collect();
    // An alert is about all that begin so.
    let is_code = |name: &str| codes.contains(name) || codes.iter().any(|code| code.starts_with(&format!("{name}_")));
    let reference = page("docs/CONFIGURATION.md");
    let variables: BTreeSet<&str> = words(&reference, "ATLAS_PROXY_", of_variable)
        .map(|(_, name)| name)
        .collect();
    for (path, text) in texts() {
        for (_, name) in words(&text, "PROXY_", of_variable) {
            assert!(is_code(&name["PROXY_".len()..]), "{path}: there is no code {name}");
        }
        for (_, name) in words(&text, "ATLAS_PROXY_", of_variable) {
            assert!(variables.contains(name), "{path}: there is no variable {name}");
        }
    }
}

/// The flags of the program and all its commands, as they tell them.
fn flags() -> BTreeSet<String> {
    let mut open = vec![Vec::new()];
    let mut flags = BTreeSet::new();
    while let Some(command) = open.pop() {
        let said = Command::new(PROGRAM).args(&command).arg("--help").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let mut lists_commands = false;
        for line in said.lines() {
            if !line.starts_with(' ') {
                lists_commands = line == "Commands:";
            } else if lists_commands && let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
                let name = name.split(' ').next().unwrap().to_owned();
                if name != "help" {
                    open.push([command.clone(), vec![name]].concat());
                }
            }
            let listed = line.trim_start();
            if listed.starts_with('-') {
                flags.extend(words(listed, "--", of_flag).map(|(_, flag)| flag.to_owned()));
            }
        }
    }
    flags
}

#[test]
fn flags_exist_and_are_named() {
    let flags = flags();
    let (mut named, mut asked) = (BTreeSet::new(), 0);
    for (path, text) in texts() {
        named.extend(words(&text, "--", of_flag).map(|(_, flag)| flag.to_owned()));
        // In commands: the lines that begin with the program's name, or have it behind a path or a prompt of a container.
        for (at, _) in text.match_indices("atlas-auth-proxy ") {
            let command = &text[at..];
            // There it is the name of something that another program is told of, and the flags are that program's.
            let before = text[..at].rsplit('\n').next().unwrap_or_default();
            let others = ["kubectl", "helm", "docker", "systemctl", "journalctl"];
            // `--property=User=atlas-auth-proxy`, or the name of a chart at the end of a line
            let is_value = before.ends_with('=') || command.starts_with("atlas-auth-proxy \\");
            if is_value || others.iter().any(|other| before.contains(other)) && !before.contains(" -- ") {
                continue;
            }
            let end = command
                .replace("\\\n", "  ")
                .find(['\n', '`', '|', '#', ')', ';'])
                .unwrap_or(command.len());
            for (_, flag) in words(&command[..end], "--", of_flag) {
                assert!(
                    flags.contains(flag),
                    "{path}: there is no flag {flag} in `{}`",
                    &command[..end]
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 20, "only {asked}");
    let missing: Vec<&String> = flags
        .difference(&named)
        .filter(|flag| !["--help", "--version"].contains(&flag.as_str()))
        .collect();
    assert!(missing.is_empty(), "named nowhere: {missing:?}");
}
