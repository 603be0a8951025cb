//! Gateways behind a plain TCP balancer: each is restarted in turn, one is added and taken away, and no client notices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::server::{Bind, ListenerTls};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{client, head_of, read_body, read_to_end};
use crate::support::metrics::metric;
use crate::support::ports::free_address;
use crate::support::tls::TestCa;
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// Between two health checks of the balancer.
const CHECK_EVERY: Duration = Duration::from_millis(10);
/// Some hundred checks, so that a busy machine makes one in time.
const DRAIN_DELAY: Duration = Duration::from_secs(2);

/// A gateway that can be started again at the same addresses.
struct Gateway {
    app: App,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    async fn start(upstream: &Upstream, tls: &ListenerTls, address: SocketAddr, admin: SocketAddr) -> Self {
        let builder = upstream.proxy().with(|settings| {
            settings.listeners[0].bind = Bind::Tcp(address);
            settings.listeners[0].tls = Some(tls.clone());
            settings.admin.bind = Some(Bind::Tcp(admin));
            settings.drain_delay = DRAIN_DELAY;
        });
        Self {
            app: builder.start().await.app,
            address,
            admin,
        }
    }
}

/// Takes connections, and gives each to a gateway that was ready at the last check, in turn.
struct Balancer {
    address: SocketAddr,
    /// Gateways by their admin ports: where they serve, and whether they are ready.
    gateways: Arc<Mutex<BTreeMap<SocketAddr, (SocketAddr, bool)>>>,
    /// Connections that could not be given to anybody.
    lost: Arc<AtomicUsize>,
}

impl Balancer {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let balancer = Self {
            address: socket.local_addr().unwrap(),
            gateways: Arc::default(),
            lost: Arc::default(),
        };
        let (gateways, lost) = (Arc::clone(&balancer.gateways), Arc::clone(&balancer.lost));
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut client, _) = socket.accept().await.unwrap();
                let ready: Vec<SocketAddr> = {
                    let gateways = gateways.lock();
                    gateways.values().filter(|one| one.1).map(|one| one.0).collect()
                };
                let lost = Arc::clone(&lost);
                tokio::spawn(async move {
                    let server = match ready.is_empty() {
                        true => None,
                        false => TcpStream::connect(ready[turn % ready.len()]).await.ok(),
                    };
                    let Some(mut server) = server else {
                        lost.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        let gateways = Arc::clone(&balancer.gateways);
        tokio::spawn(async move {
            let http = client();
            loop {
                let admins: Vec<SocketAddr> = gateways.lock().keys().copied().collect();
                for admin in admins {
                    let answer = http.get(format!("http://{admin}/readyz")).send().await;
                    let ready = answer.is_ok_and(|answer| answer.status() == 200);
                    if let Some(gateway) = gateways.lock().get_mut(&admin) {
                        gateway.1 = ready;
                    }
                }
                tokio::time::sleep(CHECK_EVERY).await;
            }
        });
        balancer
    }

    async fn add(&self, gateway: &Gateway) {
        self.gateways.lock().insert(gateway.admin, (gateway.address, false));
        self.finds_ready(gateway.admin).await;
    }

    async fn finds_ready(&self, admin: SocketAddr) {
        until("the balancer finds it ready", || async {
            self.gateways.lock().get(&admin).is_some_and(|one| one.1)
        })
        .await;
    }
}

/// What a client asks again and again.
struct Clients {
    to: SocketAddr,
    ca: TestCa,
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Clients {
    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.to).await.unwrap();
        let connector = TlsConnector::from(self.ca.client(None, &[alpn]));
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, stream).await.expect("a handshake")
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Keeps its connection until an answer says that it ends.
    async fn http1(&self) {
        while self.goes_on() {
            let mut stream = self.connect("http/1.1").await;
            loop {
                let request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
                stream.write_all(request).await.unwrap();
                let head = head_of(&mut stream).await.expect("an answer");
                if !head.starts_with("HTTP/1.1 200 ") {
                    panic!("{head}{}", read_to_end(&mut stream).await);
                }
                read_body(&mut stream, &head).await;
                self.answered.fetch_add(1, Ordering::SeqCst);
                if !self.goes_on() || head.to_ascii_lowercase().contains("connection: close") {
                    break;
                }
            }
        }
    }

    /// Keeps its connection until it is told that it takes no more streams; what was not sent then goes to the next.
    async fn http2(&self) {
        let mut connection: Option<SendRequest<Full<Bytes>>> = None;
        while self.goes_on() {
            let mut sender = match connection.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => {
                    let io = TokioIo::new(self.connect("h2").await);
                    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                    tokio::spawn(connection);
                    sender
                }
            };
            let uri = "https://localhost/x";
            let request = Request::post(uri).body(Full::new(Bytes::from("body"))).unwrap();
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.into_body().collect().await.expect("its body").to_bytes();
                    assert_eq!(status, 200, "{body:?}");
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    connection = Some(sender);
                }
                Err(mut error) => {
                    let sent = error.take_message().is_none();
                    assert!(!sent, "a request was lost: {:?}", error.into_error());
                }
            }
        }
    }

    async fn go_on(&self, running: &[JoinHandle<()>]) {
        let goal = self.answered.load(Ordering::SeqCst) + 100;
        until("requests are answered", || async {
            let failed = running.iter().any(JoinHandle::is_finished);
            failed || self.answered.load(Ordering::SeqCst) >= goal
        })
        .await;
        assert!(!running.iter().any(JoinHandle::is_finished), "a request failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_rolled_added_and_taken_away_without_a_failed_request() {
    let ca = TestCa::new();
    let server = ca.identity(&["localhost"], |_| ());
    let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
    // It reads each body first: a server that answers before closes the connection, which a POST must not outlive.
    let upstream = Upstream::start(|request| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let balancer = Balancer::start().await;
    let start = async || {
        let gateway = Gateway::start(&upstream, &tls, free_address(), free_address()).await;
        balancer.add(&gateway).await;
        gateway
    };
    let mut gateways = vec![start().await, start().await, start().await];
    let clients = Arc::new(Clients {
        to: balancer.address,
        ca,
        stop: AtomicBool::new(false),
        answered: AtomicUsize::new(0),
    });
    let running: Vec<JoinHandle<()>> = (0..6)
        .map(|n| {
            let clients = Arc::clone(&clients);
            tokio::spawn(async move {
                match n % 2 {
                    0 => clients.http1().await,
                    _ => clients.http2().await,
                }
            })
        })
        .collect();
    clients.go_on(&running).await;

    // Restarted in turn.
    for _ in 0..3 {
        let Gateway { app, address, admin } = gateways.remove(0);
        app.shutdown().await;
        clients.go_on(&running).await;
        let again = Gateway::start(&upstream, &tls, address, admin).await;
        balancer.finds_ready(admin).await;
        gateways.push(again);
        clients.go_on(&running).await;
    }

    // One more, which clients find when their connections end; and one less.
    let more = start().await;
    let gone = gateways.remove(0);
    gone.app.shutdown().await;
    balancer.gateways.lock().remove(&gone.admin);
    clients.go_on(&running).await;
    let open = metric(more.admin, "atlas_auth_proxy_connections_open", &[]).await;
    assert!(open > 0.0, "nobody came to the new one");

    clients.stop.store(true, Ordering::SeqCst);
    for client in running {
        client.await.unwrap();
    }
    assert_eq!(balancer.lost.load(Ordering::SeqCst), 0);
}
