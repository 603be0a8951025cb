//! A caller's share refuses the greedy and touches nobody else.

use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::certificates::{Sender, Tls, basic};
use super::*;
use crate::support::client::{read_body, read_head};
use crate::support::{PATIENCE, until};

#[tokio::test]
async fn a_greedy_caller_is_told_when_to_come_again_and_others_are_served() {
    let callers = TWO.replacen(
        "secret_file = \"billing\"",
        "secret_file = \"billing\"\nmax_requests_per_minute = 3",
        1,
    );
    let mut gateway = Gateway::start(&callers).await;
    let ask = |gateway: &Gateway, name: &str, secret: &str| {
        gateway
            .get(&format!("/api/atlas/v2/groups/{PROJECT}/clusters"))
            .basic_auth(name, Some(secret))
    };
    for _ in 0..3 {
        passes(ask(&gateway, "billing", BILLING_SECRET)).await;
    }
    let response = ask(&gateway, "billing", BILLING_SECRET).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after));
    let said: Value = response.json().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("billing"), "{said}");
    passes(ask(&gateway, "deployer", DEPLOYER_SECRET)).await;
    // A reload is no way to get another share.
    gateway.reload(&listener(""), &callers).unwrap();
    refused(ask(&gateway, "billing", BILLING_SECRET), "PROXY_RATE_LIMITED").await;
    assert_eq!(gateway.upstream.seen().len(), 4);
}

/// What others have used up of a listener does not count against a caller elsewhere.
#[tokio::test]
async fn a_request_that_the_listener_refuses_is_not_counted_against_its_caller() {
    let callers = TWO.replacen(
        "secret_file = \"billing\"",
        "secret_file = \"billing\"\nmax_requests_per_minute = 2",
        1,
    );
    let listeners = format!(
        "{}[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n",
        listener("max_requests_per_minute = 1")
    );
    let gateway = Gateway::start_with(&listeners, &callers).await;
    let path = format!("/api/atlas/v2/groups/{PROJECT}/clusters");
    let at = |listener: usize| client().get(format!("http://{}{path}", gateway.address(listener)));
    passes(at(0).basic_auth("deployer", Some(DEPLOYER_SECRET))).await;
    for _ in 0..3 {
        let said = refused(at(0).basic_auth("billing", Some(BILLING_SECRET)), "PROXY_RATE_LIMITED").await;
        assert!(said.contains("listener"), "{said}");
    }
    passes(at(1).basic_auth("billing", Some(BILLING_SECRET))).await;
    passes(at(1).basic_auth("billing", Some(BILLING_SECRET))).await;
    let said = refused(at(1).basic_auth("billing", Some(BILLING_SECRET)), "PROXY_RATE_LIMITED").await;
    assert!(said.contains("billing"), "{said}");
}

/// Of 64 connections half are for anybody, and half are the listener's: it keeps 17 of these for whoever has just come, and
/// two callers and whoever is none have 5 each.
const CONNECTIONS: &str = "\n[limits]\nmax_connections = 64\n";
const COMMON: usize = 32;
const OWN: usize = 5;

impl Tls {
    /// Connections that this caller could have, at most: one address has a quarter.
    async fn all_of(&self, authorization: &str) -> Vec<Sender> {
        let mut held = Vec::new();
        loop {
            let mut connection = self
                .connect_from(&format!("127.0.0.{}", 2 + held.len() / 15), None)
                .await;
            if connection.get(&clusters(), Some(authorization)).await.0 != 200 {
                return held;
            }
            held.push(connection);
        }
    }
}

fn clusters() -> String {
    format!("/api/atlas/v2/groups/{PROJECT}/clusters")
}

/// Over HTTP/2 a caller's connection beyond its part ends, too, and what others ask for goes on.
#[tokio::test]
async fn a_connection_that_is_one_too_many_ends_over_http_2() {
    let tls = Tls::start(&[TWO, CONNECTIONS].concat()).await;
    let (path, greedy, modest) = (
        clusters(),
        basic("billing", BILLING_SECRET),
        basic("deployer", DEPLOYER_SECRET),
    );
    let mut held = tls.all_of(&greedy).await;
    assert_eq!(held.len(), COMMON + OWN);
    // A question about itself tells whose connection it is, too.
    for path in [&path, "/api/oauth/caller"] {
        let mut more = tls.connect_from("127.0.0.5", None).await;
        let (status, said) = more.get(path, Some(&greedy)).await;
        assert!(status == 503 && said.contains("caller `billing`: its own 5 "), "{said}");
        until("it ends", || async { more.0.is_closed() }).await;
    }
    // Whoever has its request on the same connection is not refused for that.
    let one = tls.connect_from("127.0.0.5", None).await;
    let (mut first, mut second) = (Sender(one.0.clone()), one);
    let (_, second) = tokio::join!(first.get(&path, Some(&greedy)), second.get(&path, Some(&modest)));
    assert_eq!(second.0, 200, "{}", second.1);
    // Who takes nothing of the answer holds no place for long.
    let mut slow = tls.connect_with("127.0.0.5", None, 0).await;
    let request = Request::get(format!("https://localhost{path}")).header("authorization", &greedy);
    let answer = slow
        .0
        .send_request(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    let ends = until("it ends", || async { slow.0.is_closed() });
    tokio::time::timeout(PATIENCE / 2, ends)
        .await
        .expect("long before a client that stalls is given up");
    let mut other = tls.connect_from("127.0.0.6", None).await;
    assert_eq!(other.get(&path, Some(&modest)).await.0, 200);
    // Whose request comes later on it makes no difference.
    assert_eq!(held[0].get(&path, Some(&modest)).await.0, 200);
}

/// Callers that are gone have no parts, whatever connections are open since before.
#[tokio::test]
async fn callers_that_a_reload_takes_away_leave_their_parts_to_the_others() {
    let last = &TWO[TWO.rfind("[[caller]]").unwrap()..];
    let caller = |n: usize| last.replace("name = \"deployer\"", &format!("name = \"deployer{n}\""));
    let many: String = (0..8).map(caller).collect();
    let mut tls = Tls::start(&[TWO, &many, CONNECTIONS].concat()).await;
    let greedy = basic("billing", BILLING_SECRET);
    let mut old = tls.connect_from("127.0.0.9", None).await;
    let deployer = basic("deployer", DEPLOYER_SECRET);
    assert_eq!(old.get(&clusters(), Some(&deployer)).await.0, 200);
    let listeners = tls.listeners.clone();
    tls.gateway.reload(&listeners, &[TWO, CONNECTIONS].concat()).unwrap();
    assert_eq!(tls.all_of(&greedy).await.len(), COMMON + OWN);
    assert_eq!(old.get(&clusters(), Some(&deployer)).await.0, 200);
}

/// A caller has a part where it may come, and nowhere else; whoever is none has one, too.
#[tokio::test]
async fn parts_are_for_those_who_may_come() {
    let callers = TWO
        .replacen("name = \"billing\"", "name = \"billing\"\nlisteners = [\"main\"]", 1)
        .replacen("name = \"deployer\"", "name = \"deployer\"\nlisteners = [\"other\"]", 1);
    let listeners = format!(
        "{}[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n",
        listener("callers = \"optional\"\n[[listener.rule]]\npath = \"/api/atlas/v2/groups/**\"\naction = \"allow\"")
    );
    let gateway = Gateway::start_with(&listeners, &[&callers, CONNECTIONS].concat()).await;
    let connect = async |who: Option<&str>| {
        let mut stream = TcpStream::connect(gateway.address(0)).await.unwrap();
        let who = who.map(|who| format!("Authorization: {who}\r\n")).unwrap_or_default();
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{who}\r\n", clusters());
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        read_body(&mut stream, &head).await;
        head.starts_with("HTTP/1.1 200 ").then_some(stream)
    };
    // Of each listener's 16, 8 are for whoever has just come: 4 for its caller, 4 for whoever is none.
    let mut anonymous = Vec::new();
    while let Some(stream) = connect(None).await {
        anonymous.push(stream);
    }
    assert_eq!(anonymous.len(), COMMON + 4);
    let billing = basic("billing", BILLING_SECRET);
    // A client of HTTP Digest shows nothing at first, and is asked, however many anonymous ones there are.
    let mut digest = TcpStream::connect(gateway.address(0)).await.unwrap();
    let post = "POST /api/atlas/v2/orgs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    digest.write_all(post.as_bytes()).await.unwrap();
    let head = read_head(&mut digest).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    // A connection of an anonymous one that tells who it is is that caller's from then on.
    let get = format!(
        "GET {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {billing}\r\n\r\n",
        clusters()
    );
    let mut turned = anonymous.pop().unwrap();
    turned.write_all(get.as_bytes()).await.unwrap();
    let head = read_head(&mut turned).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    anonymous.push(connect(None).await.expect("its place is free"));
    let mut named = vec![turned];
    while let Some(stream) = connect(Some(&billing)).await {
        named.push(stream);
    }
    assert_eq!(named.len(), 4);
}
