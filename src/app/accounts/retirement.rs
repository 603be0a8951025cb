//! Retires a credential that is no longer in force: its token is revoked when the last request that uses it has its
//! answer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::renewal::Renewal;
use crate::credential::bearer::Bearer;

/// A replaced token is revoked when no request uses it any more, or after this time at the latest.
const MOST_RETIREMENT: Duration = Duration::from_secs(15 * 60);

/// Credentials that are no longer in force, whose tokens are not revoked yet.
#[derive(Default)]
pub(super) struct Retiring(Mutex<JoinSet<()>>);

impl Retiring {
    /// Retires a credential. `leases`: the ends of the leases of every account that had it. `successor`: a credential
    /// of the same client with another secret.
    pub(super) fn add(&self, leases: Vec<CancellationToken>, renewal: Option<Renewal>, successor: Option<Arc<Bearer>>) {
        let Some(renewal) = renewal else { return };
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(retire(leases, renewal, successor));
    }

    /// Waits for all of them, but no longer than `limit`.
    pub(super) async fn ended(&self, limit: Duration) {
        let mut tasks = std::mem::take(&mut *self.0.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("a token that was replaced before the end is not revoked: it lives until it expires");
        }
    }
}

async fn retire(leases: Vec<CancellationToken>, renewal: Renewal, successor: Option<Arc<Bearer>>) {
    let bearer = renewal.end().await;
    let _ = tokio::time::timeout(MOST_RETIREMENT, all_ended(&leases)).await;
    match successor {
        // The old secret may be deleted by now.
        Some(successor) => successor.revoke_predecessor(&bearer).await,
        None => bearer.revoke().await,
    }
}

/// Waits for the end of every lease.
pub(super) async fn all_ended(leases: &[CancellationToken]) {
    for lease in leases {
        lease.cancelled().await;
    }
}
