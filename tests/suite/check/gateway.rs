//! `check` of a leaf: the gateway is reached, knows the identity, and as whom; then one call through it.

use std::time::SystemTime;

use serde_json::json;

use crate::callers::{Gateway, write};
use crate::leaf::{caller, gateway_by_certificate, gateway_by_token, token};
use crate::support::check::{Fake, Setup, http};
use crate::support::issuer::IssuerKey;
use crate::support::tls::{TestCa, expired, for_clients};
use crate::support::upstream::{Answer, Upstream, json as answer_json};

async fn projects(_: http::Request<hyper::body::Incoming>) -> Answer {
    answer_json(200, r#"{"results":[],"totalCount":3}"#)
}

fn by_token(folder: &tempfile::TempDir, gateway: &str, token: &str) -> Setup {
    let file = write(folder, "token", token);
    Setup::default()
        .env("ATLAS_PROXY_GATEWAY", gateway)
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", file.to_str().unwrap())
}

fn by_certificate(
    folder: &tempfile::TempDir,
    gateway: &Gateway,
    ca: &TestCa,
    identity: &crate::support::tls::Identity,
) -> Setup {
    let path = |name: &str, content: &str| write(folder, name, content).to_str().unwrap().to_owned();
    Setup::default()
        .env(
            "ATLAS_PROXY_GATEWAY",
            &format!("https://localhost:{}", gateway.address(0).port()),
        )
        .env("ATLAS_PROXY_UPSTREAM_CA", &path("ca.pem", &ca.pem))
        .env(
            "ATLAS_PROXY_CLIENT_CERTIFICATE",
            &path("leaf.crt", &identity.certificate),
        )
        .env("ATLAS_PROXY_CLIENT_KEY", &path("leaf.key", &identity.key))
}

#[tokio::test]
async fn a_leaf_with_a_token_that_works() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(projects).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let said = by_token(&folder, &gateway.url(""), &token(&key, "billing"))
        .check()
        .await;
    said.works("all is well");
    said.line("ok", "configuration", &["token` is guarded (mode 0600)"], &[]);
    said.line("ok", "account", &["gateway", &gateway.url("")], &[]);
    said.line(
        "ok",
        "identity",
        &["subject billing", "audience https://gateway.example.org", "good for"],
        &[],
    );
    said.line("ok", "tcp", &["answered"], &[]);
    said.line("ok", "clock", &["agree"], &[]);
    said.line("ok", "caller", &["`billing`, by jwt"], &[]);
    said.line("ok", "api", &["HTTP 200, 3 projects"], &[]);
}

#[tokio::test]
async fn a_leaf_with_a_certificate_that_works() {
    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(projects).await, &ca, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = ca.identity(&["billing.example.org"], for_clients);
    let said = by_certificate(&folder, &gateway, &ca, &identity).check().await;
    said.works("all is well");
    said.line(
        "ok",
        "identity",
        &["leaf.crt (DNS:billing.example.org) is good for"],
        &[],
    );
    said.line("ok", "tls", &["TLSv1_3"], &[]);
    said.line("ok", "caller", &["`billing`, by certificate"], &[]);
    said.line("ok", "api", &["HTTP 200"], &[]);
}

#[tokio::test]
async fn an_identity_that_the_gateway_does_not_know() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(projects).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let said = by_token(&folder, &gateway.url(""), &token(&key, "stranger"))
        .check()
        .await;
    said.fails(
        "caller",
        &["HTTP 401 (PROXY_CALLER_UNKNOWN)", "fits no caller"],
        &["[[caller]]", "subject stranger"],
    );
    said.skips(&["api"]);
    // The hint is of what its words say, and there is none where they say all.
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": "https://issuer.example.org", "aud": "https://gateway.example.org", "sub": "billing",
            "iat": now, "exp": now + 3600,
        });
        change(&mut claims);
        key.token(&claims)
    };
    let aud = with(&|claims| claims["aud"] = json!("other"));
    let said = by_token(&folder, &gateway.url(""), &aud).check().await;
    said.fails(
        "caller",
        &["the token's `aud` is not"],
        &["`audience`", "audience other"],
    );
    let long = with(&|claims| claims["exp"] = json!(claims["exp"].as_u64().unwrap() + 90_000));
    let said = by_token(&folder, &gateway.url(""), &long).check().await;
    said.fails("caller", &["longer than `max_life`"], &[]);
    said.skips(&["api"]);

    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(projects).await, &ca, &caller("billing", "billing", "")).await;
    let stranger = ca.identity(&["stranger.example.org"], for_clients);
    let said = by_certificate(&folder, &gateway, &ca, &stranger).check().await;
    said.fails(
        "caller",
        &[
            "HTTP 401 (PROXY_CALLER_UNKNOWN)",
            "the client certificate is good, but no `[[caller]]` of this listener",
            "DNS:stranger.example.org",
        ],
        &["certificate_names", "DNS:stranger.example.org"],
    );
    // One of an authority that the gateway doesn't know: the handshake ends.
    let foreign = TestCa::named("others").identity(&["billing.example.org"], for_clients);
    let said = by_certificate(&folder, &gateway, &ca, &foreign).check().await;
    said.fails(
        "caller",
        &[
            "refused the client certificate (TLS alert: unknown authority)",
            "`client_ca`",
        ],
        &[],
    );
    said.skips(&["clock", "api"]);
}

#[tokio::test]
async fn an_identity_that_has_ended() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(projects).await, &key, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let old = key.token(&json!({"iss": "https://issuer.example.org", "sub": "billing", "exp": now - 600}));
    let said = by_token(&folder, &gateway.url(""), &old).check().await;
    said.line("FAIL", "identity", &["expired 10 min ago"], &["renew"]);
    said.skips(&["caller", "api"]);
    let said = by_token(&folder, &gateway.url(""), "no.token").check().await;
    said.line("FAIL", "configuration", &["is no JSON Web Token"], &[]);
    assert!(!said.text.contains("no.token"));

    let ca = TestCa::named("leaves");
    let gateway = gateway_by_certificate(Upstream::start(projects).await, &ca, &caller("billing", "billing", "")).await;
    let said = by_certificate(&folder, &gateway, &ca, &ca.identity(&["billing.example.org"], expired))
        .check()
        .await;
    said.line("FAIL", "identity", &["expired", "days ago"], &["renew"]);
    said.skips(&["clock", "caller", "api"]);
    let for_servers = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    let said = by_certificate(
        &folder,
        &gateway,
        &ca,
        &ca.identity(&["billing.example.org"], for_servers),
    )
    .check()
    .await;
    said.fails("identity", &["is not for clients"], &["`clientAuth`"]);
}

#[tokio::test]
async fn a_caller_that_may_not_make_the_call_and_a_gateway_without_a_token() {
    let key = IssuerKey::p256("1");
    let narrow = caller("billing", "billing", "").replace("path = \"/api/atlas/v2/**\"", "operations = [\"getGroup\"]");
    let gateway = gateway_by_token(Upstream::start(projects).await, &key, &narrow).await;
    let folder = tempfile::tempdir().unwrap();
    let said = by_token(&folder, &gateway.url(""), &token(&key, "billing"))
        .check()
        .await;
    said.works("all is well");
    said.skips(&["api"]);

    let upstream = Upstream::start(projects).await;
    upstream.tokens.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let gateway = gateway_by_token(upstream, &key, &caller("billing", "billing", "")).await;
    let said = by_token(&folder, &gateway.url(""), &token(&key, "billing"))
        .check()
        .await;
    said.fails(
        "api",
        &["HTTP 503 (PROXY_TOKEN_UNAVAILABLE) of the gateway itself"],
        &["check` there"],
    );
}

#[tokio::test]
async fn what_is_no_gateway_or_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_| http("404 Not Found", "", "{}")).await;
    let said = by_token(&folder, &format!("http://{}", fake.address), "e30.e30.c2ln")
        .check()
        .await;
    said.line("FAIL", "caller", &["HTTP 404"], &["no gateway of this program"]);
    said.skips(&["api"]);

    let upstream = Upstream::start(projects).await;
    let open = upstream.proxy().start().await;
    let said = by_token(&folder, &format!("http://{}", open.address), "e30.e30.c2ln")
        .check()
        .await;
    said.line("warn", "caller", &["asks nobody"], &["[[caller]]"]);
    said.line("ok", "api", &["HTTP 200"], &[]);
}

#[tokio::test]
async fn a_gateway_that_is_away_or_known_by_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let address = crate::support::ports::free_address();
    let said = by_token(&folder, &format!("http://{address}"), "e30.e30.c2ln")
        .check()
        .await;
    said.line(
        "FAIL",
        "tcp",
        &["no TCP connection"],
        &["nobody listens there", "`gateway` (ATLAS_PROXY_GATEWAY)"],
    );
    assert!(!said.text.contains("base URL"), "{}", said.text);
    said.skips(&["tls", "clock", "caller", "api"]);

    let fake = Fake::start(|_| {
        http(
            "421 Misdirected Request",
            "X-Atlas-Auth-Proxy-Error: PROXY_HOST_DENIED\r\n",
            "{}",
        )
    })
    .await;
    let said = by_token(&folder, &format!("http://{}", fake.address), "e30.e30.c2ln")
        .check()
        .await;
    said.line("FAIL", "caller", &["HTTP 421"], &["`hosts`"]);
}

/// With `ca_file`, it is said which file that is, and who issued the gateway's certificate instead.
#[tokio::test]
async fn a_gateway_of_another_authority_or_name() {
    let (ca, other) = (TestCa::named("leaves"), TestCa::named("others"));
    let gateway = gateway_by_certificate(Upstream::start(projects).await, &ca, &caller("billing", "billing", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = ca.identity(&["billing.example.org"], for_clients);
    let said = by_certificate(&folder, &gateway, &other, &identity).check().await;
    let file = folder.path().join("ca.pem");
    let file = file.to_str().unwrap();
    said.fails(
        "tls",
        &["issued by CN=leaves", "is not trusted", file],
        &[file, "right file"],
    );
    said.skips(&["clock", "caller", "api"]);
    let server = ca.identity(&["other.example.org"], |_| ()).server(&["http/1.1"]);
    let renamed = Fake::start_tls(server, |_| unreachable!("no request goes there")).await;
    let url = format!("https://localhost:{}", renamed.address.port());
    let said = by_certificate(&folder, &gateway, &ca, &identity)
        .env("ATLAS_PROXY_GATEWAY", &url)
        .check()
        .await;
    said.fails(
        "tls",
        &["other.example.org"],
        &["`gateway` (ATLAS_PROXY_GATEWAY) must have the name"],
    );
    assert!(!said.text.contains("base URL"), "{}", said.text);
}

/// `rotate-secret` has nothing to rotate there.
#[tokio::test]
async fn rotate_secret_says_where_the_secret_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "token", "e30.e30.c2ln");
    let output = tokio::process::Command::new(crate::support::program::PROGRAM)
        .arg("rotate-secret")
        .env_clear()
        .env("ATLAS_PROXY_GATEWAY", "https://gateway.example.org")
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", file)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("https://gateway.example.org") && said.contains("rotate its secret there"),
        "{said}"
    );
}
