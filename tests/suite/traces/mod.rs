//! Traces: what a receiver gets, what the upstream is told, and that neither harms a request.

mod receiver;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atlas_auth_proxy::trace::{BatchLimits, Encoding, Endpoint, Sampler, TraceSettings};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::client::client;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{CLIENT_SECRET, Proxy, bearer, digest, proxy};
use crate::support::recording_upstream::RecordingUpstream;
use crate::support::until;
use crate::support::upstream::{Held, Upstream, json};
use receiver::{Receiver, attribute, hex, text};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ABOVE: &str = "b7ad6b7169203331";
const GROUP: &str = "5a0a1e7e0f2912c554080adc";
const CLUSTERS: &str = "/api/atlas/v2/groups/{groupId}/clusters";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{ABOVE}-{flags}")
}

fn clusters() -> String {
    format!("/api/atlas/v2/groups/{GROUP}/clusters")
}

/// Everything is traced whose client does not say otherwise, and sent soon.
fn to(endpoint: &str) -> TraceSettings {
    TraceSettings {
        endpoint: Endpoint::new(endpoint.parse().unwrap()),
        headers: Vec::new(),
        encoding: Encoding::Protobuf,
        gzip: false,
        timeout: Duration::from_secs(10),
        authorities: None,
        egress: None,
        resource: Vec::new(),
        sampler: Sampler {
            by_parent: true,
            ratio: 1.0,
        },
        batch: BatchLimits {
            delay: Duration::from_millis(10),
            ..BatchLimits::default()
        },
    }
}

async fn traced(upstream: &Upstream, receiver: &Receiver) -> Proxy {
    let traces = to(&receiver.url());
    upstream
        .proxy()
        .with(|settings| settings.traces = Some(traces))
        .start()
        .await
}

async fn echo() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

#[tokio::test]
async fn a_request_has_a_span_and_its_send_one_below_it() {
    let (upstream, receiver) = (echo().await, Receiver::start().await);
    let proxy = traced(&upstream, &receiver).await;
    let answer = client()
        .get(proxy.url(&format!("{}?pretty=query-secret", clusters())))
        .header("traceparent", parent("01"))
        .header("tracestate", "a=1")
        .header("tracestate", "b=2")
        .header("user-agent", "terraform/1.9")
        .header("authorization", "Bearer header-secret")
        .header("x-other", "field-secret")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let spans = receiver.spans(2).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    let client = spans.iter().find(|span| span.kind == SpanKind::Client as i32).unwrap();

    assert_eq!(server.name, format!("GET {CLUSTERS}"));
    assert_eq!(
        (hex(&server.trace_id), hex(&server.parent_span_id)),
        (TRACE.into(), ABOVE.into())
    );
    assert_eq!(server.trace_state, "a=1,b=2");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", CLUSTERS),
        ("http.route", CLUSTERS),
        ("server.address", "127.0.0.1"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "terraform/1.9"),
        ("atlas_auth_proxy.account", "default"),
        ("atlas_auth_proxy.operation", "listGroupClusters"),
    ] {
        assert_eq!(text(server, name).as_deref(), Some(value), "{name}");
    }
    let port = i64::from(proxy.address.port());
    assert_eq!(attribute(server, "server.port"), Some(port.into()));
    assert_eq!(attribute(server, "http.response.status_code"), Some(200.into()));
    let listener = proxy.app.listeners()[0].name.clone();
    assert_eq!(text(server, "atlas_auth_proxy.listener"), Some(listener));
    assert_eq!(attribute(server, "error.type"), None);

    assert_eq!(client.name, format!("GET {CLUSTERS}"));
    assert_eq!(hex(&client.trace_id), TRACE);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(
        text(client, "url.full"),
        Some(format!("{}{CLUSTERS}", upstream.base_url()))
    );
    assert_eq!(text(client, "server.address").as_deref(), Some("localhost"));
    assert_eq!(
        attribute(client, "server.port"),
        Some(i64::from(upstream.address.port()).into())
    );
    assert_eq!(attribute(client, "http.response.status_code"), Some(200.into()));
    assert_eq!(attribute(client, "http.request.resend_count"), None);
    assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
    assert!(client.end_time_unix_nano <= server.end_time_unix_nano);

    let seen = upstream.last().headers;
    let told: Vec<_> = seen.get_all("traceparent").iter().collect();
    assert_eq!(told, [&format!("00-{TRACE}-{}-01", hex(&client.span_id))]);
    assert_eq!(seen["tracestate"], "a=1,b=2");

    for secret in [
        "query-secret",
        "header-secret",
        "field-secret",
        GROUP,
        CLIENT_SECRET,
        "token-1",
    ] {
        assert!(!receiver.got(secret), "{secret}");
    }
}

#[tokio::test]
async fn each_send_of_a_request_has_a_span() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| {
        let status = if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            429
        } else {
            200
        };
        async move { json(status, "{}") }
    })
    .await;
    let receiver = Receiver::start().await;
    let traces = to(&receiver.url());
    let proxy = upstream
        .proxy()
        .with(|settings| {
            settings.traces = Some(traces);
            settings.listeners[0].rules.retry_429 = Some(Duration::from_secs(30));
        })
        .start()
        .await;
    assert_eq!(client().get(proxy.url(&clusters())).send().await.unwrap().status(), 200);
    let spans = receiver.spans(3).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert!(server.parent_span_id.is_empty());
    let mut sends: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Client as i32)
        .collect();
    sends.sort_by_key(|span| span.start_time_unix_nano);
    let [first, second] = sends[..] else {
        panic!("{spans:#?}")
    };
    for send in [first, second] {
        assert_eq!(
            (&send.trace_id, &send.parent_span_id),
            (&server.trace_id, &server.span_id)
        );
    }
    assert_eq!(text(first, "error.type").as_deref(), Some("429"));
    assert_eq!(first.status.as_ref().unwrap().code, StatusCode::Error as i32);
    assert_eq!(attribute(first, "http.request.resend_count"), None);
    assert_eq!(attribute(second, "error.type"), None);
    assert_eq!(attribute(second, "http.request.resend_count"), Some(1.into()));
    let told: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.headers["traceparent"].clone())
        .collect();
    let expected = [first, second].map(|span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
    assert_eq!(told, expected);
}

/// A challenge is fetched by a send of its own.
#[cfg(not(feature = "fips"))]
#[tokio::test]
async fn a_digest_challenge_is_a_send_of_the_request() {
    let upstream = Upstream::start(|request| async move {
        if request.headers().contains_key("authorization") {
            return json(200, "{}");
        }
        let mut refused = json(401, "{}");
        let challenge = r#"Digest realm="r", nonce="n", algorithm=MD5, qop="auth""#;
        refused
            .headers_mut()
            .insert("www-authenticate", challenge.parse().unwrap());
        refused
    })
    .await;
    let receiver = Receiver::start().await;
    let traces = to(&receiver.url());
    let proxy = upstream
        .proxy_with(digest())
        .with(|settings| settings.traces = Some(traces))
        .start()
        .await;
    assert_eq!(client().get(proxy.url(&clusters())).send().await.unwrap().status(), 200);
    let spans = receiver.spans(3).await;
    let sends = spans.iter().filter(|span| span.kind == SpanKind::Client as i32);
    let mut statuses: Vec<_> = sends.map(|span| attribute(span, "http.response.status_code")).collect();
    statuses.sort_by_key(|status| format!("{status:?}"));
    assert_eq!(statuses, [Some(200.into()), Some(401.into())]);
}

#[tokio::test]
async fn what_the_client_does_not_trace_is_not_traced_here() {
    let (upstream, receiver) = (echo().await, Receiver::start().await);
    let proxy = traced(&upstream, &receiver).await;
    let get = |flags: &str| {
        client()
            .get(proxy.url(&clusters()))
            .header("traceparent", parent(flags))
            .send()
    };
    assert_eq!(get("00").await.unwrap().status(), 200);
    // The trace goes on all the same, for those behind.
    let told = upstream.last().headers["traceparent"].to_str().unwrap().to_owned();
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"),
        "{told}"
    );
    assert!(!told.contains(ABOVE), "{told}");
    assert_eq!(get("01").await.unwrap().status(), 200);
    // What ended first is sent first.
    assert_eq!(receiver.spans(2).await.len(), 2);
}

#[tokio::test]
async fn a_traceparent_that_is_none_begins_a_trace() {
    let (upstream, receiver) = (echo().await, Receiver::start().await);
    let proxy = traced(&upstream, &receiver).await;
    let nothing = [
        "00-xyz-b7ad6b7169203331-01".to_owned(),
        format!("{}-extra", parent("01")),
    ];
    for headers in [&nothing[..1], &nothing[1..], &[parent("01"), parent("01")]] {
        let mut request = client().get(proxy.url(&clusters())).header("tracestate", "a=1");
        for value in headers {
            request = request.header("traceparent", value);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = upstream.last().headers;
        let told: Vec<_> = seen.get_all("traceparent").iter().collect();
        let [told] = told[..] else { panic!("{told:?}") };
        assert!(!told.to_str().unwrap().contains(TRACE), "{told:?}");
        // It belongs to the trace that is none.
        assert!(!seen.contains_key("tracestate"));
    }
    for span in receiver.spans(6).await {
        assert_ne!(hex(&span.trace_id), TRACE);
    }
}

#[tokio::test]
async fn what_is_refused_or_fails_says_by_which_code() {
    let (upstream, receiver) = (echo().await, Receiver::start().await);
    let through = traced(&upstream, &receiver).await;
    let refused = client()
        .get(through.url("/a-secret-in-the-path"))
        .header("origin", "https://e.example");
    assert_eq!(refused.send().await.unwrap().status(), 403);
    let [span] = &receiver.spans(1).await[..] else {
        panic!("one")
    };
    assert_eq!(span.name, "GET");
    assert_eq!(text(span, "url.path").as_deref(), Some("/REDACTED"));
    assert_eq!(attribute(span, "http.route"), None);
    assert_eq!(
        text(span, "atlas_auth_proxy.error_code").as_deref(),
        Some("PROXY_BROWSER_DENIED")
    );
    // It is the client's fault.
    assert_eq!(attribute(span, "error.type"), None);
    assert_ne!(span.status.clone().unwrap_or_default().code, StatusCode::Error as i32);
    assert!(!receiver.got("a-secret-in-the-path"));

    // Nothing listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let receiver = Receiver::start().await;
    let traces = to(&receiver.url());
    // An API key needs no token, which could not be had either.
    let before = proxy(&format!("http://{free}"), None, digest()).with(|settings| settings.traces = Some(traces));
    let before = before.start().await;
    assert_eq!(
        client().get(before.url(&clusters())).send().await.unwrap().status(),
        502
    );
    let spans = receiver.spans(2).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    let code = text(server, "atlas_auth_proxy.error_code");
    assert!(code.as_ref().unwrap().starts_with("PROXY_UPSTREAM_"), "{code:?}");
    assert_eq!(text(server, "error.type"), code);
    assert_eq!(server.status.as_ref().unwrap().code, StatusCode::Error as i32);
    let send = spans.iter().find(|span| span.kind == SpanKind::Client as i32).unwrap();
    assert_eq!(text(send, "error.type").as_deref(), Some("connect"));
}

#[tokio::test]
async fn what_the_drain_breaks_off_leaves_whole_spans() {
    let (held, receiver) = (Held::start().await, Receiver::start().await);
    let traces = to(&receiver.url());
    let proxy = held.upstream.proxy().with(|settings| {
        settings.traces = Some(traces);
        settings.drain_timeout = Duration::ZERO;
    });
    let proxy = proxy.start().await;
    let asking = tokio::spawn(client().get(proxy.url(&clusters())).send());
    held.begun(1).await;
    proxy.app.shutdown().await;
    assert!(asking.await.unwrap().is_err());
    let spans = receiver.spans(2).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert_eq!(server.name, format!("GET {CLUSTERS}"));
    assert_eq!(text(server, "error.type").as_deref(), Some("broken_off"));
    let send = spans.iter().find(|span| span.kind == SpanKind::Client as i32).unwrap();
    assert_eq!(send.parent_span_id, server.span_id);
    for span in [server, send] {
        assert_eq!(attribute(span, "http.response.status_code"), None);
    }
}

#[tokio::test]
async fn without_an_endpoint_the_fields_pass_as_they_are() {
    let recorded = RecordingUpstream::start().await;
    let proxy = proxy(&recorded.base_url(), None, bearer()).start().await;
    // Neither of the two could be read.
    for value in [parent("01"), "cc-Not_Even-Hex!".to_owned()] {
        let request = client()
            .get(proxy.url(&clusters()))
            .header("traceparent", &value)
            .header("tracestate", " odd==,,x");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let bytes = recorded.everything().concat();
        let seen = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let whole = format!("\r\ntraceparent: {}\r\n", value.to_ascii_lowercase());
        assert_eq!(seen.matches(&whole).count(), 1, "{seen}");
        assert!(String::from_utf8_lossy(&bytes).contains(&value));
        assert!(seen.contains("\r\ntracestate: odd==,,x\r\n"), "{seen}");
    }
    let metrics = crate::support::metrics::metrics(proxy.admin).await;
    assert!(!metrics.contains("trace_spans_total{"), "{metrics}");
}

#[tokio::test]
async fn a_receiver_that_is_away_disturbs_nobody() {
    let upstream = echo().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut traces = to(&format!("http://{free}/v1/traces"));
    traces.batch.export_timeout = Duration::from_millis(1);
    let proxy = upstream
        .proxy()
        .with(|settings| settings.traces = Some(traces))
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    }
    until("they are given up", || async { spans(&proxy, "failed").await == 6.0 }).await;
    assert_eq!(spans(&proxy, "sent").await, 0.0);
    proxy.app.shutdown().await;
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_fills_a_queue_and_no_more() {
    let (upstream, receiver) = (echo().await, Receiver::silent().await);
    let mut traces = to(&receiver.url());
    traces.batch = BatchLimits {
        queue: 2,
        batch: 1,
        ..traces.batch
    };
    let proxy = upstream
        .proxy()
        .with(|settings| settings.traces = Some(traces))
        .start()
        .await;
    let get = || async { assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200) };
    get().await;
    receiver.asked(1).await;
    // One span is under way, the other waits, and there is room for one more.
    get().await;
    assert_eq!(spans(&proxy, "dropped").await, 1.0);
    get().await;
    assert_eq!(spans(&proxy, "dropped").await, 3.0);
    // The end doesn't wait for it for longer than its bound.
    proxy.app.shutdown().await;
}

async fn spans(proxy: &Proxy, outcome: &str) -> f64 {
    proxy
        .metric("atlas_auth_proxy_trace_spans_total", &[("outcome", outcome)])
        .await
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let upstream = echo().await;
    let receiver = Receiver::answering(&[503, 429, 200]).await;
    let proxy = traced(&upstream, &receiver).await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    until("they arrived", || async { spans(&proxy, "sent").await == 2.0 }).await;
    assert_eq!(receiver.requests().len(), 3);

    let receiver = Receiver::answering(&[400, 200]).await;
    let proxy = traced(&upstream, &receiver).await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    until("they are given up", || async { spans(&proxy, "failed").await == 2.0 }).await;
    assert_eq!(receiver.requests().len(), 1);
}

/// What it says of the time until the next try is not believed without bounds.
#[tokio::test]
async fn a_receiver_that_says_wait_for_ever_is_asked_with_the_next_spans() {
    let upstream = echo().await;
    let receiver = Receiver::answering(&[504, 200]).await;
    let proxy = traced(&upstream, &receiver).await;
    let get = || async { assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200) };
    get().await;
    until("they are given up", || async { spans(&proxy, "failed").await == 2.0 }).await;
    get().await;
    until("others arrived", || async { spans(&proxy, "sent").await == 2.0 }).await;
}

/// Spans keep it while they wait.
#[tokio::test]
async fn a_long_tracestate_is_not_taken_in() {
    let (upstream, receiver) = (echo().await, Receiver::answering(&[200]).await);
    let proxy = traced(&upstream, &receiver).await;
    for state in [
        "short=1".to_owned(),
        format!("long={}", "x".repeat(256)) + &format!(",more={}", "y".repeat(256)),
    ] {
        let request = client().get(proxy.url("/x"));
        let request = request.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(request.header("tracestate", state).send().await.unwrap().status(), 200);
    }
    let spans = receiver.spans(4).await;
    assert!(spans.iter().any(|span| span.trace_state == "short=1"));
    assert!(spans.iter().all(|span| span.trace_state.len() <= 512));
}

const HEADER: &str = "otlp-header-secret";

async fn program(upstream: &Upstream, more: &[(&str, &str)]) -> Program {
    let environment = [
        &SERVICE_ACCOUNT[..],
        &[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=otlp-header-secret")],
        more,
    ];
    Program::start(
        Command::new(PROGRAM),
        upstream,
        &environment.concat(),
        &["--log-level", "debug"],
    )
    .await
}

/// The spans wait for an hour; the end of the process does not wait for that.
#[tokio::test]
async fn the_variables_say_where_spans_go_and_the_end_of_the_process_sends_them() {
    for (protocol, compression) in [
        ("http/protobuf", "none"),
        ("http/protobuf", "gzip"),
        ("http/json", "gzip"),
    ] {
        let (upstream, receiver) = (echo().await, Receiver::start().await);
        let program = program(
            &upstream,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.origin()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
                ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
                ("OTEL_SERVICE_NAME", "billing-proxy"),
                (
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "k8s.namespace.name=billing,service.name=other",
                ),
            ],
        )
        .await;
        let url = format!("http://{}{}", program.address, clusters());
        assert_eq!(client().get(url).send().await.unwrap().status(), 200);
        let (status, said) = program.stop().await;
        assert!(status.success(), "{said}");
        assert!(!said.contains(HEADER), "{said}");
        let requests = receiver.requests();
        let [request] = &requests[..] else {
            panic!("{}", requests.len())
        };
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.headers["api-key"], HEADER);
        assert_eq!(request.headers.contains_key("content-encoding"), compression == "gzip");
        let decoded = request.decoded();
        let resource = decoded.resource_spans[0].resource.as_ref().unwrap();
        for (name, value) in [
            ("service.name", "billing-proxy"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("k8s.namespace.name", "billing"),
        ] {
            assert_eq!(
                receiver::value(&resource.attributes, name),
                Some(value.into()),
                "{name}"
            );
        }
        let spans = &decoded.resource_spans[0].scope_spans[0];
        assert_eq!(spans.scope.as_ref().unwrap().name, "atlas-auth-proxy");
        assert_eq!(spans.spans.len(), 2);
    }
}

#[tokio::test]
async fn the_end_of_the_process_does_not_wait_for_a_receiver_that_does_not_answer() {
    let (upstream, receiver) = (echo().await, Receiver::silent().await);
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*receiver.url());
    let program = program(&upstream, &[endpoint, ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")]).await;
    let url = format!("http://{}/x", program.address);
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    let (status, said) = program.stop().await;
    assert!(
        status.success() && said.contains("the last spans could not be sent in time"),
        "{said}"
    );
}

#[tokio::test]
async fn a_receiver_with_tls_must_be_trusted() {
    let upstream = echo().await;
    let receiver = Upstream::start(|_| async { json(200, "{}") }).await;
    let endpoint = format!("{}/v1/traces?key=query-secret", receiver.base_url());
    for (ca_file, trusted) in [(&receiver.ca_file, true), (&upstream.ca_file, false)] {
        let program = program(
            &upstream,
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca_file.to_str().unwrap()),
            ],
        )
        .await;
        let url = format!("http://{}/x", program.address);
        assert_eq!(client().get(url).send().await.unwrap().status(), 200);
        let (status, said) = program.stop().await;
        assert!(status.success(), "{said}");
        assert!(!said.contains(HEADER) && !said.contains("query-secret"), "{said}");
        assert_eq!(said.contains("spans do not arrive"), !trusted, "{said}");
        assert_eq!(receiver.seen().len(), 1);
        assert_eq!(receiver.last().uri, "/v1/traces?key=query-secret");
    }
}
