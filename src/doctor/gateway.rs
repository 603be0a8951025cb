//! An account whose upstream is a gateway of this program: what it is shown, whether the gateway knows that, and as whom.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;

use super::api::CALL;
use super::network::of;
use super::{Patient, span};
use crate::atlas_api::{ApiAnswer, ApiClient, AtlasApi};
use crate::certificate;
use crate::credential::identity::{Identity, IdentityEvents, IdentityFiles, IdentitySettings, Shown};
use crate::report::Status;

/// Where a gateway says as whom it knows the caller.
const CALLER: &str = "/api/oauth/caller";
/// Marks what a proxy of this program answers itself.
const ERROR_HEADER: &str = "x-atlas-auth-proxy-error";
/// The most characters of a name that a token or a gateway tells.
const LONGEST_NAME: usize = 200;

impl Patient<'_> {
    /// Whether the identity can be good at all. It is read with the configuration.
    pub(super) fn say_identity(&mut self, settings: &IdentitySettings) {
        match (&*settings.first, &settings.files) {
            (Shown::Certificate(pair), IdentityFiles::Certificate { certificate, .. }) => {
                let first = pair.cert.first().map(|first| first.as_ref()).unwrap_or_default();
                let names = certificate::alternative_names(first).join(", ");
                let what = format!("the certificate in {} ({names})", certificate.display());
                self.judge_times(
                    &what,
                    certificate::validity(first),
                    "renew it; the new one is read within a second",
                );
            }
            (Shown::Token(field), IdentityFiles::Token(file)) => {
                let claims = field.to_str().ok().and_then(claims);
                let what = format!("the token in {}", file.display());
                let Some(claims) = claims else {
                    let found = format!("{what} is no JSON Web Token");
                    let hint = "a gateway takes JSON Web Tokens of its issuers: is it the right file?".to_owned();
                    return self.add("identity", Status::Warn, found, Some(hint));
                };
                let what = format!("{what} ({})", told(&claims));
                let time = |claim: &str| claims[claim].as_u64().and_then(of_unix);
                let (from, until) = (time("nbf").unwrap_or(SystemTime::UNIX_EPOCH), time("exp"));
                let hint =
                    "whoever writes the file has to renew it (in Kubernetes the kubelet: is the volume `projected`?)";
                self.judge_times(&what, until.map(|until| (from, until)), hint);
            }
            // They are read from each other.
            _ => {}
        }
    }

    fn judge_times(&mut self, what: &str, times: Option<(SystemTime, SystemTime)>, hint: &str) {
        let now = self.around.clock.wall();
        let hint = || Some(hint.to_owned());
        match times {
            None => self.add(
                "identity",
                Status::Warn,
                format!("{what} does not say when it ends"),
                hint(),
            ),
            Some((from, _)) if now < from => {
                let found = format!(
                    "{what} is valid from {} on; this machine's clock says {}",
                    of(from),
                    of(now)
                );
                self.add(
                    "identity",
                    Status::Fail,
                    found,
                    Some("if that clock is behind, set it".to_owned()),
                );
            }
            Some((_, until)) => match until.duration_since(now) {
                Ok(left) => self.add(
                    "identity",
                    Status::Ok,
                    format!("{what} is good for {}", span(left)),
                    None,
                ),
                Err(since) => {
                    let found = format!("{what} expired {} ago", span(since.duration()));
                    self.add("identity", Status::Fail, found, hint());
                }
            },
        }
    }

    /// What the gateway is asked with.
    pub(super) fn identity(&self, settings: &IdentitySettings) -> Arc<Identity> {
        Arc::new(Identity::new(self.name, settings, Arc::new(Unheard)))
    }

    /// Whether the gateway knows the identity, and lets one call through to Atlas.
    pub(super) async fn with_identity(&mut self, identity: &Arc<Identity>, tls: ClientConfig) {
        let client = ApiClient::new(
            &self.account.upstream,
            identity.shown_by(tls),
            Arc::clone(&self.around.clock),
        );
        self.clock(client.http()).await;
        let api = client.with_authorization(identity.authorization());
        match self.asks_who_it_is(&api).await {
            Ok(()) => self.one_call_through(&api).await,
            Err(why) => self.skip(&["api"], why),
        }
    }

    async fn asks_who_it_is(&mut self, api: &AtlasApi) -> Result<(), &'static str> {
        let answer = match api.call(Method::GET, CALLER, None).await {
            Ok(answer) => answer,
            Err(error) => {
                let hint = "it takes connections, and ends this one without an answer: a gateway that wants a client certificate does that to whoever \
                            shows none, or one that `client_ca`, `client_crl` or `client_names` of its [listener.tls] doesn't let in";
                self.add("caller", Status::Fail, error.to_string(), Some(hint.to_owned()));
                return Err("the gateway gave no answer");
            }
        };
        let name = answer.body["caller"].as_str().filter(|_| answer.status.is_success());
        if let Some(name) = name {
            let by = answer.body["identified_by"].as_str().unwrap_or("nothing");
            let found = format!(
                "the gateway knows this as caller `{}`, by {}",
                bounded(name),
                bounded(by)
            );
            self.add("caller", Status::Ok, found, None);
            return Ok(());
        }
        let found = format!("GET {CALLER}: {}", answer.summary());
        let hint = match code(&answer.headers) {
            None => {
                let hint = "this is no gateway of this program: look at `gateway` (ATLAS_PROXY_GATEWAY), and at what stands in between";
                self.add("caller", Status::Fail, found, Some(hint.to_owned()));
                return Err("there is no gateway");
            }
            Some("PROXY_RULE_DENIED") => {
                let found = "the gateway asks nobody who it is: it has no callers".to_owned();
                let hint = "whoever reaches it acts with all its rights: name the callers there (`[[caller]]`)".to_owned();
                self.add("caller", Status::Warn, found, Some(hint));
                return Ok(());
            }
            Some("PROXY_CALLER_UNKNOWN") => self.unknown_hint(),
            Some("PROXY_HOST_DENIED") => format!(
                "the gateway is not known by this name: add `{}` to `hosts` of its listener",
                self.origin().host()
            ),
            Some("PROXY_IP_DENIED") => "the gateway's listener does not let this address in: `allow` there".to_owned(),
            Some("PROXY_HEADER_REQUIRED") => {
                "the gateway's listener has a `required_header`, which a leaf doesn't send: give leaves a listener without one".to_owned()
            }
            Some("PROXY_RATE_LIMITED") => "too many tokens from this address were wrong in the last minute: wait for it".to_owned(),
            Some(_) => "look at the gateway's log".to_owned(),
        };
        self.add("caller", Status::Fail, found, Some(hint));
        Err("the gateway does not let this in")
    }

    /// What the gateway must have to know what it is shown.
    fn unknown_hint(&self) -> String {
        let crate::credential::CredentialSettings::Identity(settings) = &self.account.credential else {
            return String::new();
        };
        match &*settings.first {
            Shown::Token(field) => match field.to_str().ok().and_then(claims) {
                Some(claims) => format!(
                    "the gateway needs an `[[issuer]]` with this issuer and audience, and a `[[caller]]` with `jwt` for this subject, on this listener: {}",
                    told(&claims)
                ),
                None => "the gateway takes JSON Web Tokens of its issuers, and this is none".to_owned(),
            },
            Shown::Certificate(pair) => {
                let first = pair.cert.first().map(|first| first.as_ref()).unwrap_or_default();
                format!(
                    "the gateway needs a `[[caller]]` with one of these names in `certificate_names`, on this listener: {}",
                    certificate::alternative_names(first).join(", ")
                )
            }
        }
    }

    async fn one_call_through(&mut self, api: &AtlasApi) {
        let answer = match api.call(Method::GET, CALL, None).await {
            Ok(answer) => answer,
            Err(error) => {
                let hint = "the gateway answered a moment ago: try again".to_owned();
                return self.add("api", Status::Fail, error.to_string(), Some(hint));
            }
        };
        match code(&answer.headers).map(|code| (code, answer.status)) {
            None => self.judge_atlas(&answer),
            Some(("PROXY_RULE_DENIED", StatusCode::FORBIDDEN)) => {
                let found = format!("not tried: the gateway's rules don't allow this caller GET {CALL}");
                self.add("api", Status::Skip, found, None);
            }
            Some((code, status)) => {
                let found = format!("GET {CALL}: HTTP {} ({code}) of the gateway itself", status.as_u16());
                let hint = "the gateway can't ask Atlas now: `atlas-auth-proxy check` there tells why".to_owned();
                self.add("api", Status::Fail, found, Some(hint));
            }
        }
    }

    fn judge_atlas(&mut self, answer: &ApiAnswer) {
        if answer.status == StatusCode::UNAUTHORIZED || answer.status == StatusCode::FORBIDDEN {
            let found = format!("GET {CALL}: {}", answer.summary());
            let hint = "Atlas refuses the gateway's credential: `atlas-auth-proxy check` there tells why".to_owned();
            return self.add("api", Status::Fail, found, Some(hint));
        }
        self.judge(answer);
    }
}

/// The code of an answer that a proxy of this program made itself.
fn code(headers: &HeaderMap) -> Option<&str> {
    let code = headers.get(ERROR_HEADER)?.to_str().ok()?;
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    (code.len() <= LONGEST_NAME && code.bytes().all(fits)).then_some(code)
}

/// What the token in an `Authorization` field says of itself. Nothing is verified: the gateway does that.
fn claims(field: &str) -> Option<Value> {
    let mut parts = field.strip_prefix("Bearer ")?.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.is_object().then_some(claims)
}

/// `issuer …, audience …, subject …`
fn told(claims: &Value) -> String {
    let audience = match &claims["aud"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        one => one.as_str().unwrap_or_default().to_owned(),
    };
    let text = |claim: &str| bounded(claims[claim].as_str().unwrap_or_default());
    format!(
        "issuer {}, audience {}, subject {}",
        text("iss"),
        bounded(&audience),
        text("sub")
    )
}

/// Text of a token or a gateway.
fn bounded(text: &str) -> String {
    match text {
        "" => "none".to_owned(),
        text => text.chars().take(LONGEST_NAME).collect(),
    }
}

fn of_unix(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

struct Unheard;

impl IdentityEvents for Unheard {
    fn usable(&self, _: bool) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_token_or_none() {
        let token = |claims: &str| format!("Bearer e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let read = claims(&token(
            r#"{"iss":"i","aud":["a","b"],"sub":"s","exp":18446744073709551615}"#,
        ))
        .unwrap();
        assert_eq!(told(&read), "issuer i, audience a b, subject s");
        assert_eq!(of_unix(u64::MAX), None);
        assert_eq!(
            told(&claims(&token("{}")).unwrap()),
            "issuer none, audience none, subject none"
        );
        for none in [
            "",
            "Bearer ",
            "Bearer a.b",
            "Bearer a.b.c.d",
            "Bearer a.%.c",
            &token("[1]"),
            &token("x"),
        ] {
            assert_eq!(claims(none), None, "{none}");
        }
    }
}
