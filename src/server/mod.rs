//! Listeners: bind, accept, bound what is open, serve HTTP/1.1, drain.
//!
//! Knows nothing of credentials: what a request means is [`crate::proxy::Listener`]'s.

mod accept;
mod bind;
mod connection;
mod drain;
mod settings;

pub use accept::{ServerParts, serve};
pub use bind::{BindError, Bound, bind};
pub use connection::ConnectionLimits;
pub use drain::{Drain, DrainHandle};
pub use settings::{Bind, Limits, ListenerSettings};
