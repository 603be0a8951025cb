//! What requests show, and who is known by it.
#![allow(clippy::unwrap_used)]

mod digest;
mod identity;
#[allow(unreachable_pub, dead_code)]
#[path = "../../../tests/suite/support/issuer.rs"]
mod issuer;
mod passes;
mod tokens;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;

use super::*;
use crate::certificate::SubjectNames;
use crate::time::Clock;

/// Time passes when a test says so.
pub(super) struct TestClock(Mutex<(Duration, Duration)>);

impl Default for TestClock {
    fn default() -> Self {
        Self(Mutex::new((
            Duration::from_secs(1_800_000_000),
            Duration::from_secs(5_000),
        )))
    }
}

impl TestClock {
    pub(super) fn pass(&self, time: Duration) {
        let mut both = self.0.lock();
        both.0 += time;
        both.1 += time;
    }

    pub(super) fn set_wall_back(&self, by: Duration) {
        self.0.lock().0 -= by;
    }

    /// Seconds since 1970.
    pub(super) fn unix(&self) -> u64 {
        self.0.lock().0.as_secs()
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.lock().0
    }

    fn boot(&self) -> Duration {
        self.0.lock().1
    }
}

/// The result of a future that waits for nothing.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

pub(super) fn name(text: &str) -> CallerName {
    CallerName::parse(text).unwrap()
}

pub(super) fn caller(text: &str) -> CallerIdentity {
    CallerIdentity {
        name: name(text),
        listeners: None,
        networks: Vec::new(),
        uids: Vec::new(),
        certificate_names: Vec::new(),
        jwt: Vec::new(),
        secrets: LocalSecrets::default(),
    }
}

/// The local secret of the caller with this name.
pub(super) fn secret_of(name: &str) -> String {
    format!("secret-of-{name}-{}", "0123456789abcdef".repeat(2))
}

/// With a local secret.
pub(super) fn with_secret(text: &str) -> CallerIdentity {
    CallerIdentity {
        secrets: LocalSecrets {
            current: Some(local_secret(&secret_of(text)).unwrap()),
            next: None,
        },
        ..caller(text)
    }
}

/// Some callers, a clock, and what outlives their settings.
pub(super) struct World {
    pub(super) clock: Arc<TestClock>,
    pub(super) state: Arc<CallerState>,
    pub(super) callers: Callers,
}

pub(super) fn settings(callers: Vec<CallerIdentity>) -> CallersSettings {
    CallersSettings::new(callers, Vec::new(), PassSettings::default(), 65_534).unwrap()
}

impl World {
    pub(super) fn of(callers: Vec<CallerIdentity>) -> Self {
        Self::with(settings(callers))
    }

    pub(super) fn with(settings: CallersSettings) -> Self {
        let clock = Arc::new(TestClock::default());
        let state = CallerState::new(clock.clone()).unwrap();
        Self {
            callers: Callers::new(settings, Arc::clone(&state)),
            clock,
            state,
        }
    }

    pub(super) fn reload(&mut self, settings: CallersSettings) {
        self.callers = Callers::new(settings, Arc::clone(&self.state));
    }

    /// `NAME by WAY`, `anonymous`, or why not.
    pub(super) fn who(&self, request: &Request) -> String {
        self.said(at_once(self.callers.identify(request.shown())))
    }

    pub(super) fn said(&self, result: Result<Identified, NotIdentified>) -> String {
        match result {
            Ok(Identified::Caller { index, by }) => {
                format!("{} by {}", self.callers.settings().callers()[index].name, by.as_str())
            }
            Ok(Identified::Anonymous { .. }) => "anonymous".to_owned(),
            Err(NotIdentified::Unknown { stale: true, .. }) => "stale".to_owned(),
            Err(NotIdentified::Unknown { why, .. }) if why == NotIdentified::NOBODY => "nobody".to_owned(),
            Err(NotIdentified::Unknown { why, .. }) => format!("unknown: {why}"),
            Err(other) => format!("{other:?}"),
        }
    }
}

/// A request and its connection.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) listener: String,
    pub(super) peer_ip: Option<IpAddr>,
    pub(super) uid: Option<u32>,
    pub(super) certificate: Option<SubjectNames>,
    pub(super) channel: Channel,
    pub(super) headers: HeaderMap,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) digest_md5: bool,
    pub(super) origin: String,
    pub(super) client_id: String,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            listener: "gateway".to_owned(),
            peer_ip: Some([192, 0, 2, 1].into()),
            uid: None,
            certificate: None,
            channel: Channel::Confidential,
            headers: HeaderMap::new(),
            method: Method::GET,
            target: "/api/atlas/v2/groups?pageNum=1".to_owned(),
            digest_md5: true,
            origin: "https://cloud.mongodb.com".to_owned(),
            client_id: "mdb_sa_id_1".to_owned(),
        }
    }
}

impl Request {
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown {
            listener: &self.listener,
            peer_ip: self.peer_ip,
            uid: self.uid,
            certificate: self.certificate.as_ref(),
            channel: self.channel,
            headers: &self.headers,
            method: &self.method,
            target: &self.target,
            digest_md5: self.digest_md5,
            account: AccountBinding {
                origin: &self.origin,
                client_id: &self.client_id,
            },
        }
    }

    pub(super) fn on(mut self, listener: &str) -> Self {
        self.listener = listener.to_owned();
        self
    }

    pub(super) fn peer(mut self, ip: &str) -> Self {
        self.peer_ip = Some(ip.parse().unwrap());
        self
    }

    pub(super) fn of_uid(mut self, uid: u32) -> Self {
        self.peer_ip = None;
        self.uid = Some(uid);
        self
    }

    pub(super) fn in_plain(mut self) -> Self {
        self.channel = Channel::Plain;
        self
    }

    pub(super) fn with_uris(mut self, uris: &[&str]) -> Self {
        let names = self.certificate.get_or_insert_default();
        names.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        self
    }

    pub(super) fn with_dns(mut self, dns: &[&str]) -> Self {
        let names = self.certificate.get_or_insert_default();
        names.dns = dns.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(super) fn authorization(mut self, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append("authorization", value);
        self
    }

    pub(super) fn basic(self, name: &str, secret: &str) -> Self {
        self.authorization(&format!("Basic {}", STANDARD.encode(format!("{name}:{secret}"))))
    }
}

pub(super) fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| Pattern::parse_certificate_name(text).unwrap())
        .collect()
}
