//! The fields that proxies of this program tell each other, and those that end at a leaf.

use super::*;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::upstream::{Answer, json as answer_json};
use http::Request;
use hyper::body::Incoming;
use tokio::process::Command;

async fn empty(_: Request<Incoming>) -> Answer {
    answer_json(200, "{}")
}

#[tokio::test]
async fn what_a_request_says_in_our_name_never_reaches_atlas() {
    let upstream = Upstream::start(empty).await;
    let proxy = upstream.proxy().start().await;
    for name in ["hops", "caller", "error", "error-from", "whatever"] {
        let value = if name == "hops" { "1" } else { "x" };
        for name in [
            format!("X-Atlas-Auth-Proxy-{name}"),
            format!("X_Atlas_Auth_Proxy_{name}"),
        ] {
            let sent = client()
                .get(proxy.url(GROUPS))
                .header(&name, value)
                .send()
                .await
                .unwrap();
            assert_eq!(sent.status(), 200, "{name}");
            let headers = upstream.last().headers;
            assert!(
                headers.keys().all(|name| !name.as_str().contains("atlas")),
                "{name}: {headers:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_that_passed_more_than_three_proxies_is_a_loop_at_any_listener() {
    let upstream = Upstream::start(empty).await;
    let proxy = upstream.proxy().start().await;
    let get = |path: &str, hops: &str| client().get(proxy.url(path)).header("x-atlas-auth-proxy-hops", hops);
    for path in [GROUPS, "/api/oauth/token"] {
        let answer = get(path, "4").send().await.unwrap();
        assert_eq!(answer.status(), 508, "{path}");
        assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_LOOP");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(get(GROUPS, "3").send().await.unwrap().status(), 200);
    for wrong in ["", "x", "-1", "1,1"] {
        assert_eq!(get(GROUPS, wrong).send().await.unwrap().status(), 400, "{wrong}");
    }
    let twice = get(GROUPS, "1")
        .header("x-atlas-auth-proxy-hops", "1")
        .send()
        .await
        .unwrap();
    assert_eq!(twice.status(), 400);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_leaf_counts_one_more_and_browsers_fields_end_at_it() {
    let gateway = Upstream::start(empty).await;
    let leaf = Leaf::with_token(&gateway.base_url(), Some(&gateway.ca_file), "e30.e30.c2ln").await;
    let own = format!("http://{}/", leaf.address());
    let answer = leaf
        .get(GROUPS)
        .header("referer", own)
        .header("sec-fetch-site", "none")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-user", "?1")
        .header("x-atlas-auth-proxy-caller", "admin")
        .header("x-atlas-auth-proxy-whatever", "x")
        .header("authorization", "Bearer the-client's")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let headers = gateway.last().headers;
    assert_eq!(headers["authorization"], "Bearer e30.e30.c2ln");
    assert_eq!(headers["x-atlas-auth-proxy-hops"], "1");
    let ours = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-atlas-auth-proxy"));
    assert_eq!(ours.count(), 1, "{headers:?}");
    assert!(
        headers
            .keys()
            .all(|name| !name.as_str().starts_with("sec-fetch") && name != "referer"),
        "{headers:?}"
    );
    leaf.get(GROUPS)
        .header("x-atlas-auth-proxy-hops", "2")
        .send()
        .await
        .unwrap();
    assert_eq!(gateway.last().headers["x-atlas-auth-proxy-hops"], "3");
}

#[tokio::test]
async fn two_that_lead_to_each_other_end_in_an_error() {
    let (one, other) = (free_address(), free_address());
    let leaf = |own: SocketAddr, gateway: SocketAddr| async move {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "token", "e30.e30.c2ln");
        let account = format!("gateway = \"http://{gateway}\"\nidentity_token_file = \"token\"");
        Leaf::start(folder, &account, &format!("[[listener]]\nbind = \"{own}\"\n")).await
    };
    let first = leaf(one, other).await;
    let _second = leaf(other, one).await;
    let answer = first.get(GROUPS).send().await.unwrap();
    assert_eq!(answer.status(), 508);
    assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_LOOP");
    assert_eq!(answer.headers()["x-atlas-auth-proxy-error-from"], "gateway");
}

/// A leaf's own caller goes along; the gateway records it of those whose word is recorded, and it decides nothing.
#[tokio::test]
async fn the_caller_of_a_leaf_is_recorded_where_its_word_is_and_decides_nothing() {
    let key = IssuerKey::p256("1");
    let upstream = Upstream::start(empty).await;
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "jwks.json", &jwks(&[&key]));
    let narrow = caller("narrow", "narrow", "delegates = true");
    let toml = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{ISSUER}{}{}{}[audit]\nfile = \"audit.jsonl\"\ninclude = \"all\"\n",
        caller("trusted", "trusted", "delegates = true"),
        caller("other", "other", ""),
        narrow.replace("path = \"/api/atlas/v2/**\"", "operations = [\"getGroup\"]"),
    );
    let config = write(&folder, "gateway.toml", &toml);
    let args = ["--log-format", "json", "--config", config.to_str().unwrap()];
    let gateway = Program::start(Command::new(PROGRAM), &upstream, &SERVICE_ACCOUNT, &args).await;
    let of_leaf = "[[caller]]\nname = \"job\"\nnetworks = [\"127.0.0.0/8\"]\n[[caller.rule]]\npath = \"/api/atlas/v2/**\"\naction = \"allow\"\n";
    for (subject, callers) in [("trusted", of_leaf), ("other", of_leaf), ("trusted", "")] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "token", &token(&key, subject));
        let account = format!(
            "gateway = \"http://{}\"\nidentity_token_file = \"token\"",
            gateway.address
        );
        let leaf = Leaf::start(folder, &account, callers).await;
        until("the gateway knows the leaf", async || {
            let answer = leaf
                .get(GROUPS)
                .header("x-atlas-auth-proxy-caller", "admin")
                .send()
                .await
                .unwrap();
            answer.status() == 200
        })
        .await;
    }
    // By hand: what is no name is no claim; and a claim, right as it may be, gives and takes nothing.
    for (subject, claim, status) in [
        ("trusted", "Admin", 200),
        ("trusted", "anonymous", 200),
        ("trusted", "a b", 200),
        ("trusted", "narrow", 200),
        ("narrow", "trusted", 403),
    ] {
        let url = format!("http://{}{GROUPS}", gateway.address);
        let request = client()
            .get(url)
            .bearer_auth(token(&key, subject))
            .header("x-atlas-auth-proxy-caller", claim);
        assert_eq!(request.send().await.unwrap().status(), status, "{subject} for {claim}");
    }
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| !seen.headers.contains_key("x-atlas-auth-proxy-caller"))
    );
    let (_, log) = gateway.stop().await;
    let recorded = |text: &str| -> Vec<(String, Option<String>)> {
        text.lines()
            .filter(|line| line.contains("\"decision\":\"forwarded\""))
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|record| {
                let text = |key: &str| record[key].as_str().map(str::to_owned);
                (text("caller").unwrap(), text("claimed_caller"))
            })
            .collect()
    };
    let expected = [
        ("trusted", Some("job")),
        ("other", None),
        ("trusted", None),
        ("trusted", None),
        ("trusted", None),
        ("trusted", None),
        ("trusted", Some("narrow")),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), b.map(str::to_owned)))
        .collect();
    assert_eq!(recorded(&log), expected);
    let audit = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert_eq!(recorded(&audit), expected);
}
