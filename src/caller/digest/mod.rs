//! HTTP Digest as a server (RFC 7616) with local secrets.
//!
//! | file | has |
//! |---|---|
//! | `answer.rs` | the parameters that a client sends |
//! | `nonce.rs` | nonces, which say themselves how old they are |
//! | `replay.rs` | which counts of a nonce were taken |

mod answer;
mod nonce;
mod replay;

use aws_lc_rs::constant_time;
use http::{HeaderValue, Method};
use zeroize::Zeroizing;

use self::answer::Answer;
use self::nonce::Accept;
pub(super) use self::nonce::NonceMint;
pub(super) use self::replay::Replays;
use self::replay::Taken;
use super::keys::Derived;
use super::shown::Channel;
use super::{CallerState, NotIdentified};
use crate::credential::digest::response::{Hash, Hex};
use crate::crypto;
use crate::secret::Secret;

const REALM: &str = "atlas-auth-proxy";
const QOP: &[u8] = b"auth";

/// H(A1) of one local secret (RFC 7616 section 3.4.2), for each algorithm: worth the secret.
pub(super) struct UserHashes {
    sha_256: Zeroizing<Hex>,
    /// Not in a FIPS build.
    md5: Option<Zeroizing<Hex>>,
}

impl UserHashes {
    pub(super) fn new(name: &str, secret: &Secret) -> Self {
        let of = |hash: Hash| Zeroizing::new(hash.of([name.as_bytes(), REALM.as_bytes(), secret.expose().as_bytes()]));
        Self {
            sha_256: of(Hash::Sha256),
            md5: crypto::MD5_ALLOWED.then(|| of(Hash::Md5)),
        }
    }

    fn by(&self, hash: Hash) -> Option<&Hex> {
        match hash {
            Hash::Sha256 => Some(&self.sha_256),
            Hash::Md5 => self.md5.as_deref(),
            Hash::Sha512_256 => None,
        }
    }
}

/// The request that an answer must be for.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a str,
    /// MD5 is taken, too.
    pub(super) md5: bool,
}

/// What a client shows for a challenge.
pub(super) struct Credentials<'a>(Answer<'a>);

impl<'a> Credentials<'a> {
    pub(super) fn read(parameters: &'a [u8]) -> Self {
        Self(Answer::read(parameters))
    }

    pub(super) fn username(&self) -> Option<&str> {
        std::str::from_utf8(self.0.username.as_deref()?).ok()
    }

    /// Whether the answer is right but for its nonce. All hashes are computed and compared, whichever is right.
    pub(super) fn is_right(&self, request: Request<'_>, secrets: &[UserHashes; 2]) -> bool {
        let answer = &self.0;
        let Some(hash) = self.hash(request.md5) else {
            return false;
        };
        let (Some(nonce), Some(nc), Some(cnonce), Some(response)) =
            (&answer.nonce, &answer.nc, &answer.cnonce, &answer.response)
        else {
            return false;
        };
        let mut is_right = false;
        let request_hash = hash.of([request.method.as_str().as_bytes(), request.target.as_bytes()]);
        for secret in secrets {
            let Some(user_hash) = secret.by(hash) else { return false };
            let right = hash.of([user_hash.as_bytes(), nonce, nc, cnonce, QOP, request_hash.as_bytes()]);
            is_right |= constant_time::verify_slices_are_equal(right.as_bytes(), response).is_ok();
        }
        is_right
            && !answer.is_odd
            && answer.realm.as_deref() == Some(REALM.as_bytes())
            && answer.uri.as_deref() == Some(request.target.as_bytes())
            && answer.qop.as_deref() == Some(QOP)
            && !cnonce.is_empty()
            && answer
                .userhash
                .as_deref()
                .is_none_or(|hash| hash.eq_ignore_ascii_case(b"false"))
            && self.count().is_some()
    }

    /// RFC 7616 section 3.4: without `algorithm` it is MD5.
    fn hash(&self, md5: bool) -> Option<Hash> {
        let name = self.0.algorithm.as_deref().unwrap_or(b"MD5");
        if name.eq_ignore_ascii_case(b"SHA-256") {
            return Some(Hash::Sha256);
        }
        (md5 && crypto::MD5_ALLOWED && name.eq_ignore_ascii_case(b"MD5")).then_some(Hash::Md5)
    }

    /// Eight hexadecimal digits, from 1.
    fn count(&self) -> Option<u32> {
        let text = std::str::from_utf8(self.0.nc.as_deref()?).ok()?;
        let is_count = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = u32::from_str_radix(text, 16).ok().filter(|_| is_count)?;
        (count > 0).then_some(count)
    }

    /// Takes the nonce and its count, after a right response to it.
    pub(super) fn take(
        &self,
        caller: &super::CallerName,
        state: &CallerState,
        keys: &[Derived],
        listener: &str,
        channel: Channel,
    ) -> Result<(), NotIdentified> {
        let accept = match channel {
            Channel::Confidential => Accept::Shared,
            Channel::Plain => Accept::Own,
        };
        let stale = NotIdentified::Unknown {
            why: NotIdentified::NOBODY.into(),
            logged: Some(
                "HTTP Digest with a nonce that is not good, or no longer: the client is given another one".into(),
            ),
            stale: true,
        };
        let (Some(nonce), Some(count)) = (&self.0.nonce, self.count()) else {
            return Err(stale);
        };
        let Some(nonce) = state.nonces.open(nonce, keys, listener, &*state.clock, accept) else {
            return Err(stale);
        };
        match state.replays.lock().take(caller, nonce, count, state.clock.boot()) {
            Taken::Now => Ok(()),
            Taken::Before => Err(stale),
            Taken::NoRoom => Err(NotIdentified::Overloaded),
        }
    }
}

/// The challenges of a 401: one field line each, the strongest first. Python's requests joins the two and so reads the
/// parameters of the second over those of the first, so both have the same realm and nonce; Atlas's Go client fails on
/// any parameter more.
pub(super) fn challenges(nonce: &str, stale: bool, md5: bool) -> Vec<HeaderValue> {
    let algorithms = ["SHA-256", "MD5"];
    let offered = if md5 && crypto::MD5_ALLOWED { 2 } else { 1 };
    let line = |algorithm: &&str| {
        let line =
            format!(r#"Digest realm="{REALM}", nonce="{nonce}", algorithm={algorithm}, qop="auth", stale={stale}"#);
        HeaderValue::try_from(line).expect("it is plain ASCII")
    };
    algorithms[..offered].iter().map(line).collect()
}
