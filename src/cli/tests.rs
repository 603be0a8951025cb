//! Arguments in, flags or exit code out; and the help and the reference in step with them.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command};
use super::{main, without_credentials};
use crate::config::Flags;

const REFERENCE: &str = include_str!("../../docs/CONFIGURATION.md");

fn flags(args: &[&str]) -> Flags {
    let cli = Cli::try_parse_from(["atlas-auth-proxy"].iter().chain(args)).unwrap();
    match cli.command {
        None => cli.run.into(),
        Some(Command::Run(args)) => (*args).into(),
        Some(Command::Check(args)) => args.parts().0,
        Some(other) => panic!("{other:?}"),
    }
}

fn every_flag() -> [(&'static str, &'static str, Flags); 19] {
    let text = |value: &str| Some(value.to_owned());
    let none = Flags::default;
    [
        (
            "--config",
            "/c",
            Flags {
                config: Some("/c".into()),
                ..none()
            },
        ),
        (
            "--listen",
            "a",
            Flags {
                listen: vec!["a".into()],
                ..none()
            },
        ),
        (
            "--allow",
            "a",
            Flags {
                allow: vec!["a".into()],
                ..none()
            },
        ),
        (
            "--host",
            "a",
            Flags {
                host: vec!["a".into()],
                ..none()
            },
        ),
        (
            "--read-only",
            "",
            Flags {
                read_only: text("true"),
                ..none()
            },
        ),
        (
            "--insecure-plaintext",
            "",
            Flags {
                insecure_plaintext: text("true"),
                ..none()
            },
        ),
        (
            "--environment",
            "gov",
            Flags {
                environment: text("gov"),
                ..none()
            },
        ),
        (
            "--base-url",
            "u",
            Flags {
                base_url: text("u"),
                ..none()
            },
        ),
        (
            "--upstream-ca",
            "f",
            Flags {
                upstream_ca: text("f"),
                ..none()
            },
        ),
        (
            "--upstream-http",
            "2",
            Flags {
                upstream_http: text("2"),
                ..none()
            },
        ),
        (
            "--admin-listen",
            "a",
            Flags {
                admin_listen: text("a"),
                ..none()
            },
        ),
        (
            "--admin-quit",
            "",
            Flags {
                admin_quit: text("true"),
                ..none()
            },
        ),
        (
            "--rewrite-links",
            "false",
            Flags {
                rewrite_links: text("false"),
                ..none()
            },
        ),
        (
            "--workers",
            "2",
            Flags {
                workers: text("2"),
                ..none()
            },
        ),
        (
            "--drain-timeout",
            "1s",
            Flags {
                drain_timeout: text("1s"),
                ..none()
            },
        ),
        (
            "--required-header",
            "X-A",
            Flags {
                required_header: text("X-A"),
                ..none()
            },
        ),
        (
            "--drain-delay",
            "1s",
            Flags {
                drain_delay: text("1s"),
                ..none()
            },
        ),
        (
            "--log-level",
            "warn",
            Flags {
                log_level: text("warn"),
                ..none()
            },
        ),
        (
            "--log-format",
            "json",
            Flags {
                log_format: text("json"),
                ..none()
            },
        ),
    ]
}

#[test]
fn each_flag_with_and_without_the_command() {
    for (flag, value, expected) in every_flag() {
        let args: Vec<&str> = [flag, value].into_iter().filter(|arg| !arg.is_empty()).collect();
        assert_eq!(flags(&args), expected, "{flag}");
        let with_command: Vec<&str> = ["run"].into_iter().chain(args).collect();
        assert_eq!(flags(&with_command), expected, "run {flag}");
        let to_check: Vec<&str> = with_command
            .iter()
            .map(|arg| if *arg == "run" { "check" } else { *arg })
            .collect();
        assert_eq!(flags(&to_check), expected, "check {flag}");
    }
}

#[test]
fn lists_repeat_and_booleans_can_say_no() {
    assert_eq!(flags(&["--listen", "a", "--listen=b"]).listen, ["a", "b"]);
    assert_eq!(flags(&["--read-only=false"]).read_only.as_deref(), Some("false"));
    // A flag with an optional value must not swallow what follows it.
    let both = flags(&["--read-only", "--workers", "1"]);
    assert_eq!(
        (both.read_only.as_deref(), both.workers.as_deref()),
        (Some("true"), Some("1"))
    );
    assert_eq!(flags(&[]), Flags::default());
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_and_reference_name_every_flag_with_its_variable_and_default() {
    let mut command = Cli::command();
    let run = command.find_subcommand_mut("run").unwrap();
    let help = run.render_long_help().to_string();
    let tested: Vec<&str> = every_flag().iter().map(|(flag, ..)| *flag).collect();
    let mut documented: BTreeMap<&str, &str> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `--")?.split_once(" | "))
        .collect();
    for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
        let name = arg.get_long().unwrap();
        let flag = format!("--{name}");
        assert!(tested.contains(&flag.as_str()), "{flag} is not tested");
        assert!(help.contains(&flag));
        let about = arg.get_long_help().unwrap().to_string();
        assert!(
            about.contains("[env: ") && about.contains("[default: "),
            "{flag}: {about}"
        );
        let row = documented.keys().find(|row| row.split([' ', '`']).next() == Some(name));
        let row = *row.unwrap_or_else(|| panic!("{flag} has no row in the reference"));
        let cells = documented.remove(row).unwrap();
        let variables = cells.split(" | ").next().unwrap();
        assert_eq!(
            variables_in(&about),
            variables_in(variables),
            "{flag}: the help, and the reference"
        );
    }
    assert!(documented.is_empty(), "in the reference alone: {documented:?}");
}

fn variables_in(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_uppercase() && c != '_')
        .filter(|word| word.contains("ATLAS_"))
        .collect()
}

/// Those of `check` stand in `docs/OPERATIONS.md`, those of `rotate-secret` in `docs/ROTATION.md`.
#[test]
fn the_pages_name_the_flags_that_there_are() {
    let command = Cli::command();
    let known: BTreeSet<String> = command
        .get_subcommands()
        .flat_map(|subcommand| subcommand.get_arguments())
        .filter_map(|arg| arg.get_long())
        .filter(|name| *name != "help")
        .map(|name| format!("--{name}"))
        .collect();
    let flags_of = |page: &'static str| {
        let quoted = page.split('`').skip(1).step_by(2);
        let flags = quoted.filter(|text| text.starts_with("--"));
        flags.map(|text| text.split([' ', '=']).next().unwrap().to_owned())
    };
    let named: BTreeSet<String> = flags_of(REFERENCE).collect();
    assert!(named.is_subset(&known), "{named:?}");
    let named: BTreeSet<String> = named
        .into_iter()
        .chain(flags_of(include_str!("../../docs/OPERATIONS.md")))
        .chain(flags_of(include_str!("../../docs/ROTATION.md")))
        .collect();
    let missing: Vec<&String> = known.difference(&named).collect();
    assert!(missing.is_empty(), "named nowhere: {missing:?}");
}

#[test]
fn usage_and_configuration_errors_are_2() {
    // Leaked: the environment must live as long as the process.
    let environment: &'static BTreeMap<String, String> = Box::leak(Box::default());
    let code = |args: &[&str]| {
        let args = ["atlas-auth-proxy"].iter().chain(args).map(std::ffi::OsString::from);
        format!("{:?}", main(args, environment))
    };
    let [clean, misused] = [0, 2].map(|code| format!("{:?}", std::process::ExitCode::from(code)));
    assert_eq!(code(&["--no-such-flag"]), misused);
    assert_eq!(code(&["no-such-command"]), misused);
    assert_eq!(code(&[]), misused, "no credential");
    assert_eq!(code(&["healthcheck", "--admin-listen", "x"]), misused);
    assert_eq!(code(&["--version"]), clean);
    assert_eq!(code(&["run", "--help"]), clean);
}

#[test]
fn a_credential_on_the_command_line_is_not_repeated() {
    for args in [["--client-secret=mdb_sa_sk_Hunter2"], ["mdb_sa_sk_Hunter2"]] {
        let error = Cli::try_parse_from(["atlas-auth-proxy"].iter().chain(&args)).unwrap_err();
        let said = without_credentials(&error.render().to_string());
        assert!(!said.contains("Hunter2"), "{said}");
    }
}
