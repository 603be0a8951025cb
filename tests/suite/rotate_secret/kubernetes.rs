//! The place of the secret is a key of a Kubernetes Secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Said, Setup};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::upstream::json as json_answer;
use crate::support::upstream::{Answer, Upstream};

/// How the cluster answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Forbidden,
    /// Patches, and does not say so.
    Mute,
    /// Does not patch, and says nothing.
    Dead,
    /// Says that it failed, and that the Secret is as it was.
    Broken,
    /// The Secret is marked as immutable.
    Immutable,
}

/// A cluster with one Secret, as far as a rotation sees of it.
struct Cluster {
    api: Upstream,
    data: Arc<Mutex<Value>>,
    pod: tempfile::TempDir,
}

const POD_TOKEN: &str = "only-for-tests-pod-token";

impl Cluster {
    async fn start(mood: Mood) -> Self {
        let before = json!({"client-id": STANDARD.encode(CLIENT_ID), "client-secret": STANDARD.encode(CLIENT_SECRET)});
        let data = Arc::new(Mutex::new(before));
        let known = Arc::clone(&data);
        let api = Upstream::start(move |request: Request<Incoming>| {
            let known = Arc::clone(&known);
            async move { cluster_answer(mood, &known, request).await }
        })
        .await;
        let pod = tempfile::tempdir().unwrap();
        fs::write(pod.path().join("token"), format!("{POD_TOKEN}\n")).unwrap();
        fs::copy(&api.ca_file, pod.path().join("ca.crt")).unwrap();
        Self { api, data, pod }
    }

    async fn rotate(&self, setup: &Setup, args: &[&str]) -> Said {
        let port = self.api.address.port().to_string();
        let mut environment = setup.environment();
        environment.extend([
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", port.as_str()),
            ("ATLAS_PROXY_POD_CREDENTIALS", self.pod.path().to_str().unwrap()),
        ]);
        let all = [&["--kubernetes-secret", "platform/atlas:client-secret"], args].concat();
        setup.rotate_in(&environment, &all).await
    }

    fn value(&self) -> String {
        let data = self.data.lock();
        String::from_utf8(STANDARD.decode(data["client-secret"].as_str().unwrap()).unwrap()).unwrap()
    }
}

async fn cluster_answer(mood: Mood, data: &Mutex<Value>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["authorization"], format!("Bearer {POD_TOKEN}"));
    assert_eq!(head.uri.path(), "/api/v1/namespaces/platform/secrets/atlas");
    let refused = |status, why: &str| json_answer(status, json!({"kind": "Status", "message": why}).to_string());
    if mood == Mood::Forbidden {
        return refused(403, "secrets \"atlas\" is forbidden");
    }
    if head.method == Method::GET {
        if mood == Mood::Dead {
            return refused(504, "timeout");
        }
        return json_answer(200, json!({"kind": "Secret", "data": *data.lock()}).to_string());
    }
    assert_eq!(head.method, Method::PATCH);
    assert_eq!(head.headers["content-type"], "application/merge-patch+json");
    let patch: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let changes = patch["data"].as_object().cloned().unwrap_or_default();
    if mood == Mood::Immutable && !changes.is_empty() {
        return refused(422, "field is immutable when `immutable` is set");
    }
    if head.uri.query() == Some("dryRun=All") {
        // No secret is sent in vain.
        assert!(!body_holds_a_secret(&changes));
        return json_answer(200, json!({"kind": "Secret"}).to_string());
    }
    assert_eq!(head.uri.query(), None);
    if !matches!(mood, Mood::Dead | Mood::Broken) {
        for (key, value) in changes {
            data.lock()[key] = value;
        }
    }
    match mood {
        Mood::Mute | Mood::Dead => refused(504, "timeout"),
        Mood::Broken => refused(500, "etcdserver: request timed out"),
        _ => json_answer(200, json!({"kind": "Secret"}).to_string()),
    }
}

fn body_holds_a_secret(changes: &serde_json::Map<String, Value>) -> bool {
    changes.values().any(|value| {
        let decoded = STANDARD.decode(value.as_str().unwrap()).unwrap();
        decoded.windows(10).any(|bytes| bytes == b"mdb_sa_sk_")
    })
}

#[tokio::test]
async fn in_a_cluster_one_key_of_the_secret_is_patched() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Well).await);
    let said = cluster.rotate(&setup, &["--delete-old", "--grace", "0s"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.in_force(&["the new secret", "the Kubernetes Secret platform/atlas:client-secret"]);
    assert_eq!(setup.secrets(), [cluster.value()]);
    assert_eq!(setup.in_file(), CLIENT_SECRET, "the mounted file is the kubelet's");
    assert_eq!(
        cluster.data.lock()["client-id"],
        STANDARD.encode(CLIENT_ID),
        "the other keys stay"
    );
    let first = &cluster.api.seen()[0];
    assert_eq!(
        (&first.method, first.uri.ends_with("?dryRun=All")),
        (&Method::PATCH, true)
    );
}

#[tokio::test]
async fn a_secret_that_may_not_be_patched_is_found_before_anything_is_made() {
    for (mood, words) in [(Mood::Forbidden, "`patch`"), (Mood::Immutable, "immutable")] {
        let (setup, cluster) = (Setup::new().await, Cluster::start(mood).await);
        let said = cluster.rotate(&setup, &[]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", "place", &[words]);
        setup.untouched();
        assert_eq!(setup.atlas.emulator.token_requests(), 0);
    }
}

#[tokio::test]
async fn a_patch_without_an_answer_is_looked_up() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Mute).await);
    let said = cluster.rotate(&setup, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), cluster.value()]);
}

/// The new secret may lie in the cluster by now, or soon, also after a 500 (the API's store may still carry out what it
/// gave up waiting for): then deleting it would put a dead one in force. The next run finds its way out.
#[tokio::test]
async fn a_patch_that_may_have_been_made_keeps_both_secrets() {
    for mood in [Mood::Dead, Mood::Broken] {
        let (setup, cluster) = (Setup::new().await, Cluster::start(mood).await);
        let said = cluster.rotate(&setup, &["--delete-old"]).await;
        assert_eq!(said.code, Some(1), "{said:#?}");
        said.line("FAIL", "write", &["can't be told", "6a7940c0", "--delete-unused"]);
        said.in_force(&["before", "or the new secret", "both work"]);
        assert_eq!(setup.secrets().len(), 2);
        assert_eq!(cluster.value(), CLIENT_SECRET);
        assert_eq!(setup.atlas.emulator.live_tokens(), 0);

        let cluster = Cluster::start(Mood::Well).await;
        let said = cluster.rotate(&setup, &["--delete-unused"]).await;
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), cluster.value()]);
    }
}

#[tokio::test]
async fn another_api_than_the_clusters_is_not_spoken_to() {
    let (setup, cluster) = (Setup::new().await, Cluster::start(Mood::Well).await);
    // An authority that has not signed its certificate.
    fs::copy(setup.atlas.ca_file(), cluster.pod.path().join("ca.crt")).unwrap();
    let said = cluster.rotate(&setup, &[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.line("FAIL", "place", &["the cluster's API"]);
    assert_eq!(cluster.api.seen().len(), 0);
    setup.untouched();
}

/// The line that is printed is run by a shell, with a `kubectl` that writes down what it gets.
#[tokio::test]
async fn outside_of_a_cluster_a_kubectl_command_is_printed() {
    let setup = Setup::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's new");
    let place = [
        "--kubernetes-secret",
        "platform/atlas:client-secret",
        "--out",
        file.to_str().unwrap(),
    ];
    let said = setup.rotate(&place).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.line("would", "kubectl", &["then remove the file: "]);
    let line = said.text.split("then remove the file: ").nth(1).unwrap();
    let line = line.lines().next().unwrap().to_owned();

    let kubectl = folder.path().join("kubectl");
    let (args, patch) = (folder.path().join("args"), folder.path().join("patch"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >'{}'\ncat >'{}'\n",
        args.display(),
        patch.display()
    );
    fs::write(&kubectl, script).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let status = Command::new("sh")
        .arg("-c")
        .arg(&line)
        .env("PATH", path)
        .status()
        .await
        .unwrap();
    assert!(status.success());
    let patch: Value = serde_json::from_str(&fs::read_to_string(patch).unwrap()).unwrap();
    let new = fs::read_to_string(&file).unwrap();
    assert_eq!(patch, json!({"data": {"client-secret": STANDARD.encode(&new)}}));
    let args = fs::read_to_string(args).unwrap();
    assert_eq!(
        args,
        "--namespace platform patch secret atlas --type merge --patch-file /dev/stdin\n"
    );
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), new]);

    // A machine gets it, too.
    fs::remove_file(&file).unwrap();
    let args = [&place[..], &["--delete-unused", "--json"]].concat();
    let said = setup.rotate(&args).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let steps = said.json()["steps"].as_array().unwrap().clone();
    let kubectl = steps.iter().find(|step| step["step"] == "kubectl").expect("a step");
    assert!(kubectl["detail"].as_str().unwrap().contains(&line), "{kubectl}");
}

/// What is printed is done by hand, some time: until then the old secret is the one in force.
#[tokio::test]
async fn what_would_put_a_dead_secret_in_force_is_refused() {
    let setup = Setup::new().await;
    let by_hand = [
        "--kubernetes-secret",
        "platform/atlas:client-secret",
        "--out",
        "/nowhere/new",
    ];
    for (args, words) in [
        ([&by_hand[..], &["--delete-old"]].concat(), "--delete-old"),
        ([&by_hand[..], &["--every", "30d"]].concat(), "--every"),
        (vec!["--out", "/nowhere/new", "--every", "30d"], "--every"),
    ] {
        let said = setup.rotate(&args).await;
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.errors.contains(words), "{said:#?}");
    }
    setup.untouched();
}
