//! The whole way of a request: any bytes on a listener's socket, before an upstream that records what it gets. It gets
//! nothing, or whole requests with one reading under a strict parser of our own, each with our credential and no other.
#![no_main]

mod strict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::config::{Flags, Machine, NoCommands, NoNetwork, Sources, load};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const TOKEN: &str = "token-of-the-fuzzer";

struct Stage {
    runtime: Runtime,
    proxy: SocketAddr,
    upstream: String,
    /// Whole requests, by their own framing, in the order of their arrival; and what was no request.
    seen: Arc<Mutex<Vec<Result<strict::Request, String>>>>,
    _running: App,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let seen = Arc::default();
    let (running, upstream) = runtime.block_on(start(Arc::clone(&seen)));
    let url = &running.listeners()[0].url;
    Stage {
        proxy: url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .expect("an address"),
        upstream,
        seen,
        _running: running,
        runtime,
    }
});

async fn start(seen: Arc<Mutex<Vec<Result<strict::Request, String>>>>) -> (App, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(record(stream, Arc::clone(&seen)));
        }
    });
    let file = format!(
        "[[listener]]\nbind = '127.0.0.1:0'\n[account.default]\nbase_url = 'http://{upstream}'\n[admin]\nbind = '127.0.0.1:0'\n\
         [limits]\nresponse_head_timeout = '1s'\nrequest_body_idle_timeout = '1s'\n"
    );
    let environment = BTreeMap::from([
        (
            "MONGODB_ATLAS_CLIENT_ID".to_owned(),
            "mdb_sa_id_0123456789abcdef01234567".to_owned(),
        ),
        ("MONGODB_ATLAS_CLIENT_SECRET".to_owned(), "mdb_sa_sk_x".to_owned()),
    ]);
    let files = BTreeMap::from([(PathBuf::from("/etc/proxy.toml"), file.into_bytes())]);
    let flags = Flags {
        config: Some("/etc/proxy.toml".into()),
        ..Flags::default()
    };
    let settings = load(Sources {
        flags: &flags,
        environment: &environment,
        files: &files,
        sockets: None,
        commands: &NoCommands,
        network: &NoNetwork,
        machine: Machine {
            overflow_uid: 65534,
            cores: NonZeroUsize::MIN,
            log_to_terminal: false,
        },
    });
    let settings = settings.expect("the settings are right").settings;
    (App::start(settings).await.expect("it starts"), upstream)
}

/// Answers each request and keeps it; a connection with something else on it ends.
async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<Result<strict::Request, String>>>>) {
    let mut bytes = Vec::new();
    loop {
        match strict::request(&bytes) {
            Ok(Some((request, size))) => {
                bytes.drain(..size);
                let answer = if request.target.starts_with("/api/oauth/") {
                    format!(r#"{{"access_token":"{TOKEN}","expires_in":3600,"token_type":"Bearer"}}"#)
                } else {
                    seen.lock().expect("a lock").push(Ok(request.clone()));
                    "{}".to_owned()
                };
                let body = if request.method == "HEAD" { "" } else { answer.as_str() };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    answer.len()
                );
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk).await {
                    // What is left is half a request: its client went away.
                    Ok(0) | Err(_) => return,
                    Ok(size) => bytes.extend_from_slice(&chunk[..size]),
                }
            }
            Err(why) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                seen.lock().expect("a lock").push(Err(format!("{why}: {text:?}")));
                return;
            }
        }
    }
}

async fn send(address: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the proxy listens");
    let _ = stream.write_all(data).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    answer
}

fuzz_target!(|data: &[u8]| {
    let stage = &*STAGE;
    let answer = stage.runtime.block_on(send(stage.proxy, data));
    assert!(
        !answer.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()),
        "the credential came back"
    );
    let seen = std::mem::take(&mut *stage.seen.lock().expect("a lock"));
    // As many requests as there can be heads in the input, at most.
    let heads = data.windows(4).filter(|window| window == b"\r\n\r\n").count();
    assert!(seen.len() <= heads, "{} requests of {heads} heads", seen.len());
    for request in seen {
        let request = request.unwrap_or_else(|why| panic!("the upstream got what is no request: {why}"));
        let ours = format!("Bearer {TOKEN}");
        assert_eq!(request.all("authorization"), [ours.as_str()], "{request:?}");
        assert_eq!(request.all("host"), [stage.upstream.as_str()], "{request:?}");
        for gone in [
            "proxy-authorization",
            "cookie",
            "connection",
            "upgrade",
            "x-forwarded-for",
            "forwarded",
        ] {
            assert!(request.all(gone).is_empty(), "{request:?}");
        }
        assert!(
            request.target.starts_with('/') && !request.target.contains('#'),
            "{request:?}"
        );
        assert!(!matches!(request.method.as_str(), "CONNECT" | "TRACE"), "{request:?}");
    }
});
