//! Who it is, and what is recorded of that.

use super::*;

const CLUSTERS: &str = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters";

#[tokio::test]
async fn whoever_shows_nothing_is_asked_who_it_is() {
    let gateway = Gateway::start(TWO).await;
    let response = gateway.get(CLUSTERS).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["x-atlas-auth-proxy-error"], "PROXY_CALLER_UNKNOWN");
    let challenges: Vec<&str> = response
        .headers()
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(challenges.len(), 2, "{challenges:?}");
    assert!(
        challenges[0].contains("algorithm=SHA-256") && challenges[1].contains("algorithm=MD5"),
        "{challenges:?}"
    );
    assert!(gateway.upstream.seen().is_empty());
    // Anything that is not recognised is a placeholder, as if nothing were shown.
    for placeholder in [
        "Bearer placeholder",
        "Basic c29tZW9uZTpwbGFjZWhvbGRlcg==",
        "Negotiate abc",
        "x",
    ] {
        refused(
            gateway.get(CLUSTERS).header("authorization", placeholder),
            "PROXY_CALLER_UNKNOWN",
        )
        .await;
    }
    assert_eq!(
        gateway
            .metric("atlas_auth_proxy_denied_total", &[("reason", "challenge")])
            .await,
        5.0
    );
    let unknown = [("caller", "unknown"), ("class", "4xx")];
    assert_eq!(
        gateway
            .metric("atlas_auth_proxy_requests_by_caller_total", &unknown)
            .await,
        5.0
    );
}

#[tokio::test]
async fn a_local_secret_says_who_it_is_and_never_reaches_atlas() {
    let gateway = Gateway::start(TWO).await;
    passes(gateway.get(CLUSTERS).basic_auth("billing", Some(BILLING_SECRET))).await;
    let seen = gateway.upstream.last();
    let authorization: Vec<_> = seen.headers.get_all("authorization").iter().collect();
    assert_eq!(authorization, ["Bearer token-1"]);
    let by = [("caller", "billing"), ("class", "2xx"), ("listener", "main")];
    assert_eq!(
        gateway.metric("atlas_auth_proxy_requests_by_caller_total", &by).await,
        1.0
    );
    for (name, secret) in [
        ("billing", DEPLOYER_SECRET),
        ("deployer", BILLING_SECRET),
        ("billing", ""),
    ] {
        refused(
            gateway.get(CLUSTERS).basic_auth(name, Some(secret)),
            "PROXY_CALLER_UNKNOWN",
        )
        .await;
    }
    let wrong = gateway.metric("atlas_auth_proxy_denied_total", &[("reason", "caller")]);
    assert_eq!(wrong.await, 3.0);
    let two = gateway
        .get(CLUSTERS)
        .basic_auth("billing", Some(BILLING_SECRET))
        .header("authorization", "Bearer x");
    refused(two, "PROXY_BAD_REQUEST").await;
    let asked = gateway
        .get("/api/oauth/caller")
        .basic_auth("deployer", Some(DEPLOYER_SECRET))
        .send()
        .await
        .unwrap();
    let said: Value = asked.json().await.unwrap();
    assert_eq!(
        (&said["caller"], &said["identified_by"]),
        (&"deployer".into(), &"basic".into()),
        "{said}"
    );
    assert_eq!(gateway.upstream.seen().len(), 1);
}

#[tokio::test]
async fn networks_count_only_where_nothing_else_is_shown() {
    let callers = format!(
        "{TWO}\n[[caller]]\nname = \"local\"\nnetworks = [\"127.0.0.0/8\"]\n[[caller.rule]]\noperations = [\"listGroups\"]\n\
         action = \"allow\"\n"
    );
    let gateway = Gateway::start(&callers).await;
    let who = async |request: RequestBuilder| {
        let said: Value = request.send().await.unwrap().json().await.unwrap();
        (
            said["caller"].as_str().unwrap_or_default().to_owned(),
            said["identified_by"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let asks = || gateway.get("/api/oauth/caller");
    assert_eq!(who(asks()).await, ("local".to_owned(), "network".to_owned()));
    assert_eq!(who(asks().bearer_auth("placeholder")).await.0, "local");
    assert_eq!(
        who(asks().basic_auth("billing", Some(BILLING_SECRET))).await.0,
        "billing"
    );
    // What is recognised and wrong is refused, whatever the network.
    refused(asks().basic_auth("billing", Some("wrong")), "PROXY_CALLER_UNKNOWN").await;
    passes(gateway.get("/api/atlas/v2/groups")).await;
    refused(gateway.get(CLUSTERS), "PROXY_RULE_DENIED").await;
}

#[tokio::test]
async fn the_user_at_the_other_end_of_a_socket_is_a_caller() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("proxy.sock");
    let uid = rustix::process::getuid().as_raw();
    let listeners = format!(
        "[[listener]]\nname = \"socket\"\nbind = \"unix:{}\"\n",
        socket.display()
    );
    let callers = format!(
        "[[caller]]\nname = \"user\"\nuids = [{uid}]\n[[caller.rule]]\noperations = [\"listGroups\"]\naction = \"allow\"\n{TWO}"
    );
    let upstream = Upstream::start(empty).await;
    let gateway = Gateway::start_at(folder, upstream, Arc::new(SystemClock), &listeners, &callers).await;
    let ask = async |path: &str, more: &str| {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        crate::support::client::read_to_end(&mut stream).await
    };
    let said = ask("/api/oauth/caller", "").await;
    assert!(said.contains(r#""caller":"user","identified_by":"uid""#), "{said}");
    assert!(ask("/api/atlas/v2/groups", "").await.starts_with("HTTP/1.1 200"));
    // (a) and (b) show two callers.
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("billing:{BILLING_SECRET}"),
    );
    let said = ask("/api/atlas/v2/groups", &format!("Authorization: Basic {basic}\r\n")).await;
    assert!(
        said.starts_with("HTTP/1.1 401") && said.contains("PROXY_CALLER_UNKNOWN"),
        "{said}"
    );
    drop(gateway);
}
