//! What the proxy sends of itself: few requests, for tokens, checks and rotation. Requests of clients never go through this
//! client (see `upstream`); names, addresses and the tunnel through an egress proxy are the same for both.

mod authority;
mod egress;
mod http_client;
mod tcp;
pub(crate) mod tunnel;

pub use authority::{AUTHORITY_AS_SERVER, handshake_words, is_authority_as_server};
pub use egress::{EgressProxy, EgressProxyError};
pub use http_client::{HttpClient, HttpError, HttpResponse, Speaks, http_client};
pub use tcp::connect_host;
pub(crate) use tcp::{race, resolve};
pub use tunnel::TunnelError;
