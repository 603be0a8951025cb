//! Clients whose base URL is always `https://cloud.mongodb.com`: a listener with a certificate of `make-ca` is that to them,
//! and the real one, which the emulator plays, is reached by `connect_to`.

mod brake;
mod connect_to;
mod loops;
mod make_ca;
mod namespace;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::support::atlas::{Atlas, GROUPS};
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};

const ATLAS: &str = "cloud.mongodb.com";
/// A version that the emulator knows.
const ACCEPT: &str = "application/vnd.atlas.2023-01-01+json";
const NOT_ATLAS: &str = "that is a proxy, not Atlas";

/// What `make-ca` made for Atlas's name, and what it printed.
struct Made {
    folder: tempfile::TempDir,
    told: String,
}

impl Made {
    async fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = make_ca(folder.path(), args).await;
        assert!(output.status.success(), "{output:?}");
        Self {
            folder,
            told: String::from_utf8(output.stdout).unwrap(),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("made").join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    /// The lines of configuration that it printed.
    fn lines(&self) -> String {
        let from = self.told.find("[[listener]]").unwrap();
        let to = self.told.find("\n2. ").unwrap();
        self.told[from..to].to_owned()
    }

    /// The same, but that connections go there; and more of the account.
    fn lines_to(&self, connect_to: impl std::fmt::Display, more: &str) -> String {
        let lines = self.lines();
        let (before, _) = lines.split_once("connect_to = ").expect("it has the line");
        format!("{before}connect_to = \"{connect_to}\"\n{more}")
    }

    /// The file of these lines with the listener at a free port, and no admin port.
    fn config_anywhere(&self, connect_to: impl std::fmt::Display, more: &str) -> String {
        // With the quotes: the port of `connect_to` may begin with 443 as well.
        let lines = self
            .lines_to(connect_to, more)
            .replace("\"127.0.0.1:443\"", "\"127.0.0.1:0\"");
        self.config(&(lines + "[admin]\nbind = \"off\"\n"))
    }

    /// A configuration file of this content.
    fn config(&self, content: &str) -> String {
        let path = self.folder.path().join("proxy.toml");
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A client that trusts the authority.
    fn client(&self) -> Arc<rustls::ClientConfig> {
        trusting(&self.path("ca.crt"))
    }
}

/// In the folder `made` of this one.
async fn make_ca(folder: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(["make-ca", "--out", "made"])
        .args(args)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

fn trusting(ca_file: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// One request to `https://cloud.mongodb.com`, whose connection goes to this address: status and body.
async fn ask(tls: Arc<rustls::ClientConfig>, at: SocketAddr, request: Request<Full<Bytes>>) -> (u16, String) {
    let tcp = TcpStream::connect(at).await.unwrap();
    let stream = TlsConnector::from(tls)
        .connect(ServerName::try_from(ATLAS).unwrap(), tcp)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", ATLAS)
        .header("accept", ACCEPT)
        .body(Full::default())
        .unwrap()
}

/// The emulator as the real one.
async fn real_atlas() -> Atlas {
    Atlas::start_with(|settings| settings.names = vec![ATLAS.to_owned()]).await
}

/// Where it is.
fn address(atlas: &Atlas) -> SocketAddr {
    let url = atlas.emulator.base_url();
    let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The proxy as `make-ca` says, on a port that any user may bind, before the emulator.
async fn proxy_before(atlas: &Atlas, made: &Made) -> Program {
    let ca_file = format!("ca_file = \"{}\"\n", atlas.ca_file().display());
    let config = made.config(&made.lines_to(address(atlas), &ca_file));
    Program::start_alone(Command::new(PROGRAM), &SERVICE_ACCOUNT, &["--config", &config]).await
}

#[tokio::test]
async fn a_client_with_a_fixed_base_url_is_served() {
    let (atlas, made) = (real_atlas().await, Made::new(&[]).await);
    let proxy = proxy_before(&atlas, &made).await;
    let (status, body) = ask(made.client(), proxy.address, get(GROUPS)).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"results\""), "{body}");
    assert_eq!(atlas.emulator.api_requests(), 1);

    // Clients with placeholder credentials ask for a token first, at the same address.
    let placeholder = Request::post("/api/oauth/token")
        .header("host", ATLAS)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from("grant_type=client_credentials"))
        .unwrap();
    let (status, token) = ask(made.client(), proxy.address, placeholder).await;
    assert_eq!(status, 200, "{token}");
    assert!(token.contains("access_token"), "{token}");
    assert_eq!(atlas.emulator.token_requests(), 1, "that one is the proxy's own");

    // What is no name of the listener is not taken.
    let mut strange = get(GROUPS);
    strange
        .headers_mut()
        .insert("host", "cloud.mongodbgov.com".parse().unwrap());
    assert_eq!(ask(made.client(), proxy.address, strange).await.0, 421);
    proxy.stop().await;
    assert_eq!(atlas.emulator.revoke_requests(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_told_in_the_log() {
    let (atlas, made, other) = (real_atlas().await, Made::new(&[]).await, Made::new(&[]).await);
    let proxy = proxy_before(&atlas, &made).await;
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let name = ServerName::try_from(ATLAS).unwrap();
    TlsConnector::from(other.client()).connect(name, tcp).await.unwrap_err();
    proxy.until_said("a client refused this listener's certificate").await;
    proxy.until_said("TLS alert unknown_ca: give it the authority").await;
}

#[tokio::test]
async fn curl_is_served_over_both_versions_of_http() {
    let Some(curl) = crate::support::needs::needs(&["curl"], "curl") else {
        return;
    };
    let (atlas, made) = (real_atlas().await, Made::new(&[]).await);
    let proxy = proxy_before(&atlas, &made).await;
    for (version, said) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = Command::new(&curl)
            .args([
                "--silent",
                "--show-error",
                "--fail",
                version,
                "--write-out",
                "\n%{http_version} %{http_code}",
            ])
            .arg("--cacert")
            .arg(made.path("ca.crt"))
            .args(["--connect-to", &format!("{ATLAS}:443:{}", proxy.address)])
            .args([
                "--header",
                &format!("Accept: {ACCEPT}"),
                &format!("https://{ATLAS}{GROUPS}"),
            ])
            .env_clear()
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.ends_with(&format!("\n{said} 200")), "{output:?}");
        assert!(text.contains("\"results\""), "{text}");
    }
}
