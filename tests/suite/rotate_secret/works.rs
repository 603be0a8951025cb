//! A secret is rotated: what is written, deleted, kept and said.

use std::fs;
use std::os::unix::fs::MetadataExt;

use atlas_auth_proxy::emulator::Target;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{ORG, SECOND_SECRET, Setup, command};
use crate::support::atlas::{GROUPS, reloaded};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::traffic::Traffic;

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
