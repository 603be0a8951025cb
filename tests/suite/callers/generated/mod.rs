//! Twelve callers of all kinds on two accounts, and a hundred thousand requests: an independent reading of the file agrees with
//! every decision, Atlas never sees what a caller shows, and every record names the right caller.

mod model;
mod requests;
mod ways;

use std::io::Read;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, UnixStream};

use super::write;
use crate::support::ports::free_address;
use crate::support::program::PROGRAM;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};
use crate::support::tls::{TestCa, for_clients};
use crate::support::upstream::{Answer, Upstream, full, json};

use model::Model;
use requests::Requests;
use ways::{Expected, Shown, Ways};

const REQUESTS: usize = 100_000;

/// Where a request goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    Main,
    Government,
    Tls,
    Socket,
}

/// Numbers that look random and are the same each time.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Takes any token, and any Digest answer.
async fn upstream(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let _ = body.collect().await;
    let authorization = parts
        .headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    match authorization {
        Some(_) => json(200, "{}"),
        None => Response::builder()
            .status(401)
            .header(
                "www-authenticate",
                "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"abc\", algorithm=MD5, qop=\"auth\", stale=false",
            )
            .body(full("{}"))
            .unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_decided_otherwise_than_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let commercial = Upstream::start(upstream).await;
    let government = Upstream::start(upstream).await;
    let clients = TestCa::named("clients");
    let server = clients.identity(&["localhost"], |_| ());
    let issuers = ways::Issuers::new();
    for (name, content) in [
        ("client-secret", CLIENT_SECRET),
        ("private-key", PRIVATE_KEY),
        ("clients-ca.pem", &clients.pem),
        ("server.crt", &server.certificate),
        ("server.key", &server.key),
    ] {
        write(&folder, name, content);
    }
    for (name, content) in issuers.files() {
        write(&folder, name, &content);
    }
    for (name, secrets) in ways::SECRETS {
        write(&folder, name, &secrets.join("\n"));
    }
    let socket = folder.path().join("proxy.sock");
    let [main, gov, tls] = [(); 3].map(|()| free_address());
    let toml = include_str!("gateway.toml")
        .replace("{main}", &main.to_string())
        .replace("{government}", &gov.to_string())
        .replace("{tls}", &tls.to_string())
        .replace("{socket}", &socket.display().to_string())
        .replace("{uid}", &rustix::process::getuid().as_raw().to_string())
        .replace("{commercial-url}", &commercial.base_url())
        .replace("{commercial-ca}", &commercial.ca_file.display().to_string())
        .replace("{government-url}", &government.base_url())
        .replace("{government-ca}", &government.ca_file.display().to_string())
        .replace("{client-id}", CLIENT_ID)
        .replace("{public-key}", PUBLIC_KEY);
    let config = write(&folder, "gateway.toml", &toml);
    let log = folder.path().join("log");
    let mut program = Running(
        Command::new(PROGRAM)
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    let mut first = [0; 1];
    let started = program.0.stdout.as_mut().unwrap().read(&mut first).unwrap();
    assert_eq!(started, 1, "{}", std::fs::read_to_string(&log).unwrap());

    let model = Model::read(&toml, &[CLIENT_ID, PUBLIC_KEY]);
    let mut clients = Clients {
        addresses: [main, gov, tls],
        socket,
        ca: clients,
        open: Vec::new(),
    };
    let mut random = Random(0x5eed);
    let mut ways = Ways::new(issuers);
    let requests = Requests::new(&model);
    let mut expected = Vec::new();
    for n in 0..REQUESTS {
        let shown = ways.next(&mut random, &mut clients, &mut expected).await;
        let (method, path) = requests.next(&mut random);
        let Shown {
            port,
            from,
            certificate,
            ..
        } = &shown;
        let mut request = Request::builder()
            .method(method.as_str())
            .uri(&path)
            .header("host", "localhost");
        for value in ways.authorization(&shown, &method, &path) {
            request = request.header("authorization", value);
        }
        if random.chance(4) {
            request = request
                .header("cookie", "shown=by-a-caller")
                .header("x-atlas-auth-proxy-caller", "a-secret");
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let (status, code) = clients.send(*port, *from, *certificate, request).await;
        let right = match &shown.expected {
            Expected::Malformed => (400, "PROXY_BAD_REQUEST"),
            Expected::Nobody => (401, "PROXY_CALLER_UNKNOWN"),
            Expected::Caller(name, _) if model.allows(name, &method, &path) => (200, ""),
            Expected::Caller(..) => (403, "PROXY_RULE_DENIED"),
        };
        let told = format!("request {n}: {method} {path} as {shown:?}");
        assert_eq!((status, code.as_str()), right, "{told}");
        let (caller, by) = match &shown.expected {
            Expected::Caller(name, by) => ((*name).to_owned(), Some(*by)),
            Expected::Nobody | Expected::Malformed => ("unknown".to_owned(), None),
        };
        expected.push(Recorded {
            caller,
            by,
            operation: model.operation(&method, &path),
            status,
            told,
        });
    }

    let pid = rustix::process::Pid::from_raw(program.0.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(program.0.wait().unwrap().success());
    check_records(&std::fs::read_to_string(&log).unwrap(), &expected);
    let mut reached = 0;
    for upstream in [&commercial, &government] {
        for seen in upstream.seen() {
            reached += 1;
            assert!(!seen.headers.contains_key("cookie") && !seen.headers.contains_key("x-atlas-auth-proxy-caller"));
            for value in seen.headers.get_all("authorization") {
                let value = value.to_str().unwrap();
                let own = value.starts_with("Bearer token-") || value.contains(&format!("username=\"{PUBLIC_KEY}\""));
                assert!(own, "{value}");
            }
        }
    }
    let passed = expected
        .iter()
        .filter(|record| record.status == 200 && !record.operation.is_empty())
        .count();
    assert!(reached >= passed && passed > REQUESTS / 20, "{reached} {passed}");
}

/// Ended with the test, however that ends.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// What the record of a request must say.
pub struct Recorded {
    pub caller: String,
    pub by: Option<&'static str>,
    /// Empty: that of no API path, or of one that has no clear reading.
    pub operation: String,
    pub status: u16,
    pub told: String,
}

fn check_records(log: &str, expected: &[Recorded]) {
    let records: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line| line["target"] == "atlas_auth_proxy::request")
        .collect();
    assert_eq!(records.len(), expected.len());
    for (record, expected) in records.iter().zip(expected) {
        let said = (
            record["caller"].as_str(),
            record["identified_by"].as_str(),
            record["status"].as_u64(),
        );
        let right = (
            Some(expected.caller.as_str()),
            expected.by,
            Some(u64::from(expected.status)),
        );
        assert_eq!(said, right, "{}: {record}", expected.told);
        if !expected.operation.is_empty() {
            assert_eq!(record["operation"], expected.operation, "{}: {record}", expected.told);
        }
    }
}

/// Connections that are kept, each with what it shows.
pub struct Clients {
    addresses: [std::net::SocketAddr; 3],
    socket: std::path::PathBuf,
    ca: TestCa,
    open: Vec<(Way, SendRequest<Full<Bytes>>)>,
}

/// The port, from which address, with which certificate.
type Way = (Port, [u8; 4], Option<&'static str>);

/// Connections that are kept at most.
const KEPT: usize = 12;

impl Clients {
    /// Status, and the code of the proxy's own answer.
    pub async fn send(
        &mut self,
        port: Port,
        from: [u8; 4],
        certificate: Option<&'static str>,
        request: Request<Full<Bytes>>,
    ) -> (u16, String) {
        let (status, code, _) = self.answer(port, from, certificate, request).await;
        (status, code)
    }

    pub async fn answer(
        &mut self,
        port: Port,
        from: [u8; 4],
        certificate: Option<&'static str>,
        request: Request<Full<Bytes>>,
    ) -> (u16, String, http::HeaderMap) {
        let (parts, _) = self.whole(port, from, certificate, request).await;
        let code = parts
            .headers
            .get("x-atlas-auth-proxy-error")
            .map(|code| code.to_str().unwrap().to_owned());
        (parts.status.as_u16(), code.unwrap_or_default(), parts.headers)
    }

    pub async fn whole(
        &mut self,
        port: Port,
        from: [u8; 4],
        certificate: Option<&'static str>,
        request: Request<Full<Bytes>>,
    ) -> (http::response::Parts, Bytes) {
        let key = (port, from, certificate);
        let kept = self
            .open
            .iter()
            .position(|(other, sender)| *other == key && !sender.is_closed() && sender.is_ready());
        let mut sender = match kept {
            Some(at) => self.open.swap_remove(at).1,
            None => self.connect(key).await,
        };
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let content = body.collect().await.unwrap().to_bytes();
        let ends = parts.headers.get("connection").is_some_and(|value| value == "close");
        if !ends {
            if self.open.len() >= KEPT {
                self.open.remove(0);
            }
            self.open.push((key, sender));
        }
        (parts, content)
    }

    async fn connect(
        &self,
        (port, from, certificate): (Port, [u8; 4], Option<&'static str>),
    ) -> SendRequest<Full<Bytes>> {
        if port == Port::Socket {
            return begin(UnixStream::connect(&self.socket).await.unwrap()).await;
        }
        let to = match port {
            Port::Main => self.addresses[0],
            Port::Government => self.addresses[1],
            Port::Tls | Port::Socket => self.addresses[2],
        };
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if port != Port::Tls {
            return begin(stream).await;
        }
        let identity = certificate.map(|name| self.ca.identity(&[name], for_clients));
        let connector = tokio_rustls::TlsConnector::from(self.ca.client(identity.as_ref(), &["http/1.1"]));
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        begin(connector.connect(name, stream).await.unwrap()).await
    }
}

async fn begin<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}
