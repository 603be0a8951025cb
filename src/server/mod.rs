//! Listeners: bind, accept, bound what is open, TLS, serve HTTP, drain.
//!
//! Knows nothing of credentials: what a request means is [`crate::proxy::Listener`]'s.

mod accept;
mod bind;
mod capacity;
mod clock;
mod connection;
mod drain;
mod flood;
mod fragment;
mod settings;
mod standing;
mod strict;
mod tls;

pub use accept::{ServerParts, View, serve};
pub use bind::{BindError, Bound, UnixSocketFile, bind, change_mode};
pub use capacity::{Capacity, Shares};
pub use connection::ConnectionLimits;
pub use drain::{Drain, DrainHandle};
pub use settings::{Bind, Limits, ListenerSettings};
pub use tls::{Clients, ListenerTls, ListenerTlsError, NamePattern, NamePatternError, OutOfTime};
