//! What goes in and out of [`super::Digest`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::nonce::Nonce;
use crate::credential::ApiKeyPair;
use crate::crypto;
use crate::time::SharedClock;

/// What a [`super::Digest`] is made of.
pub struct DigestParts {
    /// User name and password.
    pub key: ApiKeyPair,
    /// Ages are measured on its boot-time clock.
    pub clock: SharedClock,
    /// Is told what happens.
    pub events: Arc<dyn DigestEvents>,
}

/// What is counted. Called on the path of requests: must not block.
pub trait DigestEvents: Send + Sync + 'static {
    /// A 401 with a Digest challenge came.
    fn challenge(&self, cause: ChallengeCause);
    /// A (nonce, nc) was given out.
    fn nonce_used(&self);
    /// The key counts as usable or as refused from now on. Called at the start and at each change.
    fn usable(&self, usable: bool);
}

/// Why the server sent a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeCause {
    /// The request carried no credential.
    First,
    /// The nonce was too old (`stale=true`).
    Stale,
    /// The credential was refused.
    Refused,
    /// The request was made to get a challenge.
    Prime,
}

/// The credential for one sending of a request.
#[derive(Clone)]
pub struct Authorized {
    /// The value of `Authorization`, marked sensitive.
    pub header: HeaderValue,
    pub(super) nonce: Arc<Nonce>,
    pub(super) count: u32,
    /// No other request uses the nonce meanwhile.
    pub(super) alone: bool,
    /// The nonce's age when this was made.
    pub(super) sent_age: Duration,
}

impl fmt::Debug for Authorized {
    /// Nothing of the header, the nonce or the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorized")
            .field("nonce_age", &self.sent_age)
            .finish_non_exhaustive()
    }
}

/// The request's body, for `auth-int`.
#[derive(Debug, Clone, Copy)]
pub enum BodyForDigest<'a> {
    /// Not known, or not needed.
    Unknown,
    /// The whole of it. Empty for a request without one.
    Bytes(&'a [u8]),
    /// The whole of it, in the pieces it was recorded in.
    Chunks(&'a [Bytes]),
}

/// What to do after a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Authorize anew and send again.
    Retry,
    /// Pass the 401 on.
    GiveUp(GiveUp),
}

/// Why a 401 is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// It has no Digest challenge that we can answer.
    NoChallenge,
    /// The credential was refused, and the nonce offered is the one that was used.
    Refused,
    /// The request was sent again often enough.
    RetriesSpent,
    /// The key counts as refused.
    KeyRefused {
        /// Until retries begin again.
        pause_left: Duration,
    },
    /// The operating system gave no random bytes for a client nonce.
    NoRandomness,
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChallenge if crypto::MD5_ALLOWED => {
                "the 401 carries no Digest challenge that can be answered (MD5, SHA-256, SHA-512-256)"
            }
            Self::NoChallenge => {
                "the 401 carries no Digest challenge that a FIPS build answers (SHA-256, SHA-512-256; never MD5): use a \
                 service account"
            }
            Self::Refused => "the upstream refuses the API key on the nonce that it offers",
            Self::RetriesSpent => "the upstream answered 401 to every retry",
            Self::KeyRefused { .. } => {
                "the upstream refused the API key on fresh nonces: check public and private key, and that the key exists"
            }
            Self::NoRandomness => "the operating system gave no random bytes for a client nonce",
        })
    }
}

/// Why a public key cannot be a Digest user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// There is none.
    #[error("the API key's public key is empty: set it to the key's public part, as Atlas shows it")]
    Empty,
    /// A line break, for example.
    #[error("the API key's public key has a control character: check the file or variable it is read from")]
    ControlCharacter,
}

/// No turn within [`super::PERMIT_WAIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no turn within 30 s among the Digest requests in flight: send fewer requests at once, or raise `digest_max_concurrent` \
     if it is set"
)]
pub struct PermitTimeout;
