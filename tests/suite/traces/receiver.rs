//! A receiver of OTLP over HTTP that keeps what it gets.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;

use crate::support::until;

/// A request as it came.
#[derive(Clone)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    body: Bytes,
}

pub struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

/// The value of an attribute, for comparisons.
#[derive(Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Got {
    /// What it says, in whichever encoding.
    pub fn decoded(&self) -> ExportTraceServiceRequest {
        let plain = self.plain();
        match self.headers["content-type"].to_str().unwrap() {
            "application/x-protobuf" => ExportTraceServiceRequest::decode(&*plain).unwrap(),
            "application/json" => serde_json::from_slice(&plain).unwrap(),
            other => panic!("{other}"),
        }
    }

    fn plain(&self) -> Vec<u8> {
        if !self.headers.contains_key("content-encoding") {
            return self.body.to_vec();
        }
        let mut plain = Vec::new();
        GzDecoder::new(&*self.body).read_to_end(&mut plain).unwrap();
        plain
    }
}

impl Receiver {
    pub async fn start() -> Self {
        Self::answering(&[200]).await
    }

    /// Answers with these statuses, of which the last stays.
    pub async fn answering(statuses: &'static [u16]) -> Self {
        Self::serve(Some(statuses)).await
    }

    /// Reads, and never answers.
    pub async fn silent() -> Self {
        Self::serve(None).await
    }

    async fn serve(statuses: Option<&'static [u16]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let keep = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                let service =
                    service_fn(move |request: Request<Incoming>| answer(request, Arc::clone(&keep), statuses));
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async { drop(serve.await) });
            }
        });
        Self { address, got }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn url(&self) -> String {
        format!("{}/v1/traces", self.origin())
    }

    pub fn requests(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    /// Waits until it was asked so often.
    pub async fn asked(&self, times: usize) {
        until("the receiver is asked", || async { self.requests().len() >= times }).await;
    }

    /// All spans, once there are so many.
    pub async fn spans(&self, count: usize) -> Vec<Span> {
        let all = || -> Vec<Span> {
            let requests = self.requests();
            let of = requests.iter().flat_map(|got| got.decoded().resource_spans);
            of.flat_map(|spans| spans.scope_spans)
                .flat_map(|spans| spans.spans)
                .collect()
        };
        until("the spans are there", || async { all().len() >= count }).await;
        all()
    }

    /// Whether these bytes came with any request, in its head or its content.
    pub fn got(&self, text: &str) -> bool {
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        self.requests().iter().any(|got| {
            holds(&got.plain())
                || holds(got.path.as_bytes())
                || got.headers.values().any(|value| holds(value.as_bytes()))
        })
    }
}

async fn answer(
    request: Request<Incoming>,
    keep: Arc<Mutex<Vec<Got>>>,
    statuses: Option<&'static [u16]>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let before = {
        let mut keep = keep.lock();
        keep.push(Got {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body,
        });
        keep.len() - 1
    };
    let Some(statuses) = statuses else {
        return std::future::pending().await;
    };
    let status = statuses.get(before).or(statuses.last()).copied().unwrap();
    let answer = Response::builder().status(status);
    // The longest wait that can be written.
    let answer = match status {
        504 => answer.header("retry-after", u64::MAX),
        _ => answer,
    };
    Ok(answer.body(Full::default()).unwrap())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn value(attributes: &[KeyValue], name: &str) -> Option<Value> {
    let mut named = attributes.iter().filter(|attribute| attribute.key == name);
    let AnyValue { value } = named.next()?.value.clone()?;
    assert!(named.next().is_none(), "{name} is there twice");
    Some(match value? {
        any_value::Value::StringValue(text) => Value::Text(text),
        any_value::Value::IntValue(number) => Value::Number(number),
        other => panic!("{other:?}"),
    })
}

pub fn attribute(span: &Span, name: &str) -> Option<Value> {
    value(&span.attributes, name)
}

pub fn text(span: &Span, name: &str) -> Option<String> {
    match attribute(span, name)? {
        Value::Text(text) => Some(text),
        Value::Number(number) => panic!("{number}"),
    }
}
