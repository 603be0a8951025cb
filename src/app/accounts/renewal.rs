//! The task that keeps the token of a service account fresh.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::credential::bearer::Bearer;

/// A running renewal. It ends when this is dropped; [`Self::end`] also waits for the end.
pub(super) struct Renewal {
    pub(super) client_id: String,
    pub(super) bearer: Arc<Bearer>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Renewal {
    pub(super) fn start(client_id: &str, bearer: &Arc<Bearer>) -> Self {
        let stop = CancellationToken::new();
        let running = Arc::clone(bearer).run(stop.clone().cancelled_owned());
        Self {
            client_id: client_id.to_owned(),
            bearer: Arc::clone(bearer),
            stop: stop.drop_guard(),
            task: tokio::spawn(running),
        }
    }

    /// Ends the renewal, and returns the credential whose tokens it renewed.
    pub(super) async fn end(self) -> Arc<Bearer> {
        drop(self.stop);
        let _ = self.task.await;
        self.bearer
    }
}
