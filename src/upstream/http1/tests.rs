//! The codec against hyper's client as oracle: both have the same answer, or ours refuses; and against itself, over every way to
//! cut the bytes.

use std::borrow::Cow;
use std::future::poll_fn;

use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const HOST: HeaderValue = HeaderValue::from_static("cloud.mongodb.com");

/// What a client has of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    fields: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    /// The content broke off.
    broken: bool,
}

fn listed(fields: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let fields = fields.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    fields.sort();
    fields
}

impl Answer {
    fn new(parts: &Parts) -> Self {
        Self {
            status: parts.status,
            fields: listed(&parts.headers),
            content: Vec::new(),
            trailers: Vec::new(),
            broken: false,
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.content.extend_from_slice(&data),
            Err(frame) => self.trailers = listed(&frame.into_trailers().unwrap()),
        }
    }
}

/// Reads the request, then writes these pieces and closes.
async fn serve(mut stream: DuplexStream, pieces: Vec<Vec<u8>>) {
    let _request = stream.read(&mut [0; 1024]).await;
    for piece in pieces {
        let _ = stream.write_all(&piece).await;
        tokio::task::yield_now().await;
    }
}

/// What we read of an answer, and whether another request may follow.
async fn ours(method: &Method, pieces: Vec<Vec<u8>>) -> Result<(Answer, bool), String> {
    let (stream, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(serve(theirs, pieces));
    let mut http1 = Http1::new(stream);
    let path = PathAndQuery::from_static("/");
    let head = Head {
        method,
        path: &path,
        headers: Cow::Owned(http::HeaderMap::new()),
        authorization: None,
    };
    http1.begin(&HOST, &head, Full::new(Bytes::new())).unwrap();
    let parts = poll_fn(|cx| http1.poll_head(cx)).await.map_err(|e| e.to_string())?;
    let mut answer = Answer::new(&parts);
    while let Some(frame) = poll_fn(|cx| http1.poll_frame(cx)).await {
        match frame {
            Ok(frame) => answer.take(frame),
            Err(_) => {
                answer.broken = true;
                break;
            }
        }
    }
    server.await.unwrap();
    let again = http1.finish() && http1.is_silent() == Some(true);
    Ok((answer, again))
}

/// What hyper reads of it.
async fn hypers(method: &Method, bytes: Vec<u8>) -> Result<Answer, String> {
    let (stream, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(serve(theirs, vec![bytes]));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method.clone();
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (parts, mut body) = answer.into_parts();
    let mut answer = Answer::new(&parts);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => answer.take(frame),
            Err(_) => {
                answer.broken = true;
                break;
            }
        }
    }
    Ok(answer)
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn whole(bytes: &[u8]) -> Result<(Answer, bool), String> {
    run(ours(&Method::GET, vec![bytes.to_vec()]))
}

/// An answer from parts that are good, odd or wrong.
fn answers() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let line = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304\r\n",
        "HTTP/1.1 401 \r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 500 Oh\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
    ]);
    let field = prop::sample::select(vec![
        "Content-Type: application/json\r\n",
        "content-length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: Chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "X-Empty:\r\n",
        "X-Blanks: \t a b \t \r\n",
        "X-Folded: a\r\n b\r\n",
        "X-Before : a\r\n",
        " X-Blank: a\r\n",
        "X-Nul: a\0b\r\n",
        "X-Cr: a\rb\r\n",
        "X-Lf: a\n",
        "X-Obs: \u{e9}\r\n",
        "No colon\r\n",
        ": none\r\n",
    ]);
    let content = prop::sample::select(vec![
        "",
        "hello",
        "hello!",
        "hell",
        "5\r\nhello\r\n0\r\n\r\n",
        "05 ; a=b\r\nhello\r\n2\r\n!!\r\n0\r\nX-Sum: 7\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhell",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    ]);
    let fields = prop::collection::vec(field, 0..4);
    (any::<bool>(), line, fields, content).prop_map(|(head, line, fields, content)| {
        (head, [line, &fields.concat(), "\r\n", content].concat().into_bytes())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_answer_is_what_hyper_reads_or_refused((head, mut bytes) in answers(), at in any::<prop::sample::Index>(), other in prop::option::weighted(0.3, any::<u8>())) {
        if let Some(other) = other {
            let at = at.index(bytes.len());
            bytes[at] = other;
        }
        let method = if head { Method::HEAD } else { Method::GET };
        let ours = run(ours(&method, vec![bytes.clone()]));
        if let Ok((mut answer, _)) = ours {
            let shown = bytes.escape_ascii().to_string();
            let hypers = run(hypers(&method, bytes));
            prop_assert!(hypers.is_ok(), "{hypers:?} to {shown}");
            let mut hypers = hypers.unwrap();
            if answer.broken {
                // Refused in the middle: that may be stricter, and what was handed out before may differ.
                hypers.broken = true;
                hypers.content.clone_from(&answer.content);
                hypers.trailers.clone_from(&answer.trailers);
            }
            // What is passed on of the framing is ours to say.
            for fields in [&mut answer.fields, &mut hypers.fields] {
                fields.retain(|(name, _)| name != "content-length");
            }
            prop_assert_eq!(answer, hypers, "{}", shown);
        }
    }

    #[test]
    fn however_it_is_cut_an_answer_is_the_same((head, bytes) in answers()) {
        let method = if head { Method::HEAD } else { Method::GET };
        let whole = run(ours(&method, vec![bytes.clone()]));
        let bytewise = bytes.chunks(1).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(&run(ours(&method, bytewise)), &whole);
        for at in 1..bytes.len() {
            let cut = vec![bytes[..at].to_vec(), bytes[at..].to_vec()];
            prop_assert_eq!(&run(ours(&method, cut)), &whole);
        }
    }
}

#[test]
fn another_request_follows_only_a_whole_answer_with_nothing_behind_it() {
    // The server closes here, which shows in silence that ends; what counts is the word of the exchange itself.
    let persists = |bytes: &[u8]| {
        run(async {
            let (stream, mut theirs) = tokio::io::duplex(1 << 20);
            let mut http1 = Http1::new(stream);
            let path = PathAndQuery::from_static("/");
            let head = Head {
                method: &Method::GET,
                path: &path,
                headers: Cow::Owned(http::HeaderMap::new()),
                authorization: None,
            };
            http1.begin(&HOST, &head, Full::new(Bytes::new())).unwrap();
            theirs.write_all(bytes).await.unwrap();
            poll_fn(|cx| http1.poll_head(cx)).await.unwrap();
            while !http1.is_over() {
                poll_fn(|cx| http1.poll_frame(cx)).await.unwrap().unwrap();
            }
            http1.finish() && http1.is_silent() == Some(true)
        })
    };
    assert!(persists(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    assert!(persists(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ));
    assert!(persists(b"HTTP/1.1 204 No Content\r\n\r\n"));
    assert!(persists(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"
    ));
    assert!(!persists(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!"));
    assert!(!persists(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"));
    assert!(!persists(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    assert!(!persists(
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert!(persists(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"));
    assert!(!persists(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ));
    assert!(!persists(b"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"));
    assert!(!persists(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\nhello"
    ));
    assert!(!persists(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    assert!(!persists(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nx"
    ));
}

#[test]
fn what_has_no_single_reading_is_refused() {
    for (bytes, why) in [
        (&b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"[..], "LF alone"),
        (
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            "has no colon",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: a\r\n b: c\r\nContent-Length: 0\r\n\r\n",
            "name that is none",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "name that is none"),
        (b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", "value that is none"),
        (b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "value that is none"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "how long it is",
        ),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "how long it is",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "101"),
        (b"ICY 200 OK\r\n\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n", "closed"),
    ] {
        let error = whole(bytes).unwrap_err();
        assert!(error.contains(why), "{}: {error}", bytes.escape_ascii());
    }
    let many = ["HTTP/1.1 200 OK\r\n", &"X: a\r\n".repeat(101), "\r\n"].concat();
    assert!(whole(many.as_bytes()).unwrap_err().contains("too many fields"));
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(257);
    assert!(whole(interim.as_bytes()).unwrap_err().contains("interim"));
    let long = ["HTTP/1.1 200 OK\r\nX: ", &"a".repeat(MAX_HEAD)].concat();
    assert!(whole(long.as_bytes()).unwrap_err().contains("too long"));
}

#[test]
fn content_that_breaks_off_is_never_whole() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n",
    ] {
        let (answer, again) = whole(bytes).unwrap();
        assert!(answer.broken && !again, "{}", bytes.escape_ascii());
    }
}
