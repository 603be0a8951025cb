//! `curl --digest` sends a write first without its content: that must not become a write.

use super::*;

#[tokio::test]
async fn a_write_without_the_content_that_it_needs_is_asked_for_digest() {
    let gateway = Gateway::start("").await;
    let groups = "/api/atlas/v2/groups";
    let trial = gateway.send("POST", groups).header("content-length", "0");
    let response = trial.send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenges = response.headers().get_all("www-authenticate").iter().count();
    assert_eq!(challenges, 2);
    assert!(gateway.upstream.seen().is_empty());
    // Any answer is taken.
    let answer =
        "Digest username=\"x\", realm=\"atlas-auth-proxy\", nonce=\"y\", uri=\"/api/atlas/v2/groups\", response=\"z\"";
    passes(gateway.send("POST", groups).header("authorization", answer).body("{}")).await;
    assert_eq!(gateway.upstream.last().headers["authorization"], "Bearer token-1");
    // What takes no content, or need not, or is in no catalogue, passes; so does what has some.
    let project = format!("/api/atlas/v2/groups/{PROJECT}");
    for (method, path) in [
        ("POST", format!("{project}/clusters/c/restartPrimaries")),
        ("DELETE", format!("{project}/clusters/c")),
        ("POST", "/api/private/x".to_owned()),
        ("GET", "/api/atlas/v2/groups".to_owned()),
    ] {
        passes(gateway.send(method, &path).header("content-length", "0")).await;
    }
    passes(gateway.send("POST", groups).body("{}")).await;
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let gateway = Gateway::start_with(&listener("digest_compatible = false"), "").await;
    passes(
        gateway
            .send("POST", "/api/atlas/v2/groups")
            .header("content-length", "0"),
    )
    .await;
}
