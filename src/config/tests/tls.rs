//! `[listener.tls]`: what is accepted, and one line for what is not.

use std::net::IpAddr;

use super::*;

struct Pems {
    certificate: String,
    key: String,
    other_key: String,
}

fn pems() -> Pems {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    Pems {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        other_key: rcgen::KeyPair::generate().unwrap().serialize_pem(),
    }
}

fn case(bind: &str, listener: &str, tls: &str) -> Case {
    let pems = pems();
    Case::new()
        .toml(&format!(
            "[[listener]]\nbind = '{bind}'\n{listener}\n[listener.tls]\n{tls}"
        ))
        .file("/etc/a.crt", &pems.certificate)
        .file("/etc/a.key", &pems.key)
        .file("/etc/b.key", &pems.other_key)
        .file("/etc/none.pem", "no PEM at all")
        .file(
            "/etc/broken.pem",
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        )
}

const PAIR: &str = "certificate = 'a.crt'\nkey = 'a.key'";

#[test]
fn beyond_loopback_tls_needs_a_client_ca_or_an_allowlist() {
    let with_ca = format!("{PAIR}\nclient_ca = 'a.crt'");
    for bind in ["127.0.0.1:1", "0.0.0.0:1", "[::]:1"] {
        let listener = &case(bind, "", &with_ca).settings().listeners[0];
        assert!(listener.tls.as_ref().unwrap().asks_for_certificates());
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(
            listener.allow.allows(far),
            bind != "127.0.0.1:1",
            "certificates decide beyond loopback"
        );
    }
    let listener = &case("0.0.0.0:1", "allow = ['10.0.0.0/8']", &with_ca)
        .settings()
        .listeners[0];
    assert!(!listener.allow.allows("192.0.2.1".parse().unwrap()));
    case("0.0.0.0:1", "allow = ['10.0.0.0/8']", PAIR).settings();
    case("127.0.0.1:1", "", PAIR).settings();
    let said = case("0.0.0.0:1", "", PAIR).error();
    assert!(said.contains("client_ca") && said.contains("`allow`"), "{said}");
}

#[test]
fn what_is_wrong_is_told_in_one_line_at_its_key() {
    for (tls, expected) in [
        ("certificate = 'a.crt'", "4:1: `listener.tls`: `key` is missing"),
        (
            "certificate = 'a.crt'\nkey = 'b.key'",
            "5:15: `listener.tls.certificate`: `a.crt`: certificate and key cannot be used together: the key is of another certificate",
        ),
        (
            "certificate = 'a.crt'\nkey = 'none.pem'",
            "6:7: `listener.tls.key`: `none.pem`: the file holds none",
        ),
        (
            "certificate = 'none.pem'\nkey = 'a.key'",
            "5:15: `listener.tls.certificate`: `none.pem`: the file holds no certificate",
        ),
        (
            "certificate = 'broken.pem'\nkey = 'a.key'",
            "5:15: `listener.tls.certificate`: `broken.pem`: the file is not well-formed PEM",
        ),
        (
            "certificate = 'gone.crt'\nkey = 'a.key'",
            "5:15: `listener.tls.certificate`: cannot read the file `/etc/gone.crt`",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'none.pem'",
            "7:13: `listener.tls.client_ca`: `none.pem`: the file holds no certificate",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_names = ['a.example']",
            "7:16: `listener.tls.client_names`: names are looked at in client certificates",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'a.crt'\nclient_names = []",
            "8:16: `listener.tls.client_names`: an empty list",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'a.crt'\nclient_names = ['a b']",
            "8:17: `listener.tls.client_names`: `a b` is not a name pattern",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_crl = 'a.crt'",
            "7:14: `listener.tls.client_crl`: a revocation list is about client certificates",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'a.crt'\nclient_crl = 'a.crt'",
            "8:14: `listener.tls.client_crl`: `a.crt`: the file holds no revocation list",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'a.crt'\nclient_crl = 'gone.crl'",
            "8:14: `listener.tls.client_crl`: cannot read the file `/etc/gone.crl`",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nclient_cas = 'a.crt'",
            "7:1: `listener.tls.client_cas`: there is no such key; did you mean `client_ca`?",
        ),
        (
            "certificate = 'a.crt'\nkey = 'a.key'\nkey_file = 'a.key'",
            "7:1: `listener.tls.key_file`: there is no such key; write `key`",
        ),
    ] {
        let said = case("127.0.0.1:1", "", tls).error();
        assert!(
            said.starts_with(&format!("/etc/proxy.toml:{expected}")),
            "{tls:?}: {said}"
        );
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

#[test]
fn a_unix_socket_speaks_no_tls() {
    let said = case("unix:/p", "", PAIR).error();
    assert!(said.contains("speaks no TLS"), "{said}");
}

/// As files of other credentials are: a relative name is one of systemd's, where there are any.
#[test]
fn certificate_and_key_are_looked_for_among_the_credentials_of_systemd() {
    let pems = pems();
    let handed = |tls: &str| {
        Case::new()
            .toml(&format!("[[listener]]\nbind = '127.0.0.1:1'\n[listener.tls]\n{tls}"))
            .env("CREDENTIALS_DIRECTORY", "/run/credentials")
            .file("/run/credentials/tls.crt", &pems.certificate)
            .file("/run/credentials/tls.key", &pems.key)
            .file("/etc/a.crt", &pems.certificate)
    };
    let settings = handed("certificate = 'tls.crt'\nkey = 'tls.key'").settings();
    assert!(settings.listeners[0].tls.is_some());
    // A path that says where is taken as it stands.
    handed("certificate = '/etc/a.crt'\nkey = 'tls.key'").settings();
}
