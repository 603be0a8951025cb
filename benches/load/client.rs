//! Clients: at a rate, as many at once as there may be, or stuck.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::on_a_thread;
use super::proxy::SECRET;

const PATH: &str = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters";
/// Half of a request of the greedy caller.
pub(super) const STUCK_POST: &str =
    "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {greedy}\r\nContent-Length: 9\r\n\r\n1234";

fn basic(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{SECRET}")))
}

/// How long answers took, in milliseconds.
pub(super) struct Latencies {
    sorted: Vec<f64>,
    failed: usize,
}

impl Latencies {
    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    pub(super) fn at(&self, part: f64) -> f64 {
        let last = self.sorted.len() - 1;
        self.sorted[(last as f64 * part).round() as usize]
    }
}

/// Requests at a rate.
pub(super) struct Load {
    address: SocketAddr,
    connections: usize,
    rate: u32,
    request: Arc<str>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(super) fn post(address: SocketAddr, connections: usize, rate: u32) -> Self {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\nContent-Length: 16\r\n\r\n{{\"name\":\"small\"}}"
        );
        Self::new(address, connections, rate, request)
    }

    pub(super) fn get(address: SocketAddr, caller: &str, rate: u32) -> Self {
        Self::new(address, 16, rate, get(caller))
    }

    fn new(address: SocketAddr, connections: usize, rate: u32, request: String) -> Self {
        Self {
            address,
            connections,
            rate,
            request: request.into(),
            tasks: JoinSet::new(),
        }
    }

    /// Sends at the rate for so long.
    pub(super) async fn measured(mut self, time: Duration) -> Latencies {
        let (due, waiting) = mpsc::unbounded_channel::<Instant>();
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let took: Arc<Mutex<Vec<f64>>> = Arc::default();
        let failed = Arc::new(AtomicUsize::new(0));
        for n in 0..self.connections {
            let (waiting, took, failed) = (Arc::clone(&waiting), Arc::clone(&took), Arc::clone(&failed));
            let (address, request) = (self.address, Arc::clone(&self.request));
            self.tasks.spawn(async move {
                let mut stream = connect(address, n).await;
                let mut buffer = Vec::new();
                loop {
                    let next = waiting.lock().await.recv().await;
                    let Some(due) = next else { return };
                    let answered = exchange(&mut stream, &request, &mut buffer).await;
                    took.lock().push(due.elapsed().as_secs_f64() * 1e3);
                    if answered.is_none() || !buffer.starts_with(b"HTTP/1.1 200") {
                        failed.fetch_add(1, Ordering::Relaxed);
                        stream = connect(address, n).await;
                    }
                }
            });
        }
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let wanted = (begin.elapsed().as_secs_f64() * f64::from(self.rate)) as usize + 1;
            while sent < wanted {
                due.send(begin + Duration::from_secs_f64(sent as f64 / f64::from(self.rate)))
                    .unwrap();
                sent += 1;
            }
        }
        drop(due);
        while self.tasks.join_next().await.is_some() {}
        let mut sorted = std::mem::take(&mut *took.lock());
        sorted.sort_by(f64::total_cmp);
        Latencies {
            sorted,
            failed: failed.load(Ordering::Relaxed),
        }
    }
}

/// Connections each of which sends a request as soon as the one before is answered, until this is dropped.
pub(super) struct Flood {
    answered: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
}

impl Flood {
    /// How many requests were answered well.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

/// So many connections. They take the processor time that proxy, upstream and whoever is timed leave over: it is the proxy that
/// is measured.
pub(super) fn flood(address: SocketAddr, caller: &str, connections: usize) -> Flood {
    let (end, ended) = oneshot::channel();
    let request: Arc<str> = get(caller).into();
    let answered = Arc::new(AtomicUsize::new(0));
    let flood = Flood {
        answered: Arc::clone(&answered),
        _end: end,
    };
    drop(on_a_thread(async move {
        rustix::process::nice(19).unwrap();
        let mut tasks = JoinSet::new();
        for n in 0..connections {
            tasks.spawn(ask_on(address, n, Arc::clone(&request), Arc::clone(&answered)));
        }
        let _ = ended.await;
    }));
    flood
}

async fn ask_on(address: SocketAddr, n: usize, request: Arc<str>, answered: Arc<AtomicUsize>) {
    loop {
        let mut stream = connect(address, n).await;
        let mut buffer = Vec::new();
        while exchange(&mut stream, &request, &mut buffer).await.is_some() {
            if buffer.starts_with(b"HTTP/1.1 200") {
                answered.fetch_add(1, Ordering::Relaxed);
            } else {
                // Whoever is refused at once would only measure how fast that is.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        // The connection was ended: likewise.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn get(caller: &str) -> String {
    let who = basic(caller);
    format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\nAuthorization: {who}\r\n\r\n")
}

/// Connections on which such a request stands.
pub(super) async fn stuck(address: SocketAddr, request: &str, connections: usize) -> Vec<TcpStream> {
    let request = request.replace("{path}", PATH).replace("{greedy}", &basic("greedy"));
    let mut stuck = Vec::new();
    for n in 0..connections {
        let mut stream = connect(address, n).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    stuck
}

/// From one of several addresses: one peer has a part of the connections.
async fn connect(address: SocketAddr, n: usize) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(format!("127.0.0.{}:0", 2 + n % 20).parse().unwrap())
            .unwrap();
        if let Ok(stream) = socket.connect(address).await {
            stream.set_nodelay(true).unwrap();
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends a request and reads its answer, whose length is given; `None`: the connection has ended.
async fn exchange(stream: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) -> Option<()> {
    stream.write_all(request.as_bytes()).await.ok()?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?
            .parse()
            .ok()?;
        if buffer.len() >= end + 4 + length {
            return Some(());
        }
    }
}
