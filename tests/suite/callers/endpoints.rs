//! The token endpoint, passes, and what the proxy says of the caller.

use super::*;

const GROUPS: &str = "/api/atlas/v2/groups";

async fn token(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn pass(gateway: &Gateway) -> String {
    let asked = gateway
        .send("POST", "/api/oauth/token")
        .basic_auth("billing", Some(BILLING_SECRET));
    let (status, said) = token(asked).await;
    assert_eq!(
        (status, &said["token_type"]),
        (StatusCode::OK, &"Bearer".into()),
        "{said}"
    );
    said["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_secret_buys_a_pass_and_a_pass_says_who_it_is() {
    let gateway = Gateway::start(TWO).await;
    let pass = pass(&gateway).await;
    assert!(!pass.contains("billing"));
    passes(gateway.get(GROUPS).bearer_auth(&pass)).await;
    let said: Value = gateway
        .get("/api/oauth/caller")
        .bearer_auth(&pass)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&said["caller"], &said["identified_by"]),
        (&"billing".into(), &"pass".into())
    );
    // A pass buys no pass, and a changed one is none.
    let (status, said) = token(
        gateway
            .send("POST", "/api/oauth/token")
            .basic_auth("billing", Some(&pass)),
    )
    .await;
    assert_eq!(
        (status, &said["error"]),
        (StatusCode::UNAUTHORIZED, &"invalid_client".into()),
        "{said}"
    );
    let mut other = pass.clone().into_bytes();
    let last = other.len() - 3;
    other[last] = if other[last] == b'A' { b'B' } else { b'A' };
    refused(
        gateway.get(GROUPS).bearer_auth(String::from_utf8(other).unwrap()),
        "PROXY_CALLER_UNKNOWN",
    )
    .await;
    // It ends when it is revoked.
    let revoked = gateway
        .send("POST", "/api/oauth/revoke")
        .form(&[("token", pass.as_str())])
        .send()
        .await
        .unwrap();
    assert_eq!(revoked.status(), 200);
    refused(gateway.get(GROUPS).bearer_auth(&pass), "PROXY_CALLER_UNKNOWN").await;
    assert_eq!(gateway.upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_pass_that_is_revoked_while_its_caller_is_away_stays_so() {
    let mut gateway = Gateway::start(TWO).await;
    let pass = pass(&gateway).await;
    let deployer = TWO.split_once("[[caller]]\nname = \"deployer\"").unwrap().1;
    let deployer = format!("[[caller]]\nname = \"deployer\"{deployer}");
    gateway.reload(&listener(""), &deployer).unwrap();
    let revoked = gateway
        .send("POST", "/api/oauth/revoke")
        .form(&[("token", pass.as_str())]);
    assert_eq!(revoked.send().await.unwrap().status(), 200);
    gateway.reload(&listener(""), TWO).unwrap();
    refused(gateway.get(GROUPS).bearer_auth(&pass), "PROXY_CALLER_UNKNOWN").await;
}

#[tokio::test]
async fn what_the_token_endpoint_does_not_know_gets_nothing_where_callers_are_required() {
    let gateway = Gateway::start(TWO).await;
    for (id, secret) in [
        ("billing", "wrong"),
        ("mdb_sa_id_x", "placeholder"),
        ("deployer", BILLING_SECRET),
    ] {
        let asked = gateway.send("POST", "/api/oauth/token").basic_auth(id, Some(secret));
        let response = asked.send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["x-atlas-auth-proxy-error"], "PROXY_CALLER_UNKNOWN");
        let said: Value = response.json().await.unwrap();
        assert_eq!(said["error"], "invalid_client", "{said}");
        assert!(said["error_description"].as_str().unwrap().len() > 20, "{said}");
    }
    // Where the network serves them, placeholders get the placeholder token.
    let local = "[[caller]]\nname = \"local\"\nnetworks = [\"127.0.0.0/8\"]\n[[caller.rule]]\nmethods = [\"GET\"]\naction = \"allow\"\n";
    let gateway = Gateway::start(&format!("{TWO}{local}")).await;
    let (status, said) = token(
        gateway
            .send("POST", "/api/oauth/token")
            .basic_auth("mdb_sa_id_x", Some("y")),
    )
    .await;
    assert_eq!(
        (status, &said["access_token"]),
        (StatusCode::OK, &"atlas-auth-proxy-placeholder".into())
    );
    passes(gateway.get(GROUPS).bearer_auth("atlas-auth-proxy-placeholder")).await;
}

#[tokio::test]
async fn a_pass_ends_with_the_secret_it_was_bought_with() {
    let mut gateway = Gateway::start(TWO).await;
    let pass = pass(&gateway).await;
    passes(gateway.get(GROUPS).bearer_auth(&pass)).await;
    // A next secret beside it ends nothing; without the old one its passes are worth nothing.
    let next = "billing-next-local-secret-0123456789ab";
    write(&gateway.folder, "billing", &format!("{BILLING_SECRET}\n{next}\n"));
    gateway.reload(&listener(""), TWO).unwrap();
    passes(gateway.get(GROUPS).bearer_auth(&pass)).await;
    passes(gateway.get(GROUPS).basic_auth("billing", Some(next))).await;
    write(&gateway.folder, "billing", next);
    gateway.reload(&listener(""), TWO).unwrap();
    refused(gateway.get(GROUPS).bearer_auth(&pass), "PROXY_CALLER_UNKNOWN").await;
    refused(
        gateway.get(GROUPS).basic_auth("billing", Some(BILLING_SECRET)),
        "PROXY_CALLER_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn a_pass_is_good_at_its_listener_alone() {
    let two = format!(
        "{}[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n",
        listener("")
    );
    let gateway = Gateway::start_with(&two, TWO).await;
    let pass = pass(&gateway).await;
    passes(gateway.get(GROUPS).bearer_auth(&pass)).await;
    let other = format!("http://{}{GROUPS}", gateway.address(1));
    refused(client().get(&other).bearer_auth(&pass), "PROXY_CALLER_UNKNOWN").await;
    passes(client().get(&other).basic_auth("billing", Some(BILLING_SECRET))).await;
}

#[tokio::test]
async fn without_callers_the_endpoints_are_what_they_were() {
    let gateway = Gateway::start("").await;
    let (_, said) = token(gateway.send("POST", "/api/oauth/token").basic_auth("a", Some("b"))).await;
    assert_eq!(said["access_token"], "atlas-auth-proxy-placeholder");
    refused(gateway.get("/api/oauth/caller"), "PROXY_RULE_DENIED").await;
    passes(gateway.get(GROUPS).bearer_auth("x")).await;
}
