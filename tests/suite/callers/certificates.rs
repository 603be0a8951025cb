//! Callers known by the names in their certificates, on a listener where a client may show none.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::support::tls::{Identity, TestCa, for_clients};

const GROUPS: &str = "/api/atlas/v2/groups";
const CALLER: &str = r#"
[[caller]]
name = "web"
certificate_names = ["app.example.org", "spiffe://example.org/ns/apps/sa/*"]
[[caller.rule]]
operations = ["listGroups"]
action = "allow"
"#;
const OTHER: &str = r#"
[[caller]]
name = "other"
certificate_names = ["other.example.org", "spiffe://example.org/ns/apps/sa/both"]
[[caller.rule]]
operations = ["listGroups"]
action = "allow"
"#;

pub(super) struct Tls {
    pub(super) gateway: Gateway,
    ca: TestCa,
    pub(super) listeners: String,
}

impl Tls {
    pub(super) async fn start(callers: &str) -> Self {
        let ca = TestCa::named("clients");
        let server = ca.identity(&["localhost"], |_| ());
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("ca.pem", &ca.pem),
            ("tls.crt", &server.certificate),
            ("tls.key", &server.key),
        ] {
            write(&folder, name, content);
        }
        let listeners = listener(
            "[listener.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = \"ca.pem\"\nclient_certificate = \"optional\"",
        );
        let upstream = Upstream::start(empty).await;
        let gateway = Gateway::start_at(folder, upstream, Arc::new(SystemClock), &listeners, callers).await;
        Self { gateway, ca, listeners }
    }

    fn named(&self, names: &[&str]) -> Identity {
        self.ca.identity(names, for_clients)
    }

    async fn connect(&self, identity: Option<&Identity>) -> Sender {
        self.connect_from("127.0.0.1", identity).await
    }

    pub(super) async fn connect_from(&self, address: &str, identity: Option<&Identity>) -> Sender {
        self.connect_with(address, identity, 65_535).await
    }

    /// `window`: how much of an answer it takes.
    pub(super) async fn connect_with(&self, address: &str, identity: Option<&Identity>, window: u32) -> Sender {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let tcp = socket.connect(self.gateway.address(0)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(self.ca.client(identity, &["h2"]))
            .connect(name, tcp)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Sender(sender)
    }
}

pub(super) struct Sender(pub(super) hyper::client::conn::http2::SendRequest<Full<Bytes>>);

impl Sender {
    /// Status, and what was said.
    pub(super) async fn get(&mut self, path: &str, authorization: Option<&str>) -> (u16, String) {
        let mut request = Request::builder().uri(format!("https://localhost{path}"));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = self
            .0
            .send_request(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let said = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8_lossy(&said).into_owned())
    }
}

pub(super) fn basic(name: &str, secret: &str) -> String {
    let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{name}:{secret}"));
    format!("Basic {pair}")
}

/// Alone it is told what it lacks. Beside a name and secret the answer must not tell whether there is such a caller.
#[tokio::test]
async fn a_good_certificate_that_is_no_callers_is_told_so_unless_a_name_stands_beside_it() {
    let tls = Tls::start(&format!("{CALLER}{TWO}")).await;
    let mut stranger = tls.connect(Some(&tls.named(&["stranger.example.org"]))).await;
    let (status, said) = stranger.get(GROUPS, None).await;
    assert_eq!(status, 401);
    for part in [
        "the client certificate is good",
        "certificate_names",
        "DNS:stranger.example.org",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let with = async |name: &str, sender: &mut Sender| sender.get(GROUPS, Some(&basic(name, "wrong"))).await;
    let (known, unknown) = (with("web", &mut stranger).await, with("nobody", &mut stranger).await);
    assert_eq!(known, unknown);
    assert!(known.0 == 401 && !known.1.contains("certificate is good"), "{known:?}");
}

#[tokio::test]
async fn a_certificate_says_who_it_is_and_whoever_shows_none_may_show_something_else() {
    let tls = Tls::start(&format!("{CALLER}{TWO}")).await;
    for names in [&["app.example.org"][..], &["spiffe://example.org/ns/apps/sa/web"]] {
        let mut web = tls.connect(Some(&tls.named(names))).await;
        let (status, said) = web.get("/api/oauth/caller", None).await;
        assert_eq!(status, 200);
        assert!(
            said.contains(r#""caller":"web","identified_by":"certificate""#),
            "{said}"
        );
        assert_eq!(web.get(GROUPS, Some("Bearer placeholder")).await.0, 200);
        // Another caller than the certificate's.
        let (status, said) = web.get(GROUPS, Some(&basic("billing", BILLING_SECRET))).await;
        assert!(status == 401 && said.contains("PROXY_CALLER_UNKNOWN"), "{said}");
    }
    let mut nobody = tls.connect(None).await;
    assert_eq!(nobody.get(GROUPS, None).await.0, 401);
    assert_eq!(nobody.get(GROUPS, Some(&basic("billing", BILLING_SECRET))).await.0, 200);
    // A name that no caller has is as if nothing were shown.
    let mut stranger = tls.connect(Some(&tls.named(&["stranger.example.org"]))).await;
    assert_eq!(stranger.get(GROUPS, None).await.0, 401);
    assert_eq!(
        stranger.get(GROUPS, Some(&basic("billing", BILLING_SECRET))).await.0,
        200
    );
}

#[tokio::test]
async fn a_certificate_that_fits_two_callers_is_refused() {
    let tls = Tls::start(&format!("{CALLER}{OTHER}")).await;
    for names in [
        &["app.example.org", "other.example.org"][..],
        &["spiffe://example.org/ns/apps/sa/both"],
        // A SPIFFE certificate has exactly one URI name.
        &[
            "spiffe://example.org/ns/apps/sa/web",
            "spiffe://example.org/ns/apps/sa/job",
        ],
    ] {
        let mut client = tls.connect(Some(&tls.named(names))).await;
        let (status, said) = client.get(GROUPS, None).await;
        assert!(
            status == 401 && said.contains("PROXY_CALLER_UNKNOWN"),
            "{names:?}: {said}"
        );
    }
    assert!(tls.gateway.upstream.seen().is_empty());
}

#[tokio::test]
async fn one_that_is_shown_and_bad_ends_the_handshake_although_none_is_needed() {
    let tls = Tls::start(CALLER).await;
    let expired = tls.ca.identity(&["app.example.org"], |params| {
        for_clients(params);
        crate::support::tls::expired(params);
    });
    let foreign = TestCa::named("foreign").identity(&["app.example.org"], for_clients);
    for bad in [&expired, &foreign] {
        let tcp = TcpStream::connect(tls.gateway.address(0)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(tls.ca.client(Some(bad), &["http/1.1"]))
            .connect(name, tcp)
            .await;
        let ended = match stream {
            Err(_) => true,
            // In TLS 1.3 the client learns of it after its own part of the handshake.
            Ok(mut stream) => tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await.is_err(),
        };
        assert!(ended);
    }
    assert_eq!(
        tls.gateway
            .metric("atlas_auth_proxy_denied_total", &[("reason", "tls")])
            .await,
        2.0
    );
}

#[tokio::test]
async fn a_name_that_is_taken_away_is_nobody_on_its_open_connection() {
    let mut tls = Tls::start(CALLER).await;
    let mut web = tls.connect(Some(&tls.named(&["app.example.org"]))).await;
    assert_eq!(web.get(GROUPS, None).await.0, 200);
    let without = CALLER.replace("\"app.example.org\", ", "");
    tls.gateway.reload(&tls.listeners, &without).unwrap();
    assert_eq!(web.get(GROUPS, None).await.0, 401);
    tls.gateway.reload(&tls.listeners, CALLER).unwrap();
    assert_eq!(web.get(GROUPS, None).await.0, 200);
}
