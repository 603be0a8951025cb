//! Credentials that Atlas refuses, or will refuse some day.

use std::sync::Arc;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use parking_lot::Mutex;

use crate::support::atlas::Atlas;
use crate::support::check::{CHALLENGE, Fake, OTHER_SECRET, Setup, fake_atlas, http, in_days, tunnel};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};
use crate::support::tls::TestCa;

#[tokio::test]
async fn a_wrong_client_secret() {
    let atlas = Atlas::start().await;
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET);
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["invalid_client"],
        &[&atlas.emulator.base_url(), "mistyped", "expired"],
    );
    said.skips(&["api", "secret expiry"]);
}

#[tokio::test]
async fn a_wrong_api_key() {
    let atlas = Atlas::start().await;
    let setup = Setup::digest().env("MONGODB_ATLAS_PRIVATE_API_KEY", "ffffffff-89ab-cdef-0123-456789abcdef");
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["refuses the API key", "HTTP 401"],
        &["mistyped", "deleted"],
    );
    said.skips(&["api"]);
}

/// Under the real names of both, with an authority and a tunnel of our own.
#[tokio::test]
async fn a_credential_of_the_other_realm() {
    let ca = TestCa::new();
    let tls = ca.server(&["cloud.mongodb.com", "cloud.mongodbgov.com"], &["http/1.1"]);
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let hosts = Arc::clone(&asked);
    let atlas = Fake::start_tls(tls, move |head| {
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        hosts.lock().push(host.to_owned());
        if head.starts_with("POST /api/oauth/token ") {
            return http("401 Unauthorized", "", r#"{"error":"invalid_client"}"#);
        }
        http("401 Unauthorized", CHALLENGE, "{}")
    })
    .await;
    let way = tunnel(atlas.address, None).await;
    for (realm, host, name, hint) in [
        (
            "cloud",
            "cloud.mongodb.com",
            "commercial Atlas",
            "MONGODB_ATLAS_SERVICE=cloudgov",
        ),
        (
            "cloudgov",
            "cloud.mongodbgov.com",
            "Atlas for Government",
            "unset MONGODB_ATLAS_SERVICE",
        ),
    ] {
        for setup in [Setup::bearer(), Setup::digest()] {
            let said = setup
                .env("MONGODB_ATLAS_SERVICE", realm)
                .env("HTTPS_PROXY", &format!("http://{}", way.address))
                .args(&["--upstream-ca", ca.pem_file.path().to_str().unwrap()])
                .check()
                .await;
            said.line("ok", "account", &[name, host], &[]);
            said.line("ok", "tunnel", &[host], &[]);
            said.fails("credential", &[], &[&format!("{name} was asked"), hint]);
            assert!(asked.lock().drain(..).all(|asked| asked == host));
        }
    }
}

#[tokio::test]
async fn the_token_endpoint_is_asked_too_often() {
    let atlas = Atlas::start_with(|settings| settings.tokens_per_minute = 0).await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails(
        "credential",
        &["rate limit", "HTTP 429"],
        &["wait 60 s", "restarts in a loop"],
    );

    let fault = Fault {
        status: Some(429),
        retry_after: Some(17),
        ..Fault::once(Target::Token, FaultKind::Status)
    };
    atlas.emulator.fault(fault);
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails("credential", &["HTTP 429"], &["wait 17 s"]);
}

#[tokio::test]
async fn too_many_live_tokens() {
    let atlas = Atlas::start_with(|settings| settings.max_tokens = 0).await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails(
        "credential",
        &["Access Token limit reached"],
        &["100 live tokens", "fewer replicas"],
    );
}

#[tokio::test]
async fn a_token_endpoint_with_a_fault() {
    let atlas = Atlas::start().await;
    for (kind, status, found, hint) in [
        (FaultKind::Status, Some(503), "HTTP 503", "status.mongodb.com"),
        (FaultKind::Status, Some(404), "HTTP 404", "not Atlas"),
        (FaultKind::Status, Some(418), "HTTP 418", "look at the base URL"),
        (FaultKind::Empty, None, "its body is empty", "base URL"),
        (FaultKind::Garbage, None, "not one JSON object", "base URL"),
        (FaultKind::Truncate, None, "the token endpoint", "in between"),
        (FaultKind::Reset, None, "broke before an answer", "in between"),
    ] {
        let fault = Fault {
            status,
            ..Fault::once(Target::Token, kind)
        };
        atlas.emulator.fault(fault);
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("credential", &[found], &[hint]);
    }
}

#[tokio::test]
async fn neither_of_two_secrets_is_accepted() {
    let atlas = Atlas::start_with(|settings| settings.service_accounts.clear()).await;
    let next = atlas.file("next", OTHER_SECRET, 0o600);
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", &next);
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["invalid_client", "nor the next client secret"],
        &["mistyped"],
    );
}

#[tokio::test]
async fn secrets_that_expire() {
    for (days, mark, found, code) in [
        (30, "ok", "good for 30 days", 0),
        (3, "warn", "good for 3 days", 0),
        (-5, "FAIL", "expired 4 days ago", 1),
    ] {
        let expires = in_days(days);
        let atlas = Fake::start(move |head| fake_atlas(head, &expires)).await;
        let said = atlas.before(Setup::bearer()).check().await;
        let hint: &[&str] = if mark == "ok" { &[] } else { &["rotate-secret"] };
        said.line(mark, "secret expiry", &[found], hint);
        assert_eq!(said.code, Some(code), "{}", said.text);
    }
}

#[tokio::test]
async fn what_looks_unlike_a_service_account() {
    let atlas = Atlas::start_with(|settings| {
        let odd = |id: &str, secret: &str| (id.to_owned(), secret.to_owned());
        settings.service_accounts = vec![odd(PUBLIC_KEY, CLIENT_SECRET), odd(CLIENT_ID, PRIVATE_KEY)];
    })
    .await;
    for (variable, value, found) in [
        ("MONGODB_ATLAS_CLIENT_ID", PUBLIC_KEY, "does not begin with mdb_sa_id_"),
        (
            "MONGODB_ATLAS_CLIENT_SECRET",
            PRIVATE_KEY,
            "does not begin with mdb_sa_sk_",
        ),
    ] {
        let said = atlas.before(Setup::bearer().env(variable, value)).check().await;
        said.works("it works; 1 to look at");
        said.line("warn", "account", &[found], &["value of this field"]);
        assert!(!said.text.contains(PUBLIC_KEY), "{}", said.text);
    }
}
