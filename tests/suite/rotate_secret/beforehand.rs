//! What is found before anything is made: then nothing is made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use serde_json::json;
use tokio::process::Command;

use super::{SECOND_SECRET, Setup, run};
use crate::support::atlas::write_secret;
use crate::support::program::PROGRAM;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};

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
        let mut command = Command::new(PROGRAM);
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
