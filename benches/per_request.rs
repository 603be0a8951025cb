//! The parts of one request's way, each alone: `cargo bench`, or `cargo bench --bench per_request -- links` for those whose
//! name has `links`. What a whole request costs is counted by `benches/instructions.sh`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::io::Write as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::credential::bearer::{Bearer, BearerParts, Outcome, TokenEvents};
use atlas_auth_proxy::credential::digest::challenge;
use atlas_auth_proxy::credential::digest::{BodyForDigest, ChallengeCause, Digest, DigestEvents, DigestParts, Verdict};
use atlas_auth_proxy::credential::{ApiKeyPair, ServiceAccountKey};
use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings};
use atlas_auth_proxy::guard::{self, Action, Allowlist, HostName, HostNames, PathPattern, Policy, Rule, parse_network};
use atlas_auth_proxy::metrics::{AttemptCause, Direction, Metrics};
use atlas_auth_proxy::own_http::HttpClient;
use atlas_auth_proxy::proxy::headers::{clean_request, clean_response};
use atlas_auth_proxy::proxy::links::{self, JsonRewriter, LinkRewriter};
use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::time::SystemClock;
use atlas_auth_proxy::upstream::{HttpVersion, Origin, client_config};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

mod support;

const CLIENT: &str = "http://localhost:8080";
const PATH: &str = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters";
/// The challenge that Atlas sends, but for the nonce.
const CHALLENGE: &str = r#"Digest realm="MMS Public API", domain="", nonce="WTCgJ7dDC9SBzYTeLvRyAqP0ZHLTzOPX", algorithm=MD5, qop="auth", stale=false"#;

criterion_main!(benches);
criterion_group! {
    name = benches;
    // Short: the parts take nanoseconds, and a run is repeated more often than it is studied.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = guards, request_headers, response_headers, json_links, digest, bearer, metrics
}

fn guards(c: &mut Criterion) {
    let mut group = c.benchmark_group("guard");

    let loopback = Allowlist::loopback();
    let peer: IpAddr = "127.0.0.1".parse().unwrap();
    group.bench_function("allowlist, loopback", |b| b.iter(|| loopback.allows(black_box(peer))));
    let networks = (0..16).map(|n| parse_network(&format!("10.{}.0.0/16", 2 * n)).unwrap());
    let networks = Allowlist::new(networks.collect()).unwrap();
    let last: IpAddr = "10.30.1.2".parse().unwrap();
    group.bench_function("allowlist, last of 16 networks", |b| {
        b.iter(|| networks.allows(black_box(last)));
    });

    let hosts = HostNames::new([HostName::parse("atlas-proxy.platform.svc").unwrap()]);
    let headers = request_of_an_sdk();
    let uri = Uri::from_static("/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters?pretty=true");
    group.bench_function("target and Host", |b| {
        b.iter(|| guard::target::resolve(&Method::GET, black_box(&uri), Version::HTTP_11, &headers, &hosts).unwrap());
    });
    let own = guard::browser::Own {
        authority: "localhost:8080",
        scheme: "http",
    };
    group.bench_function("browser", |b| {
        b.iter(|| guard::browser::check(black_box(&headers), own))
    });

    for (name, policy, path) in [
        ("rules, none", Policy::allow_all(), PATH),
        ("rules, 1", policy(1), PATH),
        ("rules, last of 16", policy(16), PATH),
        (
            "rules, last of 16, encoded path",
            policy(16),
            "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/databaseUsers/admin/CN=app%20one%2COU=x",
        ),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| policy.check(&Method::GET, black_box(path)).unwrap())
        });
    }
    group.finish();
}

/// The last rule lets everything of the API through, the others look at it in vain.
fn policy(rules: usize) -> Policy {
    let of = |path: &str, action| Rule::new(vec![Method::GET], PathPattern::parse(path).unwrap(), action);
    let mut all: Vec<Rule> = (1..rules)
        .map(|n| of(&format!("/api/atlas/v2/groups/*/thing{n}/**"), Action::Deny))
        .collect();
    all.push(of("/api/atlas/v2/**", Action::Allow));
    Policy::new(false, all, Action::Deny)
}

fn request_headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("request headers");
    let authorization = bearer_header();
    for (name, headers) in [
        ("curl", request_of_curl()),
        ("SDK", request_of_an_sdk()),
        ("behind another proxy", request_through_a_proxy()),
    ] {
        // As the proxy does with each request: clean, narrow the codings, copy for the try, add the credential.
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || headers.clone(),
                |headers| {
                    clean_request(headers);
                    links::restrict_accept_encoding(headers);
                    let mut sent = headers.clone();
                    sent.insert(header::AUTHORIZATION, authorization.clone());
                    sent
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn response_headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("response headers");
    let headers = answer_of_atlas();
    group.bench_function("clean", |b| {
        b.iter_batched_ref(|| headers.clone(), clean_response, BatchSize::SmallInput);
    });
    group.bench_function("what becomes of the body", |b| {
        b.iter(|| links::plan(StatusCode::OK, black_box(&headers)));
    });
    let rewriter = LinkRewriter::new(&Origin::commercial());
    group.bench_function("links, none there", |b| {
        b.iter_batched_ref(
            || headers.clone(),
            |headers| rewriter.rewrite_headers(headers, CLIENT),
            BatchSize::SmallInput,
        );
    });
    let mut linked = headers.clone();
    let location = "https://cloud.mongodb.com/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2";
    linked.insert(header::LOCATION, HeaderValue::from_static(location));
    group.bench_function("links, Location", |b| {
        b.iter_batched_ref(
            || linked.clone(),
            |headers| rewriter.rewrite_headers(headers, CLIENT),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn json_links(c: &mut Criterion) {
    let mut group = c.benchmark_group("links in JSON");
    let rewriter = LinkRewriter::new(&Origin::commercial());
    for (name, size) in [("1 KiB", 1 << 10), ("100 KiB", 100 << 10)] {
        let linked = support::page_of_projects("https://cloud.mongodb.com", size);
        let foreign = support::page_of_projects("https://mirror.example.org", size);
        group.throughput(Throughput::Bytes(linked.len() as u64));
        // One TLS record has 16 KiB at most; 1400 bytes is about one packet.
        for piece in [500, 1400, 16 << 10, usize::MAX] {
            let id = match piece {
                usize::MAX => BenchmarkId::new(name, "whole"),
                _ if piece < size => BenchmarkId::new(name, format!("pieces of {piece}")),
                _ => continue,
            };
            group.bench_function(id, |b| b.iter(|| rewrite(&rewriter, black_box(&linked), piece)));
        }
        group.throughput(Throughput::Bytes(foreign.len() as u64));
        let id = BenchmarkId::new(name, "whole, no link to the upstream");
        group.bench_function(id, |b| {
            b.iter(|| rewrite(&rewriter, black_box(&foreign), foreign.len()));
        });
    }
    group.finish();
}

fn rewrite(links: &LinkRewriter, body: &[u8], piece: usize) -> usize {
    let mut rewriter = JsonRewriter::new(links, CLIENT);
    let mut length = 0;
    for piece in body.chunks(piece) {
        length += rewriter
            .push(piece)
            .map_or(piece.len(), |changed| black_box(changed).len());
    }
    length + rewriter.finish().len()
}

fn digest(c: &mut Criterion) {
    let mut group = c.benchmark_group("Digest");
    let challenges: HeaderMap = [(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))]
        .into_iter()
        .collect();
    let cached = Digest::new(DigestParts {
        key: ApiKeyPair {
            public_key: "abcdefgh".to_owned(),
            private_key: Secret::new("01234567-89ab-cdef-0123-456789abcdef"),
            max_concurrent: None,
        },
        clock: Arc::new(SystemClock),
        events: Arc::new(Silent),
    })
    .unwrap();
    assert_eq!(cached.challenged(&challenges, None, 0), Verdict::Retry);
    group.bench_function("authorize with a cached nonce", |b| {
        b.iter(|| {
            cached
                .authorize(&Method::GET, black_box(PATH), BodyForDigest::Unknown)
                .unwrap()
        });
    });
    let used = cached.authorize(&Method::GET, PATH, BodyForDigest::Unknown).unwrap();
    let answer = answer_of_atlas();
    group.bench_function("take in an answer", |b| {
        b.iter(|| cached.observe_success(black_box(&answer), &used));
    });
    group.bench_function("read a challenge", |b| {
        b.iter(|| challenge::parse([black_box(CHALLENGE.as_bytes())]));
    });
    group.finish();
}

fn bearer(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // Its token comes from an emulator; nothing is renewed while the bench runs.
    let (_emulator, bearer) = runtime.block_on(bearer_with_token());
    c.bench_function("Bearer/read the token", |b| {
        b.iter(|| {
            let mut cx = Context::from_waker(Waker::noop());
            match pin!(bearer.authorization()).poll(&mut cx) {
                Poll::Ready(token) => token.unwrap(),
                Poll::Pending => unreachable!("there is a token, so nothing waits"),
            }
        });
    });
}

async fn bearer_with_token() -> (Emulator, Arc<Bearer>) {
    let (id, secret) = ("mdb_sa_id_0123456789abcdef01234567", "mdb_sa_sk_only-for-the-benchmark");
    let emulator = Emulator::start(EmulatorSettings {
        service_accounts: vec![(id.to_owned(), secret.to_owned())],
        ..EmulatorSettings::default()
    })
    .await
    .unwrap();
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(emulator.ca_pem().as_bytes()).unwrap();
    let tls = client_config(Some(ca.path())).unwrap();
    let bearer = Bearer::new(BearerParts {
        account: "default".to_owned(),
        key: ServiceAccountKey {
            client_id: id.to_owned(),
            secrets: Secret::new(secret).into(),
        },
        origin: Origin::parse(&emulator.base_url()).unwrap(),
        http: HttpClient::new(tls, Duration::from_secs(5), None, HttpVersion::Http1),
        clock: Arc::new(SystemClock),
        events: Arc::new(Silent),
    });
    tokio::spawn(Arc::clone(&bearer).run(std::future::pending()));
    bearer.authorization().await.unwrap();
    (emulator, bearer)
}

fn metrics(c: &mut Criterion) {
    let metrics = Metrics::new(&[]);
    let listener = metrics.listener("local", "default");
    let account = metrics.account("default");
    // All that one request that goes well counts.
    c.bench_function("metrics/one request", |b| {
        b.iter(|| {
            listener.in_flight.inc();
            account.upstream_attempt(AttemptCause::First);
            account.upstream_duration(black_box(Duration::from_micros(1200)));
            account.rate_limit_remaining(None, black_box(Some(4711)));
            listener.request(&Method::GET, StatusCode::OK, black_box(Duration::from_micros(1300)));
            listener.in_flight.dec();
            metrics.bytes(Direction::ToUpstream, 0);
            metrics.bytes(Direction::ToClient, black_box(1024));
        });
    });
}

/// Hears what happens and does nothing: the metrics have a bench of their own.
struct Silent;

impl DigestEvents for Silent {
    fn challenge(&self, _: ChallengeCause) {}
    fn nonce_used(&self) {}
    fn usable(&self, _: bool) {}
}

impl TokenEvents for Silent {
    fn token_request(&self, _: Outcome) {}
    fn token_expiry(&self, _: Option<SystemTime>) {}
    fn token_refreshed(&self, _: SystemTime) {}
    fn usable(&self, _: bool) {}
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn bearer_header() -> HeaderValue {
    // As long as Atlas's tokens.
    let mut value = HeaderValue::from_str(&format!("Bearer {}", "t".repeat(1200))).unwrap();
    value.set_sensitive(true);
    value
}

fn request_of_curl() -> HeaderMap {
    fields(&[
        ("host", "localhost:8080"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "application/vnd.atlas.2023-01-01+json"),
    ])
}

fn request_of_an_sdk() -> HeaderMap {
    fields(&[
        ("host", "localhost:8080"),
        ("user-agent", "go-atlas-sdk/20250312001 (linux;amd64)"),
        ("accept", "application/vnd.atlas.2025-03-12+json"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer placeholder"),
    ])
}

fn request_through_a_proxy() -> HeaderMap {
    let mut headers = request_of_an_sdk();
    headers.extend(fields(&[
        ("connection", "keep-alive, x-mine"),
        ("x-mine", "1"),
        ("via", "1.1 mesh"),
        ("x-forwarded-for", "10.1.2.3, 10.4.5.6"),
        ("x-forwarded-proto", "https"),
        ("x-envoy-attempt-count", "1"),
        ("x-request-id", "0c9a9a0e-7f8a-4f21-9f43-2f6d6a3c8d5b"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]));
    headers
}

fn answer_of_atlas() -> HeaderMap {
    fields(&[
        ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
        ("server", "mdbws"),
        ("content-type", "application/vnd.atlas.2023-01-01+json;charset=utf-8"),
        ("content-length", "1024"),
        ("strict-transport-security", "max-age=31536000; includeSubdomains;"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-permitted-cross-domain-policies", "none"),
        ("x-envoy-upstream-service-time", "7"),
        ("x-java-method", "ApiAtlasGroupsResource::getAllGroups"),
        ("ratelimit-limit", "10000"),
        ("ratelimit-remaining", "9999"),
    ])
}
