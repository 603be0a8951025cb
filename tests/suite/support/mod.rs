//! A kit for stories: a scripted upstream, a proxy in front of it, a client.

#[cfg(feature = "emulator")]
pub mod atlas;
#[cfg(feature = "emulator")]
pub mod check;
pub mod chromium;
pub mod client;
#[cfg(feature = "emulator")]
pub mod clock;
pub mod config;
#[cfg(feature = "emulator")]
pub mod devtools;
pub mod h2_upstream;
#[allow(dead_code, reason = "the unit tests of `caller` share the file, and use more of it")]
pub mod issuer;
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

/// Lets the parts under test run; the condition decides when it is enough.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Lets the clock run ahead to the end of such a wait. In a test with one thread alone, which everything in it shares.
pub async fn time_passes(wait: Duration) {
    tokio::time::pause();
    tokio::time::sleep(wait).await;
    tokio::time::resume();
}

/// Waits until a number is the same in many looks in a row, with time for what changes it between each two.
pub async fn until_steady<F, Fut>(what: &str, mut number: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = f64>,
{
    const LOOKS: usize = 20;
    let wait = async {
        let (mut last, mut same) = (number().await, 0);
        while same < LOOKS {
            let now = number().await;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    within_patience(what, wait).await;
}

/// Waits for a condition, never for a duration.
pub async fn until<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    within_patience(what, wait).await;
}

async fn within_patience(what: &str, wait: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never came true: {what}"));
}
