//! How long a request waits for its turn on the way to an upstream, and how many wait.

use std::time::Duration;

use crate::fair::{Part, Place};

/// How long a request waits for its turn.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Requests of one listener that wait at a time; more are refused at once.
const MOST_WAITING: usize = 4096;

/// A place, given back when dropped; `None`: none was free in time.
pub(super) async fn place(part: &Part) -> Option<Place> {
    if let Some(place) = part.try_take() {
        return Some(place);
    }
    tokio::time::timeout(LONGEST_WAIT, part.take(MOST_WAITING)).await.ok()?
}
