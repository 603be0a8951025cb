//! Imports run one way (docs/ARCHITECTURE.md). A part never imports what points at it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A part, and what it may import.
const ARROWS: &[(&str, &[&str])] = &[
    // Leaves.
    ("secret", &[]),
    ("time", &[]),
    ("units", &[]),
    ("code", &[]),
    ("build", &[]),
    ("log", &[]),
    ("hardening", &[]),
    ("crypto", &[]),
    ("blocking", &[]),
    ("fair", &[]),
    ("lease", &[]),
    ("secret_command", &["time"]),
    ("report", &[]),
    ("metrics", &["build", "code", "log"]),
    ("certificate", &[]),
    ("catalogue", &[]),
    ("audit", &["crypto", "fair", "log", "time"]),
    // Parts.
    ("guard", &[]),
    ("access", &["catalogue", "guard"]),
    ("proof", &["access", "catalogue", "guard"]),
    (
        "upstream",
        &["blocking", "certificate", "crypto", "fair", "metrics", "secret", "time"],
    ),
    ("own_http", &["upstream"]),
    ("trace", &["metrics", "own_http", "secret", "time", "upstream"]),
    (
        "credential",
        &[
            "certificate",
            "blocking",
            "crypto",
            "fair",
            "own_http",
            "upstream",
            "secret",
            "secret_command",
            "time",
            "metrics",
            "lease",
        ],
    ),
    ("atlas_api", &["credential", "own_http", "secret", "time", "upstream"]),
    (
        "caller",
        &[
            "blocking",
            "certificate",
            "credential",
            "crypto",
            "log",
            "own_http",
            "secret",
            "time",
            "upstream",
        ],
    ),
    (
        "rotate",
        &[
            "atlas_api",
            "credential",
            "own_http",
            "report",
            "secret",
            "settings",
            "time",
            "upstream",
        ],
    ),
    (
        "doctor",
        &[
            "atlas_api",
            "audit",
            "blocking",
            "certificate",
            "credential",
            "own_http",
            "report",
            "secret",
            "server",
            "settings",
            "time",
            "token_store",
            "upstream",
            "caller",
            "catalogue",
        ],
    ),
    (
        "token_store",
        &["credential", "crypto", "metrics", "secret", "time", "upstream"],
    ),
    (
        "proxy",
        &[
            "trace",
            "guard",
            "credential",
            "upstream",
            "metrics",
            "log",
            "code",
            "fair",
            "time",
            "lease",
            "access",
            "caller",
            "catalogue",
            "certificate",
            "crypto",
            "audit",
        ],
    ),
    (
        "server",
        &[
            "proxy",
            "guard",
            "metrics",
            "code",
            "crypto",
            "certificate",
            "fair",
            "time",
        ],
    ),
    ("admin", &["guard", "report"]),
    ("emulator", &["catalogue", "crypto"]),
    (
        "settings",
        &[
            "trace",
            "credential",
            "log",
            "proxy",
            "server",
            "token_store",
            "upstream",
            "caller",
            "catalogue",
            "audit",
        ],
    ),
    // The top.
    (
        "app",
        &[
            "build",
            "trace",
            "access",
            "admin",
            "atlas_api",
            "blocking",
            "credential",
            "fair",
            "guard",
            "log",
            "metrics",
            "own_http",
            "proxy",
            "secret",
            "server",
            "settings",
            "time",
            "token_store",
            "upstream",
            "lease",
            "caller",
            "audit",
        ],
    ),
    (
        "config",
        &[
            "trace",
            "blocking",
            "credential",
            "guard",
            "log",
            "proof",
            "proxy",
            "secret",
            "secret_command",
            "server",
            "report",
            "settings",
            "time",
            "token_store",
            "units",
            "upstream",
            "access",
            "caller",
            "catalogue",
            "crypto",
            "audit",
        ],
    ),
    (
        "cli",
        &[
            "build",
            "app",
            "atlas_api",
            "blocking",
            "certificate",
            "config",
            "crypto",
            "doctor",
            "hardening",
            "log",
            "settings",
            "emulator",
            "credential",
            "guard",
            "proof",
            "proxy",
            "rotate",
            "report",
            "metrics",
            "secret",
            "server",
            "time",
            "units",
            "upstream",
            "caller",
            "catalogue",
            "audit",
        ],
    ),
];

fn files(at: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn part_of(path: &Path, src: &Path) -> String {
    let relative = path.strip_prefix(src).unwrap();
    relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

fn imports(text: &str) -> BTreeSet<String> {
    text.match_indices("crate::")
        .map(|(at, _)| {
            text[at + 7..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn imports_follow_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    assert!(all.len() > 20);
    for path in all {
        let part = part_of(&path, &src);
        if part == "lib" || part == "main" {
            continue;
        }
        let allowed = ARROWS
            .iter()
            .find(|(name, _)| *name == part)
            .unwrap_or_else(|| panic!("{part} has no row in the table of arrows"))
            .1;
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            assert!(
                import == part || allowed.contains(&import.as_str()),
                "{} imports `{import}`, which is against the arrows",
                path.display()
            );
        }
    }
}

/// Files that are longer than a reader takes in at once, and why each is one file all the same.
const LONG_FILES: &[(&str, &str)] = &[
    ("certificate.rs", "one reader of DER"),
    ("config/credential.rs", "every way to give a credential"),
    (
        "credential/digest/mod.rs",
        "what a challenge and a 401 do to the shared nonce: one state",
    ),
    ("server/strict/head.rs", "one scanner, byte by byte"),
    (
        "token_store/narrow.rs",
        "one grammar of what a hostile store may answer",
    ),
    ("token_store/server.rs", "one connection and its health"),
    ("token_store/source.rs", "one protocol: lock, fence, token"),
];

#[test]
fn no_file_is_long_without_a_reason() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut long = BTreeSet::new();
    for path in all {
        let relative = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let tests = relative.contains("/tests") || relative.ends_with("_tests.rs");
        if !tests && fs::read_to_string(&path).unwrap().lines().count() > 400 {
            long.insert(relative);
        }
    }
    let known: BTreeSet<String> = LONG_FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(long, known, "split what has grown; take out what has shrunk");
}

/// What the map of the house names is there.
#[test]
fn paths_in_the_architecture_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(top.join("docs/ARCHITECTURE.md")).unwrap();
    let mut seen = 0;
    // Outside the drawings, which have backticks of their own.
    for prose in page.split("```").step_by(2) {
        for name in prose.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/') && !name.contains([' ', '*', ':']) && !name.starts_with('/');
            if is_path {
                seen += 1;
                let there = top.join("src").join(name).exists()
                    || top.join("src").join(format!("{name}.rs")).exists()
                    || top.join(name).exists();
                assert!(there, "docs/ARCHITECTURE.md names `{name}`, which is not there");
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

/// Every promise of docs/SECURITY.md names tests that exist.
#[test]
fn promises_name_tests_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["src", "tests"] {
        files(&top.join(folder), &mut all);
    }
    let code: String = all.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let page = fs::read_to_string(top.join("docs/SECURITY.md")).unwrap();
    let promises: Vec<&str> = page.lines().filter(|line| line.starts_with("| S")).collect();
    assert_eq!(promises.len(), 21);
    for promise in promises {
        let shown_by = promise.rsplit('|').nth(1).unwrap();
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{promise}");
        for name in names {
            let exists = code.contains(&format!("fn {name}("))
                || top.join(name).exists()
                || top.join("tests/suite").join(name).exists()
                || top.join(format!("fuzz/targets/{name}.rs")).exists();
            assert!(exists, "`{name}` is named by a promise, and there is no such test");
        }
    }
}

/// Each outside crate has one home, so that replacing it touches one place.
#[test]
fn some_crates_have_one_home() {
    let homes: &[(&str, &[&str])] = &[
        // The tests' client.
        ("reqwest::", &[]),
        ("digest_auth::", &["credential", "emulator", "caller"]),
        ("rustls_native_certs::", &["upstream"]),
        ("clap::", &["cli"]),
        ("clap_complete::", &["cli"]),
        ("clap_mangen::", &["cli"]),
        ("toml::", &["config"]),
        ("redis::", &["token_store"]),
        ("opentelemetry", &["trace"]),
        ("prost::", &["trace"]),
        ("ipnet::", &["guard", "config", "caller", "emulator"]),
        ("prometheus::", &["metrics"]),
        ("secrecy::", &["secret"]),
        ("listenfd::", &["cli"]),
        ("close_fds::", &["secret_command"]),
        ("tracing_subscriber::", &["log"]),
        // The cryptography is chosen once.
        ("default_provider", &["crypto"]),
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    for path in all {
        let part = part_of(&path, &src);
        let text = fs::read_to_string(&path).unwrap();
        for (name, allowed) in homes {
            assert!(
                !text.contains(name) || allowed.contains(&part.as_str()),
                "{} uses `{name}`, whose home is {allowed:?}",
                path.display()
            );
        }
    }
}

/// Whoever runs the tests can read what they need, and `.ci/run` installs it.
#[test]
fn packages_that_tests_need_are_in_the_readme_and_installed_by_ci() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(top.join(path)).unwrap();
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let mut all = Vec::new();
    for folder in ["src", "tests/suite"] {
        files(&top.join(folder), &mut all);
    }
    let mut packages = BTreeSet::new();
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices(concat!("needs(", "&")) {
            let call = text[at..].split(')').next().unwrap();
            let strings: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
            let named = strings.last().expect("it names a package");
            packages.extend(named.split(" or ").map(str::to_owned));
        }
    }
    assert!(packages.len() > 5, "{packages:?}");
    for package in &packages {
        assert!(
            readme.contains(&format!("`{package}`")),
            "README.md does not name the package {package}"
        );
        assert!(
            ci.contains(&format!(":{package}")) || package == "valkey-server",
            ".ci/run does not install {package}"
        );
    }
}
