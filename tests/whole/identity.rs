//! What gateways and leaves show, and who vouches for it: authorities of certificates, an issuer of tokens with its key set.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::issuer::{IssuerKey, jwks};
use crate::place::CENTRE;
use crate::tls::TestCa;

pub const ISSUER: &str = "https://issuer.example.org";
pub const AUDIENCE: &str = "https://gateway.example.org";
pub const KEY_SET_PORT: u16 = 8440;

/// Who vouches for whom.
pub struct Authorities {
    /// For gateways, and for the server of the key set.
    pub servers: TestCa,
    /// For leaves.
    pub leaves: TestCa,
    /// The key that signs tokens now.
    pub key: IssuerKey,
    pub key_set: Arc<KeySet>,
}

impl Authorities {
    pub async fn start() -> Self {
        let (servers, key) = (TestCa::named("servers"), IssuerKey::p256("first"));
        let key_set = KeySet::start(&servers, jwks(&[&key])).await;
        Self {
            servers,
            leaves: TestCa::named("leaves"),
            key,
            key_set,
        }
    }

    /// A token of this subject, good for an hour.
    pub fn token(&self, subject: &str) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        self.key
            .token(&json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}))
    }

    /// Another key signs from now on. Its issuer shows both.
    pub fn rotate_key(&mut self) {
        let next = IssuerKey::p256("second");
        *self.key_set.keys.lock() = jwks(&[&self.key, &next]);
        self.key = next;
    }

    /// The issuer shows no other key any more.
    pub fn forget_old_key(&self) {
        *self.key_set.keys.lock() = jwks(&[&self.key]);
    }
}

/// A server with the issuer's public keys.
pub struct KeySet {
    keys: Mutex<String>,
    pub asked: AtomicU64,
}

impl KeySet {
    async fn start(ca: &TestCa, keys: String) -> Arc<Self> {
        let set = Arc::new(Self {
            keys: Mutex::new(keys),
            asked: AtomicU64::new(0),
        });
        let socket = TcpListener::bind((CENTRE, KEY_SET_PORT)).await.unwrap();
        let tls = TlsAcceptor::from(ca.server(&[CENTRE], &["http/1.1"]));
        let served = Arc::clone(&set);
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let (tls, set) = (tls.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |_: Request<Incoming>| {
                        set.asked.fetch_add(1, Ordering::SeqCst);
                        let answer = Response::builder()
                            .header("content-type", "application/json")
                            .body(Full::new(Bytes::from(set.keys.lock().clone())))
                            .unwrap();
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        set
    }
}
