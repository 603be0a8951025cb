//! An account whose upstream is a gateway: how it is given, and what contradicts it.

use std::path::Path;

use super::*;
use crate::credential::CredentialSettings;
use crate::credential::identity::IdentityFiles;

const URL: &str = "https://atlas-gateway.platform.svc:8443";
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

fn with_token() -> Case {
    Case::bare().file("/i/token", format!("{TOKEN}\n"))
}

fn with_pair() -> Case {
    let pair = rcgen::generate_simple_self_signed(["leaf".to_owned()]).unwrap();
    Case::bare()
        .file("/i/tls.crt", pair.cert.pem())
        .file("/i/tls.key", pair.signing_key.serialize_pem())
}

#[track_caller]
fn identity(case: &Case) -> (String, IdentityFiles) {
    let account = &case.settings().accounts["default"];
    assert_eq!(account.names_in_paths().count(), 0);
    let CredentialSettings::Identity(settings) = &account.credential else {
        panic!("it has a credential of Atlas")
    };
    (account.upstream.origin.to_string(), settings.files.clone())
}

#[test]
fn a_token_by_variables_or_by_the_file() {
    let expected = (URL.to_owned(), IdentityFiles::Token("/i/token".into()));
    let by_variables = with_token()
        .env("ATLAS_PROXY_GATEWAY", URL)
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token");
    assert_eq!(identity(&by_variables), expected);
    let by_file = || {
        with_token().toml(&format!(
            "[account.default]\ngateway = '{URL}'\nidentity_token_file = '/i/token'"
        ))
    };
    assert_eq!(identity(&by_file()), expected);
    // A variable wins, key by key.
    let other = by_file().env("ATLAS_PROXY_GATEWAY", "https://other:1");
    assert_eq!(identity(&other).0, "https://other:1");
    // systemd's credentials.
    let of_systemd = Case::bare()
        .env("CREDENTIALS_DIRECTORY", "/run/credentials")
        .file("/run/credentials/identity-token", TOKEN)
        .env("ATLAS_PROXY_GATEWAY", URL)
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "identity-token");
    let files = IdentityFiles::Token("/run/credentials/identity-token".into());
    assert_eq!(identity(&of_systemd).1, files);
}

#[test]
fn a_certificate_by_variables_or_by_the_file() {
    let files = IdentityFiles::Certificate {
        certificate: "/i/tls.crt".into(),
        key: "/i/tls.key".into(),
    };
    let by_variables = with_pair()
        .env("ATLAS_PROXY_GATEWAY", URL)
        .env("ATLAS_PROXY_CLIENT_CERTIFICATE", "/i/tls.crt")
        .env("ATLAS_PROXY_CLIENT_KEY", "/i/tls.key");
    assert_eq!(identity(&by_variables), (URL.to_owned(), files.clone()));
    let by_file = with_pair().toml(&format!(
        "[account.default]\ngateway = '{URL}'\nclient_certificate = '/i/tls.crt'\nclient_key = '/i/tls.key'"
    ));
    assert_eq!(identity(&by_file), (URL.to_owned(), files));
}

#[test]
fn another_account_has_its_gateway_in_the_file() {
    let case = with_token().toml(&format!(
        "[[listener]]\nbind = '127.0.0.1:1'\naccount = 'a'\n[[listener]]\nbind = '127.0.0.1:2'\naccount = 'b'\n\
         [account.a]\ngateway = '{URL}'\nidentity_token_file = '/i/token'\n\
         [account.b]\ngateway = 'http://127.0.0.1:99'\nidentity_token_file = '/i/token'"
    ));
    let settings = case.settings();
    assert_eq!(
        settings.accounts["b"].upstream.origin.to_string(),
        "http://127.0.0.1:99"
    );
    let ambiguous = case.env("ATLAS_PROXY_GATEWAY", URL).error();
    assert!(
        ambiguous.contains("ATLAS_PROXY_GATEWAY") && ambiguous.contains("several accounts"),
        "{ambiguous}"
    );
}

/// Beside a base URL or a credential of Atlas, wherever that stands.
#[test]
fn nothing_of_atlas_stands_beside_a_gateway() {
    let leaf = || {
        with_token()
            .env("ATLAS_PROXY_GATEWAY", URL)
            .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token")
    };
    for (name, value) in [
        ("ATLAS_PROXY_BASE_URL", "https://cloud.example.org"),
        ("MONGODB_ATLAS_BASE_URL", "https://cloud.example.org"),
        ("MONGODB_ATLAS_OPS_MANAGER_URL", "https://cloud.example.org"),
        ("MONGODB_ATLAS_CLIENT_ID", ID),
        ("MONGODB_ATLAS_CLIENT_ID_FILE", "/s/id"),
        ("MONGODB_ATLAS_CLIENT_SECRET", SECRET),
        ("MONGODB_ATLAS_CLIENT_SECRET_FILE", "/s/secret"),
        ("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", "/s/secret"),
        ("MONGODB_ATLAS_PUBLIC_API_KEY", "abcdefgh"),
        ("MONGODB_ATLAS_PUBLIC_KEY", "abcdefgh"),
        ("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY),
        ("MONGODB_ATLAS_PRIVATE_KEY_FILE", "/s/key"),
    ] {
        let error = leaf().env(name, value).error();
        assert!(
            error.contains(name) && error.contains("gateway") && !error.contains(SECRET),
            "{name}: {error}"
        );
    }
    for key in [
        "base_url = 'https://cloud.example.org'",
        "client_id = 'mdb_sa_id_1'",
        "client_id_file = '/s/id'",
        "client_secret_file = '/s/secret'",
        "client_secret_next_file = '/s/secret'",
        "public_key = 'abcdefgh'",
        "public_key_file = '/s/key'",
        "private_key_file = '/s/key'",
        "client_id_command = ['/bin/id']",
        "client_secret_command = ['/bin/secret']",
        "client_secret_next_command = ['/bin/secret']",
        "public_key_command = ['/bin/key']",
        "private_key_command = ['/bin/key']",
        "api_key_id = '5a0a1e7e0f2912c554080adc'",
        "digest_max_concurrent = 1",
    ] {
        let error = leaf().toml(&format!("[account.default]\n{key}")).error();
        assert!(
            error.contains("/etc/proxy.toml:2") && error.contains("gateway"),
            "{key}: {error}"
        );
    }
    let error = leaf()
        .flags(|flags| flags.base_url = Some("https://a".to_owned()))
        .error();
    assert!(error.contains("--base-url"), "{error}");
}

#[test]
fn a_gateway_is_https_or_this_machine_and_another_one() {
    let at = |url: &str| {
        with_token()
            .env("ATLAS_PROXY_GATEWAY", url)
            .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token")
    };
    for url in [
        "http://127.0.0.1:99",
        "http://[::1]:99",
        "http://localhost:99",
        "https://gateway",
    ] {
        at(url).settings();
    }
    for url in [
        "http://gateway:8443",
        "http://10.0.0.1",
        "gateway:8443",
        "https://a/b",
        "https://u:p@a",
        "https://cloud.mongodb.com",
    ] {
        let error = at(url).error();
        assert!(error.contains("ATLAS_PROXY_GATEWAY"), "{url}: {error}");
        assert!(!error.contains("base URL"), "{url}: {error}");
        assert_eq!(error.contains("a path (`/b`)"), url == "https://a/b", "{error}");
    }
    let own = at("http://127.0.0.1:8080").error();
    assert!(
        own.contains("own listener") && own.contains("ATLAS_PROXY_GATEWAY"),
        "{own}"
    );
    assert!(!own.contains("BASE_URL"), "{own}");
}

#[test]
fn a_gateway_is_shown_one_thing_whole() {
    let leaf = || with_pair().file("/i/token", TOKEN).env("ATLAS_PROXY_GATEWAY", URL);
    let error = leaf().error();
    assert!(
        error.contains("identity_token_file") && error.contains("client_certificate"),
        "{error}"
    );
    let error = leaf().env("ATLAS_PROXY_CLIENT_KEY", "/i/tls.key").error();
    assert!(error.contains("set `client_certificate`"), "{error}");
    let error = leaf().env("ATLAS_PROXY_CLIENT_CERTIFICATE", "/i/tls.crt").error();
    assert!(error.contains("set `client_key`"), "{error}");
    let pair = |case: Case| {
        case.env("ATLAS_PROXY_CLIENT_CERTIFICATE", "/i/tls.crt")
            .env("ATLAS_PROXY_CLIENT_KEY", "/i/tls.key")
    };
    let error = pair(leaf()).env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token").error();
    assert!(error.contains("not both"), "{error}");
    let plain = pair(with_pair())
        .env("ATLAS_PROXY_GATEWAY", "http://127.0.0.1:99")
        .error();
    assert!(plain.contains("TLS handshake"), "{plain}");
    // Without a gateway there is nobody to show it to.
    let error = Case::new()
        .file("/i/token", TOKEN)
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token")
        .error();
    assert!(error.contains("set `gateway`"), "{error}");
}

#[test]
fn files_that_hold_no_identity_are_named() {
    let token = |content: &str| {
        Case::bare()
            .file("/i/token", content)
            .env("ATLAS_PROXY_GATEWAY", URL)
            .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/token")
            .error()
    };
    for content in ["", " \n", "not a token", "a\nb"] {
        let error = token(content);
        assert!(
            error.contains("/i/token") && !error.contains("not a"),
            "{content}: {error}"
        );
    }
    let pair = |case: Case| {
        case.env("ATLAS_PROXY_GATEWAY", URL)
            .env("ATLAS_PROXY_CLIENT_CERTIFICATE", "/i/tls.crt")
            .env("ATLAS_PROXY_CLIENT_KEY", "/i/tls.key")
            .error()
    };
    let error = pair(with_pair().file("/i/tls.key", "none"));
    assert!(
        error.contains("/i/tls.key") && error.contains("ATLAS_PROXY_CLIENT_KEY"),
        "{error}"
    );
    let error = pair(with_pair().file("/i/tls.crt", "none"));
    assert!(
        error.contains("/i/tls.crt") && error.contains("ATLAS_PROXY_CLIENT_CERTIFICATE"),
        "{error}"
    );
    let other = with_pair().files.remove(Path::new("/i/tls.key")).unwrap();
    let error = pair(with_pair().file("/i/tls.key", other));
    assert!(
        error.contains("cannot be used together: the key is of another"),
        "{error}"
    );
    let missing = Case::bare()
        .env("ATLAS_PROXY_GATEWAY", URL)
        .env("ATLAS_PROXY_IDENTITY_TOKEN_FILE", "/i/none")
        .error();
    assert!(
        missing.contains("cannot read the file /i/none") || missing.contains("/i/none"),
        "{missing}"
    );
}
