//! Settings of callers take effect between two requests, on connections that are open.

use super::*;

const GROUPS: &str = "/api/atlas/v2/groups";

#[tokio::test]
async fn a_caller_that_is_taken_away_is_refused_on_its_open_connection() {
    let mut gateway = Gateway::start(TWO).await;
    let kept = client();
    let ask = |gateway: &Gateway| {
        kept.get(gateway.url(GROUPS))
            .basic_auth("billing", Some(BILLING_SECRET))
    };
    passes(ask(&gateway)).await;
    let deployer = TWO.split_once("[[caller]]\nname = \"deployer\"").unwrap().1;
    let deployer = format!("[[caller]]\nname = \"deployer\"{deployer}");
    gateway.reload(&listener(""), &deployer).unwrap();
    refused(ask(&gateway), "PROXY_CALLER_UNKNOWN").await;
    gateway.reload(&listener(""), TWO).unwrap();
    passes(ask(&gateway)).await;
}

#[tokio::test]
async fn rules_change_between_two_requests() {
    let mut gateway = Gateway::start(TWO).await;
    let ask = |gateway: &Gateway| gateway.get(GROUPS).basic_auth("billing", Some(BILLING_SECRET));
    passes(ask(&gateway)).await;
    gateway
        .reload(&listener(""), &TWO.replace("\"Projects\"", "\"Teams\""))
        .unwrap();
    refused(ask(&gateway), "PROXY_RULE_DENIED").await;
}

#[tokio::test]
async fn a_reload_that_would_let_everybody_in_is_refused() {
    let mut gateway = Gateway::start(TWO).await;
    let said = gateway.reload(&listener(""), "").unwrap_err();
    assert!(said.contains("listener `main`") && said.contains("callers"), "{said}");
    refused(gateway.get(GROUPS), "PROXY_CALLER_UNKNOWN").await;
    // Another name and place make no difference.
    let moved = "[[listener]]\nname = \"other\"\nbind = \"127.0.0.2:0\"\n";
    let said = gateway.reload(moved, "").unwrap_err();
    assert!(said.contains("listener `main`"), "{said}");
    // Where the file says so, it may.
    let optional =
        listener("callers = \"optional\"\n[[listener.rule]]\npath = \"/api/atlas/v2/groups\"\naction = \"allow\"");
    gateway.reload(&optional, TWO).unwrap();
    passes(gateway.get(GROUPS)).await;
}
