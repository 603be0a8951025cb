//! An app that pages through links stays on the proxy, whatever name it used, and nothing but links changes.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::support::client::{client, raw};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream, full};

type Incoming = http::Request<hyper::body::Incoming>;

fn origin(request: &Incoming) -> String {
    format!("https://{}", request.headers()["host"].to_str().unwrap())
}

/// As Atlas answers: links in `href`, identifiers that look like URLs in `rel`.
fn document(origin: &str) -> String {
    format!(
        r#"{{"links":[{{"href":"{origin}/api/atlas/v2/groups?pageNum=1","rel":"self"}},{{"href" : "{escaped}\/api\/atlas\/v2\/groups?pageNum=2", "rel":"{origin}/next"}}],"note":"see {origin}/api/atlas","href":"{origin}//api/atlas/v1.0","elsewhere":{{"href":"https://docs.example/api/x"}},"totalCount":2}}"#,
        escaped = origin.replace('/', r"\/"),
    )
}

/// What the client should get: `client` is the origin that it used.
fn expected(origin: &str, client: &str) -> String {
    let escaped = origin.replace('/', r"\/");
    document(origin)
        .replace(
            &format!(r#""href":"{origin}/api/"#),
            &format!(r#""href":"{client}/api/"#),
        )
        .replace(
            &format!(r#""href":"{origin}//api/"#),
            &format!(r#""href":"{client}//api/"#),
        )
        .replace(
            &format!(r#""href" : "{escaped}\/api"#),
            &format!(r#""href" : "{client}\/api"#),
        )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn answer(request: Incoming) -> Answer {
    let origin = origin(&request);
    let body = document(&origin);
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut answer = match query.as_str() {
        "gzip" => {
            let mut answer = Response::new(full(gzip(body.as_bytes())));
            answer
                .headers_mut()
                .insert("content-encoding", HeaderValue::from_static("gzip"));
            answer
        }
        "bytewise" => {
            let frames: Vec<_> = body.bytes().map(|b| Ok(Frame::data(Bytes::from(vec![b])))).collect();
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
        }
        _ => Response::new(full(body)),
    };
    let headers = answer.headers_mut();
    let media = match query.as_str() {
        "csv" => "application/vnd.atlas.2023-01-01+csv",
        "download" => "application/vnd.atlas.2023-01-01+gzip",
        "plain" => "application/json",
        _ => "application/vnd.atlas.2023-01-01+json;charset=utf-8",
    };
    headers.insert("content-type", HeaderValue::from_static(media));
    headers.insert("etag", HeaderValue::from_static("\"v1\""));
    headers.insert(
        "location",
        HeaderValue::from_str(&format!("{origin}//api/atlas/v1.0")).unwrap(),
    );
    headers.insert(
        "link",
        HeaderValue::from_str(&format!("<{origin}/api/x>; rel=\"next\"")).unwrap(),
    );
    headers.insert("content-md5", HeaderValue::from_static("Q2hlY2s="));
    answer
}

async fn set_up() -> (Upstream, Proxy) {
    let upstream = Upstream::start(answer).await;
    let proxy = upstream.proxy().start().await;
    (upstream, proxy)
}

#[tokio::test]
async fn links_lead_to_the_origin_that_the_client_used() {
    let (upstream, proxy) = set_up().await;
    for host in [format!("localhost:{}", proxy.address.port()), proxy.address.to_string()] {
        for query in ["", "plain", "gzip", "bytewise"] {
            let answer = client()
                .get(format!("http://{host}/api/x?{query}"))
                .send()
                .await
                .unwrap();
            let headers = answer.headers().clone();
            let body = answer.text().await.unwrap();
            assert_eq!(
                body,
                expected(&upstream.base_url(), &format!("http://{host}")),
                "{query}"
            );
            assert_eq!(headers["location"], format!("http://{host}//api/atlas/v1.0"));
            assert_eq!(headers["link"], format!("<http://{host}/api/x>; rel=\"next\""));
            assert_eq!(headers["etag"], "W/\"v1~links\"");
            assert!(headers.get("content-encoding").is_none());
            assert!(headers.get("content-md5").is_none());
            if let Some(length) = headers.get("content-length") {
                assert_eq!(length.to_str().unwrap(), body.len().to_string());
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_json_passes_untouched() {
    let (upstream, proxy) = set_up().await;
    for query in ["csv", "download"] {
        let answer = client()
            .get(proxy.url(&format!("/api/x?{query}")))
            .send()
            .await
            .unwrap();
        assert!(answer.headers().get("content-length").is_some());
        assert_eq!(answer.text().await.unwrap(), document(&upstream.base_url()));
    }
}

#[tokio::test]
async fn head_says_what_get_would() {
    let (_upstream, proxy) = set_up().await;
    let head = client().head(proxy.url("/api/x")).send().await.unwrap();
    let get = client().get(proxy.url("/api/x")).send().await.unwrap();
    assert_eq!(head.headers().get("content-type"), get.headers().get("content-type"));
    assert_eq!(head.headers().get("location"), get.headers().get("location"));
    if let Some(length) = head.headers().get("content-length") {
        assert_eq!(length.to_str().unwrap(), get.text().await.unwrap().len().to_string());
    }
}

#[tokio::test]
async fn rewriting_can_be_turned_off() {
    let upstream = Upstream::start(answer).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].rules.rewrite_links = false)
        .start()
        .await;
    let answer = client().get(proxy.url("/api/x")).send().await.unwrap();
    assert_eq!(
        answer.headers()["location"],
        format!("{}//api/atlas/v1.0", upstream.base_url())
    );
    assert_eq!(answer.text().await.unwrap(), document(&upstream.base_url()));
}

#[tokio::test]
async fn a_truncated_gzip_body_is_a_broken_transfer() {
    let upstream = Upstream::start(|request| async move {
        let mut packed = gzip(document(&origin(&request)).as_bytes());
        packed.truncate(packed.len() - 10);
        let mut answer = Response::new(full(packed));
        answer
            .headers_mut()
            .insert("content-encoding", HeaderValue::from_static("gzip"));
        answer
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/json"));
        answer
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let answer = raw(
        proxy.address,
        b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}
