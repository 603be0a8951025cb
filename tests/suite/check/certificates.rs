//! Certificates of listeners.

use rcgen::{CertificateParams, SanType};

use crate::support::atlas::Atlas;
use crate::support::check::{Said, Setup};
use crate::support::tls::{TestCa, expired, not_yet_valid};

/// `check` with a TLS listener of these names, whose certificate is for `localhost` and `app.example.org`.
async fn listener(atlas: &Atlas, hosts: &str, change: impl FnOnce(&mut CertificateParams)) -> Said {
    let identity = TestCa::new().identity(&["localhost", "app.example.org", "192.0.2.7"], change);
    let (certificate, key) = (
        atlas.file("tls.crt", &identity.certificate, 0o644),
        atlas.file("tls.key", &identity.key, 0o600),
    );
    let text = format!(
        "[[listener]]\nname = 'gateway'\nbind = '127.0.0.1:0'\nhosts = [{hosts}]\n[listener.tls]\n\
         certificate = '{certificate}'\nkey = '{key}'\n[admin]\nbind = '127.0.0.1:0'\n"
    );
    let file = atlas.file("settings.toml", text, 0o644);
    atlas.before(Setup::bearer().args(&["--config", &file])).check().await
}

#[tokio::test]
async fn a_listeners_certificate_that_is_good() {
    let atlas = Atlas::start().await;
    let said = listener(&atlas, "'APP.example.org', '192.0.2.7'", |_| ()).await;
    said.works("all is well");
    said.line("ok", "certificate", &["listener gateway is good for"], &[]);
}

#[tokio::test]
async fn a_listeners_certificate_that_no_client_accepts() {
    let atlas = Atlas::start().await;
    let said = listener(&atlas, "", expired).await;
    said.fails(
        "certificate",
        &["listener gateway expired on 2002-01-01"],
        &["renew it"],
    );
    let said = listener(&atlas, "", not_yet_valid).await;
    said.fails(
        "certificate",
        &["listener gateway is not valid yet"],
        &["one that is valid"],
    );
}

#[tokio::test]
async fn a_listener_that_lacks_names_of_its_certificate() {
    let atlas = Atlas::start().await;
    let said = listener(&atlas, "", |_| ()).await;
    let found = "gateway is for app.example.org, which `hosts` lacks";
    said.line("warn", "certificate", &[found], &["421 PROXY_HOST_DENIED", "--host"]);
    let only = |name: &'static str| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        }
    };
    let said = listener(&atlas, "", only("app.example.org")).await;
    said.fails("certificate", &[found], &["no client", "--host"]);
    let said = listener(&atlas, "'app.example.org'", only("*.example.org")).await;
    said.works("all is well");
    let said = listener(&atlas, "", only("*.example.org")).await;
    said.fails("certificate", &["is for *.example.org"], &["whole names"]);
}

#[tokio::test]
async fn a_listeners_certificate_without_its_names() {
    let atlas = Atlas::start().await;
    let hosts = "'app.example.org', 'other.example.org', '192.0.2.8', '2001:db8::1'";
    let said = listener(&atlas, hosts, |_| ()).await;
    said.fails(
        "certificate",
        &["gateway is not for other.example.org, 192.0.2.8, [2001:db8::1]"],
        &["subject alternative names"],
    );
}
