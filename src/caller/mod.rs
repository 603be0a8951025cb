//! Who is it: a caller is a program with a name of its own, known by what it shows. Knows nothing of what a caller may do.
//!
//! | file | has |
//! |---|---|
//! | `settings.rs` | callers and passes, as configured |
//! | `issuer_settings.rs` | issuers of tokens, as configured |
//! | `pattern.rs` | `*` and `**` in names that somebody else vouches for |
//! | `local_secret.rs` | the form of a local secret |
//! | `keys.rs` | keys that are derived from the pass key |
//! | `shown.rs` | what a request and its connection show, and what comes of it |
//! | `authorization.rs` | the form of `Authorization` |
//! | `digest` | HTTP Digest as a server |
//! | `bearer.rs` | bearer tokens: passes, and tokens of issuers |
//! | `pass.rs` | the form of a pass; passes that were revoked |
//! | `token_endpoint.rs` | passes made and revoked |
//! | `jwt.rs` | the form of a token, and what of it is wrong whoever signed it |
//! | `jwks.rs` | the form of a key set |
//! | `issuer_keys.rs` | keys fetched ahead and kept |
//! | `fetch.rs` | reads a key set |
//! | `good_tokens.rs` | tokens that need no second check |
//! | `failures.rs` | peers whose tokens are wrong again and again |
//! | `callers.rs` | who shows that: certificate or uid, `Authorization`, network |
//! | `state.rs` | what outlives a reload |

mod authorization;
mod bearer;
mod callers;
mod digest;
mod failures;
mod fetch;
mod good_tokens;
mod issuer_keys;
mod issuer_settings;
mod jwks;
mod jwt;
mod keys;
mod local_secret;
mod pass;
mod pattern;
mod settings;
mod shown;
mod state;
#[cfg(test)]
mod tests;
mod token_endpoint;

pub use callers::{Callers, placeholder_challenges};
pub use issuer_settings::{IssuerKind, IssuerSettings, IssuerToken, JwksSource, JwksUrl, JwksUrlError};
pub use local_secret::{LocalSecretError, local_secret, make_secret};
pub use pattern::{Pattern, PatternError};
pub use settings::{
    CallerIdentity, CallerName, CallerNameError, CallersError, CallersSettings, JwtMatch, JwtMatchError, LocalSecrets,
    PassSettings, overflow_uid,
};
pub use shown::{AccountBinding, By, Channel, Identified, IssuerStatus, NotIdentified, Shown, TokenAnswer};
pub use state::CallerState;
