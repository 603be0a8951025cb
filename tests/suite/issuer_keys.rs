//! Keys of issuers over real TLS: where they are fetched from, with what, and where never.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::caller::{
    CallerState, Callers, CallersSettings, IssuerKind, IssuerSettings, IssuerStatus, IssuerToken, JwksSource, JwksUrl,
    PassSettings,
};
use atlas_auth_proxy::time::SystemClock;
use atlas_auth_proxy::upstream::EgressProxy;
use http::Response;
use serde_json::json;

use crate::support::client::head_of;
use crate::support::issuer::{IssuerKey, jwks};
use crate::support::until;
use crate::support::upstream::{Answer, Upstream, full};

fn answer(status: u16, body: impl Into<String>) -> Answer {
    Response::builder().status(status).body(full(body.into())).unwrap()
}

fn issuer(keys: JwksSource) -> IssuerSettings {
    IssuerSettings {
        name: "cluster".to_owned(),
        kind: IssuerKind::Issuer("https://issuer.example.org".to_owned()),
        audience: "a".to_owned(),
        keys,
        max_life: Duration::from_secs(3600),
        keep: Duration::from_secs(3600),
    }
}

fn open(url: &str, ca_file: Option<&Path>) -> JwksSource {
    JwksSource::Open {
        url: JwksUrl::parse(url).unwrap(),
        ca_file: ca_file.map(PathBuf::from),
        egress: None,
    }
}

fn callers(keys: JwksSource, state: &Arc<CallerState>) -> Callers {
    let settings = CallersSettings::new(Vec::new(), vec![issuer(keys)], PassSettings::default(), 65_534);
    Callers::new(settings.unwrap(), Arc::clone(state))
}

/// What is known after the first attempt.
async fn fetched(keys: JwksSource) -> IssuerStatus {
    let state = CallerState::new(Arc::new(SystemClock)).unwrap();
    fetched_by(&callers(keys, &state)).await
}

async fn fetched_by(callers: &Callers) -> IssuerStatus {
    let status = || callers.issuers_status().remove(0);
    let done = until("an attempt ends", async || {
        let status = status();
        status.age.is_some() || status.last_error.is_some()
    });
    tokio::select! {
        () = callers.keep_keys() => {}
        () = done => {}
    }
    status()
}

fn error(status: IssuerStatus) -> String {
    assert_eq!((status.keys, status.age), (0, None));
    status.last_error.unwrap()
}

#[tokio::test]
async fn keys_come_from_their_url_over_verified_tls() {
    let set = jwks(&[&IssuerKey::p256("1"), &IssuerKey::ed25519("2")]);
    let server = Upstream::start(move |_| {
        let set = set.clone();
        async move { answer(200, set) }
    })
    .await;
    let url = format!("{}/openid/v1/jwks?v=1", server.base_url());
    let status = fetched(open(&url, Some(&server.ca_file))).await;
    assert_eq!((status.keys, status.last_error), (2, None));
    let seen = server.last();
    assert_eq!(seen.uri, "/openid/v1/jwks?v=1");
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(seen.headers["accept"], "application/jwk-set+json, application/json");
    // The system's authorities did not sign it.
    let requests = server.seen().len();
    assert!(error(fetched(open(&url, None)).await).contains("certificate"));
    assert_eq!(server.seen().len(), requests);
}

/// As a cluster does: it lets nobody in without a token, and the token is replaced now and then.
#[tokio::test]
async fn a_token_file_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let set = jwks(&[&IssuerKey::p256("1")]);
    let server = Upstream::start(move |request| {
        let set = set.clone();
        let is_right = request
            .headers()
            .get("authorization")
            .is_some_and(|value| value == "Bearer second");
        async move { if is_right { answer(200, set) } else { answer(403, "{}") } }
    })
    .await;
    let source = JwksSource::WithToken {
        url: JwksUrl::parse(&format!("{}/keys", server.base_url())).unwrap(),
        ca_file: server.ca_file.clone(),
        token: IssuerToken::File(token_file.clone()),
    };
    let state = CallerState::new(Arc::new(SystemClock)).unwrap();
    let callers = callers(source.clone(), &state);
    assert!(error(fetched_by(&callers).await).contains("No such file"));
    assert!(server.seen().is_empty(), "nothing is asked without it");
    std::fs::write(&token_file, "first\n").unwrap();
    assert!(error(fetched(source.clone()).await).contains("403"));
    std::fs::write(&token_file, "second\n").unwrap();
    assert_eq!(fetched(source).await.keys, 1);
}

/// A token goes nowhere but to the URL of the settings.
#[tokio::test]
async fn no_redirect_is_followed() {
    let server = Upstream::start(|request| {
        let elsewhere = format!("https://{}/other", request.headers()["host"].to_str().unwrap());
        async move {
            let mut answer = answer(302, "");
            answer.headers_mut().insert("location", elsewhere.parse().unwrap());
            answer
        }
    })
    .await;
    let url = format!("{}/keys", server.base_url());
    let said = error(fetched(open(&url, Some(&server.ca_file))).await);
    assert!(said.contains("no redirect is followed"), "{said}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    for (length, fits) in [(256 << 10, true), ((256 << 10) + 1, false)] {
        let set = jwks(&[&IssuerKey::p256("1")]);
        let set = format!("{}{set}", " ".repeat(length - set.len()));
        let server = Upstream::start(move |_| {
            let set = set.clone();
            async move { answer(200, set) }
        })
        .await;
        let status = fetched(open(&server.base_url(), Some(&server.ca_file))).await;
        assert_eq!(status.keys, usize::from(fits), "{:?}", status.last_error);
        assert!(fits || error(status).contains("256 KiB"));
    }
}

#[tokio::test]
async fn an_egress_proxy_is_used_where_the_settings_say_so() {
    let server = Upstream::start(|_| async { answer(200, json!({"keys": []}).to_string()) }).await;
    let egress = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = egress.local_addr().unwrap();
    let refuses = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = egress.accept().await.unwrap();
        let head = head_of(&mut stream).await.expect("a whole head");
        stream
            .write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        head
    });
    let source = JwksSource::Open {
        url: JwksUrl::parse(&server.base_url()).unwrap(),
        ca_file: Some(server.ca_file.clone()),
        egress: Some(EgressProxy::parse(&format!("http://{address}")).unwrap()),
    };
    assert!(error(fetched(source).await).contains("egress proxy"));
    assert!(refuses.await.unwrap().starts_with("CONNECT localhost:"));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let (first, second) = (IssuerKey::p256("1"), IssuerKey::p256("2"));
    std::fs::write(&path, jwks(&[&first])).unwrap();
    let state = CallerState::new(Arc::new(SystemClock)).unwrap();
    let callers = callers(JwksSource::File(path.clone()), &state);
    let count = || callers.issuers_status()[0].keys;
    let changes = async {
        until("the file is read", async || count() == 1).await;
        std::fs::write(&path, jwks(&[&first, &second])).unwrap();
        until("it is read again", async || count() == 2).await;
        std::fs::write(&path, "half of a").unwrap();
        until("it is read again", async || {
            callers.issuers_status()[0].last_error.is_some()
        })
        .await;
        assert_eq!(count(), 2, "a bad file leaves the keys");
    };
    tokio::select! {
        () = callers.keep_keys() => {}
        () = changes => {}
    }
}

/// A reload that leaves the source alone leaves the keys, too.
#[tokio::test]
async fn keys_outlive_a_reload() {
    let set = jwks(&[&IssuerKey::p256("1")]);
    let server = Upstream::start(move |_| {
        let set = set.clone();
        async move { answer(200, set) }
    })
    .await;
    let source = open(&server.base_url(), Some(&server.ca_file));
    let state = CallerState::new(Arc::new(SystemClock)).unwrap();
    let before = callers(source.clone(), &state);
    assert_eq!(fetched_by(&before).await.keys, 1);
    let after = callers(source, &state);
    drop(before);
    assert_eq!(fetched_by(&after).await.keys, 1);
    assert_eq!(server.seen().len(), 1);
}
