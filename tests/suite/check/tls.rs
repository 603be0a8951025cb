//! Certificates and authorities of the upstream.

use std::path::Path;

use rcgen::CertificateParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::atlas::Atlas;
use crate::support::check::{Fake, Setup, http};
use crate::support::tls::{TestCa, expired, not_yet_valid};

const BEHIND_TLS: [&str; 4] = ["clock", "credential", "api", "secret expiry"];

#[tokio::test]
async fn certificates_that_are_no_good() {
    let (ca, stranger) = (TestCa::new(), TestCa::new());
    type Change = fn(&mut CertificateParams);
    type Words = &'static [&'static str];
    let cases: [(&TestCa, &str, Change, Words, Words); 4] = [
        (
            &stranger,
            "localhost",
            |_| (),
            &["another key"],
            &["made anew", "new certificate belongs into /"],
        ),
        (
            &ca,
            "cloud.example.org",
            |_| (),
            &["localhost", "cloud.example.org"],
            &["another name", "base URL"],
        ),
        (
            &ca,
            "localhost",
            expired,
            &["expired on 2002-01-01", "clock says 20"],
            &["renew", "set it"],
        ),
        (
            &ca,
            "localhost",
            not_yet_valid,
            &["valid from 3001-01-01", "clock says 20"],
            &["behind, set it"],
        ),
    ];
    for (authority, name, change, found, hint) in cases {
        let tls = authority.identity(&[name], change).server(&["http/1.1"]);
        let atlas = Fake::start_tls(tls, |_| unreachable!("no request goes there")).await;
        let url = format!("https://localhost:{}", atlas.address.port());
        let said = Setup::bearer().at(&url, ca.pem_file.path()).check().await;
        said.line("ok", "tcp", &["127.0.0.1"], &[]);
        said.fails("tls", found, hint);
        said.skips(&BEHIND_TLS);
    }
}

#[tokio::test]
async fn an_authority_that_is_not_trusted() {
    let (atlas, ca) = (Atlas::start().await, TestCa::new());
    let url = atlas.emulator.base_url();
    let said = Setup::bearer().at(&url, ca.pem_file.path()).check().await;
    said.fails(
        "tls",
        &[
            "its certificate was issued by CN=",
            "authority is not trusted",
            ca.pem_file.path().to_str().unwrap(),
        ],
        &[
            ca.pem_file.path().to_str().unwrap(),
            "in place of the system's",
            "right file",
        ],
    );
    said.skips(&BEHIND_TLS);
    let system = ca.pem_file.path().to_str().unwrap();
    let setup = Setup::bearer().env("SSL_CERT_FILE", system).args(&["--base-url", &url]);
    let said = setup.check().await;
    said.fails(
        "tls",
        &["authority is not trusted", "not in the system"],
        &["private certificate authority", "--upstream-ca"],
    );
}

#[tokio::test]
async fn no_authorities_at_all() {
    let said = Setup::bearer().env("SSL_CERT_FILE", "/dev/null").check().await;
    said.fails("tls", &["no usable certificate authorities"], &["PEM"]);
    said.skips(&BEHIND_TLS);
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none() {
    let atlas = Atlas::start().await;
    let url = atlas.emulator.base_url();
    let (gone, not_pem) = (
        atlas.folder.path().join("gone.pem"),
        atlas.file("not.pem", "no certificate", 0o644),
    );
    let said = Setup::bearer().at(&url, &gone).check().await;
    said.fails("configuration", &["--upstream-ca", "gone.pem", "mounted"], &[]);
    let said = Setup::bearer().at(&url, Path::new(&not_pem)).check().await;
    said.fails("configuration", &["--upstream-ca", "not.pem", "PEM"], &[]);
}

#[tokio::test]
async fn a_port_that_speaks_no_tls() {
    let plain = Fake::start(|_| http("400 Bad Request", "", "")).await;
    let talkative = Fake::listen(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n").await;
        let _ = stream.read(&mut [0; 1000]).await;
    })
    .await;
    for fake in [plain, talkative] {
        let url = format!("https://localhost:{}", fake.address.port());
        let said = Setup::bearer().args(&["--base-url", &url]).check().await;
        said.fails("tls", &["localhost"], &["TLS port"]);
    }
}
