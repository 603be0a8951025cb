//! An account whose upstream is a gateway of this program: what it is shown, whether the gateway knows that, and as whom.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;

use super::api::CALL;
use super::network::of;
use super::{Patient, span};
use crate::atlas_api::{ApiAnswer, ApiClient, AtlasApi, CallError};
use crate::certificate;
use crate::credential::identity::{Identity, IdentityEvents, IdentityFiles, IdentitySettings, Shown, detail, time};
use crate::report::Status;
use crate::upstream::certificate_refusal;

/// Where a gateway says as whom it knows the caller.
const CALLER: &str = "/api/oauth/caller";
/// Marks what a proxy of this program answers itself.
const ERROR_HEADER: &str = "x-atlas-auth-proxy-error";
/// How often a connection that broke without a word is made again.
const MOST_REPEATS: usize = 3;
/// The most characters of a name that a token or a gateway tells.
const LONGEST_NAME: usize = 200;

impl Patient<'_> {
    /// Whether the identity can be good at all. It is read with the configuration.
    pub(super) fn say_identity(&mut self, settings: &IdentitySettings) -> bool {
        match (&*settings.first, &settings.files) {
            (Shown::Certificate(pair), IdentityFiles::Certificate { certificate, .. }) => {
                let first = pair.cert.first().map(|first| first.as_ref()).unwrap_or_default();
                let names = certificate::alternative_names(first).join(", ");
                let what = format!("the certificate in {} ({names})", certificate.display());
                if !certificate::is_for_clients(first) {
                    let found = format!("{what} is not for clients: its extended key usage has no `clientAuth`");
                    let hint =
                        "a gateway takes certificates for client authentication alone: have one made with `clientAuth`";
                    self.add("identity", Status::Fail, found, Some(hint.to_owned()));
                    return false;
                }
                self.judge_times(
                    &what,
                    certificate::validity(first),
                    "renew it; the new one is read within a second",
                )
            }
            (token, IdentityFiles::Token(file)) => {
                let claims = token.claims().unwrap_or_default();
                let what = format!("the token in {} ({})", file.display(), told(&claims));
                let from = time(&claims, "nbf").unwrap_or(SystemTime::UNIX_EPOCH);
                let hint =
                    "whoever writes the file has to renew it (in Kubernetes the kubelet: is the volume `projected`?)";
                self.judge_times(&what, token.until().map(|until| (from, until)), hint)
            }
            (token, IdentityFiles::Command(printer)) => {
                let claims = token.claims().unwrap_or_default();
                let program = printer.command().program.display();
                let what = format!("the token that {program} prints ({})", told(&claims));
                let from = time(&claims, "nbf").unwrap_or(SystemTime::UNIX_EPOCH);
                self.judge_times(
                    &what,
                    token.until().map(|until| (from, until)),
                    "the command has to print one that is good",
                )
            }
            // They are read from each other.
            _ => true,
        }
    }

    /// False: it is not good now.
    fn judge_times(&mut self, what: &str, times: Option<(SystemTime, SystemTime)>, hint: &str) -> bool {
        let now = self.around.clock.wall();
        let (status, found, hint) = match times {
            None => (Status::Warn, format!("{what} does not say when it ends"), Some(hint)),
            Some((from, _)) if now < from => (
                Status::Fail,
                format!(
                    "{what} is valid from {} on; this machine's clock says {}",
                    of(from),
                    of(now)
                ),
                Some("if that clock is behind, set it"),
            ),
            Some((_, until)) => match until.duration_since(now) {
                Ok(left) => (Status::Ok, format!("{what} is good for {}", span(left)), None),
                Err(since) => (
                    Status::Fail,
                    format!("{what} expired {} ago", span(since.duration())),
                    Some(hint),
                ),
            },
        };
        self.add("identity", status, found, hint.map(str::to_owned));
        status != Status::Fail
    }

    /// What the gateway is asked with.
    pub(super) fn identity(&self, settings: &IdentitySettings) -> Arc<Identity> {
        Arc::new(Identity::new(
            self.name,
            settings,
            Arc::clone(&self.around.clock),
            Arc::new(Unheard),
        ))
    }

    /// Whether the gateway knows the identity, and lets one call through to Atlas.
    pub(super) async fn with_identity(&mut self, identity: &Arc<Identity>, good: bool, tls: ClientConfig) {
        let client = ApiClient::new(
            &self.account.upstream,
            identity.shown_by(tls),
            Arc::clone(&self.around.clock),
        );
        self.clock(client.http()).await;
        if !good {
            return self.skip(&["caller", "api"], "what the gateway would be shown is not good");
        }
        let api = client.with_authorization(identity.authorization());
        match self.asks_who_it_is(&api).await {
            Ok(()) => self.one_call_through(&api).await,
            Err(why) => self.skip(&["api"], why),
        }
    }

    async fn asks_who_it_is(&mut self, api: &AtlasApi) -> Result<(), &'static str> {
        self.begin("caller", "asking the gateway who this is");
        let mut answer = api.call(Method::GET, CALLER, None).await;
        // Where sending fails first, the alert that says why is lost with the connection.
        for _ in 0..MOST_REPEATS {
            let lost = |error: &CallError| certificate_refusal(&error.to_string()).is_none();
            if !self.shows_certificate() || !answer.as_ref().is_err_and(lost) {
                break;
            }
            answer = api.call(Method::GET, CALLER, None).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(refusal) = certificate_refusal(&error.to_string()) {
                    self.add("caller", Status::Fail, refusal, None);
                    return Err("the gateway refused the client certificate");
                }
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
        let code = code(&answer.headers);
        let detail = code.and_then(|_| detail(&answer.body));
        let said = detail
            .as_deref()
            .map_or_else(String::new, |detail| format!(": {detail}"));
        let found = format!("GET {CALLER}: {}{said}", answer.summary());
        let hint = match code {
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
            Some("PROXY_CALLER_UNKNOWN") => match self.unknown_hint(detail.as_deref().unwrap_or_default()) {
                Some(hint) => hint,
                None => {
                    self.add("caller", Status::Fail, found, None);
                    return Err("the gateway does not let this in");
                }
            },
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

    /// What the gateway must have to know what it is shown; `None`: its words say all.
    fn unknown_hint(&self, detail: &str) -> Option<String> {
        let crate::credential::CredentialSettings::Identity(settings) = &self.account.credential else {
            return None;
        };
        // Of the details that a gateway of this program gives: what is wrong is the token or certificate itself, or the
        // settings of callers in a way that they name.
        const SAY_ALL: [&str; 7] = [
            "expired",
            "max_life",
            "not valid yet",
            "ends before",
            "two callers",
            "has no `",
            "which are not",
        ];
        if SAY_ALL.iter().any(|part| detail.contains(part)) {
            return None;
        }
        Some(match (&*settings.first, settings.first.claims()) {
            (_, Some(claims)) => {
                let told = told(&claims);
                if detail.contains("`aud`") {
                    format!("the token must have what the gateway's `[[issuer]]` has as `audience`: {told}")
                } else if detail.contains("no caller") {
                    format!("the gateway needs a `[[caller]]` with `jwt` for this subject, on this listener: {told}")
                } else if detail.contains("key") || detail.contains("signature") {
                    format!(
                        "does `jwks_url` or `jwks_file` of the gateway's `[[issuer]]` give the keys of this one? {told}"
                    )
                } else {
                    format!(
                        "the gateway needs an `[[issuer]]` with this issuer and audience, and a `[[caller]]` with `jwt` for this subject, on this listener: {told}"
                    )
                }
            }
            (Shown::Certificate(pair), None) => {
                let first = pair.cert.first().map(|first| first.as_ref()).unwrap_or_default();
                format!(
                    "the gateway needs a `[[caller]]` with one of these names in `certificate_names`, on this listener: {}",
                    certificate::alternative_names(first).join(", ")
                )
            }
            (Shown::Token(_), None) => return None,
        })
    }

    /// Whether a gateway is shown a certificate in each handshake.
    pub(super) fn shows_certificate(&self) -> bool {
        let crate::credential::CredentialSettings::Identity(settings) = &self.account.credential else {
            return false;
        };
        matches!(*settings.first, Shown::Certificate(_))
    }

    async fn one_call_through(&mut self, api: &AtlasApi) {
        self.begin("api", format!("asking for {CALL}"));
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
                let said = detail(&answer.body).map_or_else(String::new, |detail| format!(": {detail}"));
                let found = format!(
                    "GET {CALL}: HTTP {} ({code}) of the gateway itself{said}",
                    status.as_u16()
                );
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

struct Unheard;

impl IdentityEvents for Unheard {
    fn usable(&self, _: bool) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_is_told() {
        let claims = serde_json::json!({"iss": "i", "aud": ["a", "b"], "sub": "s"});
        assert_eq!(told(&claims), "issuer i, audience a b, subject s");
        assert_eq!(told(&Value::Null), "issuer none, audience none, subject none");
    }
}
