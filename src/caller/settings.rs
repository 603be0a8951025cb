//! Who the callers are and how they are known, as configured. Every value is already right.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::issuer_settings::IssuerSettings;
use super::pattern::Pattern;
use crate::crypto::KeyFile;
use crate::secret::Secret;

/// The longest name of a caller.
const LONGEST_NAME: usize = 63;
/// Names that mean something else where a caller's name stands.
const RESERVED: [&str; 3] = ["anonymous", "unknown", "none"];

/// The name of a caller. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerName(Arc<str>);

/// A text that is no name of a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerNameError {
    /// Not of the form.
    #[error("`{0}` is no name of a caller: write 1 to 63 of a-z 0-9 . _ -")]
    Form(String),
    /// One that logs and metrics use.
    #[error("`{0}` is the name of what has none in logs and metrics: choose another (not anonymous, unknown, none)")]
    Reserved(String),
}

impl CallerName {
    /// Reads a name.
    ///
    /// # Errors
    /// See [`CallerNameError`].
    pub fn parse(text: &str) -> Result<Self, CallerNameError> {
        let of_form = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(of_form) {
            return Err(CallerNameError::Form(text.to_owned()));
        }
        if RESERVED.contains(&text) {
            return Err(CallerNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for CallerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A caller, and what it may show to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// Its name.
    pub name: CallerName,
    /// The listeners where it exists; `None`: all.
    pub listeners: Option<Vec<String>>,
    /// Networks, IPv4-mapped ones turned into IPv4.
    pub networks: Vec<IpNet>,
    /// Users at the other end of a unix socket; never the overflow uid ([`overflow_uid`]).
    pub uids: Vec<u32>,
    /// Read by [`Pattern::parse_certificate_name`].
    pub certificate_names: Vec<Pattern>,
    /// Tokens of issuers.
    pub jwt: Vec<JwtMatch>,
    /// The local secret and the next one beside it ([`super::local_secret()`]).
    pub secrets: LocalSecrets,
}

impl CallerIdentity {
    /// Whether the caller exists at this listener.
    pub fn is_on(&self, listener: &str) -> bool {
        self.listeners
            .as_ref()
            .is_none_or(|listeners| listeners.iter().any(|name| name == listener))
    }

    /// Whether there is a listener where both exist.
    fn shares_a_listener(&self, other: &Self) -> bool {
        match (&self.listeners, &other.listeners) {
            (Some(ours), Some(theirs)) => ours.iter().any(|name| theirs.contains(name)),
            _ => true,
        }
    }
}

/// The local secrets of a caller: as many as are in use at once while one is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSecrets {
    /// The first line.
    pub current: Option<Secret>,
    /// The second line.
    pub next: Option<Secret>,
}

/// What a token must say for its bearer to be the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtMatch {
    issuer: String,
    subject: Option<Pattern>,
    claims: BTreeMap<String, Pattern>,
}

/// Neither subject nor claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "with neither `subject` nor `claims` everybody with a token of this issuer would be the caller: name one of them"
)]
pub struct JwtMatchError;

impl JwtMatch {
    /// A token of the issuer with this name in the settings, with all of these.
    ///
    /// # Errors
    /// When it would take any token of the issuer.
    pub fn new(
        issuer: String,
        subject: Option<Pattern>,
        claims: BTreeMap<String, Pattern>,
    ) -> Result<Self, JwtMatchError> {
        if subject.is_none() && claims.is_empty() {
            return Err(JwtMatchError);
        }
        Ok(Self {
            issuer,
            subject,
            claims,
        })
    }

    /// The name of the issuer in the settings.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What `sub` must be.
    pub fn subject(&self) -> Option<&Pattern> {
        self.subject.as_ref()
    }

    /// What other claims must be.
    pub fn claims(&self) -> &BTreeMap<String, Pattern> {
        &self.claims
    }
}

/// ``token (issuer `cluster`, subject `a`)``
impl fmt::Display for JwtMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token (issuer `{}`", self.issuer)?;
        if let Some(subject) = &self.subject {
            write!(f, ", subject `{}`", subject.as_str())?;
        }
        for (name, value) in &self.claims {
            write!(f, ", {name} `{}`", value.as_str())?;
        }
        f.write_str(")")
    }
}

/// How passes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassSettings {
    /// `None`: a key is made at the start, and `life` is capped at a minute.
    pub keys: Option<KeyFile>,
    /// How long a pass lives.
    pub life: Duration,
}

impl Default for PassSettings {
    fn default() -> Self {
        Self {
            keys: None,
            life: Duration::from_secs(3600),
        }
    }
}

/// Callers, issuers and passes that agree with each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallersSettings {
    callers: Vec<CallerIdentity>,
    issuers: Vec<IssuerSettings>,
    passes: PassSettings,
}

/// What does not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallersError {
    /// Two callers of one name.
    #[error("two callers have the name `{0}`: give each its own")]
    SameName(CallerName),
    /// An equal prefix.
    #[error(
        "the callers `{first}` and `{second}` have the network {network} both, and a listener in common: name it in one of them"
    )]
    SameNetwork {
        /// One.
        first: CallerName,
        /// The other.
        second: CallerName,
        /// The prefix.
        network: IpNet,
    },
    /// The very same token or certificate name: each of their requests would name both.
    #[error(
        "the callers `{first}` and `{second}` are known by the very same {what}, and have a listener in common: whoever shows it would be refused as two callers; give each its own"
    )]
    SameIdentity {
        /// One.
        first: CallerName,
        /// The other.
        second: CallerName,
        /// What both are known by.
        what: String,
    },
    /// Two issuers of one name.
    #[error("two issuers have the name `{0}`: give each its own")]
    SameIssuerName(String),
    /// Tokens that both would have to judge.
    #[error(
        "the issuers `{first}` and `{second}` have the same `issuer` (or trust domain) and `audience`: no token could tell which of them it is for"
    )]
    SameIssuer {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A caller names an issuer that is not there.
    #[error(
        "the caller `{caller}` is known by tokens of the issuer `{issuer}`, and there is no `[[issuer]]` of this name"
    )]
    UnknownIssuer {
        /// The caller.
        caller: CallerName,
        /// The name.
        issuer: String,
    },
    /// What stands for users that have no number here.
    #[error(
        "the caller `{caller}` has the uid {uid}, which the kernel shows for every user that has no number here (/proc/sys/kernel/overflowuid): it tells nobody apart"
    )]
    OverflowUid {
        /// The caller.
        caller: CallerName,
        /// The uid.
        uid: u32,
    },
}

impl CallersSettings {
    /// Checks what no value can tell by itself. `overflow_uid`: see [`overflow_uid`].
    ///
    /// # Errors
    /// See [`CallersError`].
    pub fn new(
        mut callers: Vec<CallerIdentity>,
        issuers: Vec<IssuerSettings>,
        passes: PassSettings,
        overflow_uid: u32,
    ) -> Result<Self, CallersError> {
        for caller in &mut callers {
            for network in &mut caller.networks {
                *network = canonical(*network);
            }
        }
        for (at, caller) in callers.iter().enumerate() {
            if caller.uids.contains(&overflow_uid) {
                return Err(CallersError::OverflowUid {
                    caller: caller.name.clone(),
                    uid: overflow_uid,
                });
            }
            if let Some(wanted) = caller
                .jwt
                .iter()
                .find(|wanted| !issuers.iter().any(|issuer| issuer.name == wanted.issuer))
            {
                return Err(CallersError::UnknownIssuer {
                    caller: caller.name.clone(),
                    issuer: wanted.issuer.clone(),
                });
            }
            for before in &callers[..at] {
                disagree(before, caller)?;
            }
        }
        for (at, issuer) in issuers.iter().enumerate() {
            for before in &issuers[..at] {
                if before.name == issuer.name {
                    return Err(CallersError::SameIssuerName(issuer.name.clone()));
                }
                if before.kind == issuer.kind && before.audience == issuer.audience {
                    return Err(CallersError::SameIssuer {
                        first: before.name.clone(),
                        second: issuer.name.clone(),
                    });
                }
            }
        }
        Ok(Self {
            callers,
            issuers,
            passes,
        })
    }

    /// The callers, in the order of the file.
    pub fn callers(&self) -> &[CallerIdentity] {
        &self.callers
    }

    /// The issuers, in the order of the file.
    pub fn issuers(&self) -> &[IssuerSettings] {
        &self.issuers
    }

    /// How passes are made.
    pub fn passes(&self) -> &PassSettings {
        &self.passes
    }
}

fn disagree(first: &CallerIdentity, second: &CallerIdentity) -> Result<(), CallersError> {
    if first.name == second.name {
        return Err(CallersError::SameName(first.name.clone()));
    }
    if !first.shares_a_listener(second) {
        return Ok(());
    }
    if let Some(network) = first.networks.iter().find(|network| second.networks.contains(network)) {
        return Err(CallersError::SameNetwork {
            first: first.name.clone(),
            second: second.name.clone(),
            network: *network,
        });
    }
    // Patterns that merely overlap are left: which names there are is not known here.
    let token = first.jwt.iter().find(|wanted| second.jwt.contains(wanted));
    let name = || {
        let names = &second.certificate_names;
        first.certificate_names.iter().find(|name| names.contains(name))
    };
    let what = match token {
        Some(token) => Some(token.to_string()),
        None => name().map(|name| format!("certificate name `{}`", name.as_str())),
    };
    what.map_or(Ok(()), |what| {
        Err(CallersError::SameIdentity {
            first: first.name.clone(),
            second: second.name.clone(),
            what,
        })
    })
}

/// Without bits behind the prefix; an IPv4-mapped network as its IPv4 one, since peers are compared so.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && v6.prefix_len() >= 96
        && let IpAddr::V4(v4) = IpAddr::V6(v6.addr()).to_canonical()
    {
        return IpNet::new(v4.into(), v6.prefix_len() - 96).map_or(network, |v4| v4.trunc());
    }
    network.trunc()
}

/// The uid that the kernel shows for a user that has no number in this user namespace.
pub fn overflow_uid() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    // The kernel's own default.
    text.trim().parse().unwrap_or(65_534)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
