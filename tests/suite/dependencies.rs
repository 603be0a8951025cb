//! `docs/DEPENDENCIES.md` beside `Cargo.toml`: every crate and every feature of it has a reason, and is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

const MANIFEST: &str = include_str!("../../Cargo.toml");
const PAGE: &str = include_str!("../../docs/DEPENDENCIES.md");
/// Named on the page among what a dependency brings, not as one of ours.
const BROUGHT: [&str; 7] = [
    "arcstr",
    "async-lock",
    "event-listener",
    "event-listener-strategy",
    "parking",
    "xxhash-rust",
    "its tokio part",
];

/// Each dependency with its explicit features, and whether it is for tests alone.
fn dependencies() -> Vec<(String, Vec<String>, bool)> {
    let manifest = DeTable::parse(MANIFEST).unwrap();
    let mut all = Vec::new();
    for (table, for_tests) in [("dependencies", false), ("dev-dependencies", true)] {
        let DeValue::Table(table) = manifest.get_ref()[table].get_ref() else {
            panic!("a table")
        };
        for (name, value) in table.iter() {
            let features = value.get_ref().get("features").map(|list| {
                let list = list.get_ref().as_array().unwrap().iter();
                list.map(|feature| feature.get_ref().as_str().unwrap().to_owned())
                    .collect()
            });
            all.push((name.get_ref().to_string(), features.unwrap_or_default(), for_tests));
        }
    }
    assert!(all.len() > 40, "{all:?}");
    all
}

fn text_below(folders: &[&str]) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| top.join(folder)).collect();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("suite/dependencies.rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// The cells of the rows below a heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .expect(heading);
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(1).map(|row| row.split(" | ").collect()).collect()
}

#[test]
fn every_dependency_has_its_line_and_nothing_else_has() {
    let mut named = BTreeSet::new();
    for heading in ["What the main crates do", "The rest"] {
        for row in rows(heading) {
            let names = row[0]
                .split([',', ';', '(', ')'])
                .map(|name| name.trim().trim_start_matches("with "));
            named.extend(
                names
                    .filter(|name| !name.is_empty())
                    .map(|name| name.split(' ').next().unwrap().to_owned()),
            );
        }
    }
    let known: BTreeSet<String> = dependencies().into_iter().map(|(name, ..)| name).collect();
    let missing: Vec<&String> = known.difference(&named).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
    let brought = |name: &str| BROUGHT.iter().any(|brought| brought.split(' ').next() == Some(name));
    let gone: Vec<&String> = named
        .difference(&known)
        .filter(|name| !brought(name) && *name != "zlib-rs")
        .collect();
    assert!(gone.is_empty(), "on the page alone: {gone:?}");
}

#[test]
fn every_dependency_is_used() {
    let (src, tests) = (text_below(&["src"]), text_below(&["src", "tests", "benches"]));
    for (name, _, for_tests) in dependencies() {
        let library = match name.as_str() {
            "md-5" => "md5".to_owned(),
            "rustls-webpki" => "webpki".to_owned(),
            name => name.replace('-', "_"),
        };
        let text = if for_tests { &tests } else { &src };
        let used = text
            .match_indices(&format!("{library}::"))
            .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        assert!(used, "{name} is not used");
    }
}

#[test]
fn every_feature_has_its_line_and_is_seen() {
    let (src, tests) = (text_below(&["src"]), text_below(&["tests", "benches"]));
    let mut rows = rows("Features");
    for (name, features, for_tests) in dependencies() {
        for feature in features {
            let at = rows.iter().position(|row| row[0] == name && row[1] == feature);
            // Of a crate of both kinds it may be the same line.
            let Some(at) = at else {
                assert!(
                    for_tests && name == "rcgen",
                    "{name}: {feature} has no line on the page"
                );
                continue;
            };
            let seen_at = rows.remove(at)[2];
            let text = if for_tests { &tests } else { &src };
            for code in seen_at.split('`').skip(1).step_by(2) {
                assert!(
                    text.contains(code),
                    "{name}: {feature} is for `{code}`, which is nowhere"
                );
            }
        }
    }
    assert!(rows.is_empty(), "on the page alone: {rows:?}");
}

/// What is asked for is what builds this, and what the pages say.
#[test]
fn the_stated_rust_version_is_the_one_in_use() {
    let stated = MANIFEST
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .unwrap();
    let number = |version: &str| -> Vec<u32> { version.split('.').map_while(|part| part.parse().ok()).collect() };
    let output = std::process::Command::new("rustc").arg("--version").output().unwrap();
    let compiler = String::from_utf8(output.stdout).unwrap();
    let compiler = compiler.split(' ').nth(1).unwrap();
    assert!(
        number(stated) <= number(compiler),
        "{stated} is asked for, and {compiler} in use"
    );
    for (page, words) in [
        ("README.md", format!("Needs Rust {stated} ")),
        ("deploy/docker/Dockerfile", format!("rust:{stated}-")),
        ("deploy/docker/README.md", format!("rust:{stated}-")),
    ] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert!(text.contains(&words), "{page} does not say {words:?}");
    }
}
