//! An answer of the upstream over HTTP/1.1: however its bytes are cut, the same is read; and it is what hyper's client reads, or
//! it is refused.
#![no_main]

use std::borrow::Cow;
use std::future::poll_fn;

use atlas_auth_proxy::upstream::Head;
use atlas_auth_proxy::upstream::http1::Http1;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, response::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Fields = Vec<(String, Vec<u8>)>;

/// Status, fields, content, trailers, and whether it is whole.
#[derive(Debug, PartialEq)]
struct Answer(StatusCode, Fields, Vec<u8>, Fields, bool);

fn listed(fields: &HeaderMap) -> Fields {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    // What is passed on of the framing may differ.
    let mut fields: Fields = fields.filter(|(name, _)| name != "content-length").collect();
    fields.sort();
    fields
}

impl Answer {
    fn new(parts: &Parts) -> Self {
        Self(parts.status, listed(&parts.headers), Vec::new(), Vec::new(), true)
    }

    /// False: there is nothing to wait for.
    fn take<E>(&mut self, frame: Result<Frame<Bytes>, E>) -> bool {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => self.2.extend_from_slice(&data),
            Ok(Err(frame)) => self.3 = listed(frame.trailers_ref().expect("trailers")),
            Err(_) => self.4 = false,
        }
        self.4
    }
}

async fn serve(mut stream: DuplexStream, bytes: Vec<u8>, size: usize) {
    let _request = stream.read(&mut [0; 1024]).await;
    for piece in bytes.chunks(size) {
        let _ = stream.write_all(piece).await;
        tokio::task::yield_now().await;
    }
}

async fn ours(method: &Method, bytes: &[u8], size: usize) -> Option<Answer> {
    let (stream, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(serve(theirs, bytes.to_vec(), size));
    let mut http1 = Http1::new(stream);
    let head = Head {
        method,
        path: &PathAndQuery::from_static("/"),
        headers: Cow::Owned(HeaderMap::new()),
        authorization: None,
    };
    let host = HeaderValue::from_static("localhost");
    http1
        .begin(&host, &head, Full::new(Bytes::new()))
        .expect("a request without content");
    let mut answer = Answer::new(&poll_fn(|cx| http1.poll_head(cx)).await.ok()?);
    while let Some(frame) = poll_fn(|cx| http1.poll_frame(cx)).await {
        if !answer.take(frame) {
            break;
        }
    }
    Some(answer)
}

async fn hypers(method: &Method, bytes: &[u8]) -> Option<Answer> {
    let (stream, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(serve(theirs, bytes.to_vec(), usize::MAX));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method.clone();
    let (parts, mut body) = sender.send_request(request).await.ok()?.into_parts();
    let mut answer = Answer::new(&parts);
    while let Some(frame) = body.frame().await {
        if !answer.take(frame) {
            break;
        }
    }
    Some(answer)
}

fuzz_target!(|data: &[u8]| {
    let [first, bytes @ ..] = data else { return };
    let method = if first & 1 == 0 { Method::GET } else { Method::HEAD };
    let size = usize::from(first >> 1).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let Some(whole) = ours(&method, bytes, usize::MAX).await else {
            assert_eq!(ours(&method, bytes, size).await, None, "in pieces of {size}");
            return;
        };
        assert_eq!(
            ours(&method, bytes, size).await.as_ref(),
            Some(&whole),
            "in pieces of {size}"
        );
        let mut hypers = hypers(&method, bytes).await.expect("hyper refuses what is taken here");
        if !whole.4 {
            // Refused in the middle: that may be stricter, and what was handed out before may differ.
            hypers = Answer(hypers.0, hypers.1, whole.2.clone(), whole.3.clone(), false);
        }
        assert_eq!(whole, hypers);
    });
});
