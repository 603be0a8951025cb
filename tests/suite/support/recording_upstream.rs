//! An upstream that parses nothing on behalf of the proxy: it records each byte of each connection, and answers whatever
//! an independent strict parser takes for one request.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::strict_http::{self, Request};

/// What all requests to the API must carry.
pub const AUTHORIZATION: &str = "Bearer token-recorded";
const TOKEN: &str = r#"{"access_token":"token-recorded","expires_in":3600,"token_type":"Bearer"}"#;

/// An answer as bytes, and whether the connection ends behind it.
pub struct Reply {
    pub bytes: Vec<u8>,
    pub close: bool,
}

type Replies = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

#[derive(Debug, Clone, Default)]
struct Connection {
    bytes: Vec<u8>,
    ended: bool,
}

pub struct RecordingUpstream {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
}

/// How much every connection had said at some time.
pub struct Mark(Vec<usize>);

/// What came since a mark.
#[derive(Debug)]
pub struct Since {
    pub requests: Vec<Request>,
    /// The beginnings of requests, and whether their connection has ended.
    pub partial: Vec<(Vec<u8>, bool)>,
}

/// 200 with two bytes; HEAD gets the length alone.
pub fn ok(request: &Request) -> Reply {
    let body = if request.method == "HEAD" { "" } else { "ok" };
    Reply {
        bytes: format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{body}").into_bytes(),
        close: false,
    }
}

impl RecordingUpstream {
    pub async fn start() -> Self {
        Self::start_with(ok).await
    }

    /// Answers the token endpoint by itself and all else by `replies`.
    pub async fn start_with(replies: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let replies: Replies = Arc::new(replies);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&upstream.connections);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let id = {
                    let mut all = connections.lock();
                    all.push(Connection::default());
                    all.len() - 1
                };
                tokio::spawn(serve(stream, id, Arc::clone(&connections), Arc::clone(&replies)));
            }
        });
        upstream
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every byte of every connection so far.
    pub fn everything(&self) -> Vec<Vec<u8>> {
        let all = self.connections.lock();
        all.iter().map(|connection| connection.bytes.clone()).collect()
    }

    pub fn mark(&self) -> Mark {
        let all = self.connections.lock();
        Mark(all.iter().map(|connection| connection.bytes.len()).collect())
    }

    /// What came since, as the strict parser reads it.
    ///
    /// # Panics
    /// When the parser finds no reading, or more than one.
    pub fn since(&self, mark: &Mark) -> Since {
        let mut since = Since {
            requests: Vec::new(),
            partial: Vec::new(),
        };
        for (id, connection) in self.connections.lock().iter().enumerate() {
            let new = &connection.bytes[mark.0.get(id).copied().unwrap_or(0)..];
            let (requests, rest) = strict_http::requests(new)
                .unwrap_or_else(|why| panic!("ambiguous: {why}\n{}", String::from_utf8_lossy(new)));
            since.requests.extend(requests);
            if !rest.is_empty() {
                since.partial.push((rest.to_vec(), connection.ended));
            }
        }
        since
    }
}

async fn serve(mut stream: TcpStream, id: usize, connections: Arc<Mutex<Vec<Connection>>>, replies: Replies) {
    let mut begun: Vec<u8> = Vec::new();
    let mut chunk = [0; 16 << 10];
    'connection: while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        connections.lock()[id].bytes.extend_from_slice(&chunk[..read]);
        begun.extend_from_slice(&chunk[..read]);
        // What is ambiguous gets no answer; whoever asks for the record meets it there.
        while let Ok(Some((request, length))) = strict_http::request(&begun) {
            begun.drain(..length);
            let reply = match request.target.as_str() {
                "/api/oauth/token" => json(TOKEN),
                "/api/oauth/revoke" => json("{}"),
                _ => replies(&request),
            };
            if stream.write_all(&reply.bytes).await.is_err() || reply.close {
                break 'connection;
            }
        }
    }
    connections.lock()[id].ended = true;
}

fn json(body: &str) -> Reply {
    let length = body.len();
    Reply {
        bytes: format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes(),
        close: false,
    }
}
