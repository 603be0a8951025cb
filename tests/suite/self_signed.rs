//! What `openssl req -x509` makes by itself is an authority's certificate, and no server may show that. Whoever tries it is
//! told so, and what to do; and what he is told works.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::support::check::Setup;
use crate::support::client::client;
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{PRIVATE_KEY, PUBLIC_KEY};
use crate::support::until;

/// `openssl s_server` with the certificate of this folder.
async fn server(folder: &Path) -> (Child, String) {
    let address = free_address();
    let child = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &address.to_string()])
        .args(["-cert", "cert.pem", "-key", "key.pem"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the server listens", || async move {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    (child, format!("https://localhost:{}", address.port()))
}

async fn run(folder: &Path, line: &str) {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

/// The command that a text holds, for this host.
fn command(text: &str) -> String {
    let from = text.find("openssl req -x509 -newkey").expect("the command is named");
    let line = &text[from..];
    let end = line.find("CA:FALSE").expect("the whole of it is there") + "CA:FALSE".len();
    line[..end].replace("HOST", "localhost")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_of_an_authority_is_named_with_the_command_that_makes_a_right_one() {
    let Some(_) = needs(&["openssl"], "openssl") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(
        folder,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost \\
         -addext subjectAltName=DNS:localhost",
    )
    .await;
    let (mut child, url) = server(folder).await;
    let ca_file = folder.join("cert.pem");

    let said = Setup::bearer().at(&url, &ca_file).check().await;
    said.fails(
        "tls",
        &["certificate of an authority"],
        &["CA:TRUE", "openssl req -x509"],
    );

    let environment = [
        ("MONGODB_ATLAS_PUBLIC_API_KEY", PUBLIC_KEY),
        ("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY),
    ];
    let program = || Command::new(PROGRAM);
    let digest = Program::start_at(program(), &url, &ca_file, &environment, &[]).await;
    let answer = client()
        .get(format!("http://{}/x", digest.address))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 502);
    let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let detail = answer["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("CA:TRUE"), "{detail}");
    let (_, logged) = digest.stop().await;
    assert!(logged.contains("CA:TRUE"), "{logged}");

    // The token endpoint, too.
    let bearer = Program::start_at(program(), &url, &ca_file, &SERVICE_ACCOUNT, &[]).await;
    bearer.until_said("CA:TRUE").await;
    bearer.stop().await;

    // And the command is right: the same server with what it makes is trusted.
    for text in [&said.text, &detail, &logged] {
        child.kill().await.unwrap();
        run(folder, &command(text)).await;
        let (next, url) = server(folder).await;
        child = next;
        let said = Setup::bearer().at(&url, &ca_file).check().await;
        said.line("ok", "tls", &["is trusted"], &[]);
    }
}
