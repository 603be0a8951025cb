//! Connections over TLS end when they have to, whether their client agrees or not, and none over a request on its way.

use std::time::Duration;

use atlas_auth_proxy::server::ListenerTls;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{read_body, read_head, read_to_end};
use crate::support::proxy::Proxy;
use crate::support::raw_h2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::support::tls::TestCa;
use crate::support::upstream::{Upstream, json};
use crate::support::{PATIENCE, until};

struct Story {
    ca: TestCa,
    upstream: Upstream,
    proxy: Proxy,
}

impl Story {
    async fn start(max_connection_age: Duration) -> Self {
        let ca = TestCa::new();
        let server = ca.identity(&["localhost"], |_| ());
        let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
        let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
        let proxy = upstream
            .proxy()
            .with(|s| {
                s.listeners[0].tls = Some(tls);
                s.drain_timeout = Duration::from_secs(3600);
                s.limits.connection.max_age = max_connection_age;
            })
            .start()
            .await;
        Self { ca, upstream, proxy }
    }

    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.proxy.address).await.unwrap();
        TlsConnector::from(self.ca.client(None, &[alpn]))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap()
    }
}

/// A client of HTTP/2 that confirms no PING, and so no end: RFC 9113 section 6.8 lets a server wait for that.
struct Unwilling {
    stream: TlsStream<TcpStream>,
    next: u32,
}

const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

impl Unwilling {
    async fn begin(mut stream: TlsStream<TcpStream>) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        // Empty settings, and room for all answers.
        let begin = [frame(SETTINGS, 0, 0, &[]), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])];
        stream.write_all(&begin.concat()).await.unwrap();
        Self { stream, next: 1 }
    }

    /// `GET https://localhost/`.
    async fn ask(&mut self) -> std::io::Result<()> {
        let get = b"\x82\x87\x84\x41\x09localhost";
        let frame = frame(HEADERS, END_STREAM | END_HEADERS, self.next, get);
        self.next += 2;
        self.stream.write_all(&frame).await
    }

    /// The next frame: type, flags, payload.
    async fn frame(&mut self) -> std::io::Result<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok((head[3], head[4], payload))
    }

    /// Asks again as soon as it is answered, until that is refused or the connection ends; answers had.
    async fn ask_on(&mut self) -> std::io::Result<usize> {
        self.ask().await?;
        let mut answers = 0;
        loop {
            match self.frame().await? {
                (RST_STREAM, _, why) => {
                    assert_eq!(why, REFUSED_STREAM);
                    return Ok(answers);
                }
                (DATA | HEADERS, flags, _) if flags & END_STREAM != 0 => {
                    answers += 1;
                    self.ask().await?;
                }
                _ => {}
            }
        }
    }

    async fn ends(&mut self) {
        let end = async { while self.frame().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the connection ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_confirm_the_end_is_refused_and_ended_at_its_age() {
    let story = Story::start(Duration::from_secs(2)).await;
    let mut client = Unwilling::begin(story.connect("h2").await).await;
    let answers = tokio::time::timeout(PATIENCE, client.ask_on()).await.unwrap().unwrap();
    assert!(answers > 0);
    client.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_confirm_the_end_is_refused_and_ended_by_a_drain() {
    let story = Story::start(Duration::from_secs(3600)).await;
    let mut client = Unwilling::begin(story.connect("h2").await).await;
    client.frame().await.unwrap();
    let ends = tokio::spawn(story.proxy.app.shutdown());
    let answers = tokio::time::timeout(PATIENCE, client.ask_on()).await.unwrap().unwrap();
    assert!(answers > 0);
    client.ends().await;
    tokio::time::timeout(PATIENCE, ends).await.unwrap().unwrap();
    assert_eq!(story.upstream.revocations(), 1);
}

/// Nothing but PINGs, each as soon as the one before is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_only_keeps_talking_does_not_hold_a_drain() {
    let story = Story::start(Duration::from_secs(3600)).await;
    let mut client = Unwilling::begin(story.connect("h2").await).await;
    client.frame().await.unwrap();
    let ends = tokio::spawn(story.proxy.app.shutdown());
    let talk = async {
        let ping = frame(PING, 0, 0, b"12345678");
        let mut pause = tokio::time::interval(Duration::from_millis(200));
        while client.stream.write_all(&ping).await.is_ok() {
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("the connection ends");
    tokio::time::timeout(PATIENCE, ends).await.unwrap().unwrap();
    assert_eq!(story.upstream.revocations(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_when_the_drain_begins_is_served_as_the_last_over_tls_too() {
    let story = Story::start(Duration::from_secs(3600)).await;
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = story.connect("http/1.1").await;
    kept.write_all(get).await.unwrap();
    let head = read_head(&mut kept).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    read_body(&mut kept, &head).await;
    let address = story.proxy.address;
    let ending = tokio::spawn(story.proxy.app.shutdown());
    until("nobody is accepted", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    kept.write_all(get).await.unwrap();
    let last = read_to_end(&mut kept).await.to_ascii_lowercase();
    assert!(
        last.starts_with("http/1.1 200 ") && last.contains("connection: close"),
        "{last}"
    );
    ending.await.unwrap();
}
