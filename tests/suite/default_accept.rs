//! `default_accept`: clients that name no version of Atlas's API get one, and those that name one keep it.

use atlas_auth_proxy::proxy::DefaultAccept;
use atlas_auth_proxy::settings::Settings;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::leaf::{Leaf, token};
use crate::support::client::{client, raw};
use crate::support::issuer::IssuerKey;
use crate::support::proxy::{bearer, digest, listener};
use crate::support::upstream::{Answer, Seen, Upstream, full, json};

const GROUPS: &str = "/api/atlas/v2/groups";
const LOG: &str = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters/host.example.net/logs/mongodb.gz";
const CHALLENGE: &str =
    r#"Digest realm="MMS Public API", domain="", nonce="n", algorithm=MD5, qop="auth", stale=false"#;

async fn ok(_: Request<Incoming>) -> Answer {
    json(200, "{}")
}

fn version(date: &str) -> Option<DefaultAccept> {
    Some(DefaultAccept::parse(date).unwrap())
}

fn default_2025(settings: &mut Settings) {
    settings.listeners[0].rules.default_accept = version("2025-03-12");
}

fn accepts(seen: &Seen) -> Vec<&str> {
    let all = seen.headers.get_all("accept").iter();
    all.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_client_that_names_no_version_gets_the_listeners() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().with(default_2025).start().await;
    let given = ["application/vnd.atlas.2025-03-12+json"];
    let own = "application/vnd.atlas.2023-01-01+json";
    for (path, fields, expected) in [
        (GROUPS, "", &given[..]),
        (GROUPS, "Accept: */*\r\n", &given),
        (
            GROUPS,
            "accept: application/json;q=0.9\r\nACCEPT: text/plain\r\n",
            &given,
        ),
        ("/api/atlas/v2/not/in/the/catalogue?a=b", "Accept: */*\r\n", &given),
        (LOG, "Accept: */*\r\n", &["application/vnd.atlas.2025-03-12+gzip"]),
        // Byte for byte, also where it names two.
        (
            GROUPS,
            "Accept: application/vnd.atlas.2023-01-01+json\r\nAccept: */*;q=0.1\r\n",
            &[own, "*/*;q=0.1"],
        ),
        (
            GROUPS,
            "Accept:   Application/vnd.atlas.2099-99-99+json ;q=1,text/html\r\n",
            &["Application/vnd.atlas.2099-99-99+json ;q=1,text/html"],
        ),
        (GROUPS, "Accept: text/html\r\n", &["text/html"]),
        // These have no versions.
        ("/api/atlas/v1.0/groups", "Accept: */*\r\n", &["*/*"]),
        ("/api/public/v1.0/groups", "", &[]),
        (
            "/api/private/ipinfo",
            "Accept: application/json\r\n",
            &["application/json"],
        ),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = upstream.last();
        assert_eq!(accepts(&seen), expected, "{path} {fields}");
        assert_eq!(seen.uri, path);
    }
}

#[tokio::test]
async fn without_the_setting_accept_stays_as_it_is() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    raw(
        proxy.address,
        format!("GET {GROUPS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(accepts(&upstream.last()).is_empty());
}

/// Each send of a request is the same: with a challenge to fetch, after a 401, after a 429.
#[tokio::test]
async fn every_send_of_a_request_names_the_version() {
    let sends = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Upstream::start(move |request: Request<Incoming>| {
        let authorized = request.headers().contains_key("authorization");
        let sent = sends.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            if !authorized || sent == 1 {
                let answer = Response::builder()
                    .status(401)
                    .header("www-authenticate", CHALLENGE.replace("\"n\"", &format!("\"n{sent}\"")));
                return answer.body(full("")).unwrap();
            }
            json(200, "{}")
        }
    })
    .await;
    let proxy = upstream.proxy_with(digest()).with(default_2025).start().await;
    let answer = client().put(proxy.url(GROUPS)).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = upstream.seen();
    assert!(seen.len() >= 3, "a challenge, its answer refused, another: {seen:?}");
    for one in &seen {
        assert_eq!(accepts(one), ["application/vnd.atlas.2025-03-12+json"]);
    }
}

#[tokio::test]
async fn each_listener_has_its_own_and_a_reload_changes_it() {
    let upstream = Upstream::start(ok).await;
    let settings = |first: Option<&str>| {
        let mut settings = upstream.proxy_with(bearer()).settings;
        settings.listeners[0].name = Some("first".to_owned());
        settings.listeners[0].rules.default_accept = first.and_then(version);
        let mut second = listener("default");
        second.name = Some("second".to_owned());
        second.rules.default_accept = version("2024-08-05");
        settings.listeners.push(second);
        settings
    };
    let mut proxy = upstream
        .proxy()
        .with(|s| *s = settings(Some("2025-03-12")))
        .start()
        .await;
    let ask = async |proxy: &crate::support::proxy::Proxy, at: usize| {
        let url = format!("{}{GROUPS}", proxy.app.listeners()[at].url);
        assert_eq!(client().get(url).send().await.unwrap().status(), 200);
        accepts(&upstream.last()).join("; ")
    };
    assert_eq!(ask(&proxy, 0).await, "application/vnd.atlas.2025-03-12+json");
    assert_eq!(ask(&proxy, 1).await, "application/vnd.atlas.2024-08-05+json");
    proxy.app.reload(settings(Some("2023-11-15"))).unwrap();
    assert_eq!(ask(&proxy, 0).await, "application/vnd.atlas.2023-11-15+json");
    proxy.app.reload(settings(None)).unwrap();
    assert_eq!(ask(&proxy, 0).await, "*/*");
    assert_eq!(ask(&proxy, 1).await, "application/vnd.atlas.2024-08-05+json");
}

/// To the gateway a leaf's request is one that names a version.
#[tokio::test]
async fn of_a_leaf_and_its_gateway_the_first_that_adds_one_wins() {
    let upstream = Upstream::start(ok).await;
    let gateway = upstream.proxy().with(default_2025).start().await;
    for (of_leaf, expected) in [("2024-05-30", "2024-05-30"), ("", "2025-03-12")] {
        let folder = tempfile::tempdir().unwrap();
        crate::callers::write(&folder, "token", &token(&IssuerKey::p256("1"), "leaf"));
        let account = format!(
            "gateway = \"http://{}\"\nidentity_token_file = \"token\"\n",
            gateway.address
        );
        let listener = match of_leaf {
            "" => String::new(),
            date => format!("[[listener]]\nbind = \"127.0.0.1:0\"\ndefault_accept = \"{date}\"\n"),
        };
        let leaf = Leaf::start(folder, &account, &listener).await;
        let status = leaf.get(GROUPS).send().await.unwrap().status();
        assert_eq!(status, 200);
        let expected = [format!("application/vnd.atlas.{expected}+json")];
        assert_eq!(accepts(&upstream.last()), expected);
    }
}
