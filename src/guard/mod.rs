//! Who and what may come in. Pure functions: no I/O, no clock, nothing of ours imported.
//!
//! The order of the checks of one request: allowlist (before a byte is parsed), target and Host, browser, required
//! header, policy.

mod allowlist;
pub mod browser;
mod host;
mod local;
mod path;
mod pattern;
mod policy;
#[cfg(test)]
pub(crate) mod readings;
mod required;
pub mod target;

pub use allowlist::{Allowlist, EmptyAllowlist, NetworkError, parse_network};
pub use host::{HostName, HostNameError, HostNames};
pub use local::{LocalEndpoint, local_endpoint};
pub use path::Unclear;
pub(crate) use path::{canonical, folded, folds_to, loosest, slash_readings};
pub(crate) use pattern::End;
pub use pattern::{PathPattern, PathPatternError};
pub use policy::{Action, Policy, PolicyDenied, Rule, SlashReading};
pub use required::RequiredHeader;
