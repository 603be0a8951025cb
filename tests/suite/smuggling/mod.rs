//! Hostile requests, byte for byte, in front of an upstream that records each byte. Whatever comes in, the upstream gets
//! nothing, or exactly one request that an independent strict parser reads, with our credential and no other.

mod chunks;
mod fields;
mod framing;
mod generated;
mod head;
mod host;
mod pipelining;
mod responses;
mod target;

use std::time::Duration;

use atlas_auth_proxy::guard::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proxy::{Proxy, bearer, proxy};
use crate::support::recording_upstream::{AUTHORIZATION, RecordingUpstream, Since};
use crate::support::strict_http::{self, Request, Response};

/// Longer than any bound of the proxy in these tests.
const PATIENCE: Duration = Duration::from_secs(20);
/// Never part of a request that may reach the upstream, save within a body.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// An answer of 400 or more, or none; the connection ends; the upstream gets nothing.
    Refused,
    /// The same, with this status.
    Status(u16),
    /// The fault is within the content: the upstream may have begun a request, but never gets a whole one.
    BrokenOff,
    /// One clean request.
    Served,
    /// One clean request, and the connection ends.
    ServedAndClosed,
    /// Either is right: one clean request and the end, or a refusal.
    RefusedOrClosed,
    /// Either is right, and the connection may go on.
    Either,
}

/// Bytes of a client, and what must come of them.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    want: Want,
    /// The client ends its side at once: for messages that are not complete.
    half_close: bool,
    /// What reaches the upstream, if anything: method, target, body.
    method: &'static str,
    target: String,
    body: Option<Vec<u8>>,
}

impl Case {
    fn new(name: &'static str, bytes: impl Into<Vec<u8>>, want: Want) -> Self {
        Self {
            name,
            bytes: bytes.into(),
            want,
            half_close: false,
            method: "POST",
            target: "/x".to_owned(),
            body: None,
        }
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    fn half_close(mut self) -> Self {
        self.half_close = true;
        self
    }
}

/// What a client saw and what the upstream saw.
#[derive(Debug)]
struct Outcome {
    answers: Vec<Response>,
    /// The proxy ended the connection by itself.
    closed: bool,
    since: Since,
}

/// One started proxy before one recording upstream.
struct Bench {
    upstream: RecordingUpstream,
    proxy: Proxy,
}

impl Bench {
    async fn start() -> Self {
        Self::before(RecordingUpstream::start().await).await
    }

    async fn before(upstream: RecordingUpstream) -> Self {
        Self::with_policy(upstream, Policy::allow_all()).await
    }

    async fn with_policy(upstream: RecordingUpstream, policy: Policy) -> Self {
        let proxy = proxy(&upstream.base_url(), None, bearer())
            .with(|settings| {
                settings.listeners[0].rules.policy = policy;
                settings.limits.connection.header_read_timeout = Duration::from_secs(2);
                settings.limits.body.request_body_idle_timeout = Duration::from_secs(2);
            })
            .start()
            .await;
        // The token is here, and the first connection open.
        let bench = Self { upstream, proxy };
        let first = bench
            .exchange(b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n", false, 1)
            .await;
        assert_eq!(first.since.requests.len(), 1 + 1, "a token, and the request: {first:?}");
        bench
    }

    /// Sends bytes, waits for `finals` answers, ends its side, and reads on to the end.
    async fn exchange(&self, bytes: &[u8], half_close: bool, finals: usize) -> Outcome {
        self.exchange_within(bytes, half_close, finals, Duration::ZERO).await
    }

    /// Gives the proxy `grace` to end the connection by itself behind a good answer, and always a second behind a refusal.
    async fn exchange_within(&self, bytes: &[u8], half_close: bool, finals: usize, grace: Duration) -> Outcome {
        let mark = self.upstream.mark();
        let mut stream = TcpStream::connect(self.proxy.address).await.unwrap();
        // The proxy may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        if half_close {
            let _ = stream.shutdown().await;
        }
        let head = bytes.starts_with(b"HEAD ");
        let mut got = Vec::new();
        let mut chunk = [0; 16 << 10];
        let mut closed = true;
        loop {
            let answers = final_answers(&got, head, false);
            let enough = closed && !half_close && answers.len() >= finals;
            let patience = match answers.last() {
                Some(last) if enough && last.status >= 400 => grace.max(Duration::from_secs(1)),
                _ if enough => grace,
                _ => PATIENCE,
            };
            match tokio::time::timeout(patience, stream.read(&mut chunk)).await {
                Ok(Ok(read @ 1..)) => got.extend_from_slice(&chunk[..read]),
                Ok(Ok(_) | Err(_)) => break,
                // Kept alive: the client goes.
                Err(_) if enough => {
                    closed = false;
                    let _ = stream.shutdown().await;
                }
                Err(_) => panic!(
                    "the proxy neither answers nor closes after {:?}, sent {:?}",
                    String::from_utf8_lossy(&got),
                    String::from_utf8_lossy(&bytes[..bytes.len().min(500)]),
                ),
            }
        }
        // What is on its way between two sockets of this machine arrives while others have their turn.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Outcome {
            answers: final_answers(&got, head, true),
            closed,
            since: self.upstream.since(&mark),
        }
    }

    /// Tries all cases, then looks again: nothing may have come late. Reports all failures at once.
    async fn check(&self, cases: Vec<Case>) {
        let start = self.upstream.mark();
        let (mut faults, mut whole) = (Vec::new(), 0);
        for case in &cases {
            let must_close = matches!(case.want, Want::ServedAndClosed | Want::RefusedOrClosed);
            let grace = if must_close { PATIENCE } else { Duration::ZERO };
            let outcome = self.exchange_within(&case.bytes, case.half_close, 1, grace).await;
            whole += outcome.since.requests.len();
            if let Err(why) = self.judge(case, &outcome) {
                let shown = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(300)]).into_owned();
                faults.push(format!(
                    "{} ({:?}): {why}\n    {shown:?}\n    {outcome:?}",
                    case.name, case.want
                ));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let late = self.upstream.since(&start).requests.len() - whole;
        assert_eq!(late, 0, "requests reached the upstream behind their client's end");
        assert!(
            faults.is_empty(),
            "{} of {} cases:\n{}",
            faults.len(),
            cases.len(),
            faults.join("\n")
        );
    }

    fn judge(&self, case: &Case, outcome: &Outcome) -> Result<(), String> {
        let Outcome { answers, closed, since } = outcome;
        let refused = || {
            if answers.len() > 1 {
                return Err("more than one answer".to_owned());
            }
            match answers.first() {
                Some(answer) if answer.status < 400 => Err(format!("answered {}", answer.status)),
                Some(_) if !closed => Err("refused, but the connection goes on".to_owned()),
                _ => Ok(()),
            }
        };
        match case.want {
            Want::Served | Want::ServedAndClosed => self.served(case, outcome)?,
            Want::BrokenOff => {
                refused()?;
                if !since.requests.is_empty() {
                    return Err("a whole request reached the upstream".to_owned());
                }
                if since.partial.len() > 1 {
                    return Err("more than one request was begun".to_owned());
                }
            }
            Want::Refused | Want::Status(_) => {
                refused()?;
                nothing_came(since)?;
            }
            Want::RefusedOrClosed | Want::Either if since.requests.is_empty() => {
                refused()?;
                nothing_came(since)?;
            }
            Want::RefusedOrClosed | Want::Either => self.served(case, outcome)?,
        }
        if let Want::Status(status) = case.want
            && answers.first().map(|answer| answer.status) != Some(status)
        {
            return Err(format!("not answered {status}"));
        }
        if matches!(case.want, Want::ServedAndClosed | Want::RefusedOrClosed) && !closed {
            return Err("the connection goes on".to_owned());
        }
        Ok(())
    }

    fn served(&self, case: &Case, outcome: &Outcome) -> Result<(), String> {
        let [request] = &outcome.since.requests[..] else {
            return Err(format!(
                "{} requests reached the upstream",
                outcome.since.requests.len()
            ));
        };
        if !outcome.since.partial.is_empty() {
            return Err("something else was begun upstream".to_owned());
        }
        if !matches!(&outcome.answers[..], [answer] if answer.status == 200) {
            return Err("not one answer of 200".to_owned());
        }
        if (request.method.as_str(), &request.target) != (case.method, &case.target) {
            return Err(format!("became {} {}", request.method, request.target));
        }
        if case.body.as_ref().is_some_and(|body| *body != request.body) {
            return Err("another body".to_owned());
        }
        self.clean(request)
    }

    /// One credential, ours; one Host, the upstream's; nothing of this hop.
    fn clean(&self, request: &Request) -> Result<(), String> {
        if request.all("authorization") != [AUTHORIZATION] {
            return Err(format!("Authorization {:?}", request.all("authorization")));
        }
        if request.all("host") != [self.upstream.address.to_string()] {
            return Err(format!("Host {:?}", request.all("host")));
        }
        let trailers = request
            .trailers
            .iter()
            .find(|(name, _)| ends_here(name) || matches!(name.as_str(), "authorization" | "host" | "content-length"));
        if let Some((name, _)) = trailers {
            return Err(format!("{name} as a trailer"));
        }
        let own = ["authorization", "host", "content-length", "transfer-encoding", "te"];
        match request.fields.iter().find(|(name, value)| {
            !own.contains(&name.as_str()) && ends_here(name) || name == "te" && value != "trailers"
        }) {
            Some((name, value)) => Err(format!("{name}: {value} reached the upstream")),
            None => Ok(()),
        }
    }
}

fn nothing_came(since: &Since) -> Result<(), String> {
    if since.requests.is_empty() && since.partial.is_empty() {
        Ok(())
    } else {
        Err("something reached the upstream".to_owned())
    }
}

/// Fields that must not reach the upstream from a client, whatever the spelling.
fn ends_here(name: &str) -> bool {
    matches!(
        name.replace('_', "-").as_str(),
        "authorization"
            | "connection"
            | "content-length"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "via"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url"
    )
}

/// The final answers among the bytes that a client got. What the proxy itself writes must have one reading.
fn final_answers(mut bytes: &[u8], head: bool, closed: bool) -> Vec<Response> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        match strict_http::response(bytes, head && answers.is_empty(), closed) {
            Ok(Some((answer, length))) => {
                bytes = &bytes[length..];
                if answer.status >= 200 {
                    answers.push(answer);
                }
            }
            Ok(None) if closed => panic!("half an answer: {:?}", String::from_utf8_lossy(bytes)),
            Ok(None) => break,
            Err(why) => panic!("the proxy's answer: {why}\n{:?}", String::from_utf8_lossy(bytes)),
        }
    }
    answers
}

/// A POST to `/x` with these header lines (each with its own end), an empty line, and what follows.
fn post(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{rest}").into_bytes()
}

/// A GET of `/x` with these header lines (each with its own end).
fn get(lines: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

/// A GET with this request line behind the method.
fn line(rest: &str) -> Vec<u8> {
    format!("GET {rest}\r\nHost: localhost\r\n\r\n").into_bytes()
}
