//! What a gateway is shown, and how it is renewed.

use super::*;
use crate::support::program::{PROGRAM, Program};
use crate::support::upstream::{Answer, json as answer_json};
use http::Request;
use hyper::body::Incoming;
use tokio::process::Command;

async fn groups(request: Request<Incoming>) -> Answer {
    let host = request.headers()["host"].to_str().unwrap().to_owned();
    let _ = http_body_util::BodyExt::collect(request.into_body()).await;
    answer_json(
        200,
        format!(r#"{{"links":[{{"rel":"self","href":"https://{host}/api/atlas/v2/groups"}}]}}"#),
    )
}

async fn answers(leaf: &Leaf) -> serde_json::Value {
    let answer = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(
        answer
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("x-atlas-auth-proxy"))
    );
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_leaf_shows_a_token_and_everything_else_of_a_sidecar_stays() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "billing")).await;
    let body = answers(&leaf).await;
    // Links lead to the client's own address, over both.
    assert_eq!(body["links"][0]["href"], leaf.url(GROUPS));
    let seen = gateway.upstream.last();
    assert_eq!(seen.headers["authorization"], "Bearer token-1");
    assert!(
        seen.headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-atlas-auth-proxy"))
    );
    // Port, guard, readiness, metrics.
    let web = leaf
        .get(GROUPS)
        .header("origin", "http://evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(web.status(), 403);
    assert_eq!(leaf.admin("/readyz").await.status(), 200);
    assert_eq!(leaf.admin("/startupz").await.status(), 200);
    let status: serde_json::Value = leaf.admin("/status.json").await.json().await.unwrap();
    assert_eq!(status["accounts"][0]["credential"], "gateway");
    assert_eq!(status["accounts"][0]["usable"], true);
    assert_eq!(leaf.metric("atlas_auth_proxy_credential_usable", &[]).await, 1.0);
    // Placeholder credentials are answered locally, as ever.
    assert_eq!(leaf.post("/api/oauth/token").send().await.unwrap().status(), 200);
    let by_caller = [("caller", "billing"), ("class", "2xx")];
    assert_eq!(
        gateway
            .metric("atlas_auth_proxy_requests_by_caller_total", &by_caller)
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_leaf_shows_a_certificate() {
    let ca = TestCa::named("leaves");
    for http in ["1", "2", "auto"] {
        let gateway =
            gateway_by_certificate(Upstream::start(groups).await, &ca, &caller("billing", "billing", "")).await;
        let leaf = leaf_by_certificate(&gateway, &ca, "billing.example.org", &format!("http = \"{http}\"")).await;
        let body = answers(&leaf).await;
        assert_eq!(body["links"][0]["href"], leaf.url(GROUPS));
        let by_caller = [("caller", "billing"), ("class", "2xx")];
        assert_eq!(
            gateway
                .metric("atlas_auth_proxy_requests_by_caller_total", &by_caller)
                .await,
            1.0
        );
        assert!(gateway.upstream.last().headers["authorization"] == "Bearer token-1");
    }
}

/// The gateway knows the old token no more from the moment at which the new one is there.
#[tokio::test]
async fn a_token_is_renewed_under_traffic() {
    let (key, next) = (IssuerKey::p256("1"), IssuerKey::p256("2"));
    let callers = caller("billing", "old", "");
    let mut gateway = gateway_by_token(Upstream::start(groups).await, &key, &callers).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "old")).await;
    // Another subject; the old one is a stranger.
    traffic(&leaf, async {
        leaf.replace("token", &token(&key, "new"));
        gateway
            .reload(
                &crate::callers::listener(""),
                &format!("{ISSUER}{}", caller("billing", "new", "")),
            )
            .unwrap();
    })
    .await;
    traffic(&leaf, async {}).await;
    // Another key of the issuer.
    traffic(&leaf, async {
        write(&gateway.folder, "jwks.json", &jwks(&[&key, &next]));
        leaf.replace("token", &token(&next, "new"));
    })
    .await;
    traffic(&leaf, async {}).await;
}

/// A file that changes is enough: nobody has to refuse the one before.
#[tokio::test]
async fn a_new_token_is_sent_without_any_refusal() {
    let gateway = Upstream::start(groups).await;
    let leaf = Leaf::with_token(&gateway.base_url(), Some(&gateway.ca_file), "old").await;
    for next in ["second", "third"] {
        traffic(&leaf, async {
            leaf.replace("token", next);
            let expected = format!("Bearer {next}");
            until("the new token is sent", async || {
                gateway
                    .seen()
                    .last()
                    .is_some_and(|seen| seen.headers["authorization"] == expected)
            })
            .await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_under_traffic_and_old_connections_are_left() {
    let ca = TestCa::named("leaves");
    for http in ["1", "2"] {
        let mut gateway =
            gateway_by_certificate(Upstream::start(groups).await, &ca, &caller("billing", "old", "")).await;
        let leaf = leaf_by_certificate(&gateway, &ca, "old.example.org", &format!("http = \"{http}\"")).await;
        answers(&leaf).await;
        // Both names are the caller's for as long as the change takes.
        let both =
            caller("billing", "old", "").replace("[\"old.example.org\"]", "[\"old.example.org\", \"new.example.org\"]");
        gateway.reload(&tls_listener(), &format!("{ISSUER}{both}")).unwrap();
        replace_pair(&leaf, &ca.identity(&["new.example.org"], for_clients));
        traffic(&leaf, async {}).await;
        // The connection of before is not used on, so that the old name can go at once, with no refusal.
        gateway
            .reload(&tls_listener(), &format!("{ISSUER}{}", caller("billing", "new", "")))
            .unwrap();
        traffic(&leaf, async {}).await;
        answers(&leaf).await;
    }
}

/// What is no identity leaves the one before in force; it is told of, and what is one is taken again.
#[tokio::test]
async fn an_identity_that_can_not_be_read_is_not_usable_and_the_one_before_is_shown() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "billing")).await;
    answers(&leaf).await;
    for broken in [Some(""), Some("not a token"), None] {
        match broken {
            Some(content) => leaf.replace("token", content),
            None => fs::remove_file(leaf.folder.path().join("token")).unwrap(),
        }
        until("it is not usable", async || {
            leaf.metric("atlas_auth_proxy_credential_usable", &[]).await == 0.0
        })
        .await;
        assert_eq!(leaf.admin("/readyz").await.status(), 503);
        answers(&leaf).await;
        leaf.replace("token", &token(&key, "billing"));
        until("it is usable again", async || {
            leaf.metric("atlas_auth_proxy_credential_usable", &[]).await == 1.0
        })
        .await;
        assert_eq!(leaf.admin("/readyz").await.status(), 200);
    }
}

#[tokio::test]
async fn faults_of_the_gateway_never_count() {
    let key = IssuerKey::p256("1");
    // Nobody listens there.
    let leaf = Leaf::with_token(
        &format!("http://{}", crate::support::ports::free_address()),
        None,
        &token(&key, "a"),
    )
    .await;
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 502);
    assert_eq!(leaf.admin("/readyz").await.status(), 200);
    // One that knows nobody.
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "stranger")).await;
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 401);
    assert_eq!(leaf.admin("/readyz").await.status(), 200);
    assert_eq!(leaf.metric("atlas_auth_proxy_credential_usable", &[]).await, 1.0);
}

#[tokio::test]
async fn the_gateways_certificate_is_verified_and_its_name_too() {
    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(groups).await, &ca, &caller("billing", "billing", "")).await;
    let other = TestCa::named("others");
    let folder = tempfile::tempdir().unwrap();
    let identity = ca.identity(&["billing.example.org"], for_clients);
    write(&folder, "tls.crt", &identity.certificate);
    write(&folder, "tls.key", &identity.key);
    write(&folder, "ca.pem", &other.pem);
    let account = format!(
        "gateway = \"https://localhost:{}\"\nclient_certificate = \"tls.crt\"\nclient_key = \"tls.key\"\nca_file = \"ca.pem\"",
        gateway.address(0).port()
    );
    let leaf = Leaf::start(folder, &account, "").await;
    let answer = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(
        answer.headers()["x-atlas-auth-proxy-error"],
        "PROXY_UPSTREAM_UNREACHABLE"
    );
    assert!(!answer.headers().contains_key("x-atlas-auth-proxy-error-from"));
}

#[tokio::test]
async fn another_identity_or_gateway_is_in_force_at_once_after_a_reload() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let other = gateway_by_token(Upstream::start(groups).await, &key, &caller("other", "billing", "")).await;
    let mut leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "billing")).await;
    answers(&leaf).await;
    let account = format!("gateway = \"{}\"\nidentity_token_file = \"token\"\n", other.url(""));
    let settings = settings(&leaf.folder, &account, "").unwrap();
    leaf.app.reload(settings).unwrap();
    until("the other gateway is asked", async || {
        answers(&leaf).await;
        !other.upstream.seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_program_needs_no_file_and_says_what_it_leads_to() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let token = write(&folder, "token", &token(&key, "billing"));
    let environment = [
        ("ATLAS_PROXY_GATEWAY", gateway.url("")),
        ("ATLAS_PROXY_IDENTITY_TOKEN_FILE", token.to_str().unwrap().to_owned()),
    ];
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let program = Program::start_alone(Command::new(PROGRAM), &environment, &["--log-format", "json"]).await;
    let answer = client()
        .get(format!("http://{}{GROUPS}", program.address))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let refused = client()
        .get(format!("http://{}/api/nothing", program.address))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    let (status, log) = program.stop().await;
    assert!(status.success());
    let record = log
        .lines()
        .find(|line| line.contains("PROXY_RULE_DENIED"))
        .expect("a record");
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["upstream_error"], "gateway");
    assert_eq!(record["gateway_error"], "PROXY_RULE_DENIED");
    assert_eq!(record["decision"], "forwarded");
}
