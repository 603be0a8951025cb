//! Clients that others wrote, as the package registries have them, each with a credential that means nothing or none: through
//! the program, by Bearer and by Digest, to the emulator.
//!
//! Their scripts lie in `tests/clients/registry`; `.ci/run` installs them with `tests/clients/install`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use atlas_auth_proxy::emulator::SAMPLE;
use tokio::process::Command;

use crate::support::atlas::Atlas;
use crate::support::needs::{needs, skip};
use crate::support::proxy::{Proxy, bearer, digest};

/// Where `tests/clients/install` put them; `None`: the test is skipped.
pub fn installed() -> Option<PathBuf> {
    let folder = std::env::var_os("ATLAS_CLIENTS").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        Some(cache?.join("atlas-auth-proxy-ci/clients"))
    });
    let folder = folder.filter(|folder| folder.join("wanted").exists());
    if folder.is_none() {
        skip(
            "the clients of PyPI and npm are not installed (tests/clients/install ~/.cache/atlas-auth-proxy-ci/clients)",
        );
    }
    folder
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients/registry")
        .join(name)
}

/// What a client prints, line by line, before a proxy that it knows the address of.
async fn says(command: &mut Command, proxy: &Proxy) -> Vec<String> {
    let command = command
        .env("BASE_URL", proxy.url(""))
        .env("PROJECT", SAMPLE.0)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(300), command.output());
    let output = output.await.expect("it ends").unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{out}\n{err}");
    out.lines().map(str::to_owned).collect()
}

/// By Bearer, then by Digest, each before an emulator of its own.
async fn in_both_ways(client: impl Fn() -> Command, check: impl Fn(Vec<String>)) {
    for credential in [bearer(), digest()] {
        let atlas = Atlas::start().await;
        let proxy = atlas.proxy(credential).start().await;
        check(says(&mut client(), &proxy).await);
        // A client's placeholder gets it no token of Atlas.
        assert!(atlas.emulator.token_requests() <= 1);
        assert_eq!(atlas.emulator.revoke_requests(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn atlasapi_of_pypi() {
    let Some(folder) = installed() else { return };
    let client = || {
        let mut command = Command::new(folder.join("venv/bin/python"));
        command.arg(script("atlasapi_client.py"));
        command
    };
    in_both_ways(client, |lines| {
        assert_eq!(
            lines,
            [
                "clusters: ['cluster-634']",
                "made: python user",
                "users: ['app', 'user-253', 'python user']",
                "one: python user",
                "left: ['app', 'user-253']",
                "hosts: 3",
            ]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_atlas_api_client_of_npm() {
    let (Some(folder), Some(node)) = (installed(), needs(&["node"], "nodejs")) else {
        return;
    };
    let client = || {
        let mut command = Command::new(&node);
        command
            .arg(script("api_client.cjs"))
            .env("NODE_PATH", folder.join("node_modules"));
        command
    };
    in_both_ways(client, |lines| {
        assert_eq!(
            lines,
            [
                "projects: true",
                "clusters: [ 'cluster-634' ]",
                "made: node user",
                "one: node user",
                "left: [ 'app', 'user-253' ]",
                "entries: [ '203.0.113.0/24' ]",
                "entries left: []",
            ]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_mcp_server_of_npm() {
    let (Some(folder), Some(node)) = (installed(), needs(&["node"], "nodejs")) else {
        return;
    };
    let client = || {
        let mut command = Command::new(&node);
        command
            .arg(script("mcp_server.mjs"))
            .env("NODE_PATH", folder.join("node_modules"));
        command
    };
    in_both_ways(client, |lines| {
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains(": ok ")), "{lines:#?}");
        let of = |tool: &str| lines.iter().find(|line| line.starts_with(tool)).unwrap();
        assert!(of("atlas-list-clusters").contains("Found 1 clusters"), "{lines:#?}");
        assert!(
            of("atlas-inspect-access-list").contains("Found 2 access list entries"),
            "{lines:#?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn atlas_sdk_go_with_64_goroutines() {
    let Some(go) =
        needs(&["go"], "golang-go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.exists()))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("client");
    let built = Command::new(&go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(script("atlas_sdk_go"))
        .output();
    let built = built.await.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    in_both_ways(
        || Command::new(&program),
        |mut lines| {
            lines.sort();
            assert_eq!(
                lines,
                [
                    "no credential: 64 users made, read and deleted",
                    "service account: 64 users made, read and deleted",
                ]
            );
        },
    )
    .await;
}
