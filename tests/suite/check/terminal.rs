//! Who reads it: a person at a terminal, a log, or somebody who wants failures alone.

use crate::support::atlas::Atlas;
use crate::support::check::Setup;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

const GREEN: &str = "\x1b[32mok  \x1b[0m account";
const RED: &str = "\x1b[1;31mFAIL\x1b[0m credential";
/// The line that says what is waited for, and its end.
const WAITED: &str = "asking for a token\r\x1b[K";

async fn at_a_terminal(atlas: &Atlas, secret: &str, environment: &[(&str, &str)], flags: &str) -> String {
    let setup = Setup::default()
        .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
        .env("MONGODB_ATLAS_CLIENT_SECRET", secret)
        .env("TERM", "xterm");
    let setup = environment
        .iter()
        .fold(setup, |setup, (name, value)| setup.env(name, value));
    atlas.before(setup.at_a_terminal(flags)).check().await.text
}

#[tokio::test]
async fn a_terminal_shows_colours_and_what_is_waited_for() {
    let atlas = Atlas::start().await;
    let text = at_a_terminal(&atlas, CLIENT_SECRET, &[], "").await;
    assert!(text.contains(GREEN), "{text:?}");
    assert!(text.contains(WAITED), "{text:?}");
    let text = at_a_terminal(&atlas, "mdb_sa_sk_wrong", &[], "").await;
    assert!(text.contains(RED), "{text:?}");
}

#[tokio::test]
async fn no_color_and_dumb_terminals_are_heeded() {
    let atlas = Atlas::start().await;
    let text = at_a_terminal(&atlas, CLIENT_SECRET, &[("NO_COLOR", "1")], "").await;
    assert!(text.contains("ok   account"), "{text:?}");
    assert!(!text.contains("\x1b[32m"), "{text:?}");
    let text = at_a_terminal(&atlas, CLIENT_SECRET, &[("TERM", "dumb")], "").await;
    assert!(!text.contains('\x1b') && !text.contains("asking for"), "{text:?}");
}

#[tokio::test]
async fn what_is_no_terminal_gets_lines_alone() {
    let atlas = Atlas::start().await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.works("all is well");
    assert!(
        !said.text.contains('\x1b') && !said.text.contains("asking for"),
        "{}",
        said.text
    );
}

#[tokio::test]
async fn quiet_prints_failures_alone() {
    let atlas = Atlas::start().await;
    let said = atlas.before(Setup::bearer()).args(&["--quiet"]).check().await;
    assert_eq!((said.code, said.text.as_str()), (Some(0), ""));
    let wrong = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET", "mdb_sa_sk_wrong");
    let said = atlas.before(wrong).args(&["-q"]).check().await;
    assert_eq!(said.code, Some(1));
    let lines: Vec<&str> = said.text.lines().collect();
    assert!(lines[0].starts_with("FAIL credential"), "{}", said.text);
    assert!(lines[1].trim_start().starts_with("-> "), "{}", said.text);
    assert_eq!(lines.len(), 2, "{}", said.text);
    // At a terminal, too: nothing of what is waited for.
    let text = at_a_terminal(&atlas, CLIENT_SECRET, &[], "--quiet").await;
    assert_eq!(text, "");
}
