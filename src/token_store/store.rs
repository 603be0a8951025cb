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

/// What lies under the name of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// As it lies there; of what is too long for a token, only the beginning.
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
    /// What lay there and could not be opened: it gives way whatever fence it claims.
    pub(crate) unreadable: Option<&'a [u8]>,
}

/// A store that replicas share. Each call bounds its own time, and is one step of the store's.
pub(crate) trait SharedStore: Send + Sync {
    /// What lies under the name of the token.
    fn look<'a>(&'a self, keys: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// Takes the lock for `holder`, until it is released or [`LOCK_LIFE`] ends, and gives a fence higher than every one
    /// before and than `above`. `None`: another one has the lock.
    fn lock<'a>(
        &'a self,
        keys: &'a Keys,
        holder: &'a str,
        above: u64,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// A fence without the lock, for one who has waited for it long enough.
    fn fence<'a>(&'a self, keys: &'a Keys, above: u64) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Stores a token, unless one with a higher fence lies there: whoever held a lock that has ended comes too late.
    fn put<'a>(&'a self, keys: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Gives the lock back after `pause`, if it is still `holder`'s.
    fn release<'a>(&'a self, keys: &'a Keys, holder: &'a str, pause: Duration)
    -> BoxFuture<'a, Result<(), StoreError>>;
}

/// How long a lock lives if its holder does not give it back. Longer than a token request takes at most (10 s), and short
/// enough that a replica which died in the middle of one holds up nobody for long.
pub(crate) const LOCK_LIFE: Duration = Duration::from_secs(15);
