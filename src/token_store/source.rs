//! Who asks and who waits: a source of tokens that stands before the token endpoint.
//!
//! ```text
//! another token in the store, with enough life left? ── yes ──► take it
//!        │ no                                    ▲
//! the lock is free? ── no ── wait a little ──────┤  (after 8 to 12 s: ask all the same)
//!        │ yes                                   │
//! look again, in the same step ── it is there now┘
//!        │ no
//! ask the token endpoint, store what it grants for all, give the lock back
//! ```
//!
//! A store that fails or is slow is not waited for: the token endpoint is asked directly then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use super::SealKey;
use super::fleet::{Place, SEATS};
use super::keys::{Keys, Subject};
use super::seal::{Opened, Sealer};
use super::seats::{self, Held, Situation, StoreView, Verdict};
use super::server::millis;
use super::store::{self, Put, SharedStore, StoreError, Stored};
use crate::credential::bearer::{
    BoxFuture, Granted, Moment, Outcome as Ended, Ownership, Refusal, Token, TokenSource, unit_random,
};
use crate::metrics::{TokenStoreOperations, TokenStoreOutcome as Outcome};
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::Origin;

/// How long to wait for the lock's holder, and up to half of that again: then a replica asks, too. The jitter lets the
/// token of the first that asks spare the others their requests.
const PATIENCE: Duration = Duration::from_secs(8);
/// The pause between two looks at the store: from this to two and a half times as much.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the lock is kept after the token endpoint refused, so that the other replicas ask one after the other.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// After Atlas has refused this many tokens of the store in a row, the token endpoint is asked: somebody stores old
/// ones. Two may be honest: a token was revoked, and then its successor.
const MOST_REFUSED: u32 = 2;
/// A token that is to be replaced this soon after it was taken, or within a quarter of its life, was refused.
const SOON: Duration = Duration::from_secs(60);
/// A token with 1/`LEAST_LIFE` of its life left, or less, is not worth taking: tokens are replaced when a fifth is
/// left.
const LEAST_LIFE: u32 = 5;
/// A token with 1/`LEAST_LIFE_TO_PUT_BACK` of its life left, or less, is not put back when the store has lost it: tokens are
/// replaced from then on, and whoever has the one that replaced it puts that back.
const LEAST_LIFE_TO_PUT_BACK: u32 = 4;
/// For so long a token is not used any more, and lives still; and for a request to arrive.
const UNUSED: Duration = Duration::from_secs(2);
/// How long a token of Atlas lives, before one is known.
const USUAL_LIFE: Duration = Duration::from_secs(3600);

/// The shared token of one service account.
pub struct SharedSource {
    account: String,
    inner: Box<dyn TokenSource>,
    store: Arc<dyn SharedStore>,
    sealer: Sealer,
    keys: Keys,
    place: Arc<Place>,
    counts: TokenStoreOperations,
    clock: SharedClock,
    /// In `0.0..1.0`.
    random: fn() -> f64,
    /// What decides whether to ask.
    known: Mutex<Known>,
    /// The highest fence of a token that was opened or stored here. Fences only rise: a token with a lower one is old,
    /// and somebody has put it back.
    newest: AtomicU64,
    /// The token that was taken from the store last, if none was asked for since.
    taken: Mutex<Option<Taken>>,
    /// Whether the log has said that what is stored can't be opened; until a token is taken from there.
    told_unreadable: AtomicBool,
    /// Whether the log has said that somebody else writes to the lock or the counter; until they are as they should be.
    told_odd: AtomicBool,
    /// Whether the log has said that there is no token because others take theirs; until there is one.
    told_waiting: AtomicBool,
}

/// What is remembered between two wishes for a token.
#[derive(Default)]
struct Known {
    /// How long the last token lives that was granted or taken.
    life: Option<Duration>,
    /// Since when the store has answered, and had none to use.
    empty_since: Option<Instant>,
    /// The same, and it had none at all.
    lost_since: Option<Instant>,
    /// When the token endpoint was asked last.
    asked: Option<Instant>,
    /// Until then no token can have expired, since the token endpoint said that too many live.
    limited_until: Option<Instant>,
}

/// A token that came from the store.
struct Taken {
    header: HeaderValue,
    /// Until then a wish to replace it means that it was refused.
    soon: Instant,
    /// How many tokens in a row before it were to be replaced soon.
    refused_before: u32,
}

/// What a look at the store found.
enum Found {
    /// A token to use.
    Token(Granted),
    /// None to use; and whether there is a value that can't be opened.
    Nothing { unreadable: bool },
    /// No value at all.
    Absent,
}

impl SharedSource {
    /// For the account of this name, which is `client_id` at `origin`; `inner` asks the token endpoint.
    #[allow(clippy::too_many_arguments, reason = "each is a part of its own, given once")]
    pub fn new(
        account: &str,
        origin: &Origin,
        client_id: &str,
        inner: Box<dyn TokenSource>,
        store: Arc<super::RedisStore>,
        key: SealKey,
        counts: TokenStoreOperations,
        clock: SharedClock,
    ) -> Self {
        let subject = Subject {
            origin: origin.to_string(),
            client_id: client_id.to_owned(),
        };
        let place = store.places.take(&Keys::of(&subject));
        Self::with_store(account, subject, inner, (store, place), key, counts, clock, unit_random)
    }

    #[allow(clippy::too_many_arguments, reason = "as in `new`")]
    pub(super) fn with_store(
        account: &str,
        subject: Subject,
        inner: Box<dyn TokenSource>,
        (store, place): (Arc<dyn SharedStore>, Arc<Place>),
        key: SealKey,
        counts: TokenStoreOperations,
        clock: SharedClock,
        random: fn() -> f64,
    ) -> Self {
        Self {
            account: account.to_owned(),
            inner,
            store,
            keys: Keys::of(&subject),
            place,
            sealer: Sealer::new(key, subject),
            counts,
            clock,
            random,
            known: Mutex::default(),
            told_waiting: AtomicBool::new(false),
            newest: AtomicU64::new(0),
            taken: Mutex::new(None),
            told_unreadable: AtomicBool::new(false),
            told_odd: AtomicBool::new(false),
        }
    }

    async fn fetch_shared(&self, held: Option<&Token>) -> Result<Granted, Refusal> {
        let result = self.fetch_or_wait(held).await;
        if let Ok(granted) = &result {
            let mut known = self.known.lock();
            known.life = Some(granted.life());
            (known.empty_since, known.lost_since) = (None, None);
            self.told_waiting.store(false, Ordering::Relaxed);
        }
        result
    }

    /// Asks the token endpoint, and remembers what it says.
    async fn ask(&self, held: Option<&Token>) -> Result<Granted, Refusal> {
        self.known.lock().asked = Some(Instant::now());
        let result = self.inner.fetch(held).await;
        let limited = matches!(&result, Err(refusal) if refusal.outcome == Ended::TokenLimit);
        let held = self.held(held);
        let mut known = self.known.lock();
        // The token that is held ends first, as far as is known; without one, all that live may be young.
        let expires = match held {
            Held::Good(left) => left + UNUSED,
            Held::Refused | Held::Nothing => known.life.unwrap_or(USUAL_LIFE),
        };
        known.limited_until = limited.then(|| Instant::now() + expires);
        result
    }

    fn held(&self, held: Option<&Token>) -> Held {
        let left = held.and_then(|held| Some((held, held.left(Moment::now(&*self.clock))?)));
        match left {
            None => Held::Nothing,
            Some((token, _)) if token.is_refused() => Held::Refused,
            Some((_, left)) => Held::Good(left),
        }
    }

    fn verdict(&self, held: Option<&Token>, store: StoreView) -> Verdict {
        let held = self.held(held);
        let known = self.known.lock();
        seats::may_ask(&Situation {
            word: self.place.word(),
            life: known.life.unwrap_or(USUAL_LIFE),
            held,
            store,
            lost: known.lost_since.map(|since| since.elapsed()),
            asked: known.asked.map(|at| at.elapsed()),
            limited: known
                .limited_until
                .map(|at| at.saturating_duration_since(Instant::now())),
        })
    }

    /// The store has answered, and has no token to use, or none at all.
    fn empty(&self, absent: bool) -> StoreView {
        let mut known = self.known.lock();
        let lost_since = known.lost_since.filter(|_| absent);
        known.lost_since = absent.then(|| lost_since.unwrap_or_else(Instant::now));
        StoreView::Empty(known.empty_since.get_or_insert_with(Instant::now).elapsed())
    }

    fn not_its_turn(&self, held: Option<&Token>, wait: Duration) -> Refusal {
        let limited = self
            .known
            .lock()
            .limited_until
            .is_some_and(|until| until > Instant::now());
        let number = self.place.word().map_or(1, |word| word.number);
        let cause = if limited {
            "the token endpoint has said that the service account has as many live tokens as Atlas allows (Access Token \
             limit reached), and no other token can have expired yet"
                .to_owned()
        } else {
            format!(
                "there is no token in the shared token store, or it is away, and of {number} replicas {SEATS} take tokens \
                 of their own, one after the other: it is not this one's turn"
            )
        };
        if !matches!(self.held(held), Held::Good(_)) && !self.told_waiting.swap(true, Ordering::Relaxed) {
            tracing::warn!(account = self.account, cause, "no access token, and none is asked for");
        }
        let mut refusal = Refusal::new(Ended::NotItsTurn, cause);
        refusal.retry_after = Some(wait);
        refusal
    }

    /// Stores a token that was asked for while the store was away, unless there is one to use; or one that the store has lost,
    /// unless it has any.
    async fn offer_shared(&self, held: &Token) -> Result<bool, StoreError> {
        let own = held.ownership() == Ownership::Own;
        let life = self.known.lock().life.unwrap_or(USUAL_LIFE);
        let left = held.left(Moment::now(&*self.clock)).unwrap_or_default();
        let least = life / if own { LEAST_LIFE } else { LEAST_LIFE_TO_PUT_BACK };
        let needed = |found: Found| match found {
            Found::Absent => Some(false),
            Found::Nothing { unreadable } if own => Some(unreadable),
            Found::Nothing { .. } | Found::Token(_) => None,
        };
        if left <= least || held.is_refused() || needed(self.look(Some(held)).await?).is_none() {
            return Ok(false);
        }
        let above = self.above();
        let lock = Lock::new(self)?;
        let Some(turn) = self.store.lock(&self.keys, &lock.holder, above).await? else {
            return Ok(false);
        };
        let lock = lock.held();
        let shared = match needed(self.judge(turn.stored.as_ref(), Some(held))) {
            None => false,
            Some(unreadable) => {
                let turn = self.mine(turn, above, None, unreadable);
                let value = held.header().to_str().unwrap_or_default();
                let token = value.strip_prefix("Bearer ").unwrap_or_default();
                self.publish(token, life, left, &turn).await == Ownership::Published
            }
        };
        lock.release(Duration::ZERO).await;
        Ok(shared)
    }

    async fn fetch_or_wait(&self, held: Option<&Token>) -> Result<Granted, Refusal> {
        let began = Instant::now();
        let refused = self.refused_in_a_row(held);
        match self.turn_or_token(held, began, refused < MOST_REFUSED).await {
            Ok(Turn::Over(granted)) => {
                *self.lock_taken() = Some(Taken {
                    header: granted.header().clone(),
                    soon: Instant::now() + SOON.min(granted.life() / 4),
                    refused_before: refused,
                });
                Ok(granted)
            }
            Ok(Turn::Mine(turn)) => {
                let granted = self.renew(held, began, turn).await?;
                *self.lock_taken() = None;
                Ok(granted)
            }
            Ok(Turn::Others(wait)) => Err(self.not_its_turn(held, wait)),
            Err(error) => {
                self.note(&error);
                {
                    let mut known = self.known.lock();
                    (known.empty_since, known.lost_since) = (None, None);
                }
                if let Verdict::Wait(wait) = self.verdict(held, StoreView::Away) {
                    return Err(self.not_its_turn(held, wait));
                }
                let asked = began.elapsed();
                let granted = self.ask(held).await?;
                *self.lock_taken() = None;
                self.counts.count(Outcome::Fallback);
                Ok(granted.counting_after(asked))
            }
        }
    }

    /// How many tokens from the store, `held` the last of them, were to be replaced soon after they were taken: Atlas has
    /// refused them.
    fn refused_in_a_row(&self, held: Option<&Token>) -> u32 {
        let last = self.lock_taken();
        let (Some(held), Some(taken)) = (held, last.as_ref()) else {
            return 0;
        };
        let soon = taken.header == held.header() && Instant::now() < taken.soon;
        if soon {
            taken.refused_before.saturating_add(1)
        } else {
            0
        }
    }

    fn lock_taken(&self) -> MutexGuard<'_, Option<Taken>> {
        self.taken.lock()
    }

    /// Waits until there is a token to take, if `takes`, or until it is this replica's turn to ask for one.
    async fn turn_or_token(&self, held: Option<&Token>, began: Instant, takes: bool) -> Result<Turn<'_>, StoreError> {
        let patience = self.more(PATIENCE, 0.5);
        let (mut waited, mut told) = (false, false);
        loop {
            // Before the look: the life that is left counts from then.
            let looked = began.elapsed();
            let found = self.look(held).await?;
            let absent = matches!(found, Found::Absent);
            match found {
                Found::Token(granted) if takes => {
                    self.counts.count(if waited { Outcome::Waited } else { Outcome::Hit });
                    return Ok(Turn::Over(granted.counting_after(looked)));
                }
                Found::Nothing { unreadable: true } if !told => {
                    told = true;
                    self.tell_unreadable();
                }
                Found::Token(_) | Found::Nothing { .. } | Found::Absent => {}
            }
            if let Verdict::Wait(wait) = self.verdict(held, self.empty(absent)) {
                return Ok(Turn::Others(wait));
            }
            let above = self.above();
            let asked = began.elapsed();
            let (turn, lock) = if asked >= patience {
                tracing::debug!(account = self.account, "another replica has the lock for too long");
                (self.store.fence(&self.keys, above).await?, None)
            } else {
                let lock = Lock::new(self)?;
                let Some(turn) = self.store.lock(&self.keys, &lock.holder, above).await? else {
                    waited = true;
                    sleep(self.more(LOOK_AGAIN, 1.5)).await;
                    continue;
                };
                (turn, Some(lock.held()))
            };
            self.tell_odd(turn.odd);
            // Between the look and the turn another replica may have stored a token and given the lock back.
            let unreadable = match self.judge(turn.stored.as_ref(), held) {
                Found::Absent => false,
                Found::Token(_) if !takes => false,
                Found::Token(granted) => {
                    if let Some(lock) = lock {
                        lock.release(Duration::ZERO).await;
                    }
                    self.counts.count(if waited { Outcome::Waited } else { Outcome::Hit });
                    return Ok(Turn::Over(granted.counting_after(asked)));
                }
                Found::Nothing { unreadable } => unreadable,
            };
            return Ok(Turn::Mine(self.mine(turn, above, lock, unreadable || !takes)));
        }
    }

    /// A turn of this replica's, whose fence was to exceed `above`.
    fn mine<'s>(&self, turn: store::Turn, above: u64, lock: Option<Lock<'s>>, replaces: bool) -> MyTurn<'s> {
        // The counter has started over: a fence from before must neither make this replica refuse new tokens, nor stay
        // in the store for ever.
        let anew = turn.fence <= above;
        if anew {
            self.newest.store(turn.fence, Ordering::Release);
        }
        MyTurn {
            fence: turn.fence,
            lock,
            gives_way: turn.stored.filter(|_| replaces || anew).map(|stored| stored.value),
        }
    }

    /// What the fence of a turn has to exceed: the highest that was seen, and the milliseconds since 1970. So a store that has
    /// lost its counter goes on above all fences that it gave before, also those that this replica has not seen: else whoever
    /// has seen them would take the new token for an old one that was put back. The clocks of the replicas may differ by as
    /// much as lies between two turns, and matter only then: a counter that is there is never behind the highest fence.
    fn above(&self) -> u64 {
        let since_1970 = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH);
        let newest = self.newest.load(Ordering::Acquire);
        newest.max(millis(since_1970.unwrap_or_default()))
    }

    async fn look(&self, held: Option<&Token>) -> Result<Found, StoreError> {
        let stored = self.store.look(&self.keys).await?;
        Ok(self.judge(stored.as_ref(), held))
    }

    fn judge(&self, stored: Option<&Stored>, held: Option<&Token>) -> Found {
        let Some(Stored { value, left }) = stored else {
            return Found::Absent;
        };
        // No replica stores a token without an expiry.
        let (Some(opened), Some(left)) = (self.sealer.open(value), *left) else {
            return Found::Nothing { unreadable: true };
        };
        self.usable(&opened, left, held)
            .map_or(Found::Nothing { unreadable: false }, Found::Token)
    }

    fn usable(&self, opened: &Opened, left: Duration, held: Option<&Token>) -> Option<Granted> {
        let newest = self.newest.fetch_max(opened.fence, Ordering::AcqRel);
        let left = left.min(opened.life);
        if opened.fence < newest || left <= opened.life / LEAST_LIFE {
            return None;
        }
        let granted = Granted::taken(&opened.token, opened.life, opened.life - left)?;
        if held.map(Token::header) == Some(granted.header()) {
            return None;
        }
        self.told_unreadable.store(false, Ordering::Relaxed);
        Some(granted)
    }

    /// Asks the token endpoint, and stores what it grants.
    async fn renew(&self, held: Option<&Token>, began: Instant, turn: MyTurn<'_>) -> Result<Granted, Refusal> {
        let asked = Instant::now();
        let granted = match self.ask(held).await {
            Ok(granted) => granted.counting_after(asked - began),
            Err(refusal) => {
                if let Some(lock) = turn.lock {
                    lock.release(PAUSE_AFTER_REFUSAL).await;
                }
                return Err(refusal);
            }
        };
        let life = granted.life();
        let left = life.saturating_sub(asked.elapsed());
        let ownership = self.publish(granted.token(), life, left, &turn).await;
        if let Some(lock) = turn.lock {
            lock.release(Duration::ZERO).await;
        }
        self.counts.count(match ownership {
            Ownership::Own => Outcome::Fallback,
            Ownership::Published | Ownership::Taken => Outcome::Renewed,
        });
        Ok(granted.owned_as(ownership))
    }

    /// Whether others may have the token now. When it is unknown whether it was stored, they may: revoking it could
    /// take it from them.
    async fn publish(&self, token: &str, life: Duration, left: Duration, turn: &MyTurn<'_>) -> Ownership {
        let Some(value) = self.sealer.seal(token, life, turn.fence) else {
            return Ownership::Own;
        };
        let put = Put {
            fence: turn.fence,
            value: &value,
            life: left,
            gives_way: turn.gives_way.as_deref(),
        };
        match self.store.put(&self.keys, put).await {
            Ok(true) => {
                self.newest.fetch_max(turn.fence, Ordering::AcqRel);
                Ownership::Published
            }
            Ok(false) => {
                tracing::debug!(account = self.account, "another replica has stored a newer token");
                Ownership::Own
            }
            Err(error) => {
                self.note(&error);
                match error {
                    StoreError::Resting => Ownership::Own,
                    StoreError::Failed(_) => Ownership::Published,
                }
            }
        }
    }

    /// The store itself logs its outages.
    fn note(&self, error: &StoreError) {
        if let StoreError::Failed(_) = error {
            self.counts.count(Outcome::Error);
        }
    }

    fn tell_unreadable(&self) {
        self.counts.count(Outcome::Error);
        if !self.told_unreadable.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                account = self.account,
                "what lies in the shared token store can't be opened and is replaced: have all replicas the same \
                 `key_file`?"
            );
        }
    }

    fn tell_odd(&self, odd: bool) {
        if odd && !self.told_odd.swap(odd, Ordering::Relaxed) {
            tracing::warn!(
                account = self.account,
                "the lock or the counter in the shared token store was not as replicas leave it, and was replaced: does \
                 another program write to the keys atlas-auth-proxy:v1:*?"
            );
        }
        if !odd {
            self.told_odd.store(false, Ordering::Relaxed);
        }
    }

    /// `least`, and up to `part` of it more.
    fn more(&self, least: Duration, part: f64) -> Duration {
        least.mul_f64(1.0 + part * (self.random)())
    }
}

/// Whose turn it is.
enum Turn<'s> {
    /// Nobody's: there is a token.
    Over(Granted),
    /// This replica's.
    Mine(MyTurn<'s>),
    /// Not this replica's, as far as is known for so long.
    Others(Duration),
}

struct MyTurn<'s> {
    fence: u64,
    /// `None`: another replica has had the lock for too long.
    lock: Option<Lock<'s>>,
    /// The stored value that counts for nothing: it is replaced whatever fence it claims.
    gives_way: Option<Vec<u8>>,
}

/// The lock; given back also when the call that took it is dropped.
struct Lock<'s> {
    source: &'s SharedSource,
    holder: String,
    held: bool,
}

impl<'s> Lock<'s> {
    /// Not yet taken.
    fn new(source: &'s SharedSource) -> Result<Self, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| StoreError::Failed("there is no randomness for a lock".to_owned()))?;
        Ok(Self {
            source,
            holder: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            held: false,
        })
    }

    fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// If this fails, the lock ends with its life.
    async fn release(mut self, pause: Duration) {
        let Self { source, holder, .. } = &self;
        if let Err(error) = source.store.release(&source.keys, holder, pause).await {
            source.note(&error);
        }
        self.held = false;
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        // The renewal was cancelled: the process stops. Others need not wait for the end of the lock's life.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, keys) = (Arc::clone(&self.source.store), self.source.keys.clone());
        let holder = std::mem::take(&mut self.holder);
        runtime.spawn(async move {
            let _ = store.release(&keys, &holder, Duration::ZERO).await;
        });
    }
}

impl TokenSource for SharedSource {
    fn fetch<'a>(&'a self, held: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        Box::pin(self.fetch_shared(held))
    }

    fn offer<'a>(&'a self, held: &'a Token) -> BoxFuture<'a, bool> {
        Box::pin(async {
            self.offer_shared(held).await.unwrap_or_else(|error| {
                self.note(&error);
                false
            })
        })
    }

    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        self.inner.revoke(token)
    }

    fn secret_in_force(&self) -> Option<Secret> {
        self.inner.secret_in_force()
    }
}

impl fmt::Debug for SharedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSource")
            .field("account", &self.account)
            .field("word", &self.place.word())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
