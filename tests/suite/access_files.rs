//! The same as in `access`, with the program and its files: what is reloaded, and what is said in the log.

use std::path::Path;

use rcgen::{CertificateParams, DnType, SerialNumber};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::tls::{Identity, TestCa, for_clients};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// What a client that shows this is answered: the first line, or nothing.
async fn answer(program: &Program, ca: &TestCa, identity: &Identity) -> String {
    let tcp = TcpStream::connect(program.address).await.unwrap();
    let connecting = TlsConnector::from(ca.client(Some(identity), &["http/1.1"]))
        .connect(ServerName::try_from("localhost").unwrap(), tcp);
    let Ok(mut stream) = connecting.await else {
        return String::new();
    };
    let _ = stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

async fn gateway(upstream: &Upstream, ca: &TestCa, folder: &Path, crl: &str) -> Program {
    let server = ca.identity(&["localhost"], |_| ());
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    write("tls.crt", &server.certificate);
    write("tls.key", &server.key);
    write("ca.crt", &ca.pem);
    write("clients.crl", crl);
    let config = write(
        "proxy.toml",
        "[[listener]]\n[listener.tls]\ncertificate = 'tls.crt'\nkey = 'tls.key'\nclient_ca = 'ca.crt'\n\
         client_names = ['*.example.org']\nclient_crl = 'clients.crl'\n",
    );
    let args = ["--config", config.to_str().unwrap(), "--log-format", "json"];
    Program::start(Command::new(PROGRAM), upstream, &SERVICE_ACCOUNT, &args).await
}

fn web(params: &mut CertificateParams) {
    for_clients(params);
    params.serial_number = Some(SerialNumber::from(7));
    params
        .distinguished_name
        .push(DnType::CommonName, "web\n\u{202e}{\"level\":\"ERROR\"}");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "x".repeat(5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_refused_is_named_in_the_log_with_the_rule_that_it_missed() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let ca = TestCa::named("clients");
    let folder = tempfile::tempdir().unwrap();
    let program = gateway(&upstream, &ca, folder.path(), &ca.revoke(&[99], (2002, 1, 1))).await;
    let good = ca.identity(&["web.example.org"], web);
    assert_eq!(answer(&program, &ca, &good).await, "HTTP/1.1 200 OK");
    let stranger = TestCa::named("strangers");
    for (identity, rule) in [
        (
            ca.identity(&["web.example.com", "spiffe://example.org/web"], web),
            "client_names",
        ),
        (
            ca.identity(&["old.example.org"], |p| {
                web(p);
                crate::support::tls::expired(p);
            }),
            "it has expired",
        ),
        (
            ca.identity(&["soon.example.org"], |p| {
                web(p);
                crate::support::tls::not_yet_valid(p);
            }),
            "not valid yet",
        ),
        (
            ca.identity(&["server.example.org"], |p| {
                web(p);
                crate::support::tls::for_servers_only(p);
            }),
            "clientAuth",
        ),
        (stranger.identity(&["strange.example.org"], web), "client_ca"),
    ] {
        assert!(!answer(&program, &ca, &identity).await.contains("200"), "{rule}");
        program.until_said(rule).await;
    }
    // A list that comes is read, and asked.
    std::fs::write(folder.path().join("clients.crl"), ca.revoke(&[7], (2002, 1, 1))).unwrap();
    until("the revocation is in force", || async {
        answer(&program, &ca, &good).await.is_empty()
    })
    .await;
    program.until_said("it is revoked (`client_crl`)").await;
    let mut plain = TcpStream::connect(program.address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    program.until_said("plain HTTP on a port that speaks TLS").await;
    let (_, said) = program.stop().await;
    for line in said.lines() {
        let one: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert_ne!(one["level"], "ERROR", "{line}");
        assert!(line.len() < 2_000 && line.is_ascii(), "{line}");
    }
    assert!(
        said.contains("DNS:web.example.com, URI:spiffe://example.org/web"),
        "{said}"
    );
    assert!(said.contains("CN=web"), "{said}");
    // Once for each time that the list was read.
    assert_eq!(said.matches("is past its `nextUpdate`").count(), 2, "{said}");
}
