//! The interface of a store. A trait, so that locking and waiting are tested without a server, with a paused clock.

use std::time::Duration;

use super::keys::Keys;
use crate::credential::bearer::BoxFuture;

/// How a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// It failed a moment ago and is left in peace for some seconds: nothing was sent.
    #[error("the store is being left in peace after a failure")]
    Resting,
    /// It did not answer, or with an error. The text is ours and holds no secret.
    #[error("{0}")]
    Failed(String),
}

/// The right to ask for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Higher than every fence before and than the one to be exceeded; 1 when there is none higher, and counting starts
    /// over.
    pub(crate) fence: u64,
    /// The token's value in the moment in which the turn was given.
    pub(crate) stored: Option<Stored>,
    /// Whether a lock or a counter was replaced that no replica leaves there.
    pub(crate) odd: bool,
}

/// The value stored for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// As it is stored; only the beginning of a value that is too long for a token; empty for one that is not a string.
    pub(crate) value: Vec<u8>,
    /// The life that is left, by the store's clock. `None`: no expiry, which no replica leaves.
    pub(crate) left: Option<Duration>,
}

/// A sealed token that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put<'a> {
    /// Its fence, in clear.
    pub(crate) fence: u64,
    /// Sealed, with its fence before it.
    pub(crate) value: &'a str,
    /// How long it may lie there.
    pub(crate) life: Duration,
    /// The stored value that counts for nothing: it is replaced whatever fence it claims.
    pub(crate) gives_way: Option<&'a [u8]>,
}

/// A store that replicas share. Each call bounds its own time, and is one step of the store's.
pub(crate) trait SharedStore: Send + Sync {
    /// The value stored for the token.
    fn look<'a>(&'a self, keys: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// Takes the lock for `holder`, until it is released or [`LOCK_LIFE`] ends, and gives a fence that exceeds `above`.
    /// `None`: another holder has the lock.
    fn lock<'a>(
        &'a self,
        keys: &'a Keys,
        holder: &'a str,
        above: u64,
    ) -> BoxFuture<'a, Result<Option<Turn>, StoreError>>;

    /// A turn without the lock, for one who has waited for it long enough.
    fn fence<'a>(&'a self, keys: &'a Keys, above: u64) -> BoxFuture<'a, Result<Turn, StoreError>>;

    /// Stores a token, unless one with a higher fence is there: whoever held a lock that has ended comes too late.
    fn put<'a>(&'a self, keys: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Gives the lock back after `pause`, if it is still `holder`'s.
    fn release<'a>(&'a self, keys: &'a Keys, holder: &'a str, pause: Duration)
    -> BoxFuture<'a, Result<(), StoreError>>;
}

/// How long a lock lives if its holder does not give it back. Longer than a token request takes at most (10 s), and short
/// enough that a replica which died in the middle of one holds up nobody for long.
pub(crate) const LOCK_LIFE: Duration = Duration::from_secs(15);
