//! Leaf, gateway and Atlas, as the emulator plays it.

use super::*;
use crate::support::atlas::Atlas;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use serde_json::Value;
use tokio::process::Command;

/// What an app does: it lists, follows a link, makes something, and takes it away again.
#[tokio::test]
async fn an_app_works_through_a_leaf_and_a_gateway() {
    let (atlas, key, ca) = (Atlas::start().await, IssuerKey::p256("1"), TestCa::named("leaves"));
    let server = ca.identity(&["localhost"], |_| ());
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("jwks.json", &jwks(&[&key])),
        ("ca.pem", &ca.pem),
        ("tls.crt", &server.certificate),
        ("tls.key", &server.key),
    ] {
        write(&folder, name, content);
    }
    let toml = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[listener.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = \"ca.pem\"\n\
         client_certificate = \"optional\"\n{ISSUER}{}",
        caller("billing", "billing", "")
    );
    let config = write(&folder, "gateway.toml", &toml);
    let gateway = Program::start_at(
        Command::new(PROGRAM),
        &atlas.emulator.base_url(),
        &atlas.ca_file(),
        &[
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
        ],
        &["--config", config.to_str().unwrap()],
    )
    .await;
    let url = format!("https://localhost:{}", gateway.address.port());
    for by in ["token", "certificate"] {
        let folder = tempfile::tempdir().unwrap();
        let identity = ca.identity(&["billing.example.org"], for_clients);
        for (name, content) in [
            ("ca.pem", &ca.pem),
            ("token", &token(&key, "billing")),
            ("tls.crt", &identity.certificate),
            ("tls.key", &identity.key),
        ] {
            write(&folder, name, content);
        }
        let shown = match by {
            "token" => "identity_token_file = \"token\"",
            _ => "client_certificate = \"tls.crt\"\nclient_key = \"tls.key\"",
        };
        let account = format!("gateway = \"{url}\"\nca_file = \"ca.pem\"\n{shown}\n");
        let leaf = Leaf::start(folder, &account, "").await;
        let version = "application/vnd.atlas.2023-01-01+json";
        let get = async |url: String| {
            let answer = client().get(url).header("accept", version).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{by}");
            answer.json::<Value>().await.unwrap()
        };
        let groups = get(leaf.url(GROUPS)).await;
        let first = &groups["results"][0];
        let link = first["links"][0]["href"].as_str().unwrap();
        assert!(link.starts_with(&leaf.url("/api/")), "{by}: {link}");
        assert_eq!(get(link.to_owned()).await["id"], first["id"], "{by}");
        let users = format!("{GROUPS}/{}/databaseUsers", first["id"].as_str().unwrap());
        let user = json!({"username": by, "databaseName": "admin", "password": "a-password-for-tests", "roles": [{"roleName": "readAnyDatabase", "databaseName": "admin"}]});
        let made = client()
            .post(leaf.url(&users))
            .header("accept", version)
            .header("content-type", version)
            .body(user.to_string());
        let made = made.send().await.unwrap();
        assert_eq!(made.status(), 201, "{by}: {}", made.text().await.unwrap());
        let gone = client()
            .delete(leaf.url(&format!("{users}/admin/{by}")))
            .header("accept", version);
        assert!(gone.send().await.unwrap().status().is_success(), "{by}");
    }
}
