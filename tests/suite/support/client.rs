//! Clients: a common one, and raw bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A common HTTP client that follows no redirect and asks no proxy.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(super::PATIENCE)
        .tls_backend_preconfigured(no_tls())
        .build()
        .unwrap()
}

/// These clients speak plain HTTP only.
fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// The text of a page.
pub async fn get(url: &str) -> String {
    client().get(url).send().await.unwrap().text().await.unwrap()
}

/// Sends bytes, and reads until the peer closes or `stop` says that it is enough.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Who is turned away may find the door shut before it has said all: the answer counts.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

pub async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut got = Vec::new();
    let read = async {
        let mut chunk = [0u8; 4096];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => got.extend_from_slice(&chunk[..n]),
            }
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(30), read).await.is_ok();
    assert!(
        closed,
        "the peer does not close after {:?}",
        String::from_utf8_lossy(&got)
    );
    String::from_utf8_lossy(&got).into_owned()
}

/// Reads one head, of a request or an answer. `None`: the peer ended before that.
pub async fn head_of(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(got).unwrap())
}

/// Reads one response head.
pub async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    head_of(stream).await.expect("a whole response head")
}

/// Reads the content behind such a head. Whether its length was given or it comes in chunks is a matter of how its bytes came
/// from the upstream.
pub async fn read_body(stream: &mut (impl tokio::io::AsyncRead + Unpin), head: &str) -> Vec<u8> {
    let head = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).await.expect("the whole content");
        return body;
    }
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    loop {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(stream.read_u8().await.expect("the next chunk"));
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim_end(), 16).unwrap();
        let before = body.len();
        body.resize(before + size + 2, 0);
        stream.read_exact(&mut body[before..]).await.expect("the whole chunk");
        body.truncate(before + size);
        if size == 0 {
            return body;
        }
    }
}
