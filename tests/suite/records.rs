//! One record for each request, of whatever comes (promise S16). The program itself runs here: its log is what is read.

use serde_json::Value;
use tokio::process::Command;

use crate::support::client::raw;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::upstream::{Answer, Upstream, json};

async fn start(upstream: &Upstream, args: &[&str]) -> Program {
    let args = [&["--log-format", "json"], args].concat();
    Program::start(Command::new(PROGRAM), upstream, &SERVICE_ACCOUNT, &args).await
}

/// The records of requests in a log of JSON lines, each of which must be one object.
fn records(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.is_object(), "{line}");
        line
    });
    lines
        .filter(|line| line["target"] == "atlas_auth_proxy::request")
        .collect()
}

async fn answer(request: http::Request<hyper::body::Incoming>) -> Answer {
    let status = if request.uri().path() == "/missing" { 404 } else { 200 };
    let _ = http_body_util::BodyExt::collect(request.into_body()).await;
    json(status, "{\"a\":1}")
}

#[tokio::test]
async fn each_request_has_exactly_one_record_with_its_fields() {
    let upstream = Upstream::start(answer).await;
    let program = start(&upstream, &[]).await;
    let requests = [
        "POST /api/x?secret=query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "GET /missing HTTP/1.1\r\nHost: localhost\r\nX-Secret: header\r\n\r\n",
        "GET /%1b[31m\"'\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /api/oauth/token HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /web HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
        "GET /host HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        // Refused before it was parsed.
        "GET /unparsed HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        "PATCH /a<b?query HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for request in requests {
        // One connection each: what is refused ends it.
        raw(
            program.address,
            request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes(),
        )
        .await;
    }
    let listener = program.address.to_string();
    let (_, log) = program.stop().await;
    let records = records(&log);
    assert!(!log.contains("query") && !log.contains("X-Secret"), "{log}");
    let expected = [
        ("POST", "/api/x", 200, Some(200), 1, 5, 7, "forwarded"),
        ("GET", "/missing", 404, Some(404), 1, 0, 7, "forwarded"),
        ("GET", "/%1b[31m\"'\\u{e9}", 200, Some(200), 1, 0, 7, "forwarded"),
        ("POST", "/api/oauth/token", 200, None, 0, 0, 87, "forwarded"),
        ("GET", "/web", 403, None, 0, 0, 0, "PROXY_BROWSER_DENIED"),
        ("GET", "/host", 421, None, 0, 0, 0, "PROXY_HOST_DENIED"),
        ("", "", 400, None, 0, 0, 0, "PROXY_BAD_REQUEST"),
        ("PATCH", "/a<b", 400, None, 0, 0, 0, "PROXY_BAD_REQUEST"),
    ];
    assert_eq!(records.len(), expected.len(), "{records:#?}");
    for (record, (method, path, status, upstream_status, attempts, bytes_in, bytes_out, decision)) in
        records.iter().zip(expected)
    {
        let number = |key: &str| record[key].as_u64();
        assert_eq!(record["listener"], listener, "{record}");
        assert_eq!(
            (&record["account"], &record["peer"]),
            (&"default".into(), &"127.0.0.1".into())
        );
        assert_eq!(
            (&record["method"], &record["path"]),
            (&method.into(), &path.into()),
            "{record}"
        );
        assert_eq!(number("status"), Some(status), "{record}");
        assert_eq!(number("upstream_status"), upstream_status, "{record}");
        assert_eq!(number("attempts"), Some(attempts), "{record}");
        assert_eq!(number("bytes_in"), Some(bytes_in), "{record}");
        if decision == "forwarded" {
            assert_eq!(number("bytes_out"), Some(bytes_out), "{record}");
        }
        assert!(record["duration_ms"].as_f64().is_some(), "{record}");
        assert_eq!(record["decision"], decision, "{record}");
    }
}

/// Who is not on the allowlist is refused before a byte is read: the record says so, without method and path.
#[tokio::test]
async fn who_is_turned_away_unread_has_one_record() {
    let upstream = Upstream::start(answer).await;
    let program = start(&upstream, &["--allow", "127.0.0.2/32"]).await;
    raw(program.address, b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (_, log) = program.stop().await;
    let records = records(&log);
    let [record] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((&record["method"], &record["path"]), (&"".into(), &"".into()));
    assert_eq!(
        (&record["status"], &record["decision"]),
        (&403.into(), &"PROXY_IP_DENIED".into())
    );
    assert_eq!(record["peer"], "127.0.0.1");
    assert!(!log.contains("/secret"), "{log}");
}
