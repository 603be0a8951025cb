//! Access that is taken away ends: what a connection was let in with is asked again, whatever it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::guard::Allowlist;
use atlas_auth_proxy::server::{Bind, Clients, ListenerTls, NamePattern};
use atlas_auth_proxy::settings::Settings;
use atlas_auth_proxy::time::{Clock, SystemClock};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, SerialNumber};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::support::client::{read_body, read_head};
use crate::support::proxy::{Proxy, ProxyBuilder};
use crate::support::tls::{Identity, TestCa, expired, for_clients};
use crate::support::upstream::{Answer, Upstream, json};
use crate::support::{PATIENCE, until};

const WEB: &str = "spiffe://example.org/ns/apps/sa/web";
const JOB: &str = "spiffe://example.org/ns/apps/sa/job";

async fn ok(_: Request<Incoming>) -> Answer {
    json(200, "{}")
}

/// A clock that can be moved ahead.
#[derive(Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn wall(&self) -> SystemTime {
        SystemClock.wall() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        SystemClock.boot()
    }
}

/// A TLS listener, and what may be changed about whom it lets in.
struct Gateway {
    ca: TestCa,
    server: Identity,
    upstream: Upstream,
    settings: Settings,
    clock: Arc<Ahead>,
    proxy: Proxy,
}

/// Whom a listener lets in.
#[derive(Default, Clone, Copy)]
struct Rule<'a> {
    ca: &'a str,
    names: &'a [&'a str],
    crl: Option<&'a str>,
}

impl Rule<'_> {
    fn tls(&self, server: &Identity) -> ListenerTls {
        let clients = Clients {
            ca: self.ca.as_bytes(),
            names: self
                .names
                .iter()
                .map(|name| NamePattern::parse(name).unwrap())
                .collect(),
            crl: self.crl.map(str::as_bytes),
            optional: false,
        };
        ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), Some(clients)).unwrap()
    }
}

impl Gateway {
    /// Lets every client of its authority in.
    async fn start() -> Self {
        Self::start_with(|builder, _, _| builder).await
    }

    async fn start_with(change: impl FnOnce(ProxyBuilder, &TestCa, &Identity) -> ProxyBuilder) -> Self {
        let ca = TestCa::named("first");
        let server = ca.identity(&["localhost"], |_| ());
        let upstream = Upstream::start(ok).await;
        let clock = Arc::<Ahead>::default();
        let rule = Rule {
            ca: &ca.pem,
            ..Rule::default()
        };
        let mut builder = upstream.proxy().with(|s| s.listeners[0].tls = Some(rule.tls(&server)));
        builder.clock = Arc::<Ahead>::clone(&clock);
        let builder = change(builder, &ca, &server);
        let settings = builder.settings.clone();
        let proxy = builder.start().await;
        Self {
            ca,
            server,
            upstream,
            settings,
            clock,
            proxy,
        }
    }

    fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        let later = self.proxy.app.reload(self.settings.clone()).unwrap();
        assert_eq!(later, Vec::<&str>::new());
    }

    fn let_in(&mut self, rule: &Rule<'_>) {
        let tls = rule.tls(&self.server);
        self.reload(|s| s.listeners[0].tls = Some(tls));
    }

    async fn tls(&self, identity: Option<&Identity>, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.proxy.address).await.unwrap();
        TlsConnector::from(self.ca.client(identity, &[alpn]))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap()
    }

    /// A connection of each version, each of which has been served.
    async fn connect(&self, identity: &Identity) -> [Client; 2] {
        let mut both = [
            Client::h1(self.tls(Some(identity), "http/1.1").await),
            Client::h2(self.tls(Some(identity), "h2").await).await,
        ];
        for one in &mut both {
            one.is_served().await;
        }
        both
    }

    async fn denied(&self, reason: &str) -> f64 {
        let labels = [("reason", reason)];
        self.proxy.metric("atlas_auth_proxy_denied_total", &labels).await
    }

    /// A handshake, and a request.
    async fn lets_in(&self, identity: &Identity) -> bool {
        let tcp = TcpStream::connect(self.proxy.address).await.unwrap();
        let connecting = TlsConnector::from(self.ca.client(Some(identity), &["http/1.1"]))
            .connect(ServerName::try_from("localhost").unwrap(), tcp);
        let Ok(mut stream) = connecting.await else { return false };
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer.starts_with(b"HTTP/1.1 200 ")
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is used again and again.
enum Client {
    H1(Box<dyn Stream>),
    H2(SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>),
}

/// What came back.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    code: Option<String>,
    /// HTTP/1.1 alone says so.
    closes: bool,
    body: String,
}

impl Client {
    fn h1(stream: impl Stream + 'static) -> Self {
        Self::H1(Box::new(stream))
    }

    async fn h2(stream: impl Stream + 'static) -> Self {
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        Self::H2(sender, tokio::spawn(connection))
    }

    async fn ask(&mut self) -> Answered {
        match self {
            Self::H1(stream) => {
                stream
                    .write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .await
                    .unwrap();
                let head = read_head(stream).await;
                let field = |name: &str| {
                    head.lines()
                        .filter_map(|line| line.split_once(": "))
                        .find(|(field, _)| field.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.to_owned())
                };
                let body = read_body(stream, &head).await;
                Answered {
                    status: head[9..12].parse().unwrap(),
                    code: field("x-atlas-auth-proxy-error"),
                    closes: field("connection").as_deref() == Some("close"),
                    body: String::from_utf8(body).unwrap(),
                }
            }
            Self::H2(sender, _) => {
                let request = Request::get("https://localhost/a").body(Full::default()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                let code = answer
                    .headers()
                    .get("x-atlas-auth-proxy-error")
                    .map(|v| v.to_str().unwrap().to_owned());
                assert!(!answer.headers().contains_key("connection"));
                Answered {
                    status: answer.status(),
                    code,
                    closes: false,
                    body: String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
                }
            }
        }
    }

    /// And goes on.
    async fn is_served(&mut self) {
        let answer = self.ask().await;
        assert!(answer.status == 200 && !answer.closes, "{answer:?}");
        if let Self::H2(_, connection) = self {
            assert!(!connection.is_finished());
        }
    }

    /// The next request is refused, and the connection ends.
    async fn gets_refused(mut self, code: &str, detail: &str) {
        let answer = self.ask().await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(answer.code.as_deref(), Some(code));
        assert!(answer.body.contains(detail), "{answer:?}");
        self.ends(answer.closes).await;
    }

    /// The connection ends, and in HTTP/1.1 the last answer said so.
    async fn ends(self, said: bool) {
        match self {
            Self::H1(mut stream) => {
                assert!(said, "the last answer says `Connection: close`");
                let mut rest = Vec::new();
                let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
                end.expect("the connection ends").unwrap();
                assert_eq!(rest, b"");
            }
            Self::H2(sender, connection) => {
                // The sender is kept: it is the other side's GOAWAY that ends it.
                let end = tokio::time::timeout(PATIENCE, connection).await;
                end.expect("the connection ends").unwrap().unwrap();
                drop(sender);
            }
        }
    }
}

fn with_serial(serial: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        for_clients(params);
        params.serial_number = Some(SerialNumber::from(serial));
    }
}

#[tokio::test]
async fn a_reload_that_takes_a_certificate_away_ends_its_connections_and_no_others() {
    let mut gateway = Gateway::start().await;
    let ca = gateway.ca.pem.clone();
    let [web, job] = [(WEB, 7), (JOB, 8)].map(|(name, serial)| gateway.ca.identity(&[name], with_serial(serial)));
    let other = TestCa::named("other");
    let both = format!("{ca}{}", other.pem);
    let (nobody, revoked) = (
        gateway.ca.revoke(&[], (2999, 1, 1)),
        gateway.ca.revoke(&[7], (2999, 1, 1)),
    );
    let open = Rule {
        ca: &ca,
        ..Rule::default()
    };
    let mut refused = 0.0;
    for (what, still, gone, detail) in [
        (
            "a name that goes",
            Rule {
                names: &[WEB, JOB],
                ..open
            },
            Rule { names: &[JOB], ..open },
            "client_names",
        ),
        ("names that come", open, Rule { names: &[JOB], ..open }, "client_names"),
        (
            "a pattern that narrows",
            Rule {
                names: &["spiffe://example.org/ns/apps/sa/*"],
                ..open
            },
            Rule {
                names: &["spiffe://example.org/ns/apps/sa/j*"],
                ..open
            },
            "client_names",
        ),
        (
            "a revocation",
            Rule {
                crl: Some(&nobody),
                ..open
            },
            Rule {
                crl: Some(&revoked),
                ..open
            },
            "client_crl",
        ),
        (
            "a list that comes",
            open,
            Rule {
                crl: Some(&revoked),
                ..open
            },
            "client_crl",
        ),
    ] {
        gateway.let_in(&still);
        let (leaves, mut stays) = (gateway.connect(&web).await, gateway.connect(&job).await);
        // The same again, and a second authority: nobody is dropped.
        gateway.let_in(&still);
        gateway.let_in(&Rule { ca: &both, ..still });
        let mut leaves = leaves;
        for one in leaves.iter_mut().chain(&mut stays) {
            one.is_served().await;
        }
        gateway.let_in(&gone);
        let seen = gateway.upstream.seen().len();
        for one in leaves {
            one.gets_refused("PROXY_PEER_DENIED", detail).await;
        }
        assert_eq!(
            gateway.upstream.seen().len(),
            seen,
            "{what}: nothing reached the upstream"
        );
        refused += 2.0;
        assert_eq!(gateway.denied("peer").await, refused, "{what}");
        for one in &mut stays {
            one.is_served().await;
        }
        assert!(
            !gateway.lets_in(&web).await && gateway.lets_in(&job).await,
            "{what}: new connections"
        );
    }
}

#[tokio::test]
async fn a_reload_that_takes_an_authority_away_ends_the_connections_of_its_clients() {
    let mut gateway = Gateway::start().await;
    let second = TestCa::named("second");
    let (first, both) = (gateway.ca.pem.clone(), format!("{}{}", gateway.ca.pem, second.pem));
    let old = gateway.ca.identity(&[WEB], for_clients);
    let new = second.identity(&[WEB], for_clients);
    let mut olds = gateway.connect(&old).await;
    gateway.let_in(&Rule {
        ca: &both,
        ..Rule::default()
    });
    for one in &mut olds {
        one.is_served().await;
    }
    let mut news = gateway.connect(&new).await;
    // The first authority has a list, the second has none: its clients are let in as before.
    let nobody = gateway.ca.revoke(&[], (2999, 1, 1));
    gateway.let_in(&Rule {
        ca: &both,
        crl: Some(&nobody),
        ..Rule::default()
    });
    for one in olds.iter_mut().chain(&mut news) {
        one.is_served().await;
    }
    gateway.let_in(&Rule {
        ca: &second.pem,
        ..Rule::default()
    });
    for one in olds {
        one.gets_refused("PROXY_PEER_DENIED", "client_ca").await;
    }
    for one in &mut news {
        one.is_served().await;
    }
    gateway.let_in(&Rule {
        ca: &first,
        ..Rule::default()
    });
    for one in news {
        one.gets_refused("PROXY_PEER_DENIED", "client_ca").await;
    }
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_connection_is_open_ends_it() {
    let gateway = Gateway::start().await;
    let tomorrow = gateway.ca.identity(&[WEB], |params| {
        for_clients(params);
        params.not_after = SystemClock
            .wall()
            .checked_add(Duration::from_secs(86_400))
            .unwrap()
            .into();
    });
    let forever = gateway.ca.identity(&[JOB], for_clients);
    let (leaves, mut stays) = (gateway.connect(&tomorrow).await, gateway.connect(&forever).await);
    gateway.clock.0.store(2 * 86_400, Ordering::SeqCst);
    for one in leaves {
        one.gets_refused("PROXY_PEER_DENIED", "expired").await;
    }
    for one in &mut stays {
        one.is_served().await;
    }
}

#[tokio::test]
async fn a_plain_listener_that_becomes_a_tls_one_ends_its_plain_connections() {
    let mut gateway = Gateway::start_with(|builder, _, _| builder.with(|s| s.listeners[0].tls = None)).await;
    let mut plain = Client::h1(TcpStream::connect(gateway.proxy.address).await.unwrap());
    plain.is_served().await;
    let rule = Rule {
        ca: &gateway.ca.pem.clone(),
        ..Rule::default()
    };
    gateway.let_in(&rule);
    plain.gets_refused("PROXY_PEER_DENIED", "https://").await;
}

#[tokio::test]
async fn a_listener_that_begins_to_ask_for_certificates_ends_the_connections_without_one() {
    let mut gateway = Gateway::start_with(|builder, _, server| {
        let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
        builder.with(|s| s.listeners[0].tls = Some(tls))
    })
    .await;
    let mut both = [
        Client::h1(gateway.tls(None, "http/1.1").await),
        Client::h2(gateway.tls(None, "h2").await).await,
    ];
    for one in &mut both {
        one.is_served().await;
    }
    let rule = Rule {
        ca: &gateway.ca.pem.clone(),
        ..Rule::default()
    };
    gateway.let_in(&rule);
    for one in both {
        one.gets_refused("PROXY_PEER_DENIED", "asks for a certificate").await;
    }
}

#[tokio::test]
async fn an_address_that_is_taken_from_the_allowlist_is_denied_as_an_address() {
    let mut gateway = Gateway::start().await;
    let web = gateway.ca.identity(&[WEB], for_clients);
    let both = gateway.connect(&web).await;
    gateway.reload(|s| s.listeners[0].allow = Allowlist::new(vec!["10.0.0.0/8".parse().unwrap()]).unwrap());
    for one in both {
        one.gets_refused("PROXY_IP_DENIED", "allowlist").await;
    }
    assert_eq!(gateway.denied("ip").await, 2.0);
}

#[tokio::test]
async fn a_user_that_is_taken_from_the_uids_of_a_socket_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let bind = |mode, uids| Bind::Unix {
        path: path.clone(),
        mode,
        uids,
    };
    let own = rustix::process::getuid().as_raw();
    let start = bind(0o600, vec![own]);
    let mut gateway = Gateway::start_with(|builder, _, _| {
        builder.with(|s| {
            s.listeners[0].tls = None;
            s.listeners[0].bind = start;
        })
    })
    .await;
    let mut client = Client::h1(tokio::net::UnixStream::connect(&path).await.unwrap());
    client.is_served().await;
    gateway.reload(|s| s.listeners[0].bind = bind(0o660, vec![own, own + 1]));
    client.is_served().await;
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "the mode is taken in, too");
    gateway.reload(|s| s.listeners[0].bind = bind(0o660, vec![own + 1]));
    client.gets_refused("PROXY_IP_DENIED", "uids").await;
}

#[tokio::test]
async fn a_connection_ends_with_an_answer_when_it_has_reached_its_age() {
    let age = Duration::from_millis(300);
    let gateway = Gateway::start_with(|builder, _, _| builder.with(|s| s.limits.connection.max_age = age)).await;
    let web = gateway.ca.identity(&[WEB], for_clients);
    let mut first = Client::h1(gateway.tls(Some(&web), "http/1.1").await);
    loop {
        let answer = first.ask().await;
        assert_eq!(answer.status, 200);
        if answer.closes {
            break first.ends(true).await;
        }
    }
    // HTTP/2 is told whether it asks or not.
    let second = Client::h2(gateway.tls(Some(&web), "h2").await).await;
    second.ends(true).await;
}

#[tokio::test]
async fn an_age_that_a_reload_shortens_holds_for_open_connections() {
    let mut gateway = Gateway::start().await;
    let web = gateway.ca.identity(&[WEB], for_clients);
    let both = gateway.connect(&web).await;
    gateway.reload(|s| s.limits.connection.max_age = Duration::from_nanos(1));
    for mut one in both {
        let answer = one.ask().await;
        assert_eq!(answer.status, 200);
        one.ends(answer.closes).await;
    }
}

#[tokio::test]
async fn an_expired_certificate_of_the_listener_is_not_taken_by_a_reload() {
    let mut gateway = Gateway::start().await;
    let web = gateway.ca.identity(&[WEB], for_clients);
    let rule = Rule {
        ca: &gateway.ca.pem.clone(),
        ..Rule::default()
    };
    let last = "atlas_auth_proxy_config_last_reload_successful";
    let expiry = "atlas_auth_proxy_listener_certificate_expiry_timestamp_seconds";
    assert_eq!(gateway.proxy.metric(last, &[]).await, 1.0);
    let before = gateway.proxy.metric(expiry, &[]).await;
    assert!(before > 0.0);
    let ready = gateway.ca.identity(&["localhost"], |params| {
        params.not_after = rcgen::date_time_ymd(2100, 1, 1)
    });
    for bad in [
        gateway.ca.identity(&["localhost"], expired),
        gateway.ca.identity(&["localhost"], crate::support::tls::not_yet_valid),
    ] {
        let mut settings = gateway.settings.clone();
        settings.listeners[0].tls = Some(rule.tls(&bad));
        // What else is new in it is not taken either.
        settings.listeners[0].allow = Allowlist::new(vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
        let error = gateway.proxy.app.reload(settings).unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        assert_eq!(gateway.proxy.metric(last, &[]).await, 0.0);
        assert_eq!(gateway.proxy.metric(expiry, &[]).await, before);
        assert!(gateway.lets_in(&web).await);
    }
    gateway.server = ready;
    gateway.let_in(&rule);
    assert_eq!(gateway.proxy.metric(last, &[]).await, 1.0);
    assert_eq!(gateway.proxy.metric(expiry, &[]).await, 4_102_444_800.0);
    // It expires where it is: other settings are taken all the same.
    gateway.clock.0.store(200 * 365 * 86_400, Ordering::SeqCst);
    gateway.let_in(&rule);
    gateway.reload(|s| s.listeners[0].tls = None);
    assert_eq!(gateway.proxy.metric(expiry, &[]).await, 0.0, "absent without TLS");
}

#[tokio::test]
async fn a_list_past_its_time_is_used_on() {
    let mut gateway = Gateway::start().await;
    let [web, job] = [(WEB, 7), (JOB, 8)].map(|(name, serial)| gateway.ca.identity(&[name], with_serial(serial)));
    let (ca, old) = (gateway.ca.pem.clone(), gateway.ca.revoke(&[7], (2002, 1, 1)));
    gateway.let_in(&Rule {
        ca: &ca,
        crl: Some(&old),
        ..Rule::default()
    });
    assert!(!gateway.lets_in(&web).await && gateway.lets_in(&job).await);
    until("the refusal is counted", || async {
        gateway.denied("tls").await >= 1.0
    })
    .await;
}
