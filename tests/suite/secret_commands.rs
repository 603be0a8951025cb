//! Secrets that commands print: taken over in use, and in nobody's way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::atlas::{Atlas, GROUPS, NEXT_SECRET, reloaded, write_secret};
use crate::support::client::client;
use crate::support::metrics::metric;
use crate::support::needs::skip;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::traffic::Traffic;
use crate::support::until;

/// What must be nowhere.
const NOISE: &str = "noise-of-the-command";

/// Atlas, a command that prints a file, and a configuration that names it.
struct Setup {
    atlas: Atlas,
}

impl Setup {
    async fn new() -> Self {
        let atlas = Atlas::start().await;
        let at = atlas.folder.path().display();
        // With a file `slow` it waits until the audit log was renamed and goes on.
        let script = format!(
            "#!/bin/sh\necho >> {at}/runs\n[ \"$WORD\" = given ] || exit 9\nwhile [ -e {at}/slow ] && ! {{ [ -e {at}/audit.1 ] && [ -e {at}/audit.jsonl ]; }}; do sleep 0.05; done\n\
             echo {NOISE} >&2\ncat {at}/printed\n"
        );
        let command = atlas.file("command", script, 0o755);
        let toml = format!(
            "[account.default]\nclient_id = '{CLIENT_ID}'\nclient_secret_command = ['{command}']\n\
             command_environment = ['WORD']\n"
        );
        atlas.file("proxy.toml", toml, 0o600);
        Self { atlas }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.atlas.folder.path().join(name)
    }

    fn prints(&self, text: &str) {
        write_secret(&self.at("new"), text);
        fs::rename(self.at("new"), self.at("printed")).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read(self.at("runs")).map_or(0, |text| text.len())
    }

    fn environment() -> [(&'static str, &'static str); 2] {
        [("PATH", "/usr/bin:/bin"), ("WORD", "given")]
    }

    async fn start(&self) -> Program {
        let config = self.at("proxy.toml");
        let args = ["--config", config.to_str().unwrap()];
        let base_url = self.atlas.emulator.base_url();
        let environment = Self::environment();
        Program::start_at(
            Command::new(PROGRAM),
            &base_url,
            &self.atlas.ca_file(),
            &environment,
            &args,
        )
        .await
    }

    async fn run(&self, args: &[&str]) -> Output {
        let output = timeout(PATIENCE, self.command(args).kill_on_drop(true).output()).await;
        output.expect("it ends").unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--config").arg(self.at("proxy.toml"));
        command.env_clear().envs(Self::environment());
        command
    }
}

fn hangup(program: &Program) {
    kill_process(Pid::from_raw(program.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_is_taken_in_on_sighup_and_before_it_expires_without_a_failed_request() {
    let setup = Setup::new().await;
    setup.prints(CLIENT_SECRET);
    let program = setup.start().await;
    let traffic = Traffic::start(format!("http://{}{GROUPS}", program.address));
    traffic.goes_on().await;

    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(14);
    setup.atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    setup.prints(&format!(r#"{{"value": "{NEXT_SECRET}", "expires_at": "{end}"}}"#));
    hangup(&program);
    reloaded(program.admin, "the secret of the second run is in force", 1.0).await;
    setup.atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    traffic.goes_on().await;

    let third = format!("{NEXT_SECRET}-3");
    setup.atlas.emulator.add_secret(CLIENT_ID, &third);
    setup.prints(&third);
    reloaded(program.admin, "the secret of the third run is in force", 2.0).await;
    traffic.goes_on().await;
    traffic.end().await;
    let (status, said) = program.stop().await;
    assert!(status.success(), "{said}");
    assert!(!said.contains("mdb_sa_sk_") && !said.contains(NOISE), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_or_hangs_leaves_the_old_secret_and_stops_nothing() {
    let setup = Setup::new().await;
    setup.prints(CLIENT_SECRET);
    let program = setup.start().await;
    setup.prints(&format!("{NOISE} {NOISE}"));
    hangup(&program);
    program.until_said("what it gave before stays in force").await;
    let failing = |expected: f64| {
        let admin = program.admin;
        until("the metric says so", move || async move {
            metric(admin, "atlas_auth_proxy_secret_commands_failing", &[]).await == expected
        })
    };
    failing(1.0).await;
    let runs = async |outcome: &str| {
        metric(
            program.admin,
            "atlas_auth_proxy_secret_command_runs_total",
            &[("outcome", outcome)],
        )
        .await
    };
    assert_eq!((runs("ok").await, runs("error").await), (1.0, 1.0));
    setup.prints(CLIENT_SECRET);
    hangup(&program);
    failing(0.0).await;
    assert_eq!(runs("ok").await, 2.0);

    fs::write(setup.at("slow"), "").unwrap();
    let before = setup.runs();
    hangup(&program);
    until("the command hangs", || async { setup.runs() > before }).await;
    let answer = client().get(format!("http://{}{GROUPS}", program.address)).send();
    assert_eq!(answer.await.unwrap().status(), 200);
    let live = client().get(format!("http://{}/livez", program.admin)).send();
    assert_eq!(live.await.unwrap().status(), 200);
    program.until_said("took longer than 10 s, and was killed").await;
    let (status, said) = program.stop().await;
    assert!(status.success(), "{said}");
    assert!(said.contains("client_secret_command"), "{said}");
    assert!(!said.contains("mdb_sa_sk_") && !said.contains(NOISE), "{said}");
}

/// What it asks for comes afterwards; the audit log goes on in another file at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sighup_while_the_settings_are_read_is_neither_refused_nor_lost() {
    let setup = Setup::new().await;
    setup.prints(CLIENT_SECRET);
    let text = fs::read_to_string(setup.at("proxy.toml")).unwrap();
    let log = setup.at("audit.jsonl");
    let text = format!("{text}[audit]\nfile = '{}'\n", log.display());
    setup.atlas.file("proxy.toml", text, 0o600);
    let program = setup.start().await;
    fs::write(setup.at("slow"), "").unwrap();
    let before = setup.runs();
    hangup(&program);
    until("the command runs again", || async { setup.runs() > before }).await;
    let told = program.said().matches("configuration reloaded").count();
    fs::rename(&log, setup.at("audit.1")).unwrap();
    hangup(&program);
    // Before it is, the command does not end. The one that was under way, and the one for this SIGHUP.
    program.until_said_times("configuration reloaded", told + 2).await;
    let (status, said) = program.stop().await;
    assert!(status.success() && !said.contains("was not reloaded"), "{said}");
}

#[tokio::test]
async fn a_failure_at_the_start_is_an_error_that_repeats_nothing() {
    let setup = Setup::new().await;
    for (printed, says) in [
        (None, "failed with exit code 1; "),
        (Some(format!("{NOISE} {NOISE}")), "holds a blank"),
        (Some(format!("{{\"value\": \"{NOISE}\"")), "no JSON"),
    ] {
        if let Some(text) = &printed {
            setup.prints(text);
        }
        let said = setup.run(&["run", "--listen", "127.0.0.1:0"]).await;
        let text = String::from_utf8(said.stderr).unwrap();
        // 2 would keep systemd from starting it again.
        assert_eq!(said.status.code(), Some(1), "{text}");
        let line = format!(
            "`env -i PATH=\"$PATH\" WORD=\"$WORD\" '{}'`",
            setup.at("command").display()
        );
        for part in [says, "account.default.client_secret_command", &line] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let checked = setup.run(&["check"]).await;
        assert_eq!(checked.status.code(), Some(1));
        let checked = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.contains(says), "{checked}");
        assert!(!text.contains(NOISE) && !checked.contains(NOISE), "{text}{checked}");
        let failed = printed.is_none();
        assert_eq!(text.contains("standard error goes nowhere"), failed, "{text}");
        assert_eq!(text.contains("to see what it prints, run"), !failed, "{text}");
        assert!(!text.contains("not set"), "{text}");
    }
    let mut without = setup.command(&["check"]);
    let said = without.env_remove("WORD").output().await.unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.contains("failed with exit code 9") && text.contains("; not set: WORD"),
        "{text}"
    );
    // What only a change can mend stays 2, also beside a failure.
    for (mode, listen, says) in [(0o757, "127.0.0.1:0", "chmod o-w"), (0o755, "127.0.0.1", "exit code 1")] {
        fs::set_permissions(setup.at("command"), fs::Permissions::from_mode(mode)).unwrap();
        let _ = fs::remove_file(setup.at("printed"));
        let said = setup.run(&["run", "--listen", listen]).await;
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    }
    fs::remove_file(setup.at("command")).unwrap();
    let text = String::from_utf8(setup.run(&["check"]).await.stdout).unwrap();
    assert!(
        text.contains("is the path right, and is it there for the user of the proxy?"),
        "{text}"
    );
}

#[tokio::test]
async fn only_run_and_check_run_commands() {
    let setup = Setup::new().await;
    setup.prints(CLIENT_SECRET);
    let said = setup.run(&["rotate-secret"]).await;
    assert_eq!(said.status.code(), Some(2));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("only `run` and `check` run commands"), "{text}");
    let said = setup.run(&["rules", "table"]).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let nobody = free_address().to_string();
    let said = setup.run(&["healthcheck", "--admin-listen", &nobody]).await;
    assert_eq!(said.status.code(), Some(1), "nothing runs there: {said:?}");
    assert_eq!(setup.runs(), 0);
    setup.run(&["check"]).await;
    assert_eq!(setup.runs(), 1);
}

/// Who owns a program may change it, whatever its mode says.
#[tokio::test]
async fn what_another_user_or_group_can_change_is_not_run() {
    const NOBODY: Option<u32> = Some(65534);
    let setup = Setup::new().await;
    setup.prints(CLIENT_SECRET);
    let command = setup.at("command");
    if chown(&command, NOBODY, None).is_err() {
        return skip("this user may not give files away");
    }
    let refused = async |says: &str| {
        let said = setup.run(&["run", "--listen", "127.0.0.1:0"]).await;
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(setup.runs(), 0);
    };
    refused("belongs to another user").await;
    chown(&command, Some(0), NOBODY).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o775)).unwrap();
    refused("can be written by another group").await;
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    // Of a folder on the way, and of a link.
    let folder = setup.atlas.folder.path();
    chown(folder, NOBODY, None).unwrap();
    refused("belongs to another user").await;
    chown(folder, Some(0), None).unwrap();
    fs::rename(&command, setup.at("real")).unwrap();
    symlink("real", &command).unwrap();
    lchown(&command, NOBODY, None).unwrap();
    refused("belongs to another user").await;
    lchown(&command, Some(0), None).unwrap();
    setup.run(&["check"]).await;
    assert_eq!(setup.runs(), 1);
}

/// What the proxy itself was started with goes no further.
#[tokio::test]
async fn it_inherits_neither_descriptors_nor_environment() {
    let setup = Setup::new().await;
    let (fds, names) = (setup.at("fds"), setup.at("names"));
    let script = format!(
        "#!/bin/sh\nls -l /proc/$$/fd > {}\ntr '\\0' '\\n' < /proc/$$/environ | cut -d= -f1 > {}\necho {CLIENT_SECRET}\n",
        fds.display(),
        names.display()
    );
    setup.atlas.file("command", script, 0o755);
    // Without the mark that closes them.
    let shell = format!(
        "exec 7</ 8>/dev/null; exec {PROGRAM} check --config {}",
        setup.at("proxy.toml").display()
    );
    let status = Command::new("/bin/sh")
        .args(["-c", &shell])
        .env("LISTEN_FDS", "1")
        .env("MONGODB_ATLAS_PUBLIC_KEY", "")
        .env("WORD", "given")
        .output()
        .await
        .unwrap();
    let listed = |path: &Path| fs::read_to_string(path).unwrap();
    let open: Vec<String> = listed(&fds)
        .lines()
        .filter_map(|line| Some(line.split_once(" -> ")?.0.rsplit(' ').next()?.to_owned()))
        .collect();
    // The shell's own begin at 10.
    assert!(open.contains(&"1".to_owned()), "{open:?} {status:?}");
    assert!(
        !open.contains(&"7".to_owned()) && !open.contains(&"8".to_owned()),
        "{open:?}"
    );
    for name in listed(&names).lines() {
        assert!(["PATH", "HOME", "WORD"].contains(&name), "{name}");
    }
}
