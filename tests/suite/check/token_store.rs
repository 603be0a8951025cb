//! The shared token store.

use atlas_auth_proxy::token_store::DEFAULT_PORT;
use tokio::process::Command;

use crate::support::atlas::Atlas;
use crate::support::check::{Said, Setup};
use crate::support::client::client;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::redis::{KEY, Redis};
use crate::support::until;

/// `check` with this store.
async fn store(atlas: &Atlas, url: &str, more: &str, key: &[u8]) -> Said {
    let key = atlas.file("store.key", key, 0o600);
    let text = format!(
        "[[listener]]\nbind = '127.0.0.1:0'\n[admin]\nbind = '127.0.0.1:0'\n\
         [token_store]\nurl = '{url}'\nkey_file = '{key}'\n{more}"
    );
    let file = atlas.file("settings.toml", text, 0o644);
    atlas.before(Setup::bearer().args(&["--config", &file])).check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_store_that_is_away_is_a_warning_only() {
    let atlas = Atlas::start().await;
    let url = format!("redis://{}", free_address());
    let said = store(&atlas, &url, "", &KEY).await;
    said.works("it works; 1 to look at");
    said.line(
        "warn",
        "token store",
        &[&url, "can't be reached"],
        &["go on with the shared token", "45 take tokens of their own"],
    );
    let said = store(&atlas, &format!("redis://store.invalid:{DEFAULT_PORT}"), "", &KEY).await;
    said.works("it works; 1 to look at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_store_that_refuses_the_password_is_a_failure() {
    let Some(redis) = Redis::start_with_password("only-for-tests-store-password").await else {
        return;
    };
    let atlas = Atlas::start().await;
    let url = format!("redis://{}", redis.address);
    for password in [None, Some("wrong")] {
        let more = password.map_or_else(String::new, |password| {
            format!("password_file = '{}'\n", atlas.file("password", password, 0o600))
        });
        let said = store(&atlas, &url, &more, &KEY).await;
        said.fails(
            "token store",
            &[&url, "`password_file`"],
            &["45 take tokens of their own"],
        );
    }
    let right = atlas.file("password", "only-for-tests-store-password", 0o600);
    let said = store(&atlas, &url, &format!("password_file = '{right}'\n"), &KEY).await;
    said.works("all is well");
    said.line("ok", "token store", &[&url, "answers and can be written to"], &[]);
    assert!(!said.text.contains("only-for-tests-store-password"), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_store_with_a_token_of_another_key_is_a_failure_and_status_and_log_tell_the_store() {
    let Some(mut redis) = Redis::start().await else { return };
    let atlas = Atlas::start().await;
    let url = format!("redis://{}", redis.address);
    // Nothing there yet; then a replica's token.
    let said = store(&atlas, &url, "", &KEY).await;
    said.works("all is well");
    let file = atlas.file(
        "run.toml",
        format!(
            "[token_store]\nurl = '{url}'\nkey_file = '{}'\n",
            atlas.file("run.key", KEY, 0o600)
        ),
        0o644,
    );
    let start = async || {
        Program::start_at(
            Command::new(PROGRAM),
            &atlas.emulator.base_url(),
            &atlas.ca_file(),
            &SERVICE_ACCOUNT,
            &["--config", &file],
        )
        .await
    };
    let first = start().await;
    first.until_said("access token obtained").await;
    let second = start().await;
    second.until_said("access token obtained").await;
    let said = store(&atlas, &url, "", &KEY).await;
    said.works("all is well");
    let said = store(&atlas, &url, "", &[9; 32]).await;
    said.fails(
        "token store",
        &[&url, "closed with another key"],
        &["the same `key_file`"],
    );

    let status = async || {
        let page = format!("http://{}/status.json", first.admin);
        let text = client().get(page).send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["tokenStore"].clone()
    };
    until("the store is up", || async { status().await["up"] == true }).await;
    assert_eq!(status().await["address"], format!("{url}/0"));
    assert_eq!(status().await["cause"], serde_json::Value::Null);
    let keys: Vec<String> = redis.command(&["KEYS", "*:token"]);
    let () = redis.command(&["SET", &keys[0], "mine"]);
    let said = store(&atlas, &url, "", &KEY).await;
    said.works("it works; 1 to look at");
    said.line("warn", "token store", &["no token", &keys[0]], &["another program"]);
    redis.stop();
    until("its end is seen", || async { status().await["up"] == false }).await;
    assert!(status().await["cause"].is_string());

    let (_, said) = first.stop().await;
    assert!(said.contains("\"from\":\"token endpoint\""), "{said}");
    let (_, said) = second.stop().await;
    assert!(said.contains("\"from\":\"token store\""), "{said}");
}
