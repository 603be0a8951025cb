//! Replicas share the token of a service account through Redis or Valkey: one token request for all of them.
//!
//! Atlas lets a hundred tokens of a service account live, and bounds how many are asked for in a minute. With a store,
//! one replica asks, under a lock, and the others take what it stored. The store is optional: a replica that gets no
//! answer from it within a moment asks Atlas itself, as if there were no store. What is stored is sealed.
//!
//! | file | has |
//! |---|---|
//! | `source.rs` | who asks and who waits: a source of tokens before the token endpoint |
//! | `store.rs` | the interface of a store |
//! | `server.rs` | a Redis server as one: connection, time limits, outages |
//! | `fleet.rs` | which of the replicas this one is, and how many there are |
//! | `seats.rs` | which of the replicas ask for tokens, and when |
//! | `narrow.rs` | bounds what a server may send, before anything of it is buffered |
//! | `scripts.rs` | the scripts that the server runs in one step |
//! | `seal.rs` | encrypts and decrypts tokens |
//! | `keys.rs` | the keys of the entries in the store |
//! | `settings.rs` | address, login and key of the store |
//!
//! It doesn't know when a token is to be replaced (`credential::bearer` does), nor requests of clients.

mod fleet;
mod keys;
mod narrow;
mod scripts;
mod seal;
mod seats;
mod server;
mod settings;
mod source;
mod store;

pub use fleet::{SEATS, Word};
pub use seal::{SealKey, SealKeyError};
pub use seats::{Held, Situation, StoreView, Verdict, may_ask};
pub use server::{Examined, RedisStore, StoreSetupError, StoreState};
pub use settings::{DEFAULT_PORT, StoreTls, TokenStoreSettings};
pub use source::SharedSource;

/// See [`RedisStore::examine`]; with a connection of its own.
///
/// # Errors
/// See [`StoreSetupError`].
pub async fn examine(
    settings: &TokenStoreSettings,
    accounts: &[(&crate::upstream::Origin, &str)],
) -> Result<Examined, StoreSetupError> {
    let store = RedisStore::new(settings.clone(), crate::metrics::Metrics::new(&[]).token_store_up())?;
    Ok(store.examine(accounts).await)
}
