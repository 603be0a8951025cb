//! What a request and its connection show, and what comes of it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method};

use crate::certificate::SubjectNames;
use crate::secret::Secret;

/// What a request and its connection show. All of it is the client's word but for what the socket says.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The socket's peer; `None` on a unix socket.
    pub peer_ip: Option<IpAddr>,
    /// The user at the other end of a unix socket.
    pub uid: Option<u32>,
    /// The names of the certificate that the handshake verified.
    pub certificate: Option<&'a SubjectNames>,
    /// How far what is shown travels in clear text.
    pub channel: Channel,
    /// The request's header fields; only `Authorization` is looked at.
    pub headers: &'a HeaderMap,
    /// The request's method.
    pub method: &'a Method,
    /// The request target byte for byte as it was sent.
    pub target: &'a str,
    /// Whether Digest with MD5 is taken at this listener, in a build that has it.
    pub digest_md5: bool,
    /// The account behind the listener: a pass is bound to it.
    pub account: AccountBinding<'a>,
}

/// How far what a client sends travels in clear text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Nobody else reads it: TLS, a unix socket, or bind address and the socket's peer both loopback.
    Confidential,
    /// Somebody on the way may read it.
    Plain,
}

/// The account that a pass is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountBinding<'a> {
    /// `https://host[:port]` of its upstream.
    pub origin: &'a str,
    /// Its client id, or public key.
    pub client_id: &'a str,
}

/// How a caller was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// A name of its certificate.
    Certificate,
    /// The user at the other end of the unix socket.
    Uid,
    /// The peer's network.
    Network,
    /// Its local secret by HTTP Basic (RFC 7617).
    Basic,
    /// Its local secret by HTTP Digest (RFC 7616).
    Digest,
    /// A pass of the token endpoint.
    Pass,
    /// A JSON Web Token.
    Jwt,
}

impl By {
    /// As logs and `GET /api/oauth/caller` name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Uid => "uid",
            Self::Network => "network",
            Self::Basic => "basic",
            Self::Digest => "digest",
            Self::Pass => "pass",
            Self::Jwt => "jwt",
        }
    }
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified {
    /// A caller.
    Caller {
        /// Its place in [`super::CallersSettings::callers`].
        index: usize,
        /// How it was known.
        by: By,
    },
    /// Nothing was shown that is recognised.
    Anonymous {
        /// For the log alone: what `Authorization` shows, and why that names nobody; `None`: there is none.
        unrecognised: Option<Cow<'static, str>>,
    },
}

/// Why it is not known who it is, although something was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotIdentified {
    /// 401 `PROXY_CALLER_UNKNOWN`.
    Unknown {
        /// For the client. Repeats nothing that was shown.
        why: Cow<'static, str>,
        /// For the log alone, where it may say more: no secret and no token, but what the unsigned part of one claims.
        logged: Option<Cow<'static, str>>,
        /// Digest: all is right but the nonce, so the client is to try again with the next one.
        stale: bool,
    },
    /// 400: more than one `Authorization`.
    BadRequest,
    /// 429: too many tokens of this peer were wrong.
    TooManyFailures {
        /// When the next one is looked at.
        retry_after: Duration,
    },
    /// 503: there is no room to remember what was shown, so it can't be taken.
    Overloaded,
}

impl NotIdentified {
    /// What is said to who shows a wrong local secret, and to who shows nothing where something is required: the two are
    /// not to be told apart.
    pub const NOBODY: &'static str = "this listener serves callers that it knows, and nothing that this request shows names one (a name or a secret that is not right counts as nothing): show the caller's name with its local secret (HTTP Digest or Basic), a pass of /api/oauth/token, or a token of an issuer";

    pub(super) const fn unknown(why: &'static str) -> Self {
        Self::Unknown {
            why: Cow::Borrowed(why),
            logged: None,
            stale: false,
        }
    }

    /// The same, of which the log says this.
    pub(super) fn logged(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        if let Self::Unknown { logged, .. } = &mut self {
            *logged = Some(text.into());
        }
        self
    }

    pub(super) const fn nobody() -> Self {
        Self::unknown(Self::NOBODY)
    }
}

/// What `POST /api/oauth/token` answers.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// 200 with a pass as `access_token`.
    Pass {
        /// The pass.
        access_token: Secret,
        /// Seconds.
        expires_in: u64,
        /// Whose pass it is.
        index: usize,
        /// What it was made from: [`By::Basic`] for a local secret, or [`By::Jwt`].
        by: By,
    },
    /// Nothing that was shown is recognised: the placeholder token, where this one (known by certificate, uid or network)
    /// or `optional` serves it; else `invalid_client`.
    Placeholder(Identified),
    /// 401 `invalid_client` (RFC 6749 section 5.2).
    InvalidClient {
        /// `error_description`.
        description: Cow<'static, str>,
        /// As in [`NotIdentified::Unknown`].
        logged: Option<Cow<'static, str>>,
    },
    /// As for any request: 400, 429 or 503. Never [`NotIdentified::Unknown`].
    Refused(NotIdentified),
}

/// What is known of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerStatus {
    /// The issuer's name in the settings.
    pub name: String,
    /// How many keys can be used.
    pub keys: usize,
    /// Time since its last good answer; `None`: there was none.
    pub age: Option<Duration>,
    /// Why the last attempt failed; `None`: it did not.
    pub last_error: Option<String>,
}

/// What something that is shown stands for, where it is not wrong.
pub(super) enum Recognised<T> {
    /// A caller.
    Caller(T),
    /// Nobody: what clients send that must send something. Why, for the log.
    Placeholder(Cow<'static, str>),
}

impl<T> Recognised<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Recognised<U> {
        match self {
            Self::Caller(caller) => Recognised::Caller(change(caller)),
            Self::Placeholder(why) => Recognised::Placeholder(why),
        }
    }
}
