//! What works, and what of it is to be looked at.

use crate::support::atlas::Atlas;
use crate::support::check::{OTHER_SECRET, Setup};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

#[tokio::test]
async fn a_service_account_that_works() {
    let atlas = Atlas::start().await;
    let said = atlas
        .with_secret_file(&atlas.file("secret", CLIENT_SECRET, 0o600))
        .await;
    said.works("all is well");
    let base_url = atlas.emulator.base_url();
    said.line("ok", "configuration", &["1 listener, account default"], &[]);
    said.line("ok", "configuration", &["secret` is guarded (mode 0600)"], &[]);
    said.line("ok", "account", &["service account", CLIENT_ID, &base_url], &[]);
    said.line("ok", "proxy", &["directly"], &[]);
    said.line("ok", "dns", &["localhost is 127.0.0.1"], &[]);
    said.line("ok", "tcp", &["127.0.0.1:", "answered"], &[]);
    said.line("ok", "tls", &["TLSv1_3"], &[]);
    said.line("ok", "clock", &["agree"], &[]);
    said.line("ok", "credential", &["granted a token for 3600 s"], &[]);
    said.line("ok", "api", &["HTTP 200, 2 projects"], &[]);
    said.line("ok", "egress", &["Atlas sees this machine as 127.0.0.1"], &[]);
    said.line("ok", "secret expiry", &["364 days"], &[]);
    said.line("ok", "listener", &["free"], &[]);
    said.line("ok", "admin port", &["free"], &[]);
    assert_eq!(atlas.emulator.live_tokens(), 0, "the token was taken back");
}

#[tokio::test]
async fn an_api_key_that_works() {
    let atlas = Atlas::start().await;
    let said = atlas.before(Setup::digest()).check().await;
    said.works("all is well");
    said.line("ok", "account", &["API key abcdefgh"], &[]);
    said.line("ok", "credential", &["Digest"], &[]);
    said.line("ok", "api", &["HTTP 200, 2 projects"], &[]);
    said.line("ok", "egress", &["127.0.0.1"], &[]);
    said.line(
        "ok",
        "api key id",
        &["is 5c47503320eef5699e1cce8d", "[account.default]"],
        &[],
    );
}

/// The next secret has to take the current one's place some day; until then nothing is broken.
#[tokio::test]
async fn the_next_secret_that_has_stepped_in() {
    let atlas = Atlas::start_with(|settings| settings.service_accounts[0].1 = OTHER_SECRET.to_owned()).await;
    let next = atlas.file("next", OTHER_SECRET, 0o600);
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", &next);
    let said = atlas.before(setup).check().await;
    said.works("it works; 1 to look at");
    said.line(
        "warn",
        "credential",
        &["with the next one"],
        &["in the place of the current"],
    );
    said.line("ok", "secret expiry", &["364 days"], &[]);
}
