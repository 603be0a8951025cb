//! The one place that chooses the cryptography: aws-lc-rs, or with the feature `fips` its FIPS 140-3 validated module.

mod key_file;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use key_file::{KeyFile, KeyFileError, RootKey};

/// The provider of every TLS connection, in and out. Passed to each configuration: none is set for the process.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "fips")]
    let provider = rustls::crypto::default_fips_provider();
    #[cfg(not(feature = "fips"))]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Arc::new(provider)
}

/// Whether MD5 may be used: HTTP Digest with MD5 is what Atlas offers for API keys, and FIPS 140-3 does not approve of it.
pub const MD5_ALLOWED: bool = !cfg!(feature = "fips");

/// The build has the feature `fips`, but what it runs on is not the validated module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is a FIPS build, but its cryptographic module is not in FIPS mode: it does not start")]
pub struct NotFips;

/// What `run` demands before anything else.
///
/// # Errors
/// When a FIPS build would run without FIPS.
pub fn self_check() -> Result<(), NotFips> {
    if cfg!(feature = "fips") && !provider().fips() {
        return Err(NotFips);
    }
    Ok(())
}
