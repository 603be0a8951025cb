//! Promise S8: a refused path stays refused under every plausible reading, read by a normaliser that shares no code with
//! the one under test. `PROPTEST_CASES=1000000` runs as many as the promise names.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::guard::readings::{percent_decoded, readings, under};

/// Pieces from which disguises of `/api/atlas/v2/groups/1/databaseUsers` arise often.
fn target() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "//",
        "\\",
        "%2f",
        "%2F",
        "%5c",
        "%252f",
        "%c0%af",
        ".",
        "..",
        "/..",
        "/../",
        "/./",
        "%2e%2e",
        "%2e",
        ".%2e",
        "%252e%252e",
        "%c0%ae",
        ";",
        ";x=1",
        "%3b",
        "..;",
        "%00",
        "%0a",
        "%",
        "%zz",
        "%20",
        "%25",
        "api",
        "API",
        "%61pi",
        "groups",
        "Groups",
        "gr%6fups",
        "1",
        "secret",
        "Secret",
        "secre%74",
        "secre",
        "t",
        "s%65cret",
        "open",
        "x.gz",
        "a:b",
        "%C3%A9",
        "%3A",
        "%24",
        "?",
        "#",
    ]);
    let walk = prop::collection::vec(pieces, 0..10).prop_map(|p| format!("/{}", p.concat()));
    let near = prop::sample::select(vec![
        "/api/groups/1/secret",
        "/api/groups/1/secret/x",
        "/api/groups/open",
    ]);
    let disguised = (
        near,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(disguise);
    prop_oneof![walk, disguised]
}

/// Paths with many `%2F`, most of them harmless.
fn slashed() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "%2F", "%2F", "%2f", "1", "x", "secret", "Secret", "api", "groups", "..", ".", "%20", "%C3%A9", ";",
        "%252F",
    ]);
    let start = prop::sample::select(vec!["/api/groups/1/", "/api/groups/", "/api/groups%2F1/", "/"]);
    (start, prop::collection::vec(piece, 0..7)).prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// Replaces characters of a plain path by something that some reader takes for the same.
fn disguise((plain, changes): (&str, Vec<(prop::sample::Index, u8)>)) -> String {
    let mut parts: Vec<String> = plain.chars().map(String::from).collect();
    for (at, how) in changes {
        let part = &mut parts[at.index(plain.len())];
        let first = part.chars().next().unwrap();
        *part = match (how % 9, first) {
            (0, c) => format!("%{:02x}", u32::from(c)),
            (1, c) => format!("%25{:02X}", u32::from(c)),
            (2, c) => c.to_ascii_uppercase().to_string(),
            (3, '/') => "//".to_owned(),
            (4, '/') => "/./".to_owned(),
            (5, '/') => "/x/../".to_owned(),
            (6, '/') => ";v=1/".to_owned(),
            (7, '/') => "\\".to_owned(),
            (8, '/') => "/%2e%2e;/api/".to_owned(),
            (_, c) => format!("{c}%00"),
        };
    }
    parts.concat()
}

fn cases() -> Config {
    // An environment variable wins over the default of proptest, and ours over that default.
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        Config::default().cases
    } else {
        40_000
    };
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

fn policy(path: &str, action: Action, unmatched: Action) -> Policy {
    Policy::new(
        false,
        vec![Rule::new(Vec::new(), PathPattern::parse(path).unwrap(), action)],
        unmatched,
    )
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_denied_path_is_denied_under_every_reading(target in target()) {
        let policy = policy("/api/groups/*/secret/**", Action::Deny, Action::Allow);
        if policy.check(&Method::GET, &target).is_ok() {
            for reading in readings(&target) {
                let lower = reading.to_lowercase();
                prop_assert!(!under(&lower, &["api", "groups", "*", "secret"]), "{target} is read as {reading}");
            }
        }
    }

    #[test]
    fn an_allowed_path_stays_allowed_under_every_reading(target in target()) {
        let policy = policy("/api/groups/**", Action::Allow, Action::Deny);
        if policy.check(&Method::GET, &target).is_ok() {
            for reading in readings(&target) {
                prop_assert!(under(&reading, &["api", "groups"]), "{target} is read as {reading}");
            }
        }
    }

    /// Both readings, each made by replacing text alone, are allowed by themselves when the path with `%2F` is.
    #[test]
    fn an_encoded_slash_passes_only_if_both_readings_do(target in slashed()) {
        let policy = Policy::new(
            false,
            vec![
                Rule::new(Vec::new(), PathPattern::parse("/api/groups/*/secret/**").unwrap(), Action::Deny),
                Rule::new(Vec::new(), PathPattern::parse("/api/groups/{id}/{one}/**").unwrap(), Action::Allow),
            ],
            Action::Deny,
        );
        let allowed = |path: &str| policy.check(&Method::GET, path).is_ok();
        let separated = target.replace("%2F", "/").replace("%2f", "/");
        // A letter has one reading only, and none of the rules' words has it.
        let joined = target.replace("%2F", "Q").replace("%2f", "Q");
        prop_assert_eq!(allowed(&target), allowed(&separated) && allowed(&joined), "{} of {}", allowed(&target), target);
        if allowed(&target) {
            for reading in readings(&target) {
                prop_assert!(!under(&reading.to_lowercase(), &["api", "groups", "*", "secret"]), "{target} is read as {reading}");
            }
        }
    }

    #[test]
    fn only_what_all_readers_share_is_canonical(target in target()) {
        if let Ok(one) = canonical(&target) {
            let decoded = String::from_utf8(percent_decoded(target.as_bytes())).unwrap();
            prop_assert_eq!(&*one, &decoded);
            for reading in readings(&target) {
                prop_assert!(reading == target || reading == decoded, "{} is read as {}", target, reading);
            }
        }
    }

    #[test]
    fn no_path_makes_it_panic(path in any::<String>(), method in "[A-Za-z]{1,9}") {
        let policy = policy("/api/groups/**", Action::Allow, Action::Deny);
        let _ = policy.check(&Method::from_bytes(method.as_bytes()).unwrap(), &path);
        let _ = PathPattern::parse(&path);
        let _ = super::super::path::loosest(&path);
    }
}
