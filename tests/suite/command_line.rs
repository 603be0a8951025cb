//! What the command line prints for shells, readers and editors.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::needs::needs;
use crate::support::program::PROGRAM;

const COMMANDS: [&str; 12] = [
    "run",
    "check",
    "rotate-secret",
    "healthcheck",
    "rules",
    "audit",
    "make-ca",
    "make-secret",
    "completions",
    "man",
    "config-schema",
    "print-config",
];

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env_clear().output().unwrap()
}

#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a program says of a text at its standard input.
fn judged_by(program: &mut Command, text: &str) -> Output {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn completions_of_each_shell_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        for word in COMMANDS.iter().chain(&["listen", "drain-timeout"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

/// What bash itself offers.
#[test]
fn bash_completes_commands_flags_and_words() {
    let script = printed(&["completions", "bash"]);
    let offers = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let count = words.len() - 1;
        let ask = format!(
            "\nCOMP_WORDS=({}); COMP_CWORD={count}; _atlas__auth__proxy atlas-auth-proxy '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            quoted.join(" "),
            words[count],
            words[count - 1],
        );
        let output = judged_by(&mut Command::new("bash"), &(script.clone() + &ask));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(offers(&["atlas-auth-proxy", "rot"]).contains("rotate-secret"));
    assert!(offers(&["atlas-auth-proxy", "run", "--drain"]).contains("--drain-timeout"));
    assert_eq!(
        offers(&["atlas-auth-proxy", "run", "--environment", ""]).trim(),
        "commercial\ngov"
    );
}

#[test]
fn manual_pages_are_good_roff_and_name_what_there_is() {
    let page = printed(&["man"]);
    for command in COMMANDS {
        assert!(page.contains(&command.replace('-', "\\-")), "{command}");
        let own = printed(&["man", command]);
        assert!(
            own.contains(&format!("atlas\\-auth\\-proxy\\-{}", command.replace('-', "\\-"))),
            "{own}"
        );
    }
    for section in ["SYNOPSIS", "OPTIONS", "EXIT STATUS", "SIGNALS", "FILES", "EXAMPLES"] {
        assert!(page.contains(section), "{section}");
    }
    assert!(printed(&["man", "audit", "verify"]).contains("atlas\\-auth\\-proxy\\-audit\\-verify"));
    let unknown = run(&["man", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("has no command `nothing`: there is run"));
    let Some(groff) = needs(&["groff"], "groff-base") else {
        return;
    };
    for args in [vec!["man"], vec!["man", "rotate-secret"]] {
        let said = judged_by(
            Command::new(&groff).args(["-man", "-Tutf8", "-ww", "-z", "-"]),
            &printed(&args),
        );
        let said = String::from_utf8_lossy(&said.stderr);
        assert!(said.is_empty(), "{said}");
    }
}

#[test]
fn flags_that_people_try_are_answered_with_what_they_mean() {
    for (args, tip) in [
        (
            &["--client-secret", "mdb_sa_sk_x"][..],
            "MONGODB_ATLAS_CLIENT_SECRET_FILE",
        ),
        (&["run", "--private-key=x"], "MONGODB_ATLAS_PRIVATE_API_KEY_FILE"),
        (&["check", "--token", "x"], "never come by flag"),
        (&["--port", "8080"], "--listen 127.0.0.1:8080"),
        (&["--gov"], "--environment gov"),
        (&["-k"], "always verified"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(tip) && !said.contains("mdb_sa_sk_x"), "{args:?}: {said}");
    }
}

#[test]
fn the_configuration_in_force_is_printed_and_what_is_wrong_with_it_said() {
    let print = |environment: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM);
        command.args(["print-config", "--drain-delay=5s"]).env_clear();
        command.envs(environment.iter().copied()).output().unwrap()
    };
    let good = [
        ("MONGODB_ATLAS_CLIENT_ID", "mdb_sa_id_0123456789abcdef01234567"),
        ("MONGODB_ATLAS_CLIENT_SECRET", "mdb_sa_sk_never-shown"),
    ];
    let output = print(&good);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    assert!(text.contains("drain_delay = \"5s\""), "{text}");
    assert!(!text.contains("never-shown"), "{text}");
    let output = print(&good[..1]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("drain_delay"),
        "it is printed all the same"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("no client secret"));
}
