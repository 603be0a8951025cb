//! Listeners: bind, accept, bound what is open, TLS, serve HTTP, drain.
//!
//! Knows nothing of credentials: what happens to a request is decided by [`crate::proxy::Pipeline`].

mod accept;
mod bind;
mod capacity;
mod clock;
mod connection;
mod drain;
mod flood;
mod fragment;
mod handed;
mod listener;
mod proxy_protocol;
mod settings;
mod standing;
mod strict;
mod tls;

pub use accept::serve;
pub use bind::{BindError, BoundSocket, PORT_NEEDS_RIGHT, UnixSocketFile, bind, change_mode};
pub use capacity::{Capacity, Shares};
pub use drain::{Drain, DrainHandle};
pub use handed::{HandedError, HandedSocket, HandedSockets};
pub use listener::{Listener, Snapshot};
pub use proxy_protocol::{LARGEST as LARGEST_PREAMBLE, NoClient, Progress, preamble};
pub use settings::{Bind, CapacityLimits, ConnectionLimits, ListenerSettings};
pub use tls::{Clients, ListenerTls, ListenerTlsError, NamePattern, NamePatternError, OutOfTime};
