//! A client that sends the same bytes for each request, and waits for each answer: any client's own version or timing would
//! show in the figures.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request to a program under valgrind takes milliseconds; its first one, with handshakes, a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the links of answers begin with: the `Host` that is named below.
pub(super) const ORIGIN: &str = "http://localhost:8080";

pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(256 << 10),
        })
    }

    /// Until it is answered 200: the first token may take longer than a request waits for it.
    pub(super) async fn first(&mut self, path: &str) {
        for _ in 0..20 {
            if self.exchange(path).await.0 == 200 {
                return;
            }
        }
        panic!("the proxy does not serve: {}", String::from_utf8_lossy(&self.buffer));
    }

    /// The length of the body of an answer 200.
    pub(super) async fn get(&mut self, path: &str) -> usize {
        let (status, length) = self.exchange(path).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.buffer));
        length
    }

    async fn exchange(&mut self, path: &str) -> (u16, usize) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: benchmark\r\nAccept: application/vnd.atlas.2023-01-01+json\r\n\r\n"
        );
        let answer = async {
            self.stream.write_all(request.as_bytes()).await.unwrap();
            self.buffer.clear();
            loop {
                let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert_ne!(read, 0, "the proxy closed the connection");
                if let Some(answer) = whole(&self.buffer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer")
    }
}

/// Status and length of the body, when all of the answer is there.
fn whole(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
    let body = &bytes[end..];
    let status = head[9..12].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length.map(|length| length.parse::<usize>().unwrap()) {
        Some(length) => (body.len() >= length).then_some((status, length)),
        // No body of these benchmarks has this within.
        None if !body.ends_with(b"\r\n0\r\n\r\n") => None,
        None => Some((status, unchunked(body))),
    }
}

/// The length of a chunked body without its framing.
fn unchunked(mut body: &[u8]) -> usize {
    let mut length = 0;
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return length;
        }
        length += size;
        body = &body[end + 2 + size + 2..];
    }
}
