//! What a caller may do.

use super::*;

fn billing(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("billing", Some(BILLING_SECRET))
}

async fn gateway(rules: &str) -> Gateway {
    Gateway::start(&format!(
        "[[caller]]\nname = \"billing\"\nsecret_file = \"billing\"\n{rules}"
    ))
    .await
}

#[tokio::test]
async fn a_refusal_names_caller_operation_and_rule() {
    let gateway = gateway(
        "[[caller.rule]]\noperations = [\"deleteGroupCluster\"]\naction = \"deny\"\n[[caller.rule]]\ntags = [\"Clusters\"]\naction = \"allow\"\n",
    )
    .await;
    let cluster = format!("/api/atlas/v2/groups/{PROJECT}/clusters/c");
    passes(billing(gateway.get(&cluster))).await;
    let detail = refused(billing(gateway.send("DELETE", &cluster)), "PROXY_RULE_DENIED").await;
    for part in ["billing", "deleteGroupCluster", "rule 1"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let detail = refused(billing(gateway.get("/api/atlas/v2/groups")), "PROXY_RULE_DENIED").await;
    assert!(detail.contains("billing") && detail.contains("listGroups"), "{detail}");
    let denied = [("reason", "rule"), ("caller", "billing")];
    assert_eq!(gateway.metric("atlas_auth_proxy_denied_total", &denied).await, 2.0);
}

#[tokio::test]
async fn projects_bind_whatever_the_spelling() {
    let rules = format!(
        "[[caller.rule]]\noperations = [\"*Cluster*\"]\nprojects = [\"{}\"]\naction = \"allow\"\n",
        PROJECT.to_ascii_uppercase()
    );
    let gateway = gateway(&rules).await;
    passes(billing(
        gateway.get(&format!("/api/atlas/v2/groups/{PROJECT}/clusters")),
    ))
    .await;
    for path in [
        format!("/api/atlas/v2/groups/{OTHER_PROJECT}/clusters"),
        format!("/api/atlas/v2/groups/{PROJECT}/../{OTHER_PROJECT}/clusters"),
        format!("/api/atlas/v2/groups/{PROJECT}%2F..%2F{OTHER_PROJECT}/clusters"),
        format!("/api/atlas/v2//groups/{OTHER_PROJECT}/clusters"),
        format!("/api/atlas/v2/groups/{PROJECT};x/clusters"),
        format!("/api/atlas/v2/groups/{OTHER_PROJECT}/clusters/"),
        format!("/api/atlas/v2/groups/{PROJECT}/Clusters"),
        format!("/api/atlas/v1.0/groups/{OTHER_PROJECT}/clusters"),
        format!("/api/private/groups/{PROJECT}/clusters"),
    ] {
        // reqwest would undo dot segments.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\nConnection: close\r\n\r\n",
            base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                format!("billing:{BILLING_SECRET}")
            )
        );
        let said = crate::support::client::raw(gateway.address(0), request.as_bytes()).await;
        assert!(said.contains("PROXY_RULE_DENIED"), "{path}: {said}");
    }
    // Clients in use send a slash at the end, and Atlas takes it for nothing.
    passes(billing(
        gateway.get(&format!("/api/atlas/v2/groups/{PROJECT}/clusters/")),
    ))
    .await;
    assert_eq!(gateway.upstream.seen().len(), 2);
}

#[tokio::test]
async fn what_makes_credentials_is_reached_by_its_full_name_alone() {
    let path = format!("/api/atlas/v2/orgs/{ORGANIZATION}/apiKeys");
    for rules in [
        "[[caller.rule]]\nmethods = [\"GET\", \"POST\"]\naction = \"allow\"\n",
        "[[caller.rule]]\noperations = [\"*\"]\naction = \"allow\"\n",
        "[[caller.rule]]\ntags = [\"Programmatic API Keys\"]\naction = \"allow\"\n",
        "[[caller.rule]]\npath = \"/api/**\"\naction = \"allow\"\n",
    ] {
        let gateway = gateway(rules).await;
        let detail = refused(billing(gateway.send("POST", &path)).body("{}"), "PROXY_RULE_DENIED").await;
        assert!(detail.contains("createOrgApiKey"), "{detail}");
    }
    let gateway = gateway("[[caller.rule]]\noperations = [\"createOrgApiKey\"]\naction = \"allow\"\n").await;
    passes(billing(gateway.send("POST", &path)).body("{}")).await;
}

#[tokio::test]
async fn the_accounts_own_credential_is_out_of_reach() {
    let path = format!("/api/atlas/v2/orgs/{ORGANIZATION}/serviceAccounts/{CLIENT_ID}/secrets");
    let rules = "[[caller.rule]]\noperations = [\"createOrgServiceAccountSecret\"]\naction = \"allow\"\n";
    let refusing = gateway(rules).await;
    refused(billing(refusing.send("POST", &path)).body("{}"), "PROXY_RULE_DENIED").await;
    passes(billing(refusing.send("POST", &path.replace(CLIENT_ID, "mdb_sa_id_other"))).body("{}")).await;
    let letting = gateway(&format!("own_account = true\n{rules}")).await;
    passes(billing(letting.send("POST", &path)).body("{}")).await;
}

#[tokio::test]
async fn a_rule_that_warns_lets_through_and_counts() {
    let gateway = gateway(
        "[[caller.rule]]\noperations = [\"listGroups\"]\naction = \"warn\"\n[[caller.rule]]\noperations = [\"getGroup\"]\naction = \"allow\"\n",
    )
    .await;
    passes(billing(gateway.get("/api/atlas/v2/groups"))).await;
    passes(billing(gateway.get(&format!("/api/atlas/v2/groups/{PROJECT}")))).await;
    assert_eq!(gateway.metric("atlas_auth_proxy_rule_warnings_total", &[]).await, 1.0);
}

#[tokio::test]
async fn listener_and_caller_must_both_allow() {
    let rules = "[[listener.rule]]\nmethods = [\"GET\"]\npath = \"/api/atlas/v2/groups/**\"\naction = \"allow\"\n";
    let caller = "[[caller]]\nname = \"billing\"\nsecret_file = \"billing\"\n[[caller.rule]]\noperations = [\"listGroups\", \"createGroup\", \"listOrgs\"]\naction = \"allow\"\n";
    let gateway = Gateway::start_with(&listener(rules), caller).await;
    passes(billing(gateway.get("/api/atlas/v2/groups"))).await;
    for (method, path) in [
        ("POST", "/api/atlas/v2/groups"),
        ("GET", "/api/atlas/v2/orgs"),
        ("GET", "/api/atlas/v2/groups/x/clusters"),
    ] {
        refused(billing(gateway.send(method, path)).body("{}"), "PROXY_RULE_DENIED").await;
    }
}

#[tokio::test]
async fn where_callers_are_optional_whoever_shows_nothing_may_do_what_the_listener_allows() {
    let rules = "callers = \"optional\"\n[[listener.rule]]\nmethods = [\"GET\"]\npath = \"/api/atlas/v2/groups/**\"\naction = \"allow\"\n";
    let caller = "[[caller]]\nname = \"billing\"\nsecret_file = \"billing\"\n[[caller.rule]]\noperations = [\"listGroups\"]\naction = \"allow\"\n";
    let gateway = Gateway::start_with(&listener(rules), caller).await;
    let clusters = format!("/api/atlas/v2/groups/{PROJECT}/clusters");
    passes(gateway.get(&clusters)).await;
    // What anonymous may not do is 401: somebody might.
    refused(gateway.send("DELETE", &clusters), "PROXY_CALLER_UNKNOWN").await;
    refused(
        gateway.get(&format!("/api/atlas/v2/groups/{CLIENT_ID}")),
        "PROXY_CALLER_UNKNOWN",
    )
    .await;
    // Whoever has a name has its own rules.
    refused(billing(gateway.get(&clusters)), "PROXY_RULE_DENIED").await;
    refused(
        gateway.get(&clusters).basic_auth("billing", Some("wrong")),
        "PROXY_CALLER_UNKNOWN",
    )
    .await;
    let anonymous = [("caller", "anonymous"), ("class", "2xx")];
    assert_eq!(
        gateway
            .metric("atlas_auth_proxy_requests_by_caller_total", &anonymous)
            .await,
        1.0
    );
}
