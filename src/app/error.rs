//! Why the app did not start, or did not take other settings.

use std::io;

use crate::credential::digest::PublicKeyError;
use crate::server::{BindError, OutOfTime};
use crate::upstream::TlsError;

/// Why the app did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port or socket can't be bound.
    #[error("listener: {0}")]
    Listener(#[source] BindError),
    /// The admin port can't be bound.
    #[error("admin port: {0}")]
    Admin(#[source] BindError),
    /// A reload brings a certificate that no client would accept.
    #[error(
        "listener `{listener}`: its new certificate {why}: no client would accept it, so the old one is shown on. Put one \
         that is valid now in its place (`certificate` and `key` of [listener.tls]), and reload again"
    )]
    Certificate {
        /// The listener.
        listener: String,
        /// What is wrong with it.
        why: OutOfTime,
    },
    /// A listener names an account that the settings don't have.
    #[error("there is no account `{account}`, which a listener names")]
    UnknownAccount {
        /// The account.
        account: String,
    },
    /// TLS to an account's upstream can't be set up.
    #[error("account `{account}`: {source}")]
    Tls {
        /// The account.
        account: String,
        /// Why.
        source: TlsError,
    },
    /// The API key cannot be used.
    #[error("account `{account}`: {source}")]
    PublicKey {
        /// The account.
        account: String,
        /// Why.
        source: PublicKeyError,
    },
    /// A reload would let everybody in who must show now who it is.
    #[error(
        "listener `{listener}` requires a caller, and the new settings name none: whoever connects would be served. Write \
         `callers = \"optional\"` and what everybody may do in the file's [[listener]] first, or restart"
    )]
    CallersGone {
        /// The listener.
        listener: String,
    },
    /// No key for passes and challenges can be made.
    #[error("the system gives no randomness: {0}")]
    Randomness(#[source] getrandom::Error),
    /// There is no audit log.
    #[error("{0}")]
    Audit(#[from] crate::audit::AuditStartError),
    /// No thread can be made.
    #[error("no thread can be made, or all are busy: {0}")]
    Thread(#[source] io::Error),
    /// The client for the token endpoint could not be made.
    #[error("account `{account}`: the token client could not be set up: {why}")]
    TokenClient {
        /// The account.
        account: String,
        /// Why.
        why: String,
    },
    /// TLS to the receiver of traces can't be set up.
    #[error("traces: {0}")]
    Traces(#[source] TlsError),
    /// No connection to the store of shared tokens is possible, whatever the store does.
    #[cfg(feature = "token-store")]
    #[error("token store: {0}")]
    TokenStore(#[source] crate::token_store::StoreSetupError),
}
