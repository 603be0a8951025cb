//! The callers of a listener: who a request comes from, and whether that caller may make it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};

use super::error::ProxyError;
use super::fairness::{ConcurrencyGuard, FairnessLimits, Usage};
use super::{AccountSlot, Client, Peer, Portion, RequestRules, own_fields};
use crate::access::{CallerRules, OwnCredential, Reading, Why};
use crate::caller::{AccountBinding, By, CallerName, Callers, Channel, Identified, NotIdentified, Shown, TokenAnswer};
use crate::catalogue::Catalogue;
use crate::certificate::SubjectNames;
use crate::metrics::{CallerMetrics, Metrics};

/// What a caller may do and use.
#[derive(Clone)]
pub struct CallerTerms {
    /// Its name in log and metrics.
    pub name: CallerName,
    /// What it may do.
    pub rules: CallerRules,
    /// What it may use of Atlas, in this process.
    pub limits: FairnessLimits,
    /// Whether what it says of its own callers is recorded.
    pub delegates: bool,
}

impl fmt::Debug for CallerTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTerms")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The callers of one listener. Never edited: a reload makes others.
pub struct ListenerCallers {
    /// Whether whoever shows nothing is refused.
    pub required: bool,
    /// Whether MD5 is among the Digest challenges.
    pub digest_md5: bool,
    /// The listener's name.
    listener: String,
    callers: Arc<Callers>,
    own: OwnCredential,
    terms: Arc<[(CallerTerms, Arc<Usage>)]>,
    /// In the order of `terms`.
    metrics: Vec<CallerMetrics>,
    /// In the same order.
    portions: Vec<Option<Portion>>,
    anonymous: CallerMetrics,
    unknown: CallerMetrics,
}

/// Who a request comes from, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Who {
    /// The request was refused before that was looked at, or the listener asks nobody.
    #[default]
    NotAsked,
    /// Nothing that is shown names a caller, or what does is wrong.
    Unknown,
    /// Nothing was shown, and the listener serves such requests.
    Anonymous,
    /// The caller of this index.
    Caller(usize, By),
}

impl Who {
    /// What the caller was known by.
    pub(super) fn known_by(self) -> Option<&'static str> {
        match self {
            Self::Caller(_, by) => Some(by.as_str()),
            _ => None,
        }
    }
}

/// Where a request came in: what a listener knows of itself.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) listener: &'a str,
    /// It speaks TLS.
    pub(super) encrypted: bool,
    /// It is a unix socket, or bound to loopback.
    pub(super) local: bool,
    pub(super) account: &'a AccountSlot,
}

impl ListenerCallers {
    /// The callers at the listener named `listener`. `own`: the ids of the credentials that the proxy itself uses. `terms` are in
    /// the order of the callers' identities.
    pub fn new(
        rules: &RequestRules,
        callers: Arc<Callers>,
        own: OwnCredential,
        terms: Arc<[(CallerTerms, Arc<Usage>)]>,
        portions: Vec<Option<Portion>>,
        metrics: &Metrics,
        listener: &str,
    ) -> Self {
        Self {
            required: rules.requires_callers(),
            digest_md5: rules.digest_md5,
            listener: listener.to_owned(),
            metrics: terms
                .iter()
                .map(|(terms, _)| metrics.caller(listener, terms.name.as_str()))
                .collect(),
            anonymous: metrics.caller(listener, ANONYMOUS),
            unknown: metrics.caller(listener, UNKNOWN),
            portions,
            callers,
            own,
            terms,
        }
    }

    /// Who makes this request. `why`: why that is nobody, for the log, where such requests are served.
    ///
    /// # Errors
    /// When that is not known and must be, or what is shown is wrong.
    pub(super) async fn identify(
        &self,
        place: Place<'_>,
        client: Client<'_>,
        parts: &http::request::Parts,
        why: &mut Option<String>,
    ) -> Result<Who, ProxyError> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let account = place.account.current();
        let (headers, method, binding) = (&parts.headers, &parts.method, account.identity.binding());
        let shown = self.shown(place, client, headers, method, target, binding);
        match self.callers.identify(shown).await {
            Ok(Identified::Caller { index, by }) => return Ok(Who::Caller(index, by)),
            Ok(Identified::Anonymous { unrecognised }) => *why = Some(nobody(client, unrecognised)),
            Err(error) => return Err(self.not_identified(error)),
        }
        if !self.required {
            return Ok(Who::Anonymous);
        }
        // With a name and secret beside it, the answer must not tell whether there is such a name.
        let alone = !headers.contains_key(header::AUTHORIZATION);
        let certificate = client.certificate.filter(|_| alone).map(without_caller);
        let told = certificate.as_deref().unwrap_or(NotIdentified::NOBODY);
        let mut error = self.unknown(told, false).asking();
        error.logged = why.take();
        Err(error)
    }

    /// Whether the caller may make this request: the caller's rule that decided, if one did, and then the rule that let it
    /// through with a warning, or why it may not.
    pub(super) fn permit(
        &self,
        who: Who,
        reading: &Reading<'_>,
        catalogue: &Catalogue,
    ) -> (Option<usize>, Result<Option<usize>, ProxyError>) {
        match who {
            Who::Caller(index, _) => {
                let Some((terms, _)) = self.terms.get(index) else {
                    return (None, Err(self.unknown(NotIdentified::NOBODY, false)));
                };
                let decision = terms.rules.decide(reading, &self.own);
                let rule = match decision.why {
                    Why::Rule(rule) => Some(rule),
                    _ => None,
                };
                if decision.allowed {
                    return (rule, Ok(decision.warned));
                }
                let (who, why) = (terms.name.as_str(), decision.told(catalogue));
                let told = format!("caller `{who}` may not do this: {why}");
                (rule, Err(ProxyError::caller_denied(&told)))
            }
            // The listener's rules say what whoever shows nothing may do; the account's own credential is out of reach.
            _ if self.own.touched_by(reading).is_some() => (None, Err(self.unknown(NOT_ANONYMOUS, false))),
            _ => (None, Ok(None)),
        }
    }

    /// The caller's share of what it may use.
    ///
    /// # Errors
    /// When it has used that up.
    pub(super) fn share(&self, who: Who) -> Result<Option<ConcurrencyGuard>, ProxyError> {
        let Who::Caller(index, _) = who else { return Ok(None) };
        let Some((terms, usage)) = self.terms.get(index) else {
            return Ok(None);
        };
        match usage.share(terms.limits) {
            Ok(guard) => Ok(Some(guard)),
            Err(exceeded) => Err(ProxyError::exceeded(&format!("Caller `{}`", terms.name), &exceeded)),
        }
    }

    /// The answer to what anonymous requests may not do.
    pub(super) fn not_for_anonymous(&self) -> ProxyError {
        self.unknown(NOT_ANONYMOUS, false).asking()
    }

    /// A pass, or what else the token endpoint says.
    pub(super) async fn token(
        &self,
        place: Place<'_>,
        client: Client<'_>,
        headers: &HeaderMap,
    ) -> Result<TokenAnswer, ProxyError> {
        let account = place.account.current();
        let shown = self.shown(
            place,
            client,
            headers,
            &Method::POST,
            "/api/oauth/token",
            account.identity.binding(),
        );
        match self.callers.token(shown).await {
            TokenAnswer::Refused(error) => Err(self.not_identified(error)),
            answer => Ok(answer),
        }
    }

    /// Ends the pass that the content of a revocation request names (RFC 7009 section 2.1), if it is one.
    pub(super) fn revoke(&self, content: &[u8]) {
        self.callers.revoke(content);
    }

    /// Its name, where it has one.
    pub(super) fn name(&self, who: Who) -> Option<&CallerName> {
        match who {
            Who::Caller(index, _) => self.terms.get(index).map(|(terms, _)| &terms.name),
            _ => None,
        }
    }

    /// Whom the caller says that it acts for, where its word is recorded.
    pub(super) fn claimed_by(&self, who: Who, headers: &HeaderMap) -> Option<CallerName> {
        let Who::Caller(index, _) = who else { return None };
        let (terms, _) = self.terms.get(index)?;
        terms.delegates.then(|| own_fields::claimed_caller(headers))?
    }

    /// What the caller has of what all share; `None`: it is none.
    pub(super) fn portion(&self, who: Who) -> Option<&Portion> {
        match who {
            Who::Caller(index, _) => self.portions.get(index)?.as_ref(),
            _ => None,
        }
    }

    /// The name for log and metrics.
    pub(super) fn label(&self, who: Who) -> &str {
        match who {
            Who::NotAsked => NOT_ASKED,
            Who::Unknown => UNKNOWN,
            Who::Anonymous => ANONYMOUS,
            Who::Caller(..) => self.name(who).map_or(UNKNOWN, CallerName::as_str),
        }
    }

    /// Its metrics; `None`: that was not looked at.
    pub(super) fn metrics(&self, who: Who) -> Option<&CallerMetrics> {
        match who {
            Who::NotAsked => None,
            Who::Unknown => Some(&self.unknown),
            Who::Anonymous => Some(&self.anonymous),
            Who::Caller(index, _) => self.metrics.get(index),
        }
    }

    fn shown<'a>(
        &self,
        place: Place<'a>,
        client: Client<'a>,
        headers: &'a HeaderMap,
        method: &'a Method,
        target: &'a str,
        account: AccountBinding<'a>,
    ) -> Shown<'a> {
        let (peer_ip, uid) = match client.peer {
            Peer::Ip(ip) => (Some(ip), None),
            Peer::Unix(uid) => (None, Some(uid)),
        };
        let near = peer_ip.is_none_or(|ip| ip.is_loopback()) && place.local;
        let channel = if place.encrypted || near {
            Channel::Confidential
        } else {
            Channel::Plain
        };
        Shown {
            listener: place.listener,
            peer_ip,
            uid,
            certificate: client.certificate,
            channel,
            headers,
            method,
            target,
            account,
            digest_md5: self.digest_md5,
        }
    }

    fn not_identified(&self, error: NotIdentified) -> ProxyError {
        match error {
            NotIdentified::Unknown { why, logged, stale } => {
                let mut error = self.unknown(&why, stale);
                error.logged = logged.map(Cow::into_owned);
                error
            }
            NotIdentified::BadRequest => ProxyError::one_authorization(),
            NotIdentified::TooManyFailures { retry_after } => ProxyError::too_many_failed_checks(retry_after),
            NotIdentified::Overloaded => ProxyError::too_many_nonces(),
        }
    }

    fn unknown(&self, why: &str, stale: bool) -> ProxyError {
        ProxyError::caller_unknown(why, self.challenges(stale))
    }

    /// How a client can show who it is: the values of `WWW-Authenticate`.
    pub(super) fn challenges(&self, stale: bool) -> Vec<HeaderValue> {
        self.callers.challenges(&self.listener, stale, self.digest_md5)
    }
}

/// What the log is told where nothing names a caller.
pub(super) fn nobody(client: Client<'_>, unrecognised: Option<Cow<'static, str>>) -> String {
    let mut text = unrecognised
        .unwrap_or("the request has no `Authorization`".into())
        .into_owned();
    if let Some(names) = client.certificate {
        text = format!("{text}; {}", without_caller(names));
    }
    if let Peer::Unix(uid) = client.peer {
        text = format!("{text}; user {uid} is in no caller's `uids`");
    }
    text
}

/// Of a certificate that the handshake took.
fn without_caller(names: &SubjectNames) -> String {
    match names.told() {
        none if none.is_empty() => "the client certificate is good, but has no DNS name or URI as subject alternative name to know a caller by; its \
                                    subject counts for nothing"
            .to_owned(),
        names => format!(
            "the client certificate is good, but no `[[caller]]` of this listener has one of its names in `certificate_names`: {names}"
        ),
    }
}

const ANONYMOUS: &str = "anonymous";
const UNKNOWN: &str = "unknown";
pub(super) const NOT_ASKED: &str = "none";

const NOT_ANONYMOUS: &str = "whoever shows nothing may not do this; show who you are: docs/CALLERS.md tells how";

/// Whether the client sent a write without its content, to see first what it is asked for, as `curl --digest` does. Forwarded it
/// would be a write of its own.
pub(super) fn is_trial(parts: &http::request::Parts) -> bool {
    !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
        && !parts.headers.contains_key(header::AUTHORIZATION)
        && parts
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length == "0")
}
