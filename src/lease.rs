//! Notifies waiters when the last holder of a shared value is gone.

use tokio_util::sync::CancellationToken;

/// A field of a value that is shared through an `Arc`. It is dropped with the value, by the last holder, and that wakes
/// the waiters.
#[derive(Debug, Default)]
pub struct Lease(CancellationToken);

impl Lease {
    /// Cancelled when the last holder is gone.
    pub fn end(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn ends_with_the_last_holder() {
        let first = Arc::new(Lease::default());
        let (second, end) = (Arc::clone(&first), first.end());
        drop(first);
        assert!(!end.is_cancelled());
        let waits = tokio::spawn(end.clone().cancelled_owned());
        drop(second);
        assert!(waits.await.is_ok());
        assert!(end.is_cancelled());
    }
}
