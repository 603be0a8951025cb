//! Whatever a client sends as `Authorization`, and to the token endpoint: no panic, and nobody without a secret is taken for
//! a caller or gets a pass.
#![no_main]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use atlas_auth_proxy::caller::{
    AccountBinding, By, CallerIdentity, CallerName, CallerState, Callers, CallersSettings, Channel, Identified,
    IssuerKind, IssuerSettings, JwksSource, JwtMatch, LocalSecrets, PassSettings, Pattern, Shown, TokenAnswer,
    local_secret,
};
use atlas_auth_proxy::time::SystemClock;
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fn callers() -> &'static Callers {
    static CALLERS: OnceLock<Callers> = OnceLock::new();
    CALLERS.get_or_init(|| {
        let secret = local_secret("the-secret-that-the-fuzzer-does-not-know").expect("it is one");
        let subject = Pattern::parse("system:serviceaccount:a:*").expect("it is one");
        let caller = CallerIdentity {
            name: CallerName::parse("a").expect("it is one"),
            listeners: None,
            networks: Vec::new(),
            uids: Vec::new(),
            certificate_names: Vec::new(),
            jwt: vec![JwtMatch::new("i".to_owned(), Some(subject), BTreeMap::new()).expect("it has a subject")],
            secrets: LocalSecrets {
                current: Some(secret),
                next: None,
            },
        };
        let issuer = IssuerSettings {
            name: "i".to_owned(),
            kind: IssuerKind::Issuer("i".to_owned()),
            audience: "a".to_owned(),
            keys: JwksSource::File("/nowhere".into()),
            max_life: Duration::from_secs(u64::MAX),
            keep: Duration::from_secs(3600),
        };
        let settings = CallersSettings::new(vec![caller], vec![issuer], PassSettings::default(), 65_534);
        let state = CallerState::new(Arc::new(SystemClock)).expect("there is randomness");
        Callers::new(settings.expect("they agree"), state)
    })
}

/// Its clock is what a wait for keys is bounded by.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("it is only a clock")
    })
}

/// `None`: it would wait for keys, which never come.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fuzz_target!(|data: &[u8]| {
    let callers = callers();
    let _entered = runtime().enter();
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    for value in [first, second].into_iter().filter(|value| !value.is_empty()) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append("authorization", value);
        }
    }
    for channel in [Channel::Confidential, Channel::Plain] {
        let shown = Shown {
            listener: "l",
            peer_ip: None,
            uid: None,
            certificate: None,
            channel,
            headers: &headers,
            method: &Method::GET,
            target: "/",
            digest_md5: true,
            account: AccountBinding {
                origin: "https://cloud.mongodb.com",
                client_id: "c",
            },
        };
        if let Some(Ok(Identified::Caller { by, .. })) = at_once(callers.identify(shown)) {
            panic!("known by {}", By::as_str(by));
        }
        if let Some(TokenAnswer::Pass { .. }) = at_once(callers.token(shown)) {
            panic!("a pass");
        }
    }
    callers.revoke(data);
});
