//! The OAuth 2.0 client-credentials token of a service account (RFC 6749 section 4.4, RFC 6750).
//!
//! One token per account lies in an `ArcSwap` and is read without a lock. One task, [`Bearer::run`], asks for tokens;
//! requests only say that they need one and wait for what it publishes: a thousand of them cause one token request.
//!
//! | file | has |
//! |---|---|
//! | `mod.rs` | what a request calls |
//! | `types.rs` | what it is made of, what it tells |
//! | `renew.rs` | the task: when and how the next token is asked for |
//! | `retirement.rs` | the end of a token: revoked when nobody uses it any more |
//! | `plan.rs` | the arithmetic of "when" |
//! | `token.rs` | one token and its two expiries |
//! | `fetch.rs` | the HTTP requests to the token endpoint |
//! | `answer.rs` | what its answers mean |
//!
//! It doesn't know HTTP requests of clients, and never sends to another origin than the one that it was made for.

mod answer;
mod fetch;
mod plan;
mod renew;
mod retirement;
mod token;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use answer::{Granted, MOST_BODY_BYTES, MOST_LIFE, MOST_TOKEN_BYTES, Ownership, Refusal, parse_answer};
pub use fetch::{BoxFuture, TokenEndpoint, TokenSource};
pub use plan::{backoff, expiry_margin, renew_after};
pub use retirement::MOST_REVOKE;
pub use token::Token;
pub use types::{BearerParts, BearerStatus, Outcome, TokenEvents, TokenUnavailable};

use crate::secret::Secret;
use crate::time::SharedClock;
use plan::ForceGate;
use token::Inner;
pub(crate) use token::Moment;

/// The longest that a request waits for a first token.
pub const MOST_WAIT: Duration = Duration::from_secs(2);
/// The longest that a request whose token was refused waits for another.
pub const MOST_WAIT_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// After this many confirmed refusals in a row the credential counts as refused.
const REFUSALS: u32 = 3;
/// What a client is told to wait while a token request is under way.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The credential of one service account.
pub struct Bearer {
    account: String,
    source: Box<dyn TokenSource>,
    clock: SharedClock,
    events: Arc<dyn TokenEvents>,
    /// In `0.0..1.0`; a parameter so that tests know it.
    random: fn() -> f64,
    current: ArcSwapOption<Inner>,
    /// Wakes the task. It is the only one that waits here: many waiters on one `Notify` do not scale.
    demand: Notify,
    /// What the task publishes and the callers wait for.
    progress: watch::Sender<Progress>,
    force: Mutex<ForceGate>,
    /// The newest generation that is to be replaced before its time.
    forced: AtomicU64,
    /// The generation of the newest token; 0 before the first.
    newest: AtomicU64,
    /// Confirmed refusals of unexpired tokens since the last request that was accepted.
    refused_in_a_row: AtomicU32,
    /// The generation that replaced a token which an answer had called invalid; 0: none.
    on_its_word: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    attempts: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Default)]
enum Phase {
    /// No attempt was made, or the last one gave a token.
    #[default]
    Idle,
    /// A token request is under way.
    Asking,
    /// The last attempt failed; the next is made at `until` of the boot clock.
    Failed { until: Duration, refusal: Arc<Refusal> },
    /// The task has ended.
    Stopped,
}

impl Bearer {
    /// A credential without a token. Nothing happens before [`Bearer::run`] is polled.
    pub fn new(parts: BearerParts) -> Arc<Self> {
        Self::behind(parts, |endpoint| Box::new(endpoint))
    }

    /// The same, with a source that stands before the token endpoint.
    pub fn behind(parts: BearerParts, source: impl FnOnce(TokenEndpoint) -> Box<dyn TokenSource>) -> Arc<Self> {
        let endpoint = TokenEndpoint::new(&parts.origin, parts.key, parts.http, Arc::clone(&parts.clock));
        Self::with_source(parts.account, source(endpoint), parts.clock, parts.events, unit_random)
    }

    pub(crate) fn with_source(
        account: String,
        source: Box<dyn TokenSource>,
        clock: SharedClock,
        events: Arc<dyn TokenEvents>,
        random: fn() -> f64,
    ) -> Arc<Self> {
        Arc::new(Self {
            account,
            source,
            clock,
            events,
            random,
            current: ArcSwapOption::empty(),
            demand: Notify::new(),
            progress: watch::Sender::default(),
            force: Mutex::default(),
            forced: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            refused_in_a_row: AtomicU32::new(0),
            on_its_word: AtomicU64::new(0),
        })
    }

    /// The token to send. Takes no lock and doesn't wait while there is a valid one; otherwise waits at most
    /// [`MOST_WAIT`] for the request under way, and not at all during the pause after a failed attempt.
    ///
    /// # Errors
    /// [`TokenUnavailable`] when there is no valid token; an expired one is never handed out.
    pub async fn authorization(&self) -> Result<Token, TokenUnavailable> {
        match self.valid(self.now()) {
            Some(token) => Ok(token),
            None => self.wait_for_newer(0, MOST_WAIT).await,
        }
    }

    /// A token that has replaced `used` since that was sent.
    pub fn newer_than(&self, used: &Token) -> Option<Token> {
        self.valid(self.now())
            .filter(|current| current.generation() > used.generation())
    }

    /// Whether `used` has expired, which explains a 401 to it.
    pub fn has_expired(&self, used: &Token) -> bool {
        used.left(self.now()).is_none()
    }

    /// Replaces an unexpired token that Atlas refuses. Waits for its successor at most [`MOST_WAIT_AFTER_REFUSAL`].
    /// `None`: there is no successor, or too many tokens were replaced lately.
    pub async fn replace(&self, refused: &Token) -> Option<Token> {
        let now = self.now();
        let generation = refused.generation();
        match self.valid(now) {
            Some(current) if current.generation() > generation => return Some(current),
            // It has expired since it was sent: an ordinary renewal, nothing forced.
            None => {}
            // The order matters: during the pause after a failure, no right to force is used up.
            Some(_) if self.failing(now).is_some() || !self.force(generation, now) => return None,
            Some(_) => {}
        }
        self.wait_for_newer(generation, MOST_WAIT_AFTER_REFUSAL).await.ok()
    }

    /// Whether to believe an answer that calls `used` invalid: not when `used` itself replaced a token that an answer
    /// had called invalid. Answers that say so of every token would use up the forced renewals, even if other requests
    /// are accepted.
    pub fn takes_its_word(&self, used: &Token) -> bool {
        let used = used.generation();
        // All requests that were refused with the same generation get the same result.
        self.on_its_word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |came| {
                (came != used).then(|| came.max(used + 1))
            })
            .is_ok()
    }

    /// Atlas has taken a probe with a token of this credential.
    pub fn accepted(&self) {
        self.accepted_if(|| true);
    }

    /// Atlas has taken a request with a token of this credential, if `surely` says so. Costs a load when there was no doubt.
    pub fn accepted_if(&self, surely: impl FnOnce() -> bool) {
        if self.refused_in_a_row.load(Ordering::Relaxed) == 0 || !surely() {
            return;
        }
        if self.refused_in_a_row.swap(0, Ordering::Relaxed) >= REFUSALS {
            tracing::info!(account = &self.account, "Atlas accepts the access token again");
            self.events.usable(self.usable());
        }
    }

    /// Atlas refuses an unexpired token, and nothing but the token can be the reason. True when this makes the
    /// credential count as refused.
    pub fn refusal_confirmed(&self) -> bool {
        let refused = self.refused_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if refused != REFUSALS {
            return false;
        }
        tracing::warn!(
            account = &self.account,
            refusals = refused,
            "Atlas refuses every access token of this service account, although it grants them: clients get 401. Is the \
             service account disabled or deleted, or is something between here and Atlas changing requests? \
             `atlas-auth-proxy check` tells more"
        );
        self.events.usable(false);
        true
    }

    /// Whether the last tokens were all refused.
    pub fn is_refused(&self) -> bool {
        self.refused_in_a_row.load(Ordering::Relaxed) >= REFUSALS
    }

    /// That the token endpoint did not accept the credential when it was last asked.
    pub fn rejection(&self) -> Option<TokenUnavailable> {
        match &self.progress.borrow().phase {
            Phase::Failed { until, refusal } if refusal.outcome == Outcome::Rejected => {
                Some(unavailable(until.saturating_sub(self.now().boot), refusal))
            }
            _ => None,
        }
    }

    /// Waits until the token endpoint has accepted the credential; `refused` is told of each refusal. Has no bound of its own:
    /// [`Bearer::run`] goes on asking, with ever longer pauses. False: it has ended.
    pub async fn verified(&self, mut refused: impl FnMut(&Refusal)) -> bool {
        let mut progress = self.progress.subscribe();
        loop {
            let (attempts, phase) = {
                let now = progress.borrow_and_update();
                (now.attempts, now.phase.clone())
            };
            match phase {
                Phase::Failed { refusal, .. } if refusal.outcome == Outcome::Rejected => refused(&refusal),
                Phase::Idle if attempts > 0 => return true,
                Phase::Stopped => return false,
                Phase::Idle | Phase::Asking | Phase::Failed { .. } => {}
            }
            // Fails only when the sender is dropped, and `self` holds it.
            if progress.changed().await.is_err() {
                return false;
            }
        }
    }

    /// The client secret that tokens are asked for with: the current one, or the next since that was refused.
    pub fn secret_in_force(&self) -> Option<Secret> {
        self.source.secret_in_force()
    }

    /// Whether a token request has ended, well or not.
    pub fn first_attempt_made(&self) -> bool {
        self.progress.borrow().attempts > 0
    }

    /// Waits until a token request has ended, well or not. Has no bound of its own but the request's.
    pub async fn first_attempt(&self) {
        let mut progress = self.progress.subscribe();
        // Fails only when the sender is dropped, and `self` holds it.
        let _ = progress
            .wait_for(|p| p.attempts > 0 || matches!(p.phase, Phase::Stopped))
            .await;
    }

    /// Whether there is a valid token, and Atlas takes it as far as is known.
    pub fn usable(&self) -> bool {
        let now = self.now();
        !self.is_refused() && self.current.load().as_ref().is_some_and(|t| !t.expired(now))
    }

    /// The state, for the status page.
    pub fn status(&self) -> BearerStatus {
        let now = self.now();
        let token = self.current.load_full().map(Token);
        let progress = self.progress.borrow().clone();
        let (failure, next) = match progress.phase {
            Phase::Failed { until, refusal } => (Some((*refusal).clone()), Some(until)),
            Phase::Idle => (None, token.as_ref().map(Token::renew_at)),
            Phase::Asking | Phase::Stopped => (None, None),
        };
        BearerStatus {
            usable: !self.is_refused() && token.as_ref().is_some_and(|t| t.left(now).is_some()),
            expires_at: token.as_ref().map(Token::expires_at),
            attempts: progress.attempts,
            failure,
            next_attempt: next.map(|at| at.saturating_sub(now.boot)),
        }
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// The current token unless it has expired. Wakes the task when the renewal is due: its timer stands still while
    /// the machine sleeps.
    fn valid(&self, now: Moment) -> Option<Token> {
        let current = self.current.load();
        let token = current.as_ref().filter(|t| !t.expired(now))?;
        if token.first_to_find_due(now) {
            self.demand.notify_one();
        }
        Some(Token(Arc::clone(token)))
    }

    /// The last failure while its pause lasts, and what is left of the pause.
    fn failing(&self, now: Moment) -> Option<(Duration, Arc<Refusal>)> {
        match &self.progress.borrow().phase {
            Phase::Failed { until, refusal } if *until > now.boot => Some((*until - now.boot, Arc::clone(refusal))),
            _ => None,
        }
    }

    fn force(&self, generation: u64, now: Moment) -> bool {
        let mut gate = self.force.lock();
        let admitted = gate.admits(generation, now.boot);
        self.forced.fetch_max(gate.newest(), Ordering::AcqRel);
        admitted
    }

    /// Waits for a valid token of a higher generation.
    async fn wait_for_newer(&self, than: u64, limit: Duration) -> Result<Token, TokenUnavailable> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut progress = self.progress.subscribe();
        loop {
            // First mark the progress as seen, then look for the token: one that is stored in between also publishes
            // progress, which ends the wait below.
            let stopped = matches!(progress.borrow_and_update().phase, Phase::Stopped);
            let now = self.now();
            if let Some(token) = self.valid(now).filter(|t| t.generation() > than) {
                return Ok(token);
            }
            if stopped {
                return Err(not_yet("the proxy is stopping"));
            }
            if let Some((retry_after, refusal)) = self.failing(now) {
                return Err(unavailable(retry_after, &refusal));
            }
            self.demand.notify_one();
            if tokio::time::timeout_at(deadline, progress.changed()).await.is_err() {
                return Err(not_yet("the token endpoint has not answered yet"));
            }
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.progress.send_modify(|p| p.phase = phase);
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

fn not_yet(cause: &str) -> TokenUnavailable {
    TokenUnavailable::NotYet {
        retry_after: RETRY_SOON,
        cause: cause.to_owned(),
    }
}

fn unavailable(retry_after: Duration, refusal: &Refusal) -> TokenUnavailable {
    let cause = refusal.cause.clone();
    match refusal.outcome {
        Outcome::Rejected => TokenUnavailable::Rejected { retry_after, cause },
        Outcome::NotAtlas => TokenUnavailable::NotAtlas { retry_after, cause },
        _ => TokenUnavailable::NotYet { retry_after, cause },
    }
}

/// In `0.0..1.0`, for jitter. Without a source of randomness there is no jitter, and nothing else is lost.
pub(crate) fn unit_random() -> f64 {
    // 2^-32 times a u32 lies in 0.0..1.0.
    getrandom::u32().map_or(0.5, |n| f64::from(n) / 4_294_967_296.0)
}
