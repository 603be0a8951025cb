//! Answers of Atlas that get lost, or hold no secret.

use std::fs;
use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{ORG, Said, command, run};
use crate::support::atlas::write_secret;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::upstream::json as json_answer;
use crate::support::upstream::{Answer, Upstream};

/// An Atlas that makes a secret, and says of it what `made` turns it into.
struct Forgetful {
    upstream: Upstream,
    secrets: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

const FIRST_ID: &str = "6a7940c0000000000000aaaa";
const NEW_ID: &str = "6a7940c0000000000000bbbb";

impl Forgetful {
    async fn start(made: fn() -> Answer) -> Self {
        let secrets = Arc::new(Mutex::new(vec![FIRST_ID.to_owned()]));
        let known = Arc::clone(&secrets);
        let upstream = Upstream::start(move |request: Request<Incoming>| {
            let known = Arc::clone(&known);
            async move {
                let path = request.uri().path().to_owned();
                let mut known = known.lock();
                match *request.method() {
                    Method::POST => {
                        known.push(NEW_ID.to_owned());
                        made()
                    }
                    Method::DELETE => {
                        let id = path.rsplit('/').next().unwrap().to_owned();
                        known.retain(|one| *one != id);
                        json_answer(204, "")
                    }
                    _ if path.ends_with("/orgs") => json_answer(200, json!({"results": [{"id": ORG}]}).to_string()),
                    _ => {
                        let shown = |id: &String| json!({"id": id, "maskedSecretValue": format!("...{}", &id[20..])});
                        let secrets: Vec<Value> = known.iter().map(shown).collect();
                        json_answer(200, json!({ "secrets": secrets }).to_string())
                    }
                }
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("secret"), CLIENT_SECRET);
        Self {
            upstream,
            secrets,
            folder,
        }
    }

    async fn rotate(&self) -> Said {
        let secret = self.folder.path().join("secret");
        let environment = [
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ];
        let said = run(&mut command(
            &self.upstream.base_url(),
            &self.upstream.ca_file,
            &environment,
            &[],
        ))
        .await;
        assert_eq!(fs::read_to_string(&secret).unwrap(), CLIENT_SECRET);
        said
    }
}

/// Whether it is ours can't be known: another rotation may have made it. So it is named, not deleted.
#[tokio::test]
async fn a_secret_that_was_made_without_an_answer_is_named() {
    let atlas = Forgetful::start(|| json_answer(504, "")).await;
    let said = atlas.rotate().await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "make", &[NEW_ID, "delete it in Atlas"]);
    assert_eq!(*atlas.secrets.lock(), [FIRST_ID, NEW_ID]);
}

#[tokio::test]
async fn a_secret_that_came_without_its_value_is_deleted_again() {
    let atlas = Forgetful::start(|| json_answer(201, json!({ "id": NEW_ID }).to_string())).await;
    let said = atlas.rotate().await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "make", &[NEW_ID, "deleted again"]);
    assert_eq!(*atlas.secrets.lock(), [FIRST_ID]);
}

#[tokio::test]
async fn a_secret_that_came_in_no_usable_form_is_deleted_again() {
    for value in ["mdb_sa_sk_two\nlines", "with blank", "mdb_sa_sk_é"] {
        let made: fn() -> Answer = match value {
            "with blank" => || json_answer(201, json!({"id": NEW_ID, "secret": "with blank"}).to_string()),
            "mdb_sa_sk_é" => || json_answer(201, json!({"id": NEW_ID, "secret": "mdb_sa_sk_é"}).to_string()),
            _ => || json_answer(201, json!({"id": NEW_ID, "secret": "mdb_sa_sk_two\nlines"}).to_string()),
        };
        let atlas = Forgetful::start(made).await;
        let said = atlas.rotate().await;
        assert_eq!(said.code, Some(1), "{value:?}: {said:#?}");
        said.line("FAIL", "make", &[NEW_ID, "deleted again"]);
        assert_eq!(*atlas.secrets.lock(), [FIRST_ID]);
    }
}
