//! The PROXY protocol, version 2: a trusted load balancer says who its client is, and nobody else does.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use atlas_auth_proxy::guard::{Allowlist, parse_network};
use atlas_auth_proxy::server::ListenerTls;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::support::client::{read_body, read_head, read_to_end};
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::Proxy;
use crate::support::tls::TestCa;
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// The load balancer; whoever comes from another address of loopback is none.
const BALANCER: &str = "127.0.0.1";
const OTHER: &str = "127.0.0.2";
const CLIENT: &str = "192.0.2.7";
const GET: &[u8] = b"GET /api/atlas/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn networks(of: &[&str]) -> Allowlist {
    Allowlist::new(of.iter().map(|one| parse_network(one).unwrap()).collect()).unwrap()
}

async fn upstream() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

/// It trusts the balancer, and lets in clients of `192.0.2.0/24`, `2001:db8::/32`, and the other.
async fn start(upstream: &Upstream) -> Proxy {
    let builder = upstream.proxy().with(|settings| {
        settings.listeners[0].proxy_protocol = Some(networks(&[BALANCER, "203.0.113.0/24"]));
        settings.listeners[0].allow = networks(&["192.0.2.0/24", "2001:db8::/32", OTHER]);
    });
    builder.start().await
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// A preamble with this source.
fn preamble(source: &str) -> Vec<u8> {
    let (family, addresses) = match source.parse().unwrap() {
        IpAddr::V4(ip) => (0x11, [ip.octets(), [10, 0, 0, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [ip.octets(), [1; 16]].concat()),
    };
    with(0x21, family, &[&addresses[..], &[1, 2, 3, 4]].concat())
}

fn with(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// What comes back to these bytes until the end.
async fn answer(from: &str, proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = connect(from, proxy.address).await;
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

async fn denied(proxy: &Proxy, reason: &str) -> f64 {
    proxy
        .metric("atlas_auth_proxy_denied_total", &[("reason", reason)])
        .await
}

#[tokio::test]
async fn only_a_trusted_balancer_says_who_its_client_is() {
    let upstream = upstream().await;
    let proxy = start(&upstream).await;
    for source in [CLIENT, "2001:db8::7", "::ffff:192.0.2.7"] {
        let mut stream = connect(BALANCER, proxy.address).await;
        // Byte by byte, with the first request in the last piece.
        let preamble = preamble(source);
        for byte in &preamble[..preamble.len() - 1] {
            stream.write_all(&[*byte]).await.unwrap();
        }
        let last = [&preamble[preamble.len() - 1..], GET].concat();
        stream.write_all(&last).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "), "{source}");
    }
    // Not on the allowlist, which the balancer itself need not be on.
    let stranger = [preamble("198.51.100.1"), GET.to_vec()].concat();
    let said = answer(BALANCER, &proxy, &stranger).await;
    assert!(
        said.starts_with("HTTP/1.1 403 ") && said.contains("PROXY_IP_DENIED"),
        "{said}"
    );
    // Of anybody else a preamble is no HTTP, and its own address counts.
    let said = answer(OTHER, &proxy, &[preamble(CLIENT), GET.to_vec()].concat()).await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    let mut stream = connect(OTHER, proxy.address).await;
    stream.write_all(GET).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let said = answer("127.0.0.3", &proxy, &[preamble(CLIENT), GET.to_vec()].concat()).await;
    assert!(said.contains("PROXY_IP_DENIED"), "{said}");
    assert_eq!(denied(&proxy, "preamble").await, 0.0);
    assert_eq!(denied(&proxy, "ip").await, 2.0);
}

#[tokio::test]
async fn a_preamble_that_names_no_client_closes_the_connection() {
    let upstream = upstream().await;
    let proxy = start(&upstream).await;
    let tcp = [192, 0, 2, 7, 10, 0, 0, 1, 1, 2, 3, 4];
    let mut expected = 0.0;
    for preamble in [
        GET.to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
        with(0x11, 0x11, &tcp),
        with(0x21, 0x12, &tcp),
        with(0x21, 0x00, &tcp),
        with(0x21, 0x31, &[1; 216]),
        with(0x21, 0x11, &tcp[..11]),
        with(0x21, 0x11, &[192; 521]),
        preamble("127.0.0.1"),
        preamble("127.9.9.9"),
        preamble("::1"),
        preamble("::ffff:127.0.0.1"),
        preamble("0.0.0.0"),
        preamble("::"),
        preamble("224.0.0.1"),
        preamble("ff02::1"),
        preamble("203.0.113.9"),
        preamble("::ffff:203.0.113.9"),
    ] {
        let said = answer(BALANCER, &proxy, &[&preamble[..], GET].concat()).await;
        assert_eq!(said, "", "{preamble:?}");
        expected += 1.0;
        until("it was counted", || async {
            denied(&proxy, "preamble").await == expected
        })
        .await;
    }
    // Health checks: closed as well, and no fault of anybody.
    assert_eq!(answer(BALANCER, &proxy, &with(0x20, 0, &[])).await, "");
    let mut stream = connect(BALANCER, proxy.address).await;
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
    // 536 bytes are taken.
    let mut largest = tcp.to_vec();
    largest.resize(520, 0xff);
    let mut stream = connect(BALANCER, proxy.address).await;
    stream
        .write_all(&[&with(0x21, 0x11, &largest)[..], GET].concat())
        .await
        .unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(denied(&proxy, "preamble").await, expected);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_preamble_that_does_not_come_in_time_closes_the_connection() {
    let upstream = upstream().await;
    let builder = upstream.proxy().with(|settings| {
        settings.listeners[0].proxy_protocol = Some(networks(&[BALANCER]));
        settings.limits.connection.header_read_timeout = Duration::from_millis(50);
    });
    let proxy = builder.start().await;
    for begun in [0, 1, 20] {
        let mut stream = connect(BALANCER, proxy.address).await;
        stream.write_all(&preamble(CLIENT)[..begun]).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, "");
    }
    until("they were counted", || async {
        denied(&proxy, "preamble").await == 3.0
    })
    .await;
}

#[tokio::test]
async fn limits_of_a_peer_are_those_of_the_source() {
    let upstream = upstream().await;
    let builder = upstream.proxy().with(|settings| {
        settings.listeners[0].proxy_protocol = Some(networks(&[BALANCER]));
        settings.listeners[0].allow = networks(&["192.0.2.0/24"]);
        settings.limits.capacity.max_connections_per_peer = 1;
    });
    let proxy = builder.start().await;
    let mut open = Vec::new();
    for source in [CLIENT, "192.0.2.8", "192.0.2.9"] {
        let mut stream = connect(BALANCER, proxy.address).await;
        stream.write_all(&[&preamble(source)[..], GET].concat()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
        open.push(stream);
    }
    let said = answer(BALANCER, &proxy, &[&preamble(CLIENT)[..], GET].concat()).await;
    assert!(said.contains("PROXY_OVERLOADED"), "{said}");
}

#[tokio::test]
async fn the_preamble_stands_before_tls() {
    let ca = TestCa::new();
    let server = ca.identity(&["localhost"], |_| ());
    let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
    let upstream = upstream().await;
    let builder = upstream.proxy().with(|settings| {
        settings.listeners[0].proxy_protocol = Some(networks(&[BALANCER]));
        settings.listeners[0].allow = networks(&["192.0.2.0/24", OTHER]);
        settings.listeners[0].tls = Some(tls);
    });
    let proxy = builder.start().await;
    for (from, before) in [(BALANCER, preamble(CLIENT)), (OTHER, Vec::new())] {
        let mut stream = connect(from, proxy.address).await;
        stream.write_all(&before).await.unwrap();
        let connector = TlsConnector::from(ca.client(None, &["http/1.1"]));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "), "{from}");
    }
    // TLS without a preamble, and a stranger, who gets no handshake.
    for before in [Vec::new(), preamble("198.51.100.1")] {
        let mut stream = connect(BALANCER, proxy.address).await;
        stream.write_all(&before).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(ca.client(None, &["http/1.1"]));
        assert!(connector.connect(name, stream).await.is_err(), "{before:?}");
    }
    assert_eq!((denied(&proxy, "ip").await, denied(&proxy, "tls").await), (1.0, 0.0));
    // One that nobody trusts is told as what it is.
    let before = denied(&proxy, "preamble").await;
    assert_eq!(answer(OTHER, &proxy, &preamble(CLIENT)).await, "");
    assert_eq!(denied(&proxy, "preamble").await, before + 1.0);
}

#[tokio::test]
async fn a_connection_whose_balancer_is_no_longer_trusted_ends() {
    let upstream = upstream().await;
    let change = |trusted: Option<&[&str]>| {
        let builder = upstream.proxy().with(|settings| {
            settings.listeners[0].proxy_protocol = trusted.map(networks);
            settings.listeners[0].allow = networks(&["192.0.2.0/24", OTHER]);
        });
        builder.settings
    };
    let mut proxy = start(&upstream).await;
    let mut through = connect(BALANCER, proxy.address).await;
    through.write_all(&[&preamble(CLIENT)[..], GET].concat()).await.unwrap();
    let mut direct = connect(OTHER, proxy.address).await;
    direct.write_all(GET).await.unwrap();
    for stream in [&mut through, &mut direct] {
        let head = read_head(stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        read_body(stream, &head).await;
    }
    proxy.app.reload(change(Some(&["127.0.0.9", OTHER]))).unwrap();
    for stream in [&mut through, &mut direct] {
        stream.write_all(GET).await.unwrap();
        let said = read_to_end(stream).await;
        assert!(said.contains("PROXY_PEER_DENIED"), "{said}");
    }
    proxy.app.reload(change(None)).unwrap();
    let said = answer(BALANCER, &proxy, GET).await;
    assert!(said.contains("PROXY_IP_DENIED"), "{said}");
}

#[tokio::test]
async fn records_and_callers_know_the_source() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    std::fs::write(
        &config,
        "[[listener]]\nallow = ['192.0.2.0/24']\nproxy_protocol = ['127.0.0.1']\n[[caller]]\nname = 'billing'\n\
         networks = ['192.0.2.7']\n[[caller.rule]]\noperations = ['getSystemStatus']\naction = 'allow'\n",
    )
    .unwrap();
    let args = ["--config", config.to_str().unwrap(), "--log-format", "json"];
    let command = tokio::process::Command::new(PROGRAM);
    let program = Program::start(command, &upstream, &SERVICE_ACCOUNT, &args).await;
    for (source, status) in [(CLIENT, "200"), ("192.0.2.8", "401")] {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        stream.write_all(&[&preamble(source)[..], GET].concat()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
    program.until_said("closed a load balancer's connection").await;
    let (_, said) = program.stop().await;
    let records: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("atlas_auth_proxy::request"))
        .collect();
    assert_eq!(records.len(), 2, "{said}");
    assert!(
        records[0].contains("\"192.0.2.7\"") && records[0].contains("billing"),
        "{said}"
    );
    assert!(records[1].contains("\"192.0.2.8\""), "{said}");
}

/// A balancer that we did not write.
#[tokio::test]
async fn haproxy_says_who_its_client_is() {
    let Some(haproxy) = needs(&["haproxy"], "haproxy") else {
        return;
    };
    let upstream = upstream().await;
    let proxy = start(&upstream).await;
    let folder = tempfile::tempdir().unwrap();
    let front = free_address();
    let configuration = folder.path().join("haproxy.cfg");
    // Both ends are this machine, so the address of the client is made up.
    std::fs::write(
        &configuration,
        format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nfrontend in\n bind {front}\n \
             tcp-request connection set-src ipv4({CLIENT})\n default_backend out\nbackend out\n server one {} send-proxy-v2\n",
            proxy.address
        ),
    )
    .unwrap();
    let mut child = Command::new(haproxy)
        .args(["-db", "-f"])
        .arg(&configuration)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("haproxy listens", || async { TcpStream::connect(front).await.is_ok() }).await;
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let head = read_head(&mut stream).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}
