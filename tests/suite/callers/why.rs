//! Why a request was refused: the client is told little, and the log of the proxy all that its operator needs.

use serde_json::json;
use tokio::process::Command;

use super::*;
use crate::support::issuer::{IssuerKey, jwks};
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};

const GROUPS: &str = "/api/atlas/v2/groups";
const JWT: &str = r#"
[[issuer]]
name = "cluster"
issuer = "https://cluster.example"
audience = "atlas-gateway"
jwks_file = "jwks.json"
[[caller]]
name = "web"
[[caller.jwt]]
issuer = "cluster"
subject = "system:serviceaccount:apps:web"
[[caller.rule]]
operations = ["listGroups"]
action = "allow"
"#;

/// The program with [`TWO`] and [`JWT`], and the key of the issuer.
async fn start(upstream: &Upstream, folder: &TempDir) -> (Program, IssuerKey) {
    let key = IssuerKey::p256("one");
    write(folder, "billing", BILLING_SECRET);
    write(folder, "deployer", DEPLOYER_SECRET);
    write(folder, "jwks.json", &jwks(&[&key]));
    let config = write(folder, "proxy.toml", &format!("{TWO}{JWT}"));
    let args = ["--config", config.to_str().unwrap(), "--log-format", "json"];
    (
        Program::start(Command::new(PROGRAM), upstream, &SERVICE_ACCOUNT, &args).await,
        key,
    )
}

fn requests(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "request").collect()
}

/// Each line has the reason of its own request, and nothing of what was shown but what an unsigned token says of itself.
#[tokio::test]
async fn the_log_says_why_nobody_is_known_and_shows_no_secret() {
    let (upstream, folder) = (Upstream::start(empty).await, tempfile::tempdir().unwrap());
    let (program, key) = start(&upstream, &folder).await;
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "https://cluster.example", "aud": "atlas-gateway", "sub": "system:serviceaccount:apps:web",
        "iat": now - 7200, "exp": now + 3600
    });
    let token = |more: Value| {
        let mut all = claims.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key.token(&all)
    };
    let stranger = IssuerKey::p256("two").token(&claims);
    let shown = [
        (String::new(), "the request has no `Authorization`"),
        ("Negotiate abcdef".to_owned(), "none of Basic, Digest and Bearer"),
        (
            "Bearer placeholder-of-an-sdk".to_owned(),
            "the bearer token is no JSON Web Token",
        ),
        (
            format!("Bearer {}", token(json!({"iss": "https://other.example/\n\u{1b}[31m"}))),
            "is of an issuer that no `[[issuer]]` here is: its `iss` is \"https://other.example/\\n\\u001b[31m\"",
        ),
        (
            format!("Bearer {}", token(json!({"aud": ["vault"]}))),
            "`aud` is [\"vault\"], which is to hold one audience of these: `atlas-gateway` of issuer `cluster`",
        ),
        (
            format!("Bearer {}", token(json!({"exp": now - 3600}))),
            "the token has expired (issuer `cluster`; `sub` \"system:serviceaccount:apps:web\"",
        ),
        (
            format!("Bearer {stranger}"),
            "issuer `cluster`, which does not have one with the token's `kid`, \"two\"",
        ),
        (
            format!("Bearer {}", token(json!({"sub": "system:serviceaccount:apps:other"}))),
            "fits no caller of this listener (issuer `cluster`; `sub` \"system:serviceaccount:apps:other\"",
        ),
    ];
    let url = format!("http://{}{GROUPS}", program.address);
    for (field, _) in &shown {
        let request = client().get(&url);
        let request = match field.is_empty() {
            true => request,
            false => request.header("authorization", field),
        };
        refused(request, "PROXY_CALLER_UNKNOWN").await;
    }
    // The client is not told which of the two is wrong.
    let name = client().get(&url).basic_auth("nobody-I-know", Some("wrong-secret-1"));
    let secret = client().get(&url).basic_auth("billing", Some("wrong-secret-2"));
    let (name, secret) = (refusal(name).await, refusal(secret).await);
    assert_eq!(name, secret);
    let bought = client().post(format!("http://{}/api/oauth/token", program.address));
    let bought = bought
        .basic_auth("billing", Some("wrong-secret-3"))
        .send()
        .await
        .unwrap();
    assert_eq!(bought.status(), 401);
    passes(client().get(&url).bearer_auth(token(json!({})))).await;
    refused(
        client().get(format!("{url}/{PROJECT}")).bearer_auth(token(json!({}))),
        "PROXY_RULE_DENIED",
    )
    .await;
    let (_, log) = program.stop().await;

    let requests = requests(&log);
    let mut expected: Vec<_> = shown.iter().map(|(_, why)| *why).collect();
    expected.extend([
        "HTTP Basic with a name that no caller has",
        "HTTP Basic with the name of caller `billing` and a secret that is not its own",
        "HTTP Basic with the name of caller `billing` and a secret that is not its own",
    ]);
    for (line, why) in requests.iter().zip(&expected) {
        assert_eq!(line["decision"], "PROXY_CALLER_UNKNOWN", "{line}");
        let told = line["why"].as_str().unwrap();
        assert!(
            told.contains(why) && told.is_ascii() && told.len() <= 600,
            "{why}: {line}"
        );
    }
    let [forwarded, denied] = &requests[expected.len()..] else {
        panic!("{requests:#?}")
    };
    assert_eq!(
        (&forwarded["decision"], &forwarded["why"]),
        (&"forwarded".into(), &Value::Null)
    );
    let why = denied["why"].as_str().unwrap();
    assert!(why.contains("caller `web` may not do this"), "{denied}");
    for secret in [
        "wrong-secret",
        "nobody-I-know",
        "abcdef",
        "placeholder-of-an-sdk",
        BILLING_SECRET,
    ] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    for token in shown.iter().filter_map(|(field, _)| field.strip_prefix("Bearer ey")) {
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert!(!log.contains(signature) && !log.contains(&token[..20]), "{log}");
    }
}

/// What is refused before and after a caller is looked for, and by the parser.
#[tokio::test]
async fn each_refusal_has_its_reason_in_the_log() {
    let (upstream, folder) = (Upstream::start(empty).await, tempfile::tempdir().unwrap());
    let (program, _) = start(&upstream, &folder).await;
    for (head, _) in REFUSED {
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        crate::support::client::raw(program.address, request.as_bytes()).await;
    }
    let (_, log) = program.stop().await;
    let requests = requests(&log);
    assert_eq!(requests.len(), REFUSED.len(), "{requests:#?}");
    for (line, (_, why)) in requests.iter().zip(REFUSED) {
        assert!(line["why"].as_str().unwrap().contains(why), "{why}: {line}");
    }
}

const REFUSED: [(&str, &str); 4] = [
    (
        "GET / HTTP/1.1\r\nHost: evil.example",
        "names a host that is not this proxy's",
    ),
    (
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null",
        "seems to come from a web page",
    ),
    ("GET /a<b HTTP/1.1\r\nHost: localhost", "<"),
    ("GET /api/oauth/x HTTP/1.1\r\nHost: localhost", "are not forwarded"),
];
