//! Mixed traffic with faults, for as long as one likes: `cargo test --release --test soak -- MINUTES` (10 when left out),
//! or `-- idle NUMBER`: so many idle connections, and load beside them.
//!
//! Starts the emulator here and the proxy as a process of its own, one listener by Bearer and one by Digest. Prints each
//! half minute, and at the end, requests, answers by kind, and what memory and descriptors of the proxy did. Ends with 1
//! when a client got an answer that no fault explains, or the proxy did not end cleanly.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings, Fault, FaultKind, Target};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const ID: &str = "mdb_sa_id_0123456789abcdef01234567";
const SECRET: &str = "mdb_sa_sk_only-for-the-soak";
const PUBLIC: &str = "abcdefgh";
const PRIVATE: &str = "only-for-the-soak";
const CLIENTS: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    let idle: Option<usize> = first.as_deref().filter(|arg| *arg == "idle").map(|_| {
        let number = args.next().and_then(|text| text.parse().ok());
        number.expect("`idle` takes a number of connections")
    });
    let minutes: f64 = match first {
        Some(text) if idle.is_none() => text.parse().expect("the argument is a number of minutes"),
        _ => 10.0,
    };
    let emulator = Emulator::start(EmulatorSettings {
        service_accounts: vec![(ID.to_owned(), SECRET.to_owned())],
        api_keys: vec![(PUBLIC.to_owned(), PRIVATE.to_owned())],
        // Short lives: renewals and stale nonces are what is soaked.
        token_life: Duration::from_secs(20),
        nonce_life: Duration::from_secs(5),
        tokens_per_minute: 1000,
        max_tokens: 10_000,
        requests_per_minute: 10_000_000,
        ..EmulatorSettings::default()
    })
    .await
    .unwrap();
    let mut proxy = Proxy::start(&emulator).await;
    if let Some(idle) = idle {
        return idle_and_load(&mut proxy, idle).await;
    }
    let tally = Arc::new(Tally::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let address = proxy.addresses[n % 2];
        clients.push(tokio::spawn(traffic(
            n as u64,
            address,
            Arc::clone(&tally),
            Arc::clone(&stop),
        )));
    }
    let samples = run(&emulator, &proxy, &tally, Duration::from_secs_f64(minutes * 60.0)).await;
    stop.store(true, Ordering::Relaxed);
    emulator.clear_faults();
    for client in clients {
        client.await.unwrap();
    }
    // What is left when nobody calls any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rest = proxy.sample(samples.last().map_or(0.0, |s| s.at));
    let clean = proxy.end().await;
    report(&samples, &rest, &tally, clean)
}

/// Idle connections that have had one answer each, and then ten seconds of 64 clients beside them.
async fn idle_and_load(proxy: &mut Proxy, idle: usize) -> ExitCode {
    let get = request("GET", None, false);
    let tally = Tally::default();
    let before = proxy.sample(0.0);
    let mut open = Vec::new();
    for _ in 0..idle {
        let mut stream = BufReader::with_capacity(512, TcpStream::connect(proxy.addresses[0]).await.unwrap());
        stream.write_all(get.as_bytes()).await.unwrap();
        if !answer(&mut stream, &tally).await.unwrap() {
            break;
        }
        open.push(stream.into_inner());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = proxy.sample(0.0);
    println!(
        "{} idle connections: resident {:.1} MiB, before {:.1}: {:.1} KiB each",
        open.len(),
        after.rss_kib as f64 / 1024.0,
        before.rss_kib as f64 / 1024.0,
        (after.rss_kib - before.rss_kib) as f64 / open.len() as f64
    );
    let tally = Arc::new(Tally::default());
    let (start, address) = (Instant::now(), proxy.addresses[0]);
    let mut clients = Vec::new();
    for _ in 0..64 {
        let (tally, get) = (Arc::clone(&tally), get.clone());
        clients.push(tokio::spawn(async move {
            let mut waits = Vec::new();
            let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
            while start.elapsed() < Duration::from_secs(10) {
                let sent = Instant::now();
                stream.write_all(get.as_bytes()).await.unwrap();
                if !answer(&mut stream, &tally).await.unwrap() {
                    stream = BufReader::new(TcpStream::connect(address).await.unwrap());
                }
                waits.push(sent.elapsed());
            }
            waits
        }));
    }
    let mut waits = Vec::new();
    for client in clients {
        waits.extend(client.await.unwrap());
    }
    waits.sort_unstable();
    let at = |share: usize| waits[waits.len() * share / 1000].as_secs_f64() * 1e3;
    println!(
        "64 clients beside them: {} requests a second, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        waits.len() / 10,
        at(500),
        at(990),
        at(999)
    );
    for (kind, count) in tally.kinds.lock().iter() {
        println!("{count:10}  {kind}");
    }
    let new = Instant::now();
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(get.as_bytes()).await.unwrap();
    let served = answer(&mut stream, &tally).await.unwrap();
    println!(
        "a new connection is served within {:.1} ms",
        new.elapsed().as_secs_f64() * 1e3
    );
    drop(open);
    let clean = proxy.end().await;
    println!("ended cleanly: {clean}");
    if served && clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Faults come and go; each half minute a line.
async fn run(emulator: &Emulator, proxy: &Proxy, tally: &Tally, time: Duration) -> Vec<Sample> {
    let start = Instant::now();
    let mut random = Random(1);
    let mut samples = Vec::new();
    let mut said = 0;
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(1)).await;
        samples.push(proxy.sample(start.elapsed().as_secs_f64()));
        // Half of the time there is none, so that good times are soaked, too.
        let half_minute = start.elapsed().as_secs() / 30;
        if half_minute % 2 == 1 {
            order(emulator, &mut random);
        } else {
            emulator.clear_faults();
        }
        if half_minute > said {
            said = half_minute;
            let sample = samples.last().unwrap();
            println!(
                "{:6.0} s  requests {:8}  resident {:6.1} MiB  descriptors {:4}  {}",
                sample.at,
                tally.requests.load(Ordering::Relaxed),
                sample.rss_kib as f64 / 1024.0,
                sample.files,
                if half_minute % 2 == 1 {
                    "faults begin"
                } else {
                    "faults end"
                },
            );
        }
    }
    samples
}

fn order(emulator: &Emulator, random: &mut Random) {
    let (target, kind) = match random.below(12) {
        0 => (Target::Api, FaultKind::Reset),
        1 => (Target::Api, FaultKind::Truncate),
        2 => (Target::Api, FaultKind::Garbage),
        3 => (Target::Api, FaultKind::Empty),
        4 => (Target::Api, FaultKind::Delay),
        5 => (Target::Token, FaultKind::Status),
        6 => (Target::Token, FaultKind::Garbage),
        7 => (Target::Token, FaultKind::Reset),
        8 => (Target::Token, FaultKind::Truncate),
        9 => return emulator.expire_tokens(),
        10 => return emulator.expire_nonces(),
        _ => (Target::Api, FaultKind::Status),
    };
    let statuses = [401, 403, 429, 500, 503];
    emulator.fault(Fault {
        times: 1 + u32::try_from(random.below(20)).unwrap(),
        delay_ms: random.below(300),
        status: Some(statuses[usize::try_from(random.below(5)).unwrap()]),
        ..Fault::once(target, kind)
    });
}

/// A small generator (xorshift): the soak is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    kinds: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn count(&self, kind: &str) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *self.kinds.lock().entry(kind.to_owned()).or_default() += 1;
    }
}

/// One client after the other, each with habits of its own.
async fn traffic(seed: u64, address: std::net::SocketAddr, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    let mut random = Random(seed * 7919 + 1);
    while !stop.load(Ordering::Relaxed) {
        let habit = random.below(20);
        let done = tokio::time::timeout(
            Duration::from_secs(70),
            client(habit, address, &mut random, &tally, &stop),
        )
        .await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tally.count(&format!("client error: {:?}", error.kind())),
            Err(_) => tally.count("HANG"),
        }
    }
}

async fn client(
    habit: u64,
    address: std::net::SocketAddr,
    random: &mut Random,
    tally: &Tally,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    match habit {
        // Goes away in the middle of a head, of a body, of an answer.
        0 => {
            stream.write_all(b"GET /api/atlas/v2/gro").await?;
            tally.count("left in a head");
        }
        1 => {
            let head = "POST /api/atlas/v2/groups HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{";
            stream.write_all(head.as_bytes()).await?;
            tally.count("left in a body");
        }
        2 => {
            stream.write_all(request("GET", None, false).as_bytes()).await?;
            tally.count("left before the answer");
        }
        // Malformed.
        3 => {
            stream
                .write_all(
                    b"GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                )
                .await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            tally.count(if answer.starts_with(b"HTTP/1.1 400 ") {
                "malformed, and refused"
            } else {
                "MALFORMED, AND NOT REFUSED"
            });
        }
        // A kept-alive connection with small and large requests.
        _ => {
            for _ in 0..1 + random.below(50) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let body = match random.below(10) {
                    0 => Some(usize::try_from(random.below(3_000_000)).unwrap()),
                    1 | 2 => Some(usize::try_from(random.below(2_000)).unwrap()),
                    _ => None,
                };
                let chunked = random.below(2) == 0;
                let method = if body.is_some() { "POST" } else { "GET" };
                stream.write_all(request(method, body, chunked).as_bytes()).await?;
                if let Some(size) = body {
                    send_body(&mut stream, size, chunked).await?;
                }
                if !answer(&mut stream, tally).await? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn request(method: &str, body: Option<usize>, chunked: bool) -> String {
    let framing = match body {
        None => String::new(),
        Some(_) if chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Some(size) => format!("Content-Length: {size}\r\n"),
    };
    format!(
        "{method} /api/atlas/v2/groups HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.atlas.2023-01-01+json\r\n\
         Content-Type: application/json\r\n{framing}\r\n"
    )
}

async fn send_body(stream: &mut BufReader<TcpStream>, size: usize, chunked: bool) -> std::io::Result<()> {
    let body = vec![b' '; size];
    // The proxy may answer early and stop reading: then the write fails, and the answer tells.
    if !chunked {
        let _ = stream.write_all(&body).await;
        return Ok(());
    }
    for piece in body.chunks(10_000) {
        let mut chunk = Vec::new();
        write!(chunk, "{:x}\r\n", piece.len())?;
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        if stream.write_all(&chunk).await.is_err() {
            return Ok(());
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    Ok(())
}

/// Reads one answer; says whether the connection goes on.
async fn answer(stream: &mut BufReader<TcpStream>, tally: &Tally) -> std::io::Result<bool> {
    let (mut status, mut length, mut chunked, mut close, mut ours) = (String::new(), None, false, false, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            tally.count("closed without an answer");
            return Ok(false);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            None => status = line.split(' ').nth(1).unwrap_or_default().to_owned(),
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("transfer-encoding", _)) => chunked = true,
            Some(("connection", "close")) => close = true,
            Some(("x-atlas-auth-proxy-error", value)) => ours = format!(" {}", value.to_ascii_uppercase()),
            Some(_) => {}
        }
    }
    let whole = if chunked {
        skip_chunks(stream).await
    } else {
        skip(stream, length.unwrap_or(0)).await
    };
    match whole {
        Ok(()) => tally.count(&format!("{status}{ours}")),
        Err(_) => {
            tally.count(&format!("{status}, broken off"));
            return Ok(false);
        }
    }
    Ok(!close)
}

async fn skip_chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
        skip(stream, size + 2).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

async fn skip(stream: &mut BufReader<TcpStream>, size: u64) -> std::io::Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(size), &mut tokio::io::sink()).await?;
    if skipped == size {
        Ok(())
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

struct Proxy {
    child: Child,
    pid: u32,
    addresses: [std::net::SocketAddr; 2],
    _files: tempfile::TempDir,
}

struct Sample {
    at: f64,
    rss_kib: u64,
    files: usize,
    threads: u64,
    cpu_s: f64,
}

impl Proxy {
    async fn start(emulator: &Emulator) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            use std::os::unix::fs::OpenOptionsExt;
            let path = files.path().join(name);
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .unwrap();
            file.write_all(content.as_bytes()).unwrap();
            path
        };
        file("ca.pem", emulator.ca_pem());
        file("secret", SECRET);
        file("key", PRIVATE);
        let url = emulator.base_url();
        let config = file(
            "proxy.toml",
            &format!(
                "[[listener]]\nbind = '127.0.0.1:0'\naccount = 'bearer'\n[[listener]]\nbind = '127.0.0.1:0'\naccount = 'digest'\n\
                 [account.bearer]\nbase_url = '{url}'\nca_file = 'ca.pem'\nclient_id = '{ID}'\nclient_secret_file = 'secret'\n\
                 [account.digest]\nbase_url = '{url}'\nca_file = 'ca.pem'\npublic_key = '{PUBLIC}'\nprivate_key_file = 'key'\n\
                 [admin]\nbind = '127.0.0.1:0'\n[log]\nlevel = 'error'\n"
            ),
        );
        let mut child = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"))
            .arg("run")
            .arg("--config")
            .arg(config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .await
            .unwrap();
        let found: Vec<std::net::SocketAddr> = line
            .split([' ', ','])
            .filter_map(|word| word.trim().strip_prefix("http://")?.parse().ok())
            .collect();
        let pid = child.id().unwrap();
        Self {
            child,
            pid,
            addresses: [found[0], found[1]],
            _files: files,
        }
    }

    fn sample(&self, at: f64) -> Sample {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the proxy runs");
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let ticks: f64 = stat
            .rsplit(')')
            .next()
            .map(|rest| {
                rest.split_whitespace()
                    .skip(11)
                    .take(2)
                    .filter_map(|n| n.parse::<f64>().ok())
                    .sum()
            })
            .unwrap_or(0.0);
        Sample {
            at,
            rss_kib: field("VmRSS:"),
            files: std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count),
            threads: field("Threads:"),
            cpu_s: ticks / 100.0,
        }
    }

    async fn end(&mut self) -> bool {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await;
        ended.is_ok_and(|status| status.unwrap().code() == Some(0))
    }
}

fn report(samples: &[Sample], rest: &Sample, tally: &Tally, clean: bool) -> ExitCode {
    let kinds = tally.kinds.lock();
    let requests = tally.requests.load(Ordering::Relaxed);
    let last = samples.last().expect("it ran for a second at least");
    println!(
        "\n{requests} requests in {:.0} s, {:.1} us of CPU time each",
        last.at,
        last.cpu_s * 1e6 / requests as f64
    );
    for (kind, count) in kinds.iter() {
        println!("{count:10}  {kind}");
    }
    // The first fifth is for warming up.
    let warm = &samples[samples.len() / 5..];
    type Figure = fn(&Sample) -> f64;
    let figures: [(&str, Figure); 3] = [
        ("resident MiB", |s| s.rss_kib as f64 / 1024.0),
        ("descriptors", |s| s.files as f64),
        ("threads", |s| s.threads as f64),
    ];
    println!(
        "\n{:14} {:>8} {:>8} {:>8} {:>8}  growth per hour (95 %)",
        "", "first", "most", "last", "at rest"
    );
    for (name, of) in figures {
        let most = samples.iter().map(of).fold(0.0, f64::max);
        let (slope, error) = slope(warm, of);
        println!(
            "{name:14} {:8.1} {most:8.1} {:8.1} {:8.1}  {:+.2} +- {:.2}",
            of(&samples[0]),
            of(last),
            of(rest),
            slope * 3600.0,
            error * 3600.0
        );
    }
    let unexplained: Vec<_> = kinds
        .keys()
        .filter(|kind| kind.chars().all(|c| !c.is_ascii_lowercase()) && !kind.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    println!("\nended cleanly: {clean}; not to be explained: {unexplained:?}");
    if clean && unexplained.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Least squares: slope per second, and 1.96 standard errors of it. Samples that follow each other are alike, so the true
/// error is larger.
fn slope(samples: &[Sample], of: fn(&Sample) -> f64) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = |f: &dyn Fn(&Sample) -> f64| samples.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|s| s.at), mean(&of));
    let sxx: f64 = samples.iter().map(|s| (s.at - x).powi(2)).sum();
    let slope = samples.iter().map(|s| (s.at - x) * (of(s) - y)).sum::<f64>() / sxx;
    let rest: f64 = samples.iter().map(|s| (of(s) - y - slope * (s.at - x)).powi(2)).sum();
    (slope, 1.96 * (rest / (n - 2.0).max(1.0) / sxx).sqrt())
}
