//! What the Admin API answers, and what is no Admin API.

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use serde_json::json;

use crate::support::atlas::Atlas;
use crate::support::check::{CHALLENGE, Fake, Setup, TOKEN, http};
use crate::support::proxy::CLIENT_SECRET;

#[tokio::test]
async fn an_address_that_is_not_on_the_access_list() {
    let atlas = Atlas::start_with(|settings| settings.access_list = Some(vec!["10.0.0.1".parse().unwrap()])).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = atlas.before(setup).check().await;
        said.fails(
            "api",
            &["HTTP 403 (IP_ADDRESS_NOT_ON_ACCESS_LIST)"],
            &["Atlas sees this machine as 127.0.0.1", "API access list"],
        );
    }
}

/// What a server says is repeated only as far as it is an address.
#[tokio::test]
async fn an_access_list_answer_with_more_than_an_address() {
    for (detail, parameters, hint) in [
        (
            "",
            json!([CLIENT_SECRET, "\u{1b}[31m", "198.51.100.7\n", "203.0.113.9"]),
            "as 203.0.113.9,",
        ),
        ("IP address 203.0.113.8 is not allowed", json!([]), "as 203.0.113.8,"),
        (CLIENT_SECRET, json!("203.0.113.8"), "does not name it"),
    ] {
        let body = json!({"errorCode": "IP_ADDRESS_NOT_ON_ACCESS_LIST", "detail": detail, "parameters": parameters});
        let body = body.to_string();
        let atlas = Fake::start(move |head| match head.starts_with("POST /api/oauth/token ") {
            true => http("200 OK", "", TOKEN),
            false => http("403 Forbidden", "", &body),
        })
        .await;
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("api", &["ACCESS_LIST"], &[hint, "API Access List"]);
        assert!(!said.text.contains("198.51.100.7"), "{}", said.text);
    }
    let of_tokens =
        Fake::start(|_| http("403 Forbidden", "", r#"{"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST"}"#)).await;
    let said = of_tokens.before(Setup::bearer()).check().await;
    said.fails("credential", &["ACCESS_LIST"], &["API Access List"]);
}

#[tokio::test]
async fn an_api_that_says_no() {
    let atlas = Atlas::start().await;
    for (status, body, found, hint) in [
        (401, "{}", "HTTP 401", "the token was granted"),
        (
            403,
            r#"{"errorCode":"USER_UNAUTHORIZED"}"#,
            "HTTP 403 (USER_UNAUTHORIZED)",
            "its role",
        ),
        (403, r#"{"errorCode":"mdb_sa_sk_\u001b[31m"}"#, "HTTP 403", "its role"),
        (404, "<html>", "HTTP 404", "no Admin API"),
        (406, "{}", "HTTP 406", "older Ops Manager"),
        (500, "{}", "HTTP 500", "status.mongodb.com"),
    ] {
        atlas.emulator.clear_faults();
        atlas.emulator.fault(Fault {
            status: Some(status),
            body: Some(body.to_owned()),
            times: 0,
            ..Fault::once(Target::Api, FaultKind::Status)
        });
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("api", &[found], &[hint]);
    }
    let busy = Atlas::start_with(|settings| settings.requests_per_minute = 0).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = busy.before(setup).check().await;
        said.fails(
            "api",
            &["HTTP 429 (RATE_LIMITED_TOKEN_BUCKET)"],
            &["rate limit", "max_requests_per_minute"],
        );
    }
}

#[tokio::test]
async fn a_credential_that_sees_nothing() {
    let atlas = Fake::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        let body = if path == "/api/oauth/token" {
            TOKEN
        } else {
            r#"{"results":[],"totalCount":0}"#
        };
        http("200 OK", "", body)
    })
    .await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.works("it works; 1 to look at");
    said.line("warn", "api", &["HTTP 200, and no project"], &["give it a role"]);
    said.line("skip", "secret expiry", &["not known"], &["Organization Read Only"]);
}

#[tokio::test]
async fn something_else_than_atlas() {
    let pages: [fn() -> String; 2] = [
        || http("200 OK", "Content-Type: text/html\r\n", "<html>Sign in</html>"),
        || http("302 Found", "Location: https://login.example.org/?secret=1\r\n", ""),
    ];
    for (page, found) in pages.into_iter().zip(["not one JSON object", "HTTP 302"]) {
        let site = Fake::start(move |_| page()).await;
        let said = site.before(Setup::bearer()).check().await;
        said.fails("credential", &[found], &["base URL", "login page"]);
        let said = site.before(Setup::digest()).check().await;
        said.line(
            "warn",
            "credential",
            &["asked for no credential"],
            &["something else than Atlas"],
        );
        let found = if found == "HTTP 302" {
            found
        } else {
            "HTTP 200, and no JSON"
        };
        said.fails("api", &[found], &["not the Admin API", "base URL", "login page"]);
        assert!(!said.text.contains("login.example.org"), "{}", said.text);
    }
    let speechless = Fake::start(|_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned()).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = speechless.before(setup).check().await;
        said.line("warn", "clock", &["no answer"], &["is the base URL right?"]);
        said.fails("credential", &[], &["in between"]);
    }
}

#[tokio::test]
async fn an_upstream_that_offers_no_digest() {
    let gateway = Fake::start(|_| http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")).await;
    let said = gateway.before(Setup::digest()).check().await;
    said.fails("credential", &["no Digest challenge"], &["base URL", "in between"]);
    said.skips(&["api"]);
}

/// That the key was sent is no sign that it was looked at.
#[tokio::test]
async fn a_fault_behind_the_digest_challenge() {
    let atlas = Fake::start(|head| match head.contains("\r\nauthorization: Digest ") {
        true => http("503 Service Unavailable", "", ""),
        false => http("401 Unauthorized", CHALLENGE, ""),
    })
    .await;
    let said = atlas.before(Setup::digest()).check().await;
    said.line("skip", "credential", &["not known yet", "HTTP 503"], &[]);
    said.fails("api", &["HTTP 503"], &["status.mongodb.com"]);
}

/// Everything that a server can say comes back to it as what it was sent.
#[tokio::test]
async fn an_upstream_that_echoes_the_secret() {
    let atlas = Fake::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        let echo = json!({
            "error": CLIENT_SECRET, "errorCode": CLIENT_SECRET, "detail": CLIENT_SECRET, "parameters": [CLIENT_SECRET],
            "results": [{"id": "fake-token"}], "currentIpv4Address": CLIENT_SECRET, "error_description": CLIENT_SECRET,
        });
        let more =
            format!("X-Error-Code: {CLIENT_SECRET}\r\nDate: {CLIENT_SECRET}\r\nRetry-After: {CLIENT_SECRET}\r\n");
        match path {
            "/api/oauth/token" => http("200 OK", &more, TOKEN),
            path if path.contains("serviceAccounts") => http("403 Forbidden", &more, &echo.to_string()),
            _ => http("200 OK", &more, &echo.to_string()),
        }
    })
    .await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.works("all is well");
    said.line("skip", "secret expiry", &["HTTP 403"], &["Organization Read Only"]);
    for status in ["400 Bad Request", "403 Forbidden", "302 Found"] {
        let echo = json!({"error": CLIENT_SECRET, "error_description": CLIENT_SECRET, "errorCode": CLIENT_SECRET});
        let echo = http(status, &format!("Location: /{CLIENT_SECRET}\r\n"), &echo.to_string());
        let atlas = Fake::start(move |_| echo.clone()).await;
        atlas
            .before(Setup::bearer())
            .check()
            .await
            .fails("credential", &[&status[..3]], &["base URL"]);
    }
}
