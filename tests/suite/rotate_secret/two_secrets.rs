//! Atlas's limit of two secrets.

use super::{SECOND_SECRET, Setup};
use crate::support::atlas::write_secret;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

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
