//! A kit for stories: a scripted upstream, a proxy in front of it, a client.

#[cfg(feature = "emulator")]
pub mod atlas;
#[cfg(feature = "emulator")]
pub mod check;
pub mod chromium;
pub mod client;
pub mod h2_upstream;
pub mod metrics;
pub mod needs;
pub mod ports;
pub mod program;
pub mod proxy;
pub mod raw_h2;
pub mod recording_upstream;
#[cfg(feature = "token-store")]
pub mod redis;
pub mod strict_http;
pub mod tls;
#[cfg(feature = "emulator")]
pub mod traffic;
pub mod upstream;

use std::future::Future;
use std::time::Duration;

/// Everything in a test ends within this; a hang becomes a failure that says where.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition, never for a duration.
pub async fn until<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            // Lets the parts under test run; the condition decides when it is enough.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never came true: {what}"));
}
