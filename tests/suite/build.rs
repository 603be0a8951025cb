//! Which build it is: the program says it wherever it is asked, and a FIPS build keeps to what FIPS allows.

use tokio::process::Command;

use crate::support::client::{client, get};
use crate::support::program::PROGRAM;
use crate::support::upstream::{Upstream, json};

const FLAVOUR: &str = if cfg!(feature = "fips") { "fips" } else { "standard" };

#[tokio::test]
async fn the_build_is_told_by_the_program_the_metrics_and_the_status() {
    let run = |argument| Command::new(PROGRAM).arg(argument).output();
    let version = concat!("atlas-auth-proxy ", env!("CARGO_PKG_VERSION"));
    let long = String::from_utf8(run("--version").await.unwrap().stdout).unwrap();
    assert!(long.starts_with(&format!("{version} ({FLAVOUR}; features: ")), "{long}");
    assert_eq!(long.lines().count(), 1, "{long}");
    let short = run("-V").await.unwrap().stdout;
    assert_eq!(String::from_utf8(short).unwrap(), format!("{version}\n"));

    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream.proxy().start().await;
    let metrics = get(&format!("http://{}/metrics", proxy.admin)).await;
    let info = metrics
        .lines()
        .find(|line| line.starts_with("atlas_auth_proxy_build_info{"))
        .unwrap();
    assert!(info.contains(&format!("build=\"{FLAVOUR}\"")), "{info}");
    let status = client()
        .get(format!("http://{}/status.json", proxy.admin))
        .send()
        .await
        .unwrap();
    let status: serde_json::Value = status.json().await.unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["build"]["flavour"], FLAVOUR);
    let features = status["build"]["features"].as_array().unwrap();
    for (name, on) in [
        ("emulator", cfg!(feature = "emulator")),
        ("token-store", cfg!(feature = "token-store")),
        ("otel", cfg!(feature = "otel")),
    ] {
        assert_eq!(features.contains(&name.into()), on, "{name}: {features:?}");
        assert_eq!(long.contains(name), on, "{name}: {long}");
        assert_eq!(info.contains(name), on, "{name}: {info}");
    }
}

/// ChaCha20-Poly1305 is none of FIPS 140-3.
#[cfg(feature = "fips")]
#[tokio::test]
async fn a_fips_build_shakes_hands_with_approved_cipher_suites_alone() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use crate::support::proxy::{bearer, proxy};
    use crate::support::tls::TestCa;

    let (mut approved, mut others) = (0, 0);
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        // The test's certificate has an ECDSA key.
        if format!("{suite:?}").contains("_RSA_") {
            continue;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![*suite],
            ..aws_lc_rs::default_provider()
        };
        let ca = TestCa::new();
        let server = ca.identity(&["localhost"], |_| ()).server_of(provider, &[]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        // The account's token is asked for at once: that is the handshake.
        let _proxy = proxy(&url, Some(ca.pem_file.path()), bearer()).start().await;
        let (stream, _) = listener.accept().await.unwrap();
        let shaken = TlsAcceptor::from(server).accept(stream).await;
        assert_eq!(shaken.is_ok(), suite.fips(), "{suite:?}");
        *(if suite.fips() { &mut approved } else { &mut others }) += 1;
    }
    assert!(approved > 0 && others > 0, "{approved}, {others}");
}
