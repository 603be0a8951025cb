//! `rotate-secret`: whatever fails, a secret that Atlas accepts is in force, and nothing secret is printed. The program
//! itself runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::rotation::{Atlas, GROUPS, Traffic, reloaded, write_secret};
use crate::support::PATIENCE;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};
use crate::support::upstream::{Answer, Upstream, json as json_answer};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"));
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
    for never in ["mdb_sa_sk_", "eyJ", "<html>", "only-for-tests"] {
        assert!(
            !said.text.contains(never) && !said.errors.contains(never),
            "{never}: {said:#?}"
        );
    }
    said
}

// -------------------------------------------------------------------------------------------------------- all is well

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_rotated_beside_a_proxy_without_a_failed_request() {
    let setup = Setup::new().await;
    let program = setup.atlas.program(&setup.secret, &[]).await;
    let traffic = Traffic::start(format!("http://{}{GROUPS}", program.address));
    traffic.goes_on().await;
    let said = setup.rotate(&["--delete-old", "--grace", "3s"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    for step in ["place", "token", "account", "make", "verify", "write", "delete"] {
        said.line("ok", step, &[]);
    }
    reloaded(program.admin, "the new secret is in force", 1.0).await;
    let secrets = setup.secrets();
    assert_eq!(secrets.len(), 1, "the old one is deleted");
    assert_ne!(secrets[0], CLIENT_SECRET);
    assert_eq!(setup.in_file(), secrets[0]);
    assert_eq!(fs::metadata(&setup.secret).unwrap().mode() & 0o777, 0o600);
    said.in_force(&["the new secret", "the file", setup.secret.to_str().unwrap()]);
    traffic.goes_on().await;
    // And with what was granted for the old secret gone, too.
    setup.atlas.emulator.expire_tokens();
    traffic.goes_on().await;
    traffic.end().await;
    assert!(program.stop().await.0.success());
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
    assert_eq!(setup.names(), ["ca.pem", "secret"]);
}

#[tokio::test]
async fn a_deleted_secret_leaves_no_token_behind() {
    let setup = Setup::new().await;
    let said = setup.rotate(&["--delete-old", "--grace", "0s"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.secrets().len(), 1);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
}

/// The grace may be longer than the life of a token: the old secret is deleted with one that is asked for afterwards.
#[tokio::test]
async fn the_old_secret_is_deleted_after_a_grace_longer_than_a_token() {
    let setup = Setup::new().await;
    let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
    let environment = setup.environment();
    let mut child = command(&base_url, &ca_file, &environment, &["--delete-old", "--grace", "2s"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("it writes").contains("write") {}
    setup.atlas.emulator.expire_tokens();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert_eq!(setup.secrets(), [setup.in_file()]);
}

#[tokio::test]
async fn without_delete_old_both_secrets_work() {
    let setup = Setup::new().await;
    let said = setup.rotate(&["--org", ORG]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.line("ok", "delete", &["kept"]);
    let secrets = setup.secrets();
    assert_eq!(secrets, [CLIENT_SECRET.to_owned(), setup.in_file()]);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
}

#[tokio::test]
async fn out_names_another_file() {
    let setup = Setup::new().await;
    let other = setup.atlas.folder.path().join("other");
    let said = setup.rotate(&["--out", other.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.in_file(), CLIENT_SECRET);
    assert_eq!(fs::read_to_string(&other).unwrap(), setup.secrets()[1]);
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_dry_run_makes_nothing() {
    let setup = Setup::new().await;
    setup.atlas.emulator.add_secret(CLIENT_ID, SECOND_SECRET);
    let before = fs::metadata(&setup.secret).unwrap().ino();
    let said = setup.rotate(&["--dry-run", "--delete-old", "--delete-unused"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    for step in ["room", "make", "verify", "write", "delete"] {
        said.line("would", step, &[]);
    }
    said.in_force(&["dry run"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET, SECOND_SECRET]);
    assert_eq!(fs::metadata(&setup.secret).unwrap().ino(), before);
    assert_eq!(setup.names(), ["ca.pem", "secret"]);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
}

#[tokio::test]
async fn a_machine_reads_one_object() {
    let setup = Setup::new().await;
    let said = setup.rotate(&["--json"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let object = said.json();
    assert_eq!(object["ok"], true);
    let steps: Vec<&str> = object["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        ["place", "token", "account", "make", "verify", "write", "delete"]
    );
    for step in object["steps"].as_array().unwrap() {
        assert_eq!(step["status"], "ok");
        assert!(!step["detail"].as_str().unwrap().is_empty(), "{step}");
    }
    assert!(object["in_force"].as_str().unwrap().starts_with("the new secret"));
    assert!(object["secret_id"].is_string());
    let expires: jiff::Timestamp = object["expires"].as_str().unwrap().parse().unwrap();
    let hours = (expires.as_second() - jiff::Timestamp::now().as_second()) / 3600;
    assert!((2158..=2160).contains(&hours), "{hours}");

    setup.answer(Target::Token, 401, &json!({"error": "invalid_client"}));
    let said = setup.rotate(&["--json"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    let object = said.json();
    assert_eq!((&object["ok"], &object["secret_id"]), (&json!(false), &Value::Null));
    assert_eq!(object["steps"][1]["status"], "fail");
    assert!(object["in_force"].as_str().unwrap().contains("before"), "{object}");
    assert_eq!(object["expires"], Value::Null);
}

// ------------------------------------------------------------------------------------------------ nothing is made yet

#[tokio::test]
async fn a_place_that_cannot_be_written_is_found_before_anything_is_asked_for() {
    let setup = Setup::new().await;
    let at = |name: &str| setup.atlas.folder.path().join(name);
    fs::create_dir_all(at("mounted/..1")).unwrap();
    write_secret(&at("mounted/..1/secret"), CLIENT_SECRET);
    symlink("..1", at("mounted/..data")).unwrap();
    symlink("..data/secret", at("mounted/secret")).unwrap();
    for (file, words) in [
        ("no/secret", "is its directory there?"),
        ("mounted", "directory"),
        // What a kubelet has put there.
        ("mounted/secret", "--kubernetes-secret"),
    ] {
        let said = setup.rotate(&["--out", at(file).to_str().unwrap()]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", "place", &[words]);
        said.in_force(&["before"]);
    }
    assert_eq!(setup.atlas.emulator.token_requests(), 0);
    assert_eq!(setup.atlas.emulator.api_requests(), 0);
    assert_eq!(setup.secrets(), [CLIENT_SECRET]);
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    let setup = Setup::new().await;
    let key = [
        ("MONGODB_ATLAS_PUBLIC_API_KEY", PUBLIC_KEY),
        ("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY),
    ];
    let no_file = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let usual = setup.environment();
    for (environment, args, words) in [
        (&key[..], &[][..], "API key"),
        (&no_file, &[], "does not come from a file"),
        (&usual, &["--account", "other"], "there is default"),
        (&usual, &["--org", "x/../y"], "24 hexadecimal digits"),
        (&usual, &["--expires-after-hours", "7"], "8..=8760"),
        (&usual, &["--expires-after-hours", "8761"], "8..=8760"),
        (&usual, &["--every", "30s"], "at least 1h"),
        (&usual, &["--every", "30m"], "at least 1h"),
        (
            &usual,
            &["--every", "8h", "--expires-after-hours", "8"],
            "shorter than the life",
        ),
        (&no_file, &["--every", "30d"], "does not come from a file"),
        (&usual, &["--every", "30"], "is not a duration"),
        (&usual, &["--every", "90d"], "shorter than the life"),
        (&usual, &["--every", "2h", "--dry-run"], "cannot be used with"),
        (&usual, &["--kubernetes-secret", "name"], "NAMESPACE/NAME:KEY"),
        (&usual, &["--kubernetes-secret", "ns/name:key"], "--out FILE"),
        (&[], &[], "no credential"),
    ] {
        let said = setup.rotate_in(environment, args).await;
        assert_eq!(said.code, Some(2), "{args:?}: {said:#?}");
        assert!(said.errors.contains(words), "{words}: {said:#?}");
        assert_eq!(said.text, "");
    }
    setup.untouched();
    assert_eq!(setup.atlas.emulator.token_requests(), 0);
}

/// Of two, one must be named; then that one is rotated, and the other is left alone.
#[tokio::test]
async fn one_of_two_accounts_is_rotated_by_its_name() {
    let setup = Setup::new().await;
    let folder = setup.atlas.folder.path();
    let other = folder.join("other");
    write_secret(&other, CLIENT_SECRET);
    let account = |name: &str, secret: &Path| {
        format!(
            "[account.{name}]\nclient_id = '{CLIENT_ID}'\nclient_secret_file = '{}'\n\
             [[listener]]\nname = '{name}'\nbind = '127.0.0.1:0'\naccount = '{name}'\n",
            secret.display()
        )
    };
    let at = format!(
        "base_url = '{}'\nca_file = '{}'\n",
        setup.atlas.emulator.base_url(),
        setup.atlas.ca_file().display()
    );
    let text = account("first", &setup.secret) + &account("second", &other);
    let file = folder.join("two.toml");
    fs::write(&file, text.replace("client_id", &format!("{at}client_id"))).unwrap();
    let rotate = async |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"));
        command
            .args(["rotate-secret", "--config", file.to_str().unwrap()])
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true);
        run(&mut command).await
    };
    let said = rotate(&[]).await;
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.errors.contains("--account: first, second"), "{said:#?}");
    assert_eq!(setup.atlas.emulator.token_requests(), 0);

    let said = rotate(&["--account", "second"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.in_file(), CLIENT_SECRET);
    let new = fs::read_to_string(&other).unwrap();
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), new]);
}

#[tokio::test]
async fn a_wrong_secret_is_said_to_be_wrong() {
    let setup = Setup::new().await;
    write_secret(&setup.secret, SECOND_SECRET);
    let said = setup.rotate(&["--delete-old", "--delete-unused"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "token", &["invalid_client", "`atlas-auth-proxy check`"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET]);
    assert_eq!(setup.in_file(), SECOND_SECRET);
    assert_eq!(setup.atlas.emulator.api_requests(), 0);
    assert_eq!(setup.names(), ["ca.pem", "secret"]);
}

#[tokio::test]
async fn a_role_that_may_not_is_named() {
    let setup = Setup::new().await;
    let refusal = json!({"error": 403, "errorCode": "USER_UNAUTHORIZED", "detail": "<html>", "reason": "Forbidden"});
    // When it lists the organizations, when it reads itself, and when it makes the secret.
    for (before, step) in [(0, "account"), (1, "account"), (3, "make")] {
        if before > 0 {
            setup.let_through(Target::Api, before);
        }
        setup.answer(Target::Api, 403, &refusal);
        let said = setup.rotate(&[]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", step, &["USER_UNAUTHORIZED", "Organization Owner"]);
        said.in_force(&["before"]);
        setup.untouched();
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_change_nothing() {
    let setup = Setup::new().await;
    for (target, before, step) in [
        (Target::Token, 0, "token"),
        (Target::Api, 0, "account"),
        (Target::Api, 2, "account"),
        (Target::Api, 3, "make"),
    ] {
        for kind in [
            FaultKind::Garbage,
            FaultKind::Truncate,
            FaultKind::Reset,
            FaultKind::Empty,
        ] {
            if before > 0 {
                setup.let_through(target, before);
            }
            setup.atlas.emulator.fault(Fault::once(target, kind));
            let said = setup.rotate(&[]).await;
            assert_eq!(said.code, Some(1), "{target:?} {kind:?}: {said:#?}");
            said.line("FAIL", step, &[]);
            setup.untouched();
        }
    }
}

// ---------------------------------------------------------------------------------------------- what was made goes again

#[tokio::test]
async fn a_new_secret_that_is_refused_is_deleted_again() {
    let setup = Setup::new().await;
    let inode = fs::metadata(&setup.secret).unwrap().ino();
    setup.let_through(Target::Token, 1);
    // At once: no token can be had at all, so that trying again is useless.
    setup.answer(
        Target::Token,
        403,
        &json!({"error": "access_denied", "error_description": "Access Token limit reached."}),
    );
    let said = setup.rotate(&["--delete-old"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("ok", "make", &[]);
    said.line("FAIL", "verify", &["deleted again"]);
    said.in_force(&["before"]);
    assert_eq!(fs::metadata(&setup.secret).unwrap().ino(), inode);
    setup.untouched();
}

/// For good: all the tries are made, so that this takes their pauses of 18 s.
#[tokio::test]
async fn a_new_secret_that_is_never_accepted_is_deleted_again() {
    let setup = Setup::new().await;
    setup.let_through(Target::Token, 1);
    setup.atlas.emulator.fault(Fault {
        times: 0,
        status: Some(401),
        body: Some(json!({"error": "invalid_client"}).to_string()),
        ..Fault::once(Target::Token, FaultKind::Status)
    });
    let said = setup.rotate(&[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "verify", &["invalid_client", "deleted again", "7 days"]);
    said.in_force(&["before", "the file", setup.secret.to_str().unwrap()]);
    assert_eq!(setup.atlas.emulator.token_requests(), 1, "no try got past the fault");
    setup.untouched();
}

#[tokio::test]
async fn a_new_secret_is_verified_with_patience() {
    let setup = Setup::new().await;
    setup.let_through(Target::Token, 1);
    for _ in 0..2 {
        setup.answer(Target::Token, 401, &json!({"error": "invalid_client"}));
    }
    let said = setup.rotate(&[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), setup.in_file()]);
}

#[tokio::test]
async fn a_leftover_is_named_by_its_id() {
    let setup = Setup::new().await;
    setup.let_through(Target::Token, 1);
    setup.answer(
        Target::Token,
        403,
        &json!({"error": "access_denied", "error_description": "Access Token limit reached."}),
    );
    // The organizations, itself twice, the secret; then its deletion.
    setup.let_through(Target::Api, 4);
    setup.answer(Target::Api, 500, &json!({"error": 500}));
    let said = setup.rotate(&[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "verify", &["left over", "6a7940c0"]);
    assert_eq!(setup.in_file(), CLIENT_SECRET);
    assert_eq!(setup.secrets().len(), 2);
}

// ------------------------------------------------------------------------------------------------ Atlas's limit of two

#[tokio::test]
async fn at_the_limit_of_two_nothing_is_deleted_unasked() {
    let setup = Setup::new().await;
    setup.atlas.emulator.add_secret(CLIENT_ID, SECOND_SECRET);
    let said = setup.rotate(&["--delete-old"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "room", &["2 secrets", "--delete-unused"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET, SECOND_SECRET]);
    assert_eq!(setup.in_file(), CLIENT_SECRET);
}

#[tokio::test]
async fn at_the_limit_of_two_the_unused_one_makes_room() {
    let setup = Setup::new().await;
    setup.atlas.emulator.add_secret(CLIENT_ID, SECOND_SECRET);
    let said = setup.rotate(&["--delete-unused"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.line("ok", "room", &["deleted"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), setup.in_file()]);
    // The same when the one in use is the younger.
    let said = setup.rotate(&["--delete-unused"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!setup.secrets().contains(&CLIENT_SECRET.to_owned()));
    assert_eq!(setup.secrets()[1], setup.in_file());
}

/// The proxy would step over to a dead one.
#[tokio::test]
async fn the_next_secret_of_the_settings_is_not_an_unused_one() {
    let setup = Setup::new().await;
    setup.atlas.emulator.add_secret(CLIENT_ID, SECOND_SECRET);
    let next = setup.atlas.folder.path().join("next");
    write_secret(&next, SECOND_SECRET);
    let mut environment = setup.environment();
    environment.push(("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", next.to_str().unwrap()));
    let said = setup.rotate_in(&environment, &["--delete-unused"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "room", &["next secret", "6a7940c0"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET, SECOND_SECRET]);
    assert_eq!(setup.in_file(), CLIENT_SECRET);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
    // Once the next one has stepped in, it is the one in use, and the other makes room.
    setup.atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    let said = setup.rotate_in(&environment, &["--delete-unused"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.secrets(), [SECOND_SECRET.to_owned(), setup.in_file()]);
}

#[tokio::test]
async fn secrets_that_cannot_be_told_apart_are_not_deleted() {
    let setup = Setup::new().await;
    // Atlas shows the same end of both.
    let twin = format!(
        "mdb_sa_sk_only-for-tests-twin-{}",
        &CLIENT_SECRET[CLIENT_SECRET.len() - 6..]
    );
    setup.atlas.emulator.add_secret(CLIENT_ID, &twin);
    let said = setup.rotate(&["--delete-unused", "--delete-old"]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "room", &["can't be told"]);
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), twin]);
}

// --------------------------------------------------------------------------------------------- answers that are lost

/// An Atlas that makes a secret, and says of it what `made` turns it into.
struct Forgetful {
    upstream: Upstream,
    secrets: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

const FIRST_ID: &str = "6a7940c0000000000000aaaa";
const NEW_ID: &str = "6a7940c0000000000000bbbb";

impl Forgetful {
    async fn start(made: fn() -> Answer) -> Self {
        let secrets = Arc::new(Mutex::new(vec![FIRST_ID.to_owned()]));
        let known = Arc::clone(&secrets);
        let upstream = Upstream::start(move |request: Request<Incoming>| {
            let known = Arc::clone(&known);
            async move {
                let path = request.uri().path().to_owned();
                let mut known = known.lock();
                match *request.method() {
                    Method::POST => {
                        known.push(NEW_ID.to_owned());
                        made()
                    }
                    Method::DELETE => {
                        let id = path.rsplit('/').next().unwrap().to_owned();
                        known.retain(|one| *one != id);
                        json_answer(204, "")
                    }
                    _ if path.ends_with("/orgs") => json_answer(200, json!({"results": [{"id": ORG}]}).to_string()),
                    _ => {
                        let shown = |id: &String| json!({"id": id, "maskedSecretValue": format!("...{}", &id[20..])});
                        let secrets: Vec<Value> = known.iter().map(shown).collect();
                        json_answer(200, json!({ "secrets": secrets }).to_string())
                    }
                }
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("secret"), CLIENT_SECRET);
        Self {
            upstream,
            secrets,
            folder,
        }
    }

    async fn rotate(&self) -> Said {
        let secret = self.folder.path().join("secret");
        let environment = [
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ];
        let said = run(&mut command(
            &self.upstream.base_url(),
            &self.upstream.ca_file,
            &environment,
            &[],
        ))
        .await;
        assert_eq!(fs::read_to_string(&secret).unwrap(), CLIENT_SECRET);
        said
    }
}

/// Whether it is ours can't be known: another rotation may have made it. So it is named, not deleted.
#[tokio::test]
async fn a_secret_that_was_made_without_an_answer_is_named() {
    let atlas = Forgetful::start(|| json_answer(504, "")).await;
    let said = atlas.rotate().await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "make", &[NEW_ID, "delete it in Atlas"]);
    assert_eq!(*atlas.secrets.lock(), [FIRST_ID, NEW_ID]);
}

#[tokio::test]
async fn a_secret_that_came_without_its_value_is_deleted_again() {
    let atlas = Forgetful::start(|| json_answer(201, json!({ "id": NEW_ID }).to_string())).await;
    let said = atlas.rotate().await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "make", &[NEW_ID, "deleted again"]);
    assert_eq!(*atlas.secrets.lock(), [FIRST_ID]);
}

#[tokio::test]
async fn a_secret_that_came_in_no_usable_form_is_deleted_again() {
    for value in ["mdb_sa_sk_two\nlines", "with blank", "mdb_sa_sk_é"] {
        let made: fn() -> Answer = match value {
            "with blank" => || json_answer(201, json!({"id": NEW_ID, "secret": "with blank"}).to_string()),
            "mdb_sa_sk_é" => || json_answer(201, json!({"id": NEW_ID, "secret": "mdb_sa_sk_é"}).to_string()),
            _ => || json_answer(201, json!({"id": NEW_ID, "secret": "mdb_sa_sk_two\nlines"}).to_string()),
        };
        let atlas = Forgetful::start(made).await;
        let said = atlas.rotate().await;
        assert_eq!(said.code, Some(1), "{value:?}: {said:#?}");
        said.line("FAIL", "make", &[NEW_ID, "deleted again"]);
        assert_eq!(*atlas.secrets.lock(), [FIRST_ID]);
    }
}

// ------------------------------------------------------------------------------------------------------- Kubernetes

/// How the cluster answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Forbidden,
    /// Patches, and does not say so.
    Mute,
    /// Does not patch, and says nothing.
    Dead,
    /// Says that it failed, and that the Secret is as it was.
    Broken,
    /// The Secret is marked as immutable.
    Immutable,
}

/// A cluster with one Secret, as far as a rotation sees of it.
struct Cluster {
    api: Upstream,
    data: Arc<Mutex<Value>>,
    pod: tempfile::TempDir,
}

const POD_TOKEN: &str = "only-for-tests-pod-token";

impl Cluster {
    async fn start(mood: Mood) -> Self {
        let before = json!({"client-id": STANDARD.encode(CLIENT_ID), "client-secret": STANDARD.encode(CLIENT_SECRET)});
        let data = Arc::new(Mutex::new(before));
        let known = Arc::clone(&data);
        let api = Upstream::start(move |request: Request<Incoming>| {
            let known = Arc::clone(&known);
            async move { cluster_answer(mood, &known, request).await }
        })
        .await;
        let pod = tempfile::tempdir().unwrap();
        fs::write(pod.path().join("token"), format!("{POD_TOKEN}\n")).unwrap();
        fs::copy(&api.ca_file, pod.path().join("ca.crt")).unwrap();
        Self { api, data, pod }
    }

    async fn rotate(&self, setup: &Setup, args: &[&str]) -> Said {
        let port = self.api.address.port().to_string();
        let mut environment = setup.environment();
        environment.extend([
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", port.as_str()),
            ("ATLAS_PROXY_POD_CREDENTIALS", self.pod.path().to_str().unwrap()),
        ]);
        let all = [&["--kubernetes-secret", "platform/atlas:client-secret"], args].concat();
        setup.rotate_in(&environment, &all).await
    }

    fn value(&self) -> String {
        let data = self.data.lock();
        String::from_utf8(STANDARD.decode(data["client-secret"].as_str().unwrap()).unwrap()).unwrap()
    }
}

async fn cluster_answer(mood: Mood, data: &Mutex<Value>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["authorization"], format!("Bearer {POD_TOKEN}"));
    assert_eq!(head.uri.path(), "/api/v1/namespaces/platform/secrets/atlas");
    let refused = |status, why: &str| json_answer(status, json!({"kind": "Status", "message": why}).to_string());
    if mood == Mood::Forbidden {
        return refused(403, "secrets \"atlas\" is forbidden");
    }
    if head.method == Method::GET {
        if mood == Mood::Dead {
            return refused(504, "timeout");
        }
        return json_answer(200, json!({"kind": "Secret", "data": *data.lock()}).to_string());
    }
    assert_eq!(head.method, Method::PATCH);
    assert_eq!(head.headers["content-type"], "application/merge-patch+json");
    let patch: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let changes = patch["data"].as_object().cloned().unwrap_or_default();
    if mood == Mood::Immutable && !changes.is_empty() {
        return refused(422, "field is immutable when `immutable` is set");
    }
    if head.uri.query() == Some("dryRun=All") {
        // No secret is sent in vain.
        assert!(!body_holds_a_secret(&changes));
        return json_answer(200, json!({"kind": "Secret"}).to_string());
    }
    assert_eq!(head.uri.query(), None);
    if !matches!(mood, Mood::Dead | Mood::Broken) {
        for (key, value) in changes {
            data.lock()[key] = value;
        }
    }
    match mood {
        Mood::Mute | Mood::Dead => refused(504, "timeout"),
        Mood::Broken => refused(500, "etcdserver: request timed out"),
        _ => json_answer(200, json!({"kind": "Secret"}).to_string()),
    }
}

fn body_holds_a_secret(changes: &serde_json::Map<String, Value>) -> bool {
    changes.values().any(|value| {
        let decoded = STANDARD.decode(value.as_str().unwrap()).unwrap();
        decoded.windows(10).any(|bytes| bytes == b"mdb_sa_sk_")
    })
}

#[tokio::test]
async fn in_a_cluster_one_key_of_the_secret_is_patched() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Well).await);
    let said = cluster.rotate(&setup, &["--delete-old", "--grace", "0s"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.in_force(&["the new secret", "the Kubernetes Secret platform/atlas:client-secret"]);
    assert_eq!(setup.secrets(), [cluster.value()]);
    assert_eq!(setup.in_file(), CLIENT_SECRET, "the mounted file is the kubelet's");
    assert_eq!(
        cluster.data.lock()["client-id"],
        STANDARD.encode(CLIENT_ID),
        "the other keys stay"
    );
    let first = &cluster.api.seen()[0];
    assert_eq!(
        (&first.method, first.uri.ends_with("?dryRun=All")),
        (&Method::PATCH, true)
    );
}

#[tokio::test]
async fn a_secret_that_may_not_be_patched_is_found_before_anything_is_made() {
    for (mood, words) in [(Mood::Forbidden, "`patch`"), (Mood::Immutable, "immutable")] {
        let (setup, cluster) = (Setup::new().await, Cluster::start(mood).await);
        let said = cluster.rotate(&setup, &[]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", "place", &[words]);
        setup.untouched();
        assert_eq!(setup.atlas.emulator.token_requests(), 0);
    }
}

#[tokio::test]
async fn a_patch_without_an_answer_is_looked_up() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Mute).await);
    let said = cluster.rotate(&setup, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), cluster.value()]);
}

/// The new secret may lie in the cluster by now, or soon, also after a 500 (the API's store may still carry out what it
/// gave up waiting for): then deleting it would put a dead one in force. The next run finds its way out.
#[tokio::test]
async fn a_patch_that_may_have_been_made_keeps_both_secrets() {
    for mood in [Mood::Dead, Mood::Broken] {
        let (setup, cluster) = (Setup::new().await, Cluster::start(mood).await);
        let said = cluster.rotate(&setup, &["--delete-old"]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", "write", &["can't be told", "6a7940c0", "--delete-unused"]);
        said.in_force(&["before", "or the new secret", "both work"]);
        assert_eq!(setup.secrets().len(), 2);
        assert_eq!(cluster.value(), CLIENT_SECRET);
        assert_eq!(setup.atlas.emulator.live_tokens(), 0);

        let cluster = Cluster::start(Mood::Well).await;
        let said = cluster.rotate(&setup, &["--delete-unused"]).await;
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), cluster.value()]);
    }
}

#[tokio::test]
async fn another_api_than_the_clusters_is_not_spoken_to() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Well).await);
    // An authority that has not signed its certificate.
    fs::copy(setup.atlas.ca_file(), cluster.pod.path().join("ca.crt")).unwrap();
    let said = cluster.rotate(&setup, &[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "place", &["the cluster's API"]);
    assert_eq!(cluster.api.seen().len(), 0);
    setup.untouched();
}

/// The line that is printed is run by a shell, with a `kubectl` that writes down what it gets.
#[tokio::test]
async fn outside_of_a_cluster_a_kubectl_command_is_printed() {
    let setup = Setup::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's new");
    let place = [
        "--kubernetes-secret",
        "platform/atlas:client-secret",
        "--out",
        file.to_str().unwrap(),
    ];
    let said = setup.rotate(&place).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.line("would", "kubectl", &["then remove the file: "]);
    let line = said.text.split("then remove the file: ").nth(1).unwrap();
    let line = line.lines().next().unwrap().to_owned();

    let kubectl = folder.path().join("kubectl");
    let (args, patch) = (folder.path().join("args"), folder.path().join("patch"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >'{}'\ncat >'{}'\n",
        args.display(),
        patch.display()
    );
    fs::write(&kubectl, script).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let status = Command::new("sh")
        .arg("-c")
        .arg(&line)
        .env("PATH", path)
        .status()
        .await
        .unwrap();
    assert!(status.success());
    let patch: Value = serde_json::from_str(&fs::read_to_string(patch).unwrap()).unwrap();
    let new = fs::read_to_string(&file).unwrap();
    assert_eq!(patch, json!({"data": {"client-secret": STANDARD.encode(&new)}}));
    let args = fs::read_to_string(args).unwrap();
    assert_eq!(
        args,
        "--namespace platform patch secret atlas --type merge --patch-file /dev/stdin\n"
    );
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), new]);

    // A machine gets it, too.
    fs::remove_file(&file).unwrap();
    let args = [&place[..], &["--delete-unused", "--json"]].concat();
    let said = setup.rotate(&args).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let steps = said.json()["steps"].as_array().unwrap().clone();
    let kubectl = steps.iter().find(|step| step["step"] == "kubectl").expect("a step");
    assert!(kubectl["detail"].as_str().unwrap().contains(&line), "{kubectl}");
}

/// What is printed is done by hand, some time: until then the old secret is the one in force.
#[tokio::test]
async fn what_would_put_a_dead_secret_in_force_is_refused() {
    let setup = Setup::new().await;
    let by_hand = [
        "--kubernetes-secret",
        "platform/atlas:client-secret",
        "--out",
        "/nowhere/new",
    ];
    for (args, words) in [
        ([&by_hand[..], &["--delete-old"]].concat(), "--delete-old"),
        ([&by_hand[..], &["--every", "30d"]].concat(), "--every"),
        (vec!["--out", "/nowhere/new", "--every", "30d"], "--every"),
    ] {
        let said = setup.rotate(&args).await;
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.errors.contains(words), "{said:#?}");
    }
    setup.untouched();
}

// ------------------------------------------------------------------------------------------------------- from time to time

#[tokio::test]
async fn every_waits_for_the_age_of_the_secret_and_ends_on_a_signal() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let setup = Setup::new().await;
        let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
        let environment = setup.environment();
        let mut child = command(&base_url, &ca_file, &environment, &["--every", "30d"])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("it says when");
        assert!(line.contains("due in 30 d") || line.contains("due in 29 d"), "{line}");
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let status = tokio::time::timeout(PATIENCE, child.wait())
            .await
            .expect("it ends")
            .unwrap();
        assert_eq!(status.code(), Some(0));
        setup.untouched();
    }
}

/// At once, and once: after that it goes by the age of the new one.
#[tokio::test]
async fn every_rotates_a_secret_that_is_overdue_at_once() {
    let setup = Setup::new().await;
    setup
        .atlas
        .emulator
        .age_secrets(CLIENT_ID, Duration::from_secs(31 * 24 * 3600));
    let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
    let environment = setup.environment();
    let args = ["--every", "30d", "--delete-old", "--grace", "0s"];
    let mut child = command(&base_url, &ca_file, &environment, &args).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("due in 30 d 0 h 0 min") {
        let more = stdout.read_line(&mut text).await.unwrap();
        assert_ne!(more, 0, "{text}");
    }
    assert_eq!(text.matches("make ").count(), 1, "{text}");
    assert_eq!(text.matches("in force: the new secret").count(), 1, "{text}");
    assert_eq!(setup.secrets(), [setup.in_file()]);
    assert_ne!(setup.in_file(), CLIENT_SECRET);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!text.contains("mdb_sa_sk_") && !text.contains("eyJ"), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// A signal during the grace ends the wait: the old secret is kept, and that is said.
#[tokio::test]
async fn a_signal_during_the_grace_keeps_the_old_secret() {
    let setup = Setup::new().await;
    let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
    let environment = setup.environment();
    let mut child = command(&base_url, &ca_file, &environment, &["--delete-old", "--grace", "1h"])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("write") {
        stdout.read_line(&mut text).await.unwrap();
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(status.code(), Some(1), "not everything was done: {text}");
    assert!(text.contains("kept"), "{text}");
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), setup.in_file()]);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
}
