//! Where nothing shows that the upstream is a proxy, such as a company's own authority, a request that comes back is known by
//! the hops that it has behind it.

use std::net::SocketAddr;

use atlas_auth_proxy::guard::{HostName, HostNames};
use atlas_auth_proxy::server::{Bind, ListenerTls};
use atlas_auth_proxy::upstream::ConnectTo;

use super::{ATLAS, ask, get, trusting};
use crate::support::atlas::{Atlas, GROUPS};
use crate::support::client::client;
use crate::support::ports::free_address;
use crate::support::proxy::{Proxy, bearer, digest, proxy};
use crate::support::tls::TestCa;
use crate::support::upstream::{Upstream, json};

const LOOP: &str = "PROXY_LOOP";
/// A request may have passed three proxies when it comes in.
const MOST_ROUNDS: f64 = 4.0;

async fn requests(proxy: &Proxy) -> f64 {
    proxy.metric("atlas_auth_proxy_requests_total", &[]).await
}

#[tokio::test]
async fn a_circle_through_a_company_authority_ends_after_some_rounds() {
    let ca = TestCa::new();
    let identity = ca.identity(&[ATLAS], |_| ());
    let (here, there) = (free_address(), free_address());
    let proxy_at = |at: SocketAddr, to: SocketAddr| {
        let tls = ListenerTls::new(identity.certificate.as_bytes(), identity.key.as_bytes(), None).unwrap();
        proxy(&format!("https://{ATLAS}"), Some(ca.pem_file.path()), digest())
            .upstream(|upstream| upstream.connect_to = Some(ConnectTo::parse(&to.to_string()).unwrap()))
            .with(move |settings| {
                let listener = &mut settings.listeners[0];
                listener.bind = Bind::Tcp(at);
                listener.tls = Some(tls);
                listener.rules.hosts = HostNames::new([HostName::parse(ATLAS).unwrap()]);
            })
            .start()
    };
    let (first, second) = (proxy_at(here, there).await, proxy_at(there, here).await);
    let (status, body) = ask(trusting(ca.pem_file.path()), here, get(GROUPS)).await;
    assert!(status == 508 && body.contains(LOOP), "{status} {body}");
    assert!(requests(&first).await + requests(&second).await <= 2.0 * MOST_ROUNDS);
}

#[tokio::test]
async fn two_proxies_without_tls_that_lead_to_each_other_end_after_some_rounds() {
    let (here, there) = (free_address(), free_address());
    let proxy_at = |at: SocketAddr, to: SocketAddr| {
        proxy(&format!("http://{to}"), None, digest())
            .with(move |settings| settings.listeners[0].bind = Bind::Tcp(at))
            .start()
    };
    let (first, second) = (proxy_at(here, there).await, proxy_at(there, here).await);
    let answer = client().get(first.url(GROUPS)).send().await.unwrap();
    assert_eq!(answer.status(), 508);
    // From an upstream that should be Atlas no such header is passed on.
    assert!(answer.text().await.unwrap().contains(LOOP));
    assert!(requests(&first).await + requests(&second).await <= 2.0 * MOST_ROUNDS);
}

#[tokio::test]
async fn atlas_is_told_nothing_of_the_way() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream.proxy().start().await;
    let request = client().get(proxy.url(GROUPS)).header("x-atlas-auth-proxy-hops", "2");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let sent = upstream.last();
    assert!(
        !sent
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("x-atlas-auth-proxy")),
        "{:?}",
        sent.headers
    );
}

/// What is kept from a proxy that has a way of its own to Atlas: the count, and nothing else.
#[tokio::test]
async fn where_connections_are_led_elsewhere_the_hops_are_told() {
    let atlas = Atlas::start().await;
    let proxy = atlas
        .proxy(bearer())
        .upstream(|upstream| {
            let (host, port) = (upstream.origin.host().to_owned(), upstream.origin.port());
            upstream.connect_to = Some(ConnectTo::parse(&format!("{host}:{port}")).unwrap());
        })
        .start()
        .await;
    let echo = client()
        .get(proxy.url("/api/atlas/v2/emulator/echo"))
        .send()
        .await
        .unwrap();
    let echo: serde_json::Value = echo.json().await.unwrap();
    assert_eq!(echo["headers"]["x-atlas-auth-proxy-hops"], "1");
}
