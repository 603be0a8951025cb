//! A new secret that can't be used is deleted again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use serde_json::json;

use super::Setup;
use crate::support::proxy::CLIENT_SECRET;

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
