//! The content of a request, from the client's connection to the tries of the request.
//!
//! ```text
//! client     what comes from the connection; nobody reads on: the rest goes to the connection's `Unread`
//!   └ inbound    timed (timer) and counted
//!       └ replay     recorded (blocks), within a budget: each try has it from the start
//! ```

mod blocks;
mod budget;
mod client;
mod inbound;
mod replay;
mod timer;

pub use budget::BodyLimits;
pub use client::{ClientBody, Unread};
pub use inbound::RequestBodyError;
pub(in crate::proxy) use inbound::{BodyFacts, ClientFault, Inbound};
pub use replay::RequestBody;
pub(in crate::proxy) use replay::{BodySource, Buffered};
