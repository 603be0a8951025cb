//! Requests all the time, each of which must be answered well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use super::atlas::GROUPS;
use super::client::client;
use super::until;

/// Calls all the time, on several connections, with and without a body; every answer must be 200.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(url: String) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..4)
            .map(|n| {
                let (stop, good, url) = (Arc::clone(&stop), Arc::clone(&good), url.clone());
                tokio::spawn(async move {
                    let http = client();
                    while !stop.load(Ordering::SeqCst) {
                        let request = if n == 0 {
                            http.post(url.replace(GROUPS, "/api/atlas/v2/emulator/sink"))
                                .body("content")
                        } else {
                            http.get(&url)
                        };
                        let answer = request.send().await.unwrap();
                        let status = answer.status();
                        let text = answer.text().await.unwrap();
                        assert_eq!(status, 200, "{text}");
                        good.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { stop, good, callers }
    }

    /// So many more good answers.
    pub async fn goes_on(&self) {
        let goal = self.good.load(Ordering::SeqCst) + 50;
        until("traffic goes on", || async {
            self.callers.iter().any(JoinHandle::is_finished) || self.good.load(Ordering::SeqCst) >= goal
        })
        .await;
        assert!(!self.callers.iter().any(JoinHandle::is_finished), "a request failed");
    }

    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.await.unwrap();
        }
    }
}
