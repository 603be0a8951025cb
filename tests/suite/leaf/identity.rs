//! What a gateway is shown, and how it is renewed.

use super::*;
use crate::support::program::{PROGRAM, Program};
use crate::support::tls::expired;
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
    let leaf = Leaf::with_token(&gateway.base_url(), Some(&gateway.ca_file), "e30.e30.c2ln").await;
    for next in ["e30.e30.c2Vj", "e30.e30.dGhp"] {
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

/// A token of the issuer that ends so many seconds from now.
fn ending(key: &IssuerKey, seconds: i64) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let exp = now.checked_add_signed(seconds).unwrap();
    key.token(&json!({
        "iss": "https://issuer.example.org", "aud": "https://gateway.example.org", "sub": "billing",
        "iat": exp - 3600, "exp": exp,
    }))
}

/// What can't be read, is none or is over leaves the one before in force, which is as usable as it was.
#[tokio::test]
async fn what_is_no_identity_leaves_the_one_before_in_force_and_is_told_of() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "token", &token(&key, "billing"));
    let (file, url) = (path.to_str().unwrap(), gateway.url(""));
    let environment = [
        ("ATLAS_PROXY_GATEWAY", &*url),
        ("ATLAS_PROXY_IDENTITY_TOKEN_FILE", file),
    ];
    let program = Program::start_alone(Command::new(PROGRAM), &environment, &["--log-format", "json"]).await;
    let get = async |address: SocketAddr, path: &str| {
        client()
            .get(format!("http://{address}{path}"))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let mut shown_on = 0;
    let (over, good) = (ending(&key, -60), token(&key, "billing"));
    for (content, level, why) in [
        (Some(""), "ERROR", "is empty"),
        (Some("junk"), "ERROR", "is no JSON Web Token"),
        (Some(&*over), "ERROR", "it ended at 20"),
        (None, "WARN", "No such file"),
    ] {
        match content {
            Some(content) => {
                let next = write(&folder, "next", content);
                fs::rename(next, &path).unwrap();
            }
            None => fs::remove_file(&path).unwrap(),
        }
        shown_on += 1;
        program.until_said_times("the one before is shown", shown_on).await;
        assert_eq!(get(program.address, GROUPS).await, 200, "{why}");
        assert_eq!(get(program.admin, "/readyz").await, 200, "{why}");
        let said = program.said();
        let line = said
            .lines()
            .find(|line| line.contains(why) && line.contains("the one before is shown"))
            .unwrap();
        for part in [
            &format!("\"{level}\"") as &str,
            "\"account\":\"default\"",
            "is good until 20",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    write(&folder, "token", &good);
    program.until_said("can be read again").await;
    let (_, log) = program.stop().await;
    assert!(!log.contains(&good) && !log.contains(&over));
}

#[tokio::test]
async fn an_identity_that_is_over_is_not_usable() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &ending(&key, -60)).await;
    let usable = async || leaf.metric("atlas_auth_proxy_credential_usable", &[]).await;
    assert_eq!(leaf.admin("/readyz").await.status(), 503);
    assert_eq!(usable().await, 0.0);
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 401);
    leaf.replace("token", &token(&key, "billing"));
    until("it is usable", async || usable().await == 1.0).await;
    assert_eq!(leaf.admin("/readyz").await.status(), 200);
    // It ends while it is in use.
    leaf.replace("token", &ending(&key, 3));
    until("it is over", async || usable().await == 0.0).await;
    assert_eq!(leaf.admin("/readyz").await.status(), 503);

    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(groups).await, &ca, &caller("billing", "billing", "")).await;
    let leaf = leaf_by_certificate(&gateway, &ca, "billing.example.org", "").await;
    assert_eq!(leaf.admin("/readyz").await.status(), 200);
    let folder = tempfile::tempdir().unwrap();
    let identity = ca.identity(&["billing.example.org"], expired);
    for (name, content) in [
        ("tls.crt", &identity.certificate),
        ("tls.key", &identity.key),
        ("ca.pem", &ca.pem),
    ] {
        write(&folder, name, content);
    }
    let account = "gateway = \"https://localhost:1\"\nclient_certificate = \"tls.crt\"\nclient_key = \"tls.key\"\nca_file = \"ca.pem\"";
    let leaf = Leaf::start(folder, account, "").await;
    assert_eq!(leaf.admin("/readyz").await.status(), 503);
}

/// Once, with the gateway's own words, until it knows the identity again.
#[tokio::test]
async fn a_gateway_that_goes_on_not_knowing_the_identity_is_told_of_once() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "token", &token(&key, "stranger"));
    let (file, url) = (path.to_str().unwrap(), gateway.url(""));
    let environment = [
        ("ATLAS_PROXY_GATEWAY", &*url),
        ("ATLAS_PROXY_IDENTITY_TOKEN_FILE", file),
    ];
    let program = Program::start_alone(Command::new(PROGRAM), &environment, &["--log-format", "json"]).await;
    for _ in 0..3 {
        let answer = client()
            .get(format!("http://{}{GROUPS}", program.address))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
        answer.bytes().await.unwrap();
    }
    let (_, log) = program.stop().await;
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("also after that was read anew"))
        .collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(
        line.contains("\"WARN\"") && line.contains("fits no caller of this listener"),
        "{line}"
    );
}

/// The gateway ends the handshake, and what the client and the log get says why.
#[tokio::test]
async fn a_refused_certificate_is_said_to_be() {
    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(groups).await, &ca, &caller("billing", "billing", "")).await;
    let foreign = TestCa::named("others").identity(&["billing.example.org"], for_clients);
    for http in ["1", "2"] {
        let leaf = leaf_by_certificate(&gateway, &ca, "billing.example.org", &format!("http = \"{http}\"")).await;
        replace_pair(&leaf, &foreign);
        until("the other certificate is refused", async || {
            let answer = leaf.get(GROUPS).send().await.unwrap();
            answer.status() == 502 && {
                let said = answer.text().await.unwrap();
                assert!(
                    said.contains("refused the client certificate (TLS alert: unknown authority)"),
                    "{said}"
                );
                assert!(said.contains("`client_ca`"), "{said}");
                true
            }
        })
        .await;
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
    // Where the authorities lie, and which one it is instead, is for the log.
    let said = answer.text().await.unwrap();
    assert!(said.contains("an authority that is not trusted"), "{said}");
    assert!(!said.contains("ca.pem") && !said.contains("CN="), "{said}");
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
