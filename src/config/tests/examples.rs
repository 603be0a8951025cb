//! Each file of `config/` loads as it stands; the full one shows every key, and the defaults it claims.

use std::path::Path;

use super::*;
use crate::server::Bind;
use crate::settings::Limits;

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

pub(super) fn example(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The credential files that an example names are filled; those of authorities too.
pub(super) fn case(text: &str) -> Case {
    // The last table of the full one; a build that can't share tokens refuses it.
    let text = match text.split_once("[token_store]") {
        Some((before, _)) if !cfg!(feature = "token-store") => before,
        _ => text,
    };
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let crl = revocation_list();
    let mut case = Case::bare().toml(text);
    for path in text.split('"').filter(|part| part.starts_with('/')) {
        let content = match path {
            path if path.ends_with("client-id") => ID,
            path if path.ends_with("client-secret") => SECRET,
            path if path.ends_with("public-key") => "abcdefgh",
            path if path.ends_with("private-key") => PRIVATE_KEY,
            path if path.ends_with("user-password") => "user:password",
            path if path.ends_with("token-store-key") || path.ends_with("pass-key") || path.ends_with("audit-key") => {
                STORE_KEY
            }
            path if path.contains("/callers/") => LOCAL_SECRET,
            path if path.ends_with("/atlas-gateway/token") => "e30.e30.c2ln",
            path if path.ends_with("token-store-password") => "password",
            path if path.ends_with(".pem") || path.ends_with(".crt") => &pem,
            path if path.ends_with(".key") => &key,
            path if path.ends_with(".crl") => &crl,
            _ => continue,
        };
        case = case.file(path, content);
    }
    case
}

fn revocation_list() -> String {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(ca, rcgen::KeyPair::generate().unwrap());
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2001, 1, 1),
        next_update: rcgen::date_time_ymd(2999, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

#[test]
fn each_file_loads_without_a_warning() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // What `rules test` reads is no configuration.
        if name.ends_with(".toml") && !name.ends_with(".test.toml") {
            let case = case(&example(&name));
            case.settings();
            let mut warnings = case.warnings();
            // A rule that only warns is named at each start.
            warnings.retain(|warning| name != "gateway-callers.toml" || !warning.contains("`dashboard` only warns"));
            assert_eq!(warnings, [""; 0], "{name}");
            seen.push(name);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

/// The caller of docs/GATEWAY.md stands beside those of the example.
#[test]
fn the_caller_of_a_leaf_stands_beside_those_of_the_gateway() {
    let page = std::fs::read_to_string(folder().join("../docs/GATEWAY.md")).unwrap();
    let (caller, _) = page.split_once("```toml\n").unwrap().1.split_once("```").unwrap();
    case(&format!("{}\n{caller}", example("gateway-callers.toml"))).settings();
}

/// The configuration file in a manifest of `deploy`.
fn in_manifest(manifest: &str, file: &str) -> String {
    let manifest = folder().join("../deploy").join(manifest);
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let (_, after) = manifest.split_once(&format!("  {file}: |\n")).unwrap();
    let (text, _) = after.split_once("---\n").unwrap();
    let lines = text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// A client with a fixed base URL is led to this listener, and the account past it.
#[test]
fn the_transparent_sidecar_of_kubernetes_loads_without_a_warning() {
    let case = case(&in_manifest("kubernetes/sidecar-transparent.yaml", "proxy.toml"))
        .env("MONGODB_ATLAS_CLIENT_ID", ID)
        .env("MONGODB_ATLAS_CLIENT_SECRET", SECRET);
    let settings = case.settings();
    assert_eq!(case.warnings(), [""; 0]);
    assert!(settings.listeners[0].rules.hosts.knows("cloud.mongodb.com"));
    assert_eq!(
        settings.accounts["default"].upstream.target(),
        ("cloud.mongodb.com.", 443)
    );
}

/// What the gateway of `deploy/kustomize` is configured with.
#[test]
fn the_gateway_of_kubernetes_loads_without_a_warning() {
    let case = case(&in_manifest("kustomize/gateway/gateway.yaml", "gateway.toml"));
    let settings = case.settings();
    assert_eq!(case.warnings(), [""; 0]);
    assert!(
        settings.listeners[0]
            .rules
            .hosts
            .knows("atlas-gateway.platform.svc:8443")
    );
    assert_eq!(settings.drain_delay, std::time::Duration::from_secs(10));
    // A leaf has its token made for the audience that the gateway wants.
    let leaf = std::fs::read_to_string(folder().join("../deploy/kubernetes/sidecar-gateway.yaml")).unwrap();
    for shared in [
        "audience: https://atlas-gateway.platform.svc\n",
        "value: https://atlas-gateway.platform.svc:8443\n",
    ] {
        assert!(leaf.contains(shared), "{shared}");
    }
}

#[test]
fn the_full_file_shows_every_key_and_the_defaults() {
    let text = example("full.toml");
    for (_, key) in super::reference::keys() {
        let shown = [format!("{key} = "), format!("[{key}"), format!(".{key}]")]
            .iter()
            .any(|form| text.contains(form));
        assert!(shown, "`{key}` is missing from config/full.toml");
    }
    let settings = case(&text).settings();
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.accounts.len(), 3);
    assert_eq!(
        settings.listeners[1].bind,
        Bind::Unix {
            path: "/run/atlas-auth-proxy/proxy.sock".into(),
            mode: 0o600,
            uids: vec![1000]
        }
    );
}

#[test]
fn the_minimal_files_say_what_their_names_say() {
    let load = |name: &str| case(&example(name)).settings();
    let kind = |settings: &Settings, account: &str| settings.accounts[account].credential.kind();
    assert_eq!(
        kind(&load("sidecar-service-account.toml"), "default"),
        "service_account"
    );
    assert_eq!(kind(&load("sidecar-api-key.toml"), "default"), "api_key");
    let leaf = load("sidecar-gateway.toml");
    assert_eq!(kind(&leaf, "default"), "gateway");
    assert!(
        leaf.listeners[0]
            .bind
            .addresses()
            .iter()
            .all(|bind| bind.ip().is_loopback())
    );
    let government = load("government.toml");
    assert_eq!(
        government.accounts["default"].upstream.origin.to_string(),
        "https://cloud.mongodbgov.com"
    );
    assert!(matches!(
        load("unix-socket.toml").listeners[0].bind,
        Bind::Unix { mode: 0o660, .. }
    ));
    let gateway = load("several-accounts.toml");
    assert_eq!((gateway.listeners.len(), gateway.accounts.len()), (2, 2));
    assert!(gateway.listeners[0].allow.allows("10.20.1.1".parse().unwrap()));
}
