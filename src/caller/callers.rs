//! Who shows that.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::authorization::{Authorization, UserPass, only_field};
use super::bearer::Issuer;
use super::digest::{self, UserHashes};
use super::good_tokens::GoodTokens;
use super::issuer_keys::IssuerKeys;
use super::keys::{Derived, SecretHash};
use super::shown::{Channel, Recognised};
use super::{
    By, CallerIdentity, CallerName, CallerState, CallersSettings, Identified, IssuerStatus, LocalSecrets,
    NotIdentified, Shown,
};
use crate::certificate::SubjectNames;
use crate::secret::Secret;

/// Said where what was shown can be read on the way.
pub(super) const PLAIN: NotIdentified = NotIdentified::unknown(
    "a local secret, pass or token can be read on the way to this listener: it is taken only over TLS, a unix socket or on loopback (HTTP Digest is taken here)",
);
const TWO: &str = "what this request shows is that of two callers: let the operator's settings tell them apart";
const ANOTHER: &str =
    "`Authorization` shows another caller than the connection (its certificate, or the user at its other end) does";

/// A caller, and by what it was known.
pub(super) type Found = (usize, By);

/// What the settings in force say. Immutable, made anew at each reload.
pub struct Callers {
    pub(super) settings: CallersSettings,
    pub(super) state: Arc<CallerState>,
    pub(super) by_name: HashMap<CallerName, usize>,
    /// The longest prefix first.
    networks: Vec<(IpNet, usize)>,
    /// By the current key, and by the previous one.
    pub(super) derived: Vec<Derived>,
    /// In the order of the settings' callers.
    pub(super) secrets: Vec<Secrets>,
    /// In the order of the settings' issuers.
    pub(super) issuers: Vec<Issuer>,
    /// By the settings in force.
    pub(super) good_tokens: Mutex<GoodTokens>,
    /// Stands in for a caller that does not exist, or has no secret, so that all cost the same work.
    dummy: Secrets,
}

/// What a caller's local secrets are compared by: the current and the next one.
pub(super) struct Secrets {
    /// By each of the keys.
    hashes: Vec<[SecretHash; 2]>,
    digest: [UserHashes; 2],
}

impl Secrets {
    fn of(name: &str, secrets: &LocalSecrets, derived: &[Derived], dummy: &Secret) -> Self {
        let both = [&secrets.current, &secrets.next].map(|secret| secret.as_ref().unwrap_or(dummy));
        Self {
            hashes: derived
                .iter()
                .map(|key| both.map(|secret| key.hash_secret(secret.expose().as_bytes())))
                .collect(),
            digest: both.map(|secret| UserHashes::new(name, secret)),
        }
    }

    /// Whether one of the two has this hash by the key with this place. Both are compared, so that it is not told which.
    pub(super) fn is(&self, key: usize, hash: &[u8]) -> bool {
        self.hashes[key]
            .iter()
            .fold(false, |right, secret| secret.is(hash) | right)
    }
}

impl Callers {
    /// Whether the caller of this index is one of the listener's.
    pub fn is_on(&self, index: usize, listener: &str) -> bool {
        let caller = self.settings.callers().get(index);
        caller.is_some_and(|caller| caller.is_on(listener))
    }

    /// Prepares the settings.
    pub fn new(settings: CallersSettings, state: Arc<CallerState>) -> Self {
        let keys = match &settings.passes().keys {
            Some(keys) => [Some(&keys.current), keys.previous.as_ref()],
            None => [Some(&state.generated), None],
        };
        let derived: Vec<Derived> = keys.into_iter().flatten().map(Derived::from).collect();
        let all = settings.callers();
        let mut networks: Vec<(IpNet, usize)> = Vec::new();
        for (index, caller) in all.iter().enumerate() {
            networks.extend(caller.networks.iter().map(|network| (*network, index)));
        }
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let prepared = |name: &str, secrets: &LocalSecrets| Secrets::of(name, secrets, &derived, &state.dummy);
        let issuers = settings.issuers().iter();
        Self {
            issuers: issuers.map(|issuer| Issuer::new(issuer, &settings, &state)).collect(),
            good_tokens: Mutex::default(),
            secrets: all
                .iter()
                .map(|caller| prepared(caller.name.as_str(), &caller.secrets))
                .collect(),
            dummy: prepared("", &LocalSecrets::default()),
            by_name: all
                .iter()
                .enumerate()
                .map(|(index, caller)| (caller.name.clone(), index))
                .collect(),
            networks,
            derived,
            settings,
            state,
        }
    }

    /// The settings that this was made of.
    pub fn settings(&self) -> &CallersSettings {
        &self.settings
    }

    /// Who shows that. Waits only for the keys of an issuer, a few seconds at most.
    ///
    /// # Errors
    /// See [`NotIdentified`].
    pub async fn identify(&self, shown: Shown<'_>) -> Result<Identified, NotIdentified> {
        let connection = self.by_connection(&shown)?;
        let authorization = match only_field(shown.headers)? {
            Some(field) => Some(self.by_authorization(field, &shown).await?),
            None => None,
        };
        let (authorization, unrecognised) = match authorization {
            Some(Recognised::Caller(found)) => (Some(found), None),
            Some(Recognised::Placeholder(why)) => (None, Some(why)),
            None => (None, None),
        };
        let found = agreed(connection, authorization)?;
        Ok(self.or_by_network(found, &shown, unrecognised))
    }

    /// (a): by certificate and by uid.
    pub(super) fn by_connection(&self, shown: &Shown<'_>) -> Result<Option<Found>, NotIdentified> {
        let by_certificate = match shown.certificate {
            Some(names) => self.by_certificate(names, shown.listener)?,
            None => None,
        };
        let by_uid = match shown.uid {
            Some(uid) => self.the_one(shown.listener, |caller| caller.uids.contains(&uid))?,
            None => None,
        };
        match (by_certificate, by_uid) {
            (Some(one), Some(other)) if one != other => Err(NotIdentified::unknown(TWO)),
            (Some(index), _) => Ok(Some((index, By::Certificate))),
            (None, Some(index)) => Ok(Some((index, By::Uid))),
            (None, None) => Ok(None),
        }
    }

    fn by_certificate(&self, names: &SubjectNames, listener: &str) -> Result<Option<usize>, NotIdentified> {
        if names.uris.len() != 1 && names.uris.iter().any(|uri| is_spiffe(uri)) {
            return Err(NotIdentified::unknown(
                "a SPIFFE certificate has exactly one URI name, and this one has more",
            ));
        }
        self.the_one(listener, |caller| {
            caller.certificate_names.iter().any(|pattern| {
                if pattern.is_uri() {
                    names.uris.iter().any(|uri| is_plain(uri) && pattern.matches(uri))
                } else {
                    // A wildcard certificate is for many clients: it doesn't tell which one this is.
                    names
                        .dns
                        .iter()
                        .any(|name| is_plain(name) && !name.contains('*') && pattern.matches(name))
                }
            })
        })
    }

    /// The caller at this listener that `fits`; two are refused.
    pub(super) fn the_one(
        &self,
        listener: &str,
        fits: impl Fn(&CallerIdentity) -> bool,
    ) -> Result<Option<usize>, NotIdentified> {
        let all = self.settings.callers().iter().enumerate();
        let mut fitting = all.filter(|(_, caller)| fits(caller) && caller.is_on(listener));
        match (fitting.next(), fitting.next()) {
            (_, Some(_)) => Err(NotIdentified::unknown(TWO)),
            (found, None) => Ok(found.map(|(index, _)| index)),
        }
    }

    /// (c), where (a) and (b) show nothing, or something `unrecognised`.
    pub(super) fn or_by_network(
        &self,
        found: Option<Found>,
        shown: &Shown<'_>,
        unrecognised: Option<Cow<'static, str>>,
    ) -> Identified {
        let by_network = || {
            let peer = shown.peer_ip?.to_canonical();
            let mut around = self.networks.iter().filter(|(network, _)| network.contains(&peer));
            let on_listener = |index: usize| self.settings.callers()[index].is_on(shown.listener);
            around
                .find(|(_, index)| on_listener(*index))
                .map(|(_, index)| (*index, By::Network))
        };
        match found.or_else(by_network) {
            Some((index, by)) => Identified::Caller { index, by },
            None => Identified::Anonymous { unrecognised },
        }
    }

    /// (b).
    pub(super) async fn by_authorization(
        &self,
        field: &HeaderValue,
        shown: &Shown<'_>,
    ) -> Result<Recognised<Found>, NotIdentified> {
        Ok(match Authorization::of(field) {
            Authorization::Basic(user) => self.by_secret(&user, shown)?.map(|index| (index, By::Basic)),
            Authorization::Digest(parameters) => self.by_digest(parameters, shown)?.map(|index| (index, By::Digest)),
            Authorization::Bearer(token) => self.by_bearer(token, shown).await?,
            Authorization::Other => {
                Recognised::Placeholder("`Authorization` is none of Basic, Digest and Bearer, or can't be read".into())
            }
        })
    }

    /// By name and local secret.
    pub(super) fn by_secret(&self, user: &UserPass, shown: &Shown<'_>) -> Result<Recognised<usize>, NotIdentified> {
        let index = self.by_name.get(user.name()).copied();
        let secrets = index.map_or(&self.dummy, |index| &self.secrets[index]);
        let given = self.derived[0].hash_secret(user.secret().as_bytes());
        let right = secrets.is(0, given.as_bytes());
        // What was given as a name may be a secret in the wrong place.
        let Some(index) = index else {
            return Ok(Recognised::Placeholder(
                "HTTP Basic with a name that no caller has".into(),
            ));
        };
        // A wrong secret must not tell that the name is one.
        let caller = &self.settings.callers()[index];
        if !right {
            let logged = format!(
                "HTTP Basic with the name of caller `{}` and a secret that is not its own",
                caller.name
            );
            return Err(NotIdentified::nobody().logged(logged));
        }
        if !caller.is_on(shown.listener) {
            return Err(not_here(caller));
        }
        if shown.channel != Channel::Confidential {
            return Err(PLAIN);
        }
        Ok(Recognised::Caller(index))
    }

    /// By a Digest answer.
    fn by_digest(&self, parameters: &[u8], shown: &Shown<'_>) -> Result<Recognised<usize>, NotIdentified> {
        let answer = digest::Credentials::read(parameters);
        let index = answer.username().and_then(|name| self.by_name.get(name)).copied();
        let secrets = index.map_or(&self.dummy, |index| &self.secrets[index]);
        let request = digest::Request {
            method: shown.method,
            target: shown.target,
            md5: shown.digest_md5,
        };
        let is_right = answer.is_right(request, &secrets.digest);
        let Some(index) = index else {
            return Ok(Recognised::Placeholder(
                "HTTP Digest with a name that no caller has".into(),
            ));
        };
        let caller = &self.settings.callers()[index];
        if !is_right {
            let logged = format!(
                "HTTP Digest with the name of caller `{}` and an answer that is not right: made with another secret, of another \
                 request, or by an algorithm that is not taken here",
                caller.name
            );
            return Err(NotIdentified::nobody().logged(logged));
        }
        if !caller.is_on(shown.listener) {
            return Err(not_here(caller));
        }
        answer.take(&caller.name, &self.state, &self.derived, shown.listener, shown.channel)?;
        Ok(Recognised::Caller(index))
    }

    /// The fields `WWW-Authenticate` of a 401, the strongest first. `md5`: whether MD5 is offered, too.
    /// An answer is taken at this listener alone.
    pub fn challenges(&self, listener: &str, stale: bool, md5: bool) -> Vec<HeaderValue> {
        let nonce = self.state.nonces.make(&self.derived[0], listener, &*self.state.clock);
        digest::challenges(&nonce, stale, md5)
    }

    /// What is known of the issuers' keys, in the order of the settings.
    pub fn issuers_status(&self) -> Vec<IssuerStatus> {
        let all = self.settings.issuers().iter().zip(&self.issuers);
        all.map(|(settings, issuer)| issuer.keys.status(settings)).collect()
    }

    /// Keeps the issuers' keys fetched ahead, for as long as it is polled.
    pub fn keep_keys(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut sources: Vec<Arc<IssuerKeys>> = Vec::new();
        for Issuer { keys, .. } in &self.issuers {
            if !sources.iter().any(|known| Arc::ptr_eq(known, keys)) {
                sources.push(Arc::clone(keys));
            }
        }
        async move {
            let mut tasks = JoinSet::new();
            for keys in sources {
                tasks.spawn(async move { keys.keep().await });
            }
            while tasks.join_next().await.is_some() {}
            std::future::pending().await
        }
    }
}

/// The fields `WWW-Authenticate` of a challenge whose answer nobody verifies: for a listener without callers, to which
/// `curl --digest` is to send its body.
///
/// # Errors
/// When the system has no randomness.
pub fn placeholder_challenges(md5: bool) -> Result<Vec<HeaderValue>, getrandom::Error> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce)?;
    Ok(digest::challenges(&URL_SAFE_NO_PAD.encode(nonce), false, md5))
}

/// A caller that is right, and of other listeners.
fn not_here(caller: &CallerIdentity) -> NotIdentified {
    NotIdentified::nobody().logged(format!(
        "what was shown is right, and caller `{}` is not of this listener (its `listeners`)",
        caller.name
    ))
}

/// (a) and (b) must not name two.
pub(super) fn agreed(connection: Option<Found>, authorization: Option<Found>) -> Result<Option<Found>, NotIdentified> {
    match (connection, authorization) {
        (Some((one, _)), Some((other, _))) if one != other => Err(NotIdentified::unknown(ANOTHER)),
        (first, second) => Ok(first.or(second)),
    }
}

fn is_spiffe(uri: &str) -> bool {
    const SCHEME: &str = "spiffe:";
    uri.get(..SCHEME.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

/// Only such names are what they seem.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}
