//! A caller's share refuses the greedy and touches nobody else.

use super::certificates::{Tls, basic};
use super::*;
use crate::support::until;

#[tokio::test]
async fn a_greedy_caller_is_told_when_to_come_again_and_others_are_served() {
    let callers = TWO.replacen(
        "secret_file = \"billing\"",
        "secret_file = \"billing\"\nmax_requests_per_minute = 3",
        1,
    );
    let mut gateway = Gateway::start(&callers).await;
    let ask = |gateway: &Gateway, name: &str, secret: &str| {
        gateway
            .get(&format!("/api/atlas/v2/groups/{PROJECT}/clusters"))
            .basic_auth(name, Some(secret))
    };
    for _ in 0..3 {
        passes(ask(&gateway, "billing", BILLING_SECRET)).await;
    }
    let response = ask(&gateway, "billing", BILLING_SECRET).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after));
    let said: Value = response.json().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("billing"), "{said}");
    passes(ask(&gateway, "deployer", DEPLOYER_SECRET)).await;
    // A reload is no way to get another share.
    gateway.reload(&listener(""), &callers).unwrap();
    refused(ask(&gateway, "billing", BILLING_SECRET), "PROXY_RATE_LIMITED").await;
    assert_eq!(gateway.upstream.seen().len(), 4);
}

/// What others have used up of a listener does not count against a caller elsewhere.
#[tokio::test]
async fn a_request_that_the_listener_refuses_is_not_counted_against_its_caller() {
    let callers = TWO.replacen(
        "secret_file = \"billing\"",
        "secret_file = \"billing\"\nmax_requests_per_minute = 2",
        1,
    );
    let listeners = format!(
        "{}[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n",
        listener("max_requests_per_minute = 1")
    );
    let gateway = Gateway::start_with(&listeners, &callers).await;
    let path = format!("/api/atlas/v2/groups/{PROJECT}/clusters");
    let at = |listener: usize| client().get(format!("http://{}{path}", gateway.address(listener)));
    passes(at(0).basic_auth("deployer", Some(DEPLOYER_SECRET))).await;
    for _ in 0..3 {
        let said = refused(at(0).basic_auth("billing", Some(BILLING_SECRET)), "PROXY_RATE_LIMITED").await;
        assert!(said.contains("listener"), "{said}");
    }
    passes(at(1).basic_auth("billing", Some(BILLING_SECRET))).await;
    passes(at(1).basic_auth("billing", Some(BILLING_SECRET))).await;
    let said = refused(at(1).basic_auth("billing", Some(BILLING_SECRET)), "PROXY_RATE_LIMITED").await;
    assert!(said.contains("billing"), "{said}");
}

/// Over HTTP/2 a caller's connection beyond its part ends, too, and what others ask for goes on.
#[tokio::test]
async fn a_connection_that_is_one_too_many_ends_over_http_2() {
    let tls = Tls::start(&format!("{TWO}\n[limits]\nmax_connections = 8\n")).await;
    let path = format!("/api/atlas/v2/groups/{PROJECT}/clusters");
    let (greedy, modest) = (basic("billing", BILLING_SECRET), basic("deployer", DEPLOYER_SECRET));
    let mut held = Vec::new();
    // One address has a quarter at most.
    for n in 0..6 {
        let mut connection = tls.connect_from(&format!("127.0.0.{}", 2 + n / 2), None).await;
        assert_eq!(connection.get(&path, Some(&greedy)).await.0, 200, "connection {n}");
        held.push(connection);
    }
    // A question about itself tells whose connection it is, too.
    for path in [&path, "/api/oauth/caller"] {
        let mut more = tls.connect_from("127.0.0.5", None).await;
        let (status, said) = more.get(path, Some(&greedy)).await;
        assert!(status == 503 && said.contains("Caller `billing`"), "{said}");
        until("it ends", || async { more.0.is_closed() }).await;
    }
    let mut other = tls.connect_from("127.0.0.6", None).await;
    assert_eq!(other.get(&path, Some(&modest)).await.0, 200);
    // Whose request comes later on it makes no difference.
    assert_eq!(held[0].get(&path, Some(&modest)).await.0, 200);
}
