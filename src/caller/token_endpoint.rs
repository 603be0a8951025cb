//! `POST /api/oauth/token` and `/api/oauth/revoke`: passes for local secrets and for tokens of issuers.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::authorization::{Authorization, only_field};
use super::callers::{Callers, agreed};
use super::pass::{self, Content, MadeFrom, Opened};
use super::shown::Recognised;
use super::{By, CallerName, NotIdentified, Shown, TokenAnswer};
use crate::secret::Secret;

/// Without a key file passes end with the process, and clients that keep a refused one until its end fail so long.
const MOST_LIFE_WITHOUT_KEY: Duration = Duration::from_secs(60);
const BASIC_ALONE: NotIdentified = NotIdentified::unknown(
    "the token endpoint takes a local secret or a token of an issuer, as the secret of HTTP Basic; a pass buys no pass",
);

/// What a pass may be made from.
struct Proof {
    index: usize,
    by: By,
    from: MadeFrom<'static>,
    /// Not later than this, seconds since 1970.
    ends: u64,
}

impl Callers {
    /// `POST /api/oauth/token` (RFC 6749 section 4.4).
    pub async fn token(&self, shown: Shown<'_>) -> TokenAnswer {
        match self.try_token(&shown).await {
            Ok(answer) => answer,
            Err(NotIdentified::Unknown { why, logged, .. }) => TokenAnswer::InvalidClient {
                description: why,
                logged,
            },
            Err(refused) => TokenAnswer::Refused(refused),
        }
    }

    async fn try_token(&self, shown: &Shown<'_>) -> Result<TokenAnswer, NotIdentified> {
        let connection = self.by_connection(shown)?;
        let unrecognised = match self.proof(shown).await? {
            Some(Recognised::Caller(proof)) => {
                agreed(connection, Some((proof.index, proof.by)))?;
                return self.sell(proof, shown);
            }
            Some(Recognised::Placeholder(why)) => Some(why),
            None => None,
        };
        let identified = self.or_by_network(connection, shown, unrecognised);
        Ok(TokenAnswer::Placeholder(identified))
    }

    /// `None`: nothing is shown.
    async fn proof(&self, shown: &Shown<'_>) -> Result<Option<Recognised<Proof>>, NotIdentified> {
        let Some(field) = only_field(shown.headers)? else {
            return Ok(None);
        };
        let Authorization::Basic(user) = Authorization::of(field) else {
            // Right or wrong, it is not what is wanted here.
            return match self.by_authorization(field, shown).await? {
                Recognised::Caller(_) => Err(BASIC_ALONE),
                Recognised::Placeholder(why) => Ok(Some(Recognised::Placeholder(why))),
            };
        };
        if pass::looks_like_one(user.secret()) {
            return Err(BASIC_ALONE);
        }
        let no_token = match self.by_token(user.secret(), shown).await? {
            Recognised::Caller(token) => {
                return Ok(Some(Recognised::Caller(Proof {
                    index: token.index,
                    by: By::Jwt,
                    from: MadeFrom::Token(token.vouched),
                    ends: token.ends,
                })));
            }
            Recognised::Placeholder(why) => why,
        };
        let index = match self.by_secret(&user, shown)? {
            Recognised::Caller(index) => index,
            Recognised::Placeholder(why) => {
                return Ok(Some(Recognised::Placeholder(
                    format!("{why}; as a token its secret {no_token}").into(),
                )));
            }
        };
        let hash = self.derived[0].hash_secret(user.secret().as_bytes());
        Ok(Some(Recognised::Caller(Proof {
            index,
            by: By::Basic,
            from: MadeFrom::Secret(URL_SAFE_NO_PAD.encode(hash.as_bytes()).into()),
            ends: u64::MAX,
        })))
    }

    fn sell(&self, proof: Proof, shown: &Shown<'_>) -> Result<TokenAnswer, NotIdentified> {
        let now = self.state.now();
        let passes = self.settings.passes();
        let life = match passes.keys {
            Some(_) => passes.life,
            None => passes.life.min(MOST_LIFE_WITHOUT_KEY),
        };
        let ends = proof.ends.min(now.saturating_add(life.as_secs()));
        let expires_in = ends.saturating_sub(now);
        if expires_in == 0 {
            return Err(NotIdentified::unknown("the token has expired"));
        }
        let content = Content {
            caller: self.settings.callers()[proof.index].name.as_str().into(),
            listener: shown.listener.into(),
            origin: shown.account.origin.into(),
            client_id: shown.account.client_id.into(),
            made: now,
            ends,
            from: proof.from,
        };
        Ok(TokenAnswer::Pass {
            access_token: Secret::new(content.seal(&self.derived[0]).ok_or(NotIdentified::Overloaded)?),
            expires_in,
            index: proof.index,
            by: proof.by,
        })
    }

    /// `POST /api/oauth/revoke` (RFC 7009): ends the pass that the form names, in this process. Whoever has a pass may end
    /// it; anything else is nothing.
    pub fn revoke(&self, form: &[u8]) {
        let Some((_, token)) = url::form_urlencoded::parse(form).find(|(name, _)| name == "token") else {
            return;
        };
        let Some(opened) = Opened::open(&token, &self.derived) else {
            return;
        };
        let Some(content) = opened.content() else { return };
        let now = self.state.now();
        // A caller that is not there now may come back.
        if let Ok(name) = CallerName::parse(&content.caller)
            && content.ends > now
        {
            self.state.revoked.lock().add(&name, opened.id, content.ends, now);
        }
    }
}
