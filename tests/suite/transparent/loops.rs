//! No request goes round in a circle: whoever shows a certificate of `make-ca` is a proxy, and no account sends it anything.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atlas_auth_proxy::credential::CredentialSettings;
use atlas_auth_proxy::guard::{HostName, HostNames};
use atlas_auth_proxy::server::{Bind, ListenerTls};
use atlas_auth_proxy::upstream::{ConnectTo, HttpVersion, client_config, is_of_make_ca};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::make_ca::sign;
use super::{ATLAS, Made, NOT_ATLAS, ask, get};
use crate::support::atlas::GROUPS;
use crate::support::check::Setup;
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{Proxy, bearer, digest, proxy};

/// A proxy that is Atlas to its clients, trusts the authority of its own certificate, and takes `to` for Atlas.
async fn proxy_at(
    at: SocketAddr,
    to: SocketAddr,
    made: &Made,
    credential: CredentialSettings,
    version: HttpVersion,
) -> Proxy {
    let tls = ListenerTls::new(
        made.read("server.crt").as_bytes(),
        made.read("server.key").as_bytes(),
        None,
    )
    .unwrap();
    proxy(&format!("https://{ATLAS}"), Some(&made.path("ca.crt")), credential)
        .upstream(|upstream| {
            upstream.connect_to = Some(ConnectTo::parse(&to.to_string()).unwrap());
            upstream.http = version;
        })
        .with(|settings| {
            let listener = &mut settings.listeners[0];
            listener.bind = Bind::Tcp(at);
            listener.tls = Some(tls);
            listener.rules.hosts = HostNames::new([HostName::parse(ATLAS).unwrap()]);
        })
        .start()
        .await
}

async fn requests(proxy: &Proxy) -> f64 {
    proxy.metric("atlas_auth_proxy_requests_total", &[]).await
}

/// As it would be when two machines took each other for Atlas, and both their stores trusted the authority.
#[tokio::test]
async fn a_request_to_two_proxies_that_lead_to_each_other_ends_at_the_first() {
    let made = Made::new(&[]).await;
    let (here, there) = (free_address(), free_address());
    for credential in [digest, bearer] {
        // The second is there when the first asks it for a token.
        let second = proxy_at(there, here, &made, credential(), HttpVersion::Auto).await;
        let first = proxy_at(here, there, &made, credential(), HttpVersion::Auto).await;
        for n in 1..=3 {
            let (found, body) = ask(made.client(), here, get(GROUPS)).await;
            assert_eq!(found, 502, "{body}");
            assert!(body.contains(NOT_ATLAS) && body.contains("`connect_to`"), "{body}");
            assert_eq!(requests(&first).await, f64::from(n));
        }
        assert_eq!(requests(&second).await, 0.0, "nothing was sent on");
        first.app.shutdown().await;
        second.app.shutdown().await;
    }
}

#[tokio::test]
async fn a_proxy_that_leads_to_itself_gets_each_request_once() {
    let made = Made::new(&[]).await;
    let here = free_address();
    for version in [HttpVersion::Auto, HttpVersion::Http1, HttpVersion::Http2] {
        let proxy = proxy_at(here, here, &made, digest(), version).await;
        let (status, body) = ask(made.client(), here, get(GROUPS)).await;
        assert_eq!(status, 502, "{body}");
        assert!(
            body.contains("PROXY_UPSTREAM_UNREACHABLE") && body.contains(NOT_ATLAS),
            "{body}"
        );
        assert_eq!(requests(&proxy).await, 1.0);
        proxy.app.shutdown().await;
    }
}

#[tokio::test]
async fn a_way_back_is_bad_configuration() {
    let made = Made::new(&[]).await;
    let file = made.config(&made.lines_to("127.0.0.1:443", ""));
    let output = Command::new(PROGRAM)
        .args(["run", "--config", &file])
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "`account.default.connect_to`: `127.0.0.1:443` is this proxy's own listener, not Atlas";
    assert!(said.contains(expected), "{said}");
}

/// The certificate is refused before it is asked who has issued it: what to do is the same.
#[tokio::test]
async fn check_and_the_log_say_it_whether_the_authority_is_trusted_or_not() {
    let made = Made::new(&[]).await;
    let there = proxy_at(free_address(), free_address(), &made, digest(), HttpVersion::Auto).await;
    let trusted = format!("ca_file = \"{}\"\n", made.path("ca.crt").display());
    for more in [&trusted, ""] {
        let file = made.config_anywhere(there.address, more);
        let mut setup = Setup::digest();
        for (name, value) in SERVICE_ACCOUNT {
            setup = match more {
                "" => setup,
                _ => Setup::bearer().env(name, value),
            };
        }
        let said = setup.args(&["--config", &file]).check().await;
        said.fails("tls", &["shows what `make-ca` made"], &[NOT_ATLAS, "`connect_to`"]);
    }
    let file = made.config(&made.lines_to(there.address, &trusted));
    let program = Program::start_alone(Command::new(PROGRAM), &SERVICE_ACCOUNT, &["--config", &file]).await;
    program.until_said(NOT_ATLAS).await;
    let (_, said) = program.stop().await;
    assert!(!said.contains("is the right CA configured"), "{said}");
    assert_eq!(requests(&there).await, 0.0);
}

/// A TLS server with this certificate, and how many bytes of content it got.
async fn server(made: &Made, file: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let pem = |end: &str| fs::read(made.path(&format!("{file}.{end}"))).unwrap();
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(&pem("key")).unwrap();
    let certificate = rustls_pki_types::pem::PemObject::from_pem_slice(&pem("crt")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let read: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&read);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            counter.fetch_add(stream.read(&mut [0; 1024]).await.unwrap_or(0), Ordering::SeqCst);
        }
    });
    (address, read)
}

async fn handshake(ca_file: &Path, at: SocketAddr) -> Result<(), std::io::Error> {
    let tls = client_config(Some(ca_file)).unwrap();
    let tcp = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from(ATLAS).unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.map(drop)
}

/// Whoever keeps the key signs a certificate without the mark in its own name: its issuer's name has it.
#[tokio::test]
async fn the_mark_is_found_in_a_leaf_alone_whoever_it_is_for() {
    let Some(_) = needs(&["openssl"], "openssl") else {
        return;
    };
    let made = Made::new(&["--keep-ca-key"]).await;
    let extensions = format!("subjectAltName=DNS:{ATLAS}\nauthorityKeyIdentifier=keyid\n");
    sign(&made, "other", "/CN=somebody", &extensions).await;
    for file in ["server", "other"] {
        let (at, read) = server(&made, file).await;
        let error = handshake(&made.path("ca.crt"), at).await.unwrap_err();
        let tls = error.get_ref().unwrap().downcast_ref().unwrap();
        assert!(is_of_make_ca(tls), "{file}: {error}");
        assert_eq!(read.load(Ordering::SeqCst), 0);
    }
}
