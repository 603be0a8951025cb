//! Bearer tokens (RFC 6750): our passes, and the tokens of issuers.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::callers::{Callers, Found, PLAIN};
use super::failures::Peer;
use super::good_tokens::{self, Good};
use super::issuer_keys::IssuerKeys;
use super::jwt::{LEEWAY, Signed, Token};
use super::pass::{self, Content, MadeFrom, Opened, Vouched};
use super::shown::{Channel, Recognised};
use super::{By, CallerState, CallersSettings, IssuerKind, IssuerSettings, NotIdentified, Shown};

const NOT_OURS: NotIdentified = NotIdentified::unknown(
    "this pass was not made here, or with a key that is no longer used: ask /api/oauth/token for another",
);
const OVER: NotIdentified = NotIdentified::unknown("the pass has ended: ask /api/oauth/token for another");
const ELSEWHERE: NotIdentified = NotIdentified::unknown("the pass is for another listener or account");
const NO_LONGER: NotIdentified = NotIdentified::unknown(
    "what the pass was made from no longer names its caller (a secret was replaced, or the settings have changed): ask /api/oauth/token for another",
);

/// An issuer, and what of its tokens matters.
pub(super) struct Issuer {
    pub(super) keys: Arc<IssuerKeys>,
    /// Tells it from the others, also in passes of other replicas.
    id: String,
    /// The claims that some caller's settings name.
    claims: BTreeSet<String>,
}

/// A verified token.
pub(super) struct Proven {
    pub(super) index: usize,
    pub(super) vouched: Vouched,
    /// `exp`
    pub(super) ends: u64,
    issuer: usize,
    generation: u64,
}

/// Why a token is wrong.
struct Fault {
    why: NotIdentified,
    /// It is the sender's, and not that the issuer is away.
    is_senders: bool,
}

impl From<&'static str> for Fault {
    fn from(why: &'static str) -> Self {
        NotIdentified::unknown(why).into()
    }
}

impl From<NotIdentified> for Fault {
    fn from(why: NotIdentified) -> Self {
        Self { why, is_senders: true }
    }
}

impl Issuer {
    pub(super) fn new(issuer: &IssuerSettings, settings: &CallersSettings, state: &CallerState) -> Self {
        let (by, value) = match &issuer.kind {
            IssuerKind::Issuer(iss) => ("iss", iss),
            IssuerKind::Spiffe { trust_domain } => ("spiffe", trust_domain),
        };
        let wanted = settings.callers().iter().flat_map(|caller| &caller.jwt);
        let wanted = wanted.filter(|wanted| wanted.issuer() == issuer.name);
        Self {
            keys: state.issuer_keys(issuer),
            id: format!("{by}\n{value}\n{}", issuer.audience),
            claims: wanted.flat_map(|wanted| wanted.claims().keys().cloned()).collect(),
        }
    }
}

fn is_of(token: &Token<'_>, issuer: &IssuerSettings) -> bool {
    match &issuer.kind {
        IssuerKind::Issuer(iss) => token.issuer() == Some(iss),
        IssuerKind::Spiffe { trust_domain } => token.trust_domain() == Some(trust_domain),
    }
}

impl Callers {
    pub(super) async fn by_bearer(&self, text: &str, shown: &Shown<'_>) -> Result<Recognised<Found>, NotIdentified> {
        if pass::looks_like_one(text) {
            return Ok(Recognised::Caller((self.by_pass(text, shown)?, By::Pass)));
        }
        if self.issuers.is_empty() {
            return Ok(Recognised::Placeholder(
                "the bearer token is no pass, and no `[[issuer]]` is there that it could be of".into(),
            ));
        }
        let hash = good_tokens::hash(text, shown.listener);
        if shown.channel == Channel::Confidential
            && let Some(good) = self.good_tokens.lock().get(&hash)
            && self.still_holds(good)
        {
            return Ok(Recognised::Caller((good.index, By::Jwt)));
        }
        let proven = match self.by_token(text, shown).await? {
            Recognised::Caller(proven) => proven,
            Recognised::Placeholder(why) => {
                return Ok(Recognised::Placeholder(format!("the bearer token {why}").into()));
            }
        };
        let good = Good {
            index: proven.index,
            ends: proven.ends.saturating_add(LEEWAY),
            issuer: proven.issuer,
            generation: proven.generation,
        };
        self.good_tokens.lock().add(hash, good, self.state.now());
        Ok(Recognised::Caller((proven.index, By::Jwt)))
    }

    fn still_holds(&self, good: Good) -> bool {
        let keep = self.settings.issuers()[good.issuer].keep;
        let current = self.issuers[good.issuer].keys.usable(keep);
        self.state.now() < good.ends && current.is_some_and(|keys| keys.number == good.generation)
    }

    fn by_pass(&self, text: &str, shown: &Shown<'_>) -> Result<usize, NotIdentified> {
        if shown.channel != Channel::Confidential {
            return Err(PLAIN);
        }
        let opened = Opened::open(text, &self.derived).ok_or(NOT_OURS)?;
        let content = opened.content().ok_or(NOT_OURS)?;
        if content.ends <= self.state.now() {
            return Err(OVER);
        }
        if !content.is_for(shown.listener, shown.account) {
            return Err(ELSEWHERE);
        }
        let index = self.named_by(&content, opened.key, shown.listener).ok_or(NO_LONGER)?;
        let name = &self.settings.callers()[index].name;
        if self.state.revoked.lock().contains(name, &opened.id, content.made) {
            return Err(OVER);
        }
        Ok(index)
    }

    /// The caller of a pass, if what it was made from still names it.
    fn named_by(&self, content: &Content<'_>, key: usize, listener: &str) -> Option<usize> {
        let index = *self.by_name.get(&*content.caller)?;
        match &content.from {
            MadeFrom::Secret(hash) => {
                let hash = URL_SAFE_NO_PAD.decode(&**hash).ok()?;
                let is_named = self.settings.callers()[index].is_on(listener) && self.secrets[index].is(key, &hash);
                is_named.then_some(index)
            }
            MadeFrom::Token(vouched) => {
                let named = self.by_vouched(vouched, listener).ok().flatten();
                named.filter(|named| *named == index)
            }
        }
    }

    /// A token of an issuer, by its own word one that is known here. Why it is none follows `the token`.
    pub(super) async fn by_token(&self, text: &str, shown: &Shown<'_>) -> Result<Recognised<Proven>, NotIdentified> {
        let Some(token) = Token::read(text) else {
            return Ok(Recognised::Placeholder("is no JSON Web Token".into()));
        };
        let all = self.settings.issuers().iter().enumerate();
        let known: Vec<usize> = all
            .filter(|(_, issuer)| is_of(&token, issuer))
            .map(|(at, _)| at)
            .collect();
        if known.is_empty() {
            let text = format!(
                "is of an issuer that no `[[issuer]]` here is: its `iss` is {}",
                token.told("iss")
            );
            return Ok(Recognised::Placeholder(text.into()));
        }
        if shown.channel != Channel::Confidential {
            return Err(PLAIN);
        }
        let peer = Peer::of(shown);
        self.may_check(peer)?;
        match self.verify(&token, known, shown.listener, peer).await {
            Ok(proven) => Ok(Recognised::Caller(proven)),
            Err(fault) => {
                if fault.is_senders {
                    self.state.failures.lock().add(peer, self.state.clock.boot());
                }
                Err(fault.why)
            }
        }
    }

    /// Refuses who has sent too many tokens that were wrong.
    fn may_check(&self, peer: Peer) -> Result<(), NotIdentified> {
        match self.state.failures.lock().pause(peer, self.state.clock.boot()) {
            Some(retry_after) => Err(NotIdentified::TooManyFailures { retry_after }),
            None => Ok(()),
        }
    }

    async fn verify(
        &self,
        token: &Token<'_>,
        mut issuers: Vec<usize>,
        listener: &str,
        peer: Peer,
    ) -> Result<Proven, Fault> {
        let all = self.settings.issuers();
        let known = issuers.clone();
        issuers.retain(|at| token.is_for(&all[*at].audience));
        let [issuer] = issuers[..] else {
            let wanted: Vec<_> = known
                .iter()
                .map(|at| format!("`{}` of issuer `{}`", all[*at].audience, all[*at].name))
                .collect();
            let logged = format!(
                "the token's `aud` is {}, which is to hold one audience of these: {}",
                token.told("aud"),
                wanted.join(", ")
            );
            return Err(
                NotIdentified::unknown("the token's `aud` is not the audience of one issuer here")
                    .logged(logged)
                    .into(),
            );
        };
        let IssuerSettings { name, max_life, .. } = &all[issuer];
        let of_issuer = |why: &'static str| {
            let [sub, iat, exp] = ["sub", "iat", "exp"].map(|claim| token.told(claim));
            let logged = format!(
                "{why} (issuer `{name}`; `sub` {sub}, `iat` {iat}, `exp` {exp}, now {})",
                self.state.now()
            );
            NotIdentified::unknown(why).logged(logged)
        };
        let subject = token.subject().ok_or("the token has no `sub`").map_err(of_issuer)?;
        let signed = token.signed().map_err(of_issuer)?;
        let ends = token.times(self.state.now(), *max_life).map_err(of_issuer)?;
        let generation = self.signed_by(token, &signed, issuer, peer).await?;
        let Issuer { id, claims, .. } = &self.issuers[issuer];
        let vouched = Vouched {
            issuer: id.clone(),
            subject: subject.to_owned(),
            claims: claims.iter().map(|name| (name.clone(), token.claim(name))).collect(),
        };
        let index = self.by_vouched(&vouched, listener)?;
        Ok(Proven {
            index: index
                .ok_or("the token is good, but fits no caller of this listener")
                .map_err(of_issuer)?,
            vouched,
            ends,
            issuer,
            generation,
        })
    }

    /// Checks the signature with the keys of this issuer alone, and returns which set of them it was.
    async fn signed_by(&self, token: &Token<'_>, signed: &Signed<'_>, issuer: usize, peer: Peer) -> Result<u64, Fault> {
        let keep = self.settings.issuers()[issuer].keep;
        let source = &self.issuers[issuer].keys;
        let mut is_fresh = false;
        loop {
            if let Some(current) = source.usable(keep) {
                let mut keys = current.keys.for_token(signed.kid, signed.algorithm);
                if keys.any(|key| token.is_by(key, signed.algorithm)) {
                    return Ok(current.number);
                }
                if is_fresh || current.keys.has(signed.kid) {
                    let has = if current.keys.has(signed.kid) {
                        "has"
                    } else {
                        "does not have"
                    };
                    let (issuer, kid) = (&self.settings.issuers()[issuer].name, token.kid_told());
                    return Err(NotIdentified::unknown("the token's signature is by no key of its issuer")
                        .logged(format!(
                            "the token's signature is by no key of issuer `{issuer}`, which {has} one with the token's `kid`, {kid}"
                        ))
                        .into());
                }
            } else if is_fresh {
                return Err(Fault {
                    why: NotIdentified::unknown(
                        "the keys of the token's issuer can't be had at the moment: try again later",
                    ),
                    is_senders: false,
                });
            }
            source.refresh().await;
            is_fresh = true;
            // Many may have waited for the same keys.
            self.may_check(peer).map_err(|why| Fault { why, is_senders: false })?;
        }
    }

    /// Whom an issuer vouches for.
    fn by_vouched(&self, vouched: &Vouched, listener: &str) -> Result<Option<usize>, NotIdentified> {
        let Some(at) = self.issuers.iter().position(|issuer| issuer.id == vouched.issuer) else {
            return Ok(None);
        };
        // A pass does not tell what matters only since it was made.
        if !self.issuers[at]
            .claims
            .iter()
            .all(|claim| vouched.claims.contains_key(claim))
        {
            return Ok(None);
        }
        let name = &self.settings.issuers()[at].name;
        self.the_one(listener, |caller| {
            caller.jwt.iter().any(|wanted| {
                let has = |(claim, pattern): (&String, &super::Pattern)| {
                    let value = vouched.claims.get(claim).and_then(Option::as_deref);
                    value.is_some_and(|value| pattern.matches(value))
                };
                wanted.issuer() == name
                    && wanted.subject().is_none_or(|pattern| pattern.matches(&vouched.subject))
                    && wanted.claims().iter().all(has)
            })
        })
    }
}
