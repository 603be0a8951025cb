//! Clients: constant traffic over HTTP/1.1, and what came of each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fleet::{FOREIGN_PROJECT, Habit};
use crate::identity::Authorities;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Read,
    Change,
    /// What the caller's rules deny.
    Forbidden,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Answer {
        status: u16,
        /// `X-Atlas-Auth-Proxy-Error`, or empty.
        code: String,
        from_gateway: bool,
    },
    Broken(String),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Done {
    pub caller: String,
    pub want: Want,
    /// Stands in the path of a change.
    pub marker: String,
    pub sent: Instant,
    pub answered: Instant,
    pub got: Got,
}

/// What all clients share.
pub struct Traffic {
    pub done: Mutex<Vec<Done>>,
    pub stop: AtomicBool,
    /// The local secret of the caller without a leaf.
    pub secret: Mutex<String>,
    pub tls: Arc<rustls::ClientConfig>,
}

impl Traffic {
    pub fn new(secret: &str, authorities: &Authorities) -> Self {
        Self {
            done: Mutex::default(),
            stop: AtomicBool::new(false),
            secret: Mutex::new(secret.to_owned()),
            tls: authorities.servers.client(None, &["http/1.1"]),
        }
    }
}

/// Who a client is.
#[derive(Clone)]
pub struct Client {
    pub number: u64,
    pub caller: String,
    pub habit: Habit,
    /// Of a leaf, or of the balancer for who has none.
    pub address: String,
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
/// Kept between requests.
pub type Connection = BufReader<Box<dyn Stream>>;

/// A small generator (xorshift): the traffic is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

impl Client {
    /// Asks until it is told to stop; keeps its connection as long as the answers let it.
    pub async fn run(self, traffic: Arc<Traffic>, project: &'static str) {
        let mut random = Random(self.number * 7919 + 1);
        let mut connection: Option<Connection> = None;
        let mut count = 0u64;
        while !traffic.stop.load(Ordering::Relaxed) {
            count += 1;
            let roll = random.below(100);
            let want = match self.habit {
                Habit::Greedy => Want::Change,
                _ if roll < 3 => Want::Forbidden,
                Habit::Reads => Want::Read,
                Habit::Changes | Habit::ChangesOneProject | Habit::Direct if roll < 50 => Want::Change,
                _ => Want::Read,
            };
            let marker = format!("c{:02}-{count:06}", self.number);
            self.one(&traffic, &mut connection, want, marker, project).await;
            tokio::time::sleep(Duration::from_millis(80 + random.below(120))).await;
        }
    }

    /// Changes with long names, one after the other, until one is not made; 5000 at most.
    pub async fn until_refused(&self, traffic: &Traffic, project: &'static str) -> bool {
        let mut connection = None;
        for count in 0..5000 {
            let marker = format!("long-{count:04}-{}", "x".repeat(1500));
            let got = self.one(traffic, &mut connection, Want::Change, marker, project).await;
            if !matches!(got, Got::Answer { status: 200, .. }) {
                return true;
            }
        }
        false
    }

    pub async fn one(
        &self,
        traffic: &Traffic,
        connection: &mut Option<Connection>,
        want: Want,
        marker: String,
        project: &'static str,
    ) -> Got {
        let sent = Instant::now();
        let asked = self.ask(traffic, connection, want, &marker, project);
        let got = match tokio::time::timeout(Duration::from_secs(70), asked).await {
            Ok(Ok(got)) => got,
            Ok(Err(error)) => Got::Broken(format!("{:?}", error.kind())),
            Err(_) => Got::Broken("no answer".to_owned()),
        };
        traffic.done.lock().push(Done {
            caller: self.caller.clone(),
            want,
            marker,
            sent,
            answered: Instant::now(),
            got: got.clone(),
        });
        got
    }

    async fn connect(&self, traffic: &Traffic) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = if self.habit == Habit::Direct {
            let name = ServerName::try_from("localhost").unwrap();
            Box::new(
                TlsConnector::from(Arc::clone(&traffic.tls))
                    .connect(name, stream)
                    .await?,
            )
        } else {
            Box::new(stream)
        };
        Ok(BufReader::new(stream))
    }

    async fn ask(
        &self,
        traffic: &Traffic,
        connection: &mut Option<Connection>,
        want: Want,
        marker: &str,
        project: &str,
    ) -> std::io::Result<Got> {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => self.connect(traffic).await?,
        };
        let users = format!("/api/atlas/v2/groups/{project}/databaseUsers");
        let (method, path) = match (want, self.habit) {
            (Want::Read, _) => ("GET", format!("{users}/admin/app")),
            (Want::Forbidden, Habit::ChangesOneProject) => {
                let path = format!("/api/atlas/v2/groups/{FOREIGN_PROJECT}/databaseUsers/{marker}/app");
                ("PATCH", path)
            }
            (Want::Forbidden, Habit::Changes | Habit::Direct) => ("DELETE", format!("{users}/{marker}/app")),
            // The emulator finds the user by its name when the database is none that there is.
            (Want::Change | Want::Forbidden, _) => ("PATCH", format!("{users}/{marker}/app")),
        };
        let body = if method == "PATCH" { r#"{"labels": []}"# } else { "" };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.atlas.2023-01-01+json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        if self.habit == Habit::Direct {
            use base64::Engine;
            let pair = format!("{}:{}", self.caller, traffic.secret.lock());
            let shown = base64::engine::general_purpose::STANDARD.encode(pair);
            head.push_str(&format!("Authorization: Basic {shown}\r\n"));
        }
        head.push_str("\r\n");
        if self.habit == Habit::Greedy {
            // Holds its place for a while. Who is turned away meanwhile finds the answer there.
            let (first, rest) = body.split_at(1);
            let _ = stream.write_all(format!("{head}{first}").as_bytes()).await;
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = stream.write_all(rest.as_bytes()).await;
        } else {
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
        }
        let _ = stream.flush().await;
        let (got, goes_on) = answer(&mut stream).await?;
        if goes_on {
            *connection = Some(stream);
        }
        Ok(got)
    }
}

/// Reads one answer; says whether the connection goes on.
async fn answer(stream: &mut Connection) -> std::io::Result<(Got, bool)> {
    let (mut status, mut length, mut chunked, mut close) = (0, 0, false, false);
    let (mut code, mut from_gateway) = (String::new(), false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok((Got::Broken("closed without an answer".to_owned()), false));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else {
            status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "transfer-encoding" => chunked = true,
            "connection" => close = value.eq_ignore_ascii_case("close"),
            "x-atlas-auth-proxy-error" => value.clone_into(&mut code),
            "x-atlas-auth-proxy-error-from" => from_gateway = value == "gateway",
            _ => {}
        }
    }
    if chunked {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let size = u64::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
            skip(stream, size + 2).await?;
            if size == 0 {
                break;
            }
        }
    } else {
        skip(stream, length).await?;
    }
    let got = Got::Answer {
        status,
        code,
        from_gateway,
    };
    Ok((got, !close))
}

async fn skip(stream: &mut Connection, size: u64) -> std::io::Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(size), &mut tokio::io::sink()).await?;
    if skipped == size {
        Ok(())
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}
