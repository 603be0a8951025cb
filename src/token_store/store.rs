//! What is demanded of a store. A trait so that who asks and who waits is tested without a server, with time held.

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
    /// Higher than every one before and than the one that was to be exceeded; not, when there is none higher: 1 then, and
    /// the counting begins anew.
    pub(crate) fence: u64,
    /// What lies under the name of the token in the moment in which the turn was given.
    pub(crate) stored: Option<Stored>,
    /// Whether a lock or a counter had to give way that no replica leaves there.
    pub(crate) odd: bool,
}

/// What lies under the name of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// As it lies there; of what is too long for a token, only the beginning; empty for what is not even a string.
    pub(crate) value: Vec<u8>,
    /// How long it still will, by the store's clock. `None`: for ever, as no replica leaves it.
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
    /// What lay there and counts for nothing: it gives way whatever fence it claims.
    pub(crate) gives_way: Option<&'a [u8]>,
}

/// A store that replicas share. Each call bounds its own time, and is one step of the store's.
pub(crate) trait SharedStore: Send + Sync {
    /// What lies under the name of the token.
    fn look<'a>(&'a self, keys: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// Takes the lock for `holder`, until it is released or [`LOCK_LIFE`] ends, and gives a fence that exceeds `above`. `None`:
    /// another one has the lock.
    fn lock<'a>(
        &'a self,
        keys: &'a Keys,
        holder: &'a str,
        above: u64,
    ) -> BoxFuture<'a, Result<Option<Turn>, StoreError>>;

    /// A turn without the lock, for one who has waited for it long enough.
    fn fence<'a>(&'a self, keys: &'a Keys, above: u64) -> BoxFuture<'a, Result<Turn, StoreError>>;

    /// Stores a token, unless one with a higher fence lies there: whoever held a lock that has ended comes too late.
    fn put<'a>(&'a self, keys: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Gives the lock back after `pause`, if it is still `holder`'s.
    fn release<'a>(&'a self, keys: &'a Keys, holder: &'a str, pause: Duration)
    -> BoxFuture<'a, Result<(), StoreError>>;
}

/// How long a lock lives if its holder does not give it back. Longer than a token request takes at most (10 s), and short
/// enough that a replica which died in the middle of one holds up nobody for long.
pub(crate) const LOCK_LIFE: Duration = Duration::from_secs(15);
