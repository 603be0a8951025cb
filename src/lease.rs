//! What is shared until its last holder lets go of it, and who waits for that.

use tokio_util::sync::CancellationToken;

/// Lies in what is shared through an `Arc`. Dropped with it, by its last holder, it wakes whoever waits for that.
#[derive(Debug, Default)]
pub struct Lease(CancellationToken);

impl Lease {
    /// Its end: cancelled when the last holder has let go.
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
