//! HTTP/2 frame by frame, and an upstream that speaks it so, in plain text: what no library would say. Its first connection is the token
//! endpoint's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Types of frames (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// `:status: 200` (RFC 7541 appendix A).
pub const OK: &[u8] = &[0x88];

pub struct RawH2 {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

/// One connection.
pub struct Frames {
    stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl RawH2 {
    /// `deed` does what it likes with the nth connection of API requests (from 0), whose SETTINGS allow `streams(n)`.
    pub async fn start<F, Fut>(streams: fn(usize) -> u32, deed: F) -> Self
    where
        F: Fn(usize, Frames) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&upstream.requests);
        tokio::spawn(async move {
            let mut tokens = Frames::begin(listener.accept().await.unwrap().0, 100, Arc::default()).await;
            tokio::spawn(async move {
                let token = br#"{"access_token":"token","expires_in":3600,"token_type":"Bearer"}"#;
                while let Some(stream) = tokens.request().await {
                    tokens.answer(stream, token).await;
                }
            });
            let mut nth = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let frames = Frames::begin(stream, streams(nth), Arc::clone(&requests)).await;
                tokio::spawn(deed(nth, frames));
                nth += 1;
            }
        });
        upstream
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests to the API that came whole.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Frames {
    async fn begin(mut stream: TcpStream, streams: u32, requests: Arc<AtomicUsize>) -> Self {
        stream.read_exact(&mut [0; 24]).await.unwrap();
        let most_streams = [&[0, 3][..], &streams.to_be_bytes()].concat();
        stream.write_all(&frame(SETTINGS, 0, 0, &most_streams)).await.unwrap();
        Self { stream, requests }
    }

    pub async fn send(&mut self, frames: &[Vec<u8>]) {
        self.stream.write_all(&frames.concat()).await.unwrap();
    }

    pub async fn answer(&mut self, stream: u32, body: &[u8]) {
        let head = frame(HEADERS, END_HEADERS, stream, OK);
        self.send(&[head, frame(DATA, END_STREAM, stream, body)]).await;
    }

    /// The next frame of a stream; `None`: the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(stream);
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let payload = if kind == PING { &payload[..] } else { &[] };
                    self.stream.write_all(&frame(kind, ACK, 0, payload)).await.ok()?;
                }
                _ if stream == 0 => {}
                kind => {
                    if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                        self.requests.fetch_add(1, Ordering::SeqCst);
                    }
                    return Some(Frame { kind, flags, stream });
                }
            }
        }
    }

    /// The stream of the next request that is whole.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }
}
