//! `rotate-secret`: whatever fails, a secret that Atlas accepts is in force, and nothing secret is printed. The program
//! itself runs.

mod beforehand;
mod every;
mod kubernetes;
mod lost_answers;
mod taken_back;
mod two_secrets;
mod works;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use serde_json::Value;
use tokio::process::Command;

use crate::support::PATIENCE;
use crate::support::atlas::{Atlas, write_secret};
use crate::support::program::PROGRAM;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY};

/// Its end is not that of [`CLIENT_SECRET`], so that Atlas shows which is which.
const SECOND_SECRET: &str = "mdb_sa_sk_only-for-tests-a-second-one";
/// The organization of every account here.
const ORG: &str = "5a0a1e7e0f2912c554080adc";

/// What a run said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
    errors: String,
}

impl Said {
    /// That a line has this mark, this step and all these words.
    #[track_caller]
    fn line(&self, mark: &str, step: &str, words: &[&str]) {
        let start = format!("{mark:<5} {step:<8} ");
        let holds = |line: &str| line.starts_with(&start) && words.iter().all(|word| line.contains(word));
        assert!(self.text.lines().any(holds), "no `{start}` with {words:?} in {self:#?}");
    }

    #[track_caller]
    fn in_force(&self, words: &[&str]) {
        let holds = |line: &str| line.starts_with("in force: ") && words.iter().all(|word| line.contains(word));
        assert!(self.text.lines().any(holds), "not in force: {words:?} in {self:#?}");
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Atlas, and the client secret in a file.
struct Setup {
    atlas: Atlas,
    secret: PathBuf,
}

impl Setup {
    async fn new() -> Self {
        let atlas = Atlas::start().await;
        let secret = atlas.folder.path().join("secret");
        write_secret(&secret, CLIENT_SECRET);
        Self { atlas, secret }
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET_FILE", self.secret.to_str().unwrap()),
        ]
    }

    async fn rotate(&self, args: &[&str]) -> Said {
        self.rotate_in(&self.environment(), args).await
    }

    async fn rotate_in(&self, environment: &[(&str, &str)], args: &[&str]) -> Said {
        let (base_url, ca_file) = (self.atlas.emulator.base_url(), self.atlas.ca_file());
        let mut command = command(&base_url, &ca_file, environment, args);
        let said = run(&mut command).await;
        for secret in self.secrets() {
            assert!(
                !said.text.contains(&secret) && !said.errors.contains(&secret),
                "{said:#?}"
            );
        }
        said
    }

    fn secrets(&self) -> Vec<String> {
        self.atlas.emulator.secrets_of(CLIENT_ID)
    }

    fn in_file(&self) -> String {
        fs::read_to_string(&self.secret).unwrap()
    }

    /// The next `n` requests go through, and what is ordered after this befalls the one that follows.
    fn let_through(&self, target: Target, n: u32) {
        self.atlas.emulator.fault(Fault {
            times: n,
            ..Fault::once(target, FaultKind::Delay)
        });
    }

    fn answer(&self, target: Target, status: u16, body: &Value) {
        self.atlas.emulator.fault(Fault {
            status: Some(status),
            body: Some(body.to_string()),
            ..Fault::once(target, FaultKind::Status)
        });
    }

    /// Nothing was made, changed or left behind.
    #[track_caller]
    fn untouched(&self) {
        assert_eq!(self.secrets(), [CLIENT_SECRET]);
        assert_eq!(self.in_file(), CLIENT_SECRET);
        assert_eq!(self.atlas.emulator.live_tokens(), 0, "tokens are revoked");
        assert_eq!(self.names(), ["ca.pem", "secret"]);
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.atlas.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn command(base_url: &str, ca_file: &Path, environment: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["rotate-secret", "--base-url", base_url, "--upstream-ca"])
        .arg(ca_file)
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(command: &mut Command) -> Said {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    let said = Said {
        code: output.status.code(),
        text: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    };
    // No secret, no token of the emulator, no answer of the upstream as it came.
    for never in ["mdb_sa_sk_", "eyJ", "<html>", "only-for-tests", PRIVATE_KEY] {
        assert!(
            !said.text.contains(never) && !said.errors.contains(never),
            "{never}: {said:#?}"
        );
    }
    said
}
