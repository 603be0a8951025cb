//! Several accounts, and one of them alone.

use crate::support::atlas::Atlas;
use crate::support::check::{OTHER_SECRET, Setup};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

fn two_accounts(atlas: &Atlas, second_secret: &str) -> Setup {
    let (first, second) = (
        atlas.file("first", CLIENT_SECRET, 0o600),
        atlas.file("second", second_secret, 0o600),
    );
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let account = |name: &str, secret: &str| {
        format!(
            "[account.{name}]\nbase_url = '{url}'\nca_file = '{}'\nclient_id = '{CLIENT_ID}'\nclient_secret_file = '{secret}'\n\
             [[listener]]\nname = '{name}'\nbind = '127.0.0.1:0'\naccount = '{name}'\n",
            ca.display()
        )
    };
    let text = account("first", &first) + &account("second", &second) + "[admin]\nbind = '127.0.0.1:0'\n";
    Setup::default().args(&["--config", &atlas.file("two.toml", text, 0o644)])
}

#[tokio::test]
async fn one_of_two_accounts_is_broken() {
    let atlas = Atlas::start().await;
    let setup = two_accounts(&atlas, OTHER_SECRET);
    let said = setup.check().await;
    said.line("ok", "configuration", &["2 listeners, accounts first, second"], &[]);
    said.line("ok", "credential", &["[first]"], &[]);
    said.fails("credential", &["[second]", "invalid_client"], &["mistyped"]);

    let said = setup.clone().args(&["--account", "first"]).check().await;
    said.works("all is well");
    let said = setup.args(&["--account", "second"]).check().await;
    said.fails("credential", &["invalid_client"], &["mistyped"]);
}

#[tokio::test]
async fn an_account_that_does_not_exist() {
    let atlas = Atlas::start().await;
    let setup = two_accounts(&atlas, CLIENT_SECRET);
    let said = setup.clone().args(&["--account", "third"]).check().await;
    said.fails("configuration", &["no account `third`", "first, second"], &[]);
    // People paste anything anywhere.
    let said = setup.args(&["--account", CLIENT_SECRET]).check().await;
    said.fails("configuration", &["no account `mdb_sa_"], &[]);
}
