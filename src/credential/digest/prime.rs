//! The first challenge, fetched once: of many requests that find no nonce, one goes ahead without credential.

use parking_lot::Mutex;

use tokio::sync::watch;

/// What a request that found no nonce does. See [`super::Digest::begin_prime`].
#[derive(Debug)]
pub enum Prime {
    /// There is a nonce now: authorize.
    Ready,
    /// Go ahead without credential; the others wait for this guard to go.
    Lead(PrimeGuard),
    /// Another request fetches the challenge.
    Wait(PrimeWait),
}

/// Held by the request that fetches the challenge. However it goes (dropped, cancelled, panicked), the waiters wake.
#[derive(Debug)]
pub struct PrimeGuard {
    answered: watch::Sender<bool>,
}

impl PrimeGuard {
    /// The upstream has answered, whatever it said: call this after [`super::Digest::challenged`] or for an answer that
    /// is no 401. The waiters then go on by themselves. Dropped without it (the exchange failed), one of them leads next.
    pub fn answered(self) {
        self.answered.send_replace(true);
    }
}

/// The wait of a request behind the leader.
#[derive(Debug)]
pub struct PrimeWait {
    answered: watch::Receiver<bool>,
}

impl PrimeWait {
    /// Waits without limit; true: the leader got an answer, false: it is gone without one. Cancel-safe.
    pub async fn answered(mut self) -> bool {
        self.answered.wait_for(|answered| *answered).await.is_ok()
    }
}

/// Elects the leader.
#[derive(Debug, Default)]
pub(super) struct Primer {
    leader: Mutex<Option<watch::Receiver<bool>>>,
}

impl Primer {
    pub(super) fn begin(&self, is_ready: impl Fn() -> bool) -> Prime {
        if is_ready() {
            return Prime::Ready;
        }
        let mut leader = self.leader.lock();
        // The leader is at work as long as it lives and has no answer: `has_changed` fails once its guard is gone.
        if let Some(answered) = &*leader
            && !*answered.borrow()
            && answered.has_changed().is_ok()
        {
            return Prime::Wait(PrimeWait {
                answered: answered.clone(),
            });
        }
        // Asked again under the lock: a leader that has just gone left the nonce behind.
        if is_ready() {
            return Prime::Ready;
        }
        let (sender, receiver) = watch::channel(false);
        *leader = Some(receiver);
        Prime::Lead(PrimeGuard { answered: sender })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(primer: &Primer) -> PrimeGuard {
        match primer.begin(|| false) {
            Prime::Lead(guard) => guard,
            other => panic!("expected to lead: {other:?}"),
        }
    }

    fn wait(primer: &Primer) -> PrimeWait {
        match primer.begin(|| false) {
            Prime::Wait(wait) => wait,
            other => panic!("expected to wait: {other:?}"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_wait_for_its_answer() {
        let primer = Primer::default();
        let guard = lead(&primer);
        let waits = [wait(&primer), wait(&primer)];
        guard.answered();
        for wait in waits {
            assert!(wait.answered().await);
        }
        drop(lead(&primer));
    }

    #[tokio::test]
    async fn a_leader_that_fails_hands_over() {
        let primer = Primer::default();
        let guard = lead(&primer);
        let behind = wait(&primer);
        drop(guard);
        assert!(!behind.answered().await);
        let _next = lead(&primer);
        drop(wait(&primer));
    }

    #[test]
    fn nobody_leads_when_there_is_a_nonce() {
        assert!(matches!(Primer::default().begin(|| true), Prime::Ready));
    }
}
