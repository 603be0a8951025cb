//! HTTP Digest (RFC 7616) with an Atlas API key.
//!
//! Decides and computes; it knows no sockets. The proxy sends: it asks [`Digest::authorize`] for a header, hands a 401
//! to [`Digest::challenged`] and any answer that shows the credential passed to [`Digest::observe_success`]. The
//! challenge is kept and used ahead of the next 401, so that in the steady state a request goes to the server once. On
//! that path nothing takes a lock: the nonce is read from an `ArcSwap`, its count is an atomic. A server that minds the
//! order in which counts arrive gets each nonce from one request at a time: [`Turn`] is what a request holds meanwhile.

pub mod challenge;
mod field;
mod lanes;
mod life;
mod nonce;
mod order;
mod prime;
mod refusal;
pub(crate) mod response;
mod turn;
mod types;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::challenge::{Challenge, next_nonce, strongest};
use self::lanes::Lanes;
use self::life::NonceLife;
use self::nonce::{Nonce, NonceParts};
use self::order::Order;
use self::prime::Primer;
pub use self::prime::{Prime, PrimeGuard, PrimeWait};
use self::refusal::Refusals;
use self::response::Hex;
pub use self::turn::{Held, Need, Turn};
pub use self::types::{
    Authorized, BodyForDigest, ChallengeCause, DigestEvents, DigestParts, GiveUp, PermitTimeout, PublicKeyError,
    Verdict,
};
use crate::fair::{Line, Part};
use crate::secret::Secret;
use crate::time::SharedClock;

/// A request is sent again at most this often because of a 401.
pub const MAX_RETRIES: u32 = 2;
/// A request without a challenge waits at most this long for the one that another request fetches.
pub const PRIME_WAIT: Duration = Duration::from_secs(2);
/// A request waits at most this long for its turn where `digest_max_concurrent` is set: as long as the drain at shutdown.
pub const PERMIT_WAIT: Duration = Duration::from_secs(30);
/// This many replaced nonces keep their count, for servers that hand out a nonce again.
const REMEMBERED_NONCES: usize = 64;
/// The server may have forgotten a lane's nonce when this many challenges were fetched since its last use.
const FETCHED_SINCE: u64 = 2;
/// A nonce that goes stale sooner than this went stale by use, not by age.
const STALE_BY_USE: Duration = Duration::from_secs(1);

/// The Digest credential of one account. Shared by reference.
pub struct Digest {
    public_key: String,
    private_key: Secret,
    clock: SharedClock,
    events: Arc<dyn DigestEvents>,
    current: ArcSwapOption<Nonce>,
    /// The nonces taken into use lately, the newest last. Locked only to replace the current one.
    recent: Mutex<VecDeque<Arc<Nonce>>>,
    life: NonceLife,
    order: Order,
    lanes: Arc<Lanes>,
    /// Challenges that were fetched without a credential: a server may remember each, and forget an older one for it.
    fetched: AtomicU64,
    /// The server has accepted a nonce a second time.
    reusable: AtomicBool,
    generation: AtomicU64,
    refusals: Refusals,
    /// A request passed with this key once.
    proven: AtomicBool,
    primer: Primer,
    permits: Option<Arc<Semaphore>>,
}

impl Digest {
    /// A credential without a challenge yet. It counts as usable until the server says otherwise.
    ///
    /// # Errors
    /// When the public key is empty or has a character that no header can carry.
    pub fn new(parts: DigestParts) -> Result<Self, PublicKeyError> {
        let key = parts.key;
        if key.public_key.is_empty() {
            return Err(PublicKeyError::Empty);
        }
        if key.public_key.chars().any(char::is_control) {
            return Err(PublicKeyError::ControlCharacter);
        }
        parts.events.usable(true);
        Ok(Self {
            public_key: key.public_key,
            private_key: key.private_key,
            clock: parts.clock,
            events: parts.events,
            current: ArcSwapOption::empty(),
            recent: Mutex::new(VecDeque::with_capacity(REMEMBERED_NONCES)),
            life: NonceLife::new(),
            order: Order::default(),
            lanes: Lanes::new(),
            fetched: AtomicU64::new(0),
            reusable: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            refusals: Refusals::default(),
            proven: AtomicBool::new(false),
            primer: Primer::default(),
            permits: key
                .max_concurrent
                .map(|most| Arc::new(Semaphore::new(most.get().min(Semaphore::MAX_PERMITS)))),
        })
    }

    /// A request's way to a nonce; hold it until the answer's head is there.
    ///
    /// # Errors
    /// When `digest_max_concurrent` requests are in flight, and none ended within [`PERMIT_WAIT`].
    pub async fn turn<'a>(&'a self, part: &'a Part) -> Result<Turn<'a>, PermitTimeout> {
        Ok(Turn::new(self, part, self.permit(part).await?))
    }

    /// Whether `digest_max_concurrent` is set: then a body should be there before its [`Self::turn`] comes.
    pub fn is_limited(&self) -> bool {
        self.permits.is_some()
    }

    /// The same with a nonce of its own, and not counted in `digest_max_concurrent`: for a probe.
    pub fn turn_alone(&self) -> Turn<'_> {
        Turn::alone(self)
    }

    /// The header for one sending of a request. `uri` is the request target byte for byte as it goes upstream.
    ///
    /// None: no challenge is cached; or it wants the body ([`Self::needs_body`]) and `body` is unknown.
    pub fn authorize(&self, method: &Method, uri: &str, body: BodyForDigest<'_>) -> Option<Authorized> {
        let nonce = self.current.load_full()?;
        let authorized = self.authorize_with(&nonce, method, uri, body, false);
        if authorized.is_none() && !nonce.needs_body() {
            // Used up: removed, unless somebody has replaced it already. The next request fetches another.
            self.current.compare_and_swap(&nonce, None);
        }
        authorized
    }

    fn authorize_with(
        &self,
        nonce: &Arc<Nonce>,
        method: &Method,
        uri: &str,
        body: BodyForDigest<'_>,
        alone: bool,
    ) -> Option<Authorized> {
        if nonce.needs_body() && matches!(body, BodyForDigest::Unknown) {
            return None;
        }
        let count = nonce.next_count()?;
        let header = nonce.header(method, uri, body, count)?;
        self.events.nonce_used();
        let sent_age = nonce.age(self.clock.boot());
        Some(Authorized {
            header,
            nonce: Arc::clone(nonce),
            count,
            alone,
            sent_age,
        })
    }

    /// The cached challenge offers `auth-int` alone: the whole body must be known to authorize.
    pub fn needs_body(&self) -> bool {
        self.current.load().as_ref().is_some_and(|nonce| nonce.needs_body())
    }

    /// There is a challenge to answer.
    pub fn has_challenge(&self) -> bool {
        self.current.load().is_some()
    }

    /// The nonce is young enough for a request that can be sent only once: younger than half the life observed so far.
    pub fn fresh_enough_for_streaming(&self) -> bool {
        let now = self.clock.boot();
        self.current
            .load()
            .as_ref()
            .is_some_and(|nonce| self.life.is_young(nonce.age(now)))
    }

    /// The server has shown that it minds the order of counts, and lately so.
    fn minds_order(&self) -> bool {
        self.order.minds(|| self.clock.boot())
    }

    /// Whether a request that can be sent only once may use the shared nonce: if it is young, and the server does not
    /// mind the order of counts. Over the connection that is made for it, such a request is easily overtaken.
    fn may_share_once(&self) -> bool {
        self.order.is_indifferent() && self.fresh_enough_for_streaming()
    }

    /// False once two requests or fresh nonces in a row and then a probe were refused ([`Self::refusal_confirmed`]),
    /// until a request passes. A key that once passed counts as usable again after the pause: a caller that holds
    /// requests back while this is false would never see one pass.
    pub fn usable(&self) -> bool {
        if !self.refusals.key_refused() {
            return true;
        }
        self.proven.load(Ordering::Relaxed) && self.refusals.pause_left(self.clock.boot()).is_none()
    }

    /// Whether the key counts as refused.
    pub fn is_refused(&self) -> bool {
        self.refusals.key_refused()
    }

    /// Two fresh nonces in a row were refused, or two 401s passed on: worth a probe on another path, unless a probe has
    /// just confirmed the refusal.
    pub fn suspected(&self) -> bool {
        self.refusals.suspected() && self.refusals.pause_left(self.clock.boot()).is_none()
    }

    /// A client gets a 401, for whatever reason: a challenge that cannot be answered, nonces that are stale again and again.
    pub fn passes_401_on(&self) {
        self.refusals.add();
    }

    /// A probe with a nonce of its own, on another path, was refused, too. True when that is news.
    pub fn refusal_confirmed(&self) -> bool {
        // The refused key was what looked like a server that minds the order.
        self.order.forget();
        let news = self.refusals.confirm(self.clock.boot());
        if news {
            self.events.usable(false);
        }
        news
    }

    /// Handles a 401. `used` is what the request carried; `attempt` how often it was sent again before, from 0.
    /// [`Verdict::Retry`]: authorize anew and send again, if the body can be sent again.
    pub fn challenged(&self, response: &HeaderMap, used: Option<&Authorized>, attempt: u32) -> Verdict {
        self.take_in(response, used, attempt, ChallengeCause::First)
    }

    /// Handles the 401 to a request that was made only to get a challenge, and carried no credential.
    pub fn primed(&self, response: &HeaderMap) -> Verdict {
        self.take_in(response, None, 0, ChallengeCause::Prime)
    }

    fn take_in(
        &self,
        response: &HeaderMap,
        used: Option<&Authorized>,
        attempt: u32,
        unused: ChallengeCause,
    ) -> Verdict {
        let Some(challenge) = strongest(response) else {
            return Verdict::GiveUp(GiveUp::NoChallenge);
        };
        let now = self.clock.boot();
        let stale = challenge.stale;
        if used.is_none() {
            self.fetched.fetch_add(1, Ordering::Relaxed);
        }
        self.events.challenge(match used {
            None => unused,
            Some(_) if stale => ChallengeCause::Stale,
            Some(_) => ChallengeCause::Refused,
        });
        self.judge(used, stale);
        let Some(current) = self.keep_or_replace(challenge, used, now) else {
            return Verdict::GiveUp(GiveUp::NoRandomness);
        };
        self.verdict(used, &current, stale, attempt, now)
    }

    /// What a 401 tells about the life of nonces and the key.
    fn judge(&self, used: Option<&Authorized>, stale: bool) {
        let Some(used) = used else { return };
        if stale && used.count > 1 && used.sent_age < STALE_BY_USE {
            self.reusable.store(false, Ordering::Relaxed);
        }
        if self.may_be_order(used, stale) {
            self.order.doubted();
        } else if stale {
            self.life.stale_at(used.sent_age);
        } else if used.alone || !used.nonce.is_shared() {
            self.count_refusal(used);
        }
    }

    /// Whether a 401 may be about the order of counts: others use the nonce, too, and it was not refused for its age. Believed
    /// only when the same request passes on a nonce of its own.
    fn may_be_order(&self, used: &Authorized, stale: bool) -> bool {
        !used.alone && used.nonce.is_shared() && self.is_refused_by_use(used, stale)
    }

    /// Whether age can't be why the nonce was refused: older ones were accepted, or it is very young.
    fn is_refused_by_use(&self, used: &Authorized, stale: bool) -> bool {
        used.sent_age < if stale { STALE_BY_USE } else { self.life.observed() }
    }

    /// A request that was refused on a shared nonce has passed on one of its own.
    fn order_shown(&self) {
        if self.order.shown(self.clock.boot()) {
            tracing::info!(
                "the upstream minds the order in which requests use a Digest nonce: from now on each request has one of its own"
            );
        }
    }

    fn verdict(&self, used: Option<&Authorized>, next: &Nonce, stale: bool, attempt: u32, now: Duration) -> Verdict {
        let spent = attempt >= MAX_RETRIES;
        if stale && !spent {
            // `stale` says that the key is right, whatever was found about it before.
            return Verdict::Retry;
        }
        if let Some(left) = self.refusals.pause_left(now) {
            return Verdict::GiveUp(GiveUp::KeyRefused { pause_left: left });
        }
        if spent {
            return Verdict::GiveUp(GiveUp::RetriesSpent);
        }
        // The server refuses a nonce that it still hands out: another count would not change its mind, unless it was the
        // order of counts that it minded.
        let same = used.is_some_and(|used| used.nonce.generation == next.generation);
        if same && !used.is_some_and(|used| self.may_be_order(used, stale)) {
            Verdict::GiveUp(GiveUp::Refused)
        } else {
            Verdict::Retry
        }
    }

    /// Handles a 401 to a request with a lane, and returns the lane's next nonce.
    fn lane_challenged(
        &self,
        response: &HeaderMap,
        used: Option<&Authorized>,
        attempt: u32,
    ) -> (Verdict, Option<Arc<Nonce>>) {
        let Some(challenge) = strongest(response) else {
            return (Verdict::GiveUp(GiveUp::NoChallenge), None);
        };
        let now = self.clock.boot();
        let stale = challenge.stale;
        self.events.challenge(match used {
            None => ChallengeCause::First,
            Some(_) if stale => ChallengeCause::Stale,
            Some(_) => ChallengeCause::Refused,
        });
        self.judge(used, stale);
        // Counted as a fetch: the server may remember one nonce more.
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let Some(next) = self.new_nonce(challenge) else {
            return (Verdict::GiveUp(GiveUp::NoRandomness), None);
        };
        (self.verdict(used, &next, stale, attempt, now), Some(next))
    }

    /// The challenge of a 401 to a request without credential, for a lane.
    fn lane_challenge(&self, response: &HeaderMap) -> (Verdict, Option<Arc<Nonce>>) {
        let Some(challenge) = strongest(response) else {
            return (Verdict::GiveUp(GiveUp::NoChallenge), None);
        };
        self.fetched.fetch_add(1, Ordering::Relaxed);
        match self.new_nonce(challenge) {
            Some(nonce) => (Verdict::Retry, Some(nonce)),
            None => (Verdict::GiveUp(GiveUp::NoRandomness), None),
        }
    }

    /// Whether a lane's nonce will do for a request that can be sent only once: it is young, not spent, and not forgotten.
    fn is_good_for_once(&self, nonce: &Nonce) -> bool {
        let spent = !nonce.is_unused() && !self.reusable.load(Ordering::Relaxed);
        let forgotten = self.fetched.load(Ordering::Relaxed) > nonce.fetched_before() + FETCHED_SINCE;
        !spent && !forgotten && self.life.is_young(nonce.age(self.clock.boot()))
    }

    /// Handles an answer that shows that the credential passed: any status but 401, 407, 429 and 5xx. True: the key
    /// counted as refused until now.
    pub fn observe_success(&self, response: &HeaderMap, used: &Authorized) -> bool {
        used.nonce.mark_accepted();
        if !used.alone && used.nonce.was_overtaken(used.count) {
            self.order.overlapped();
        }
        if !self.proven.load(Ordering::Relaxed) {
            self.proven.store(true, Ordering::Relaxed);
        }
        self.life.accepted_at(used.sent_age);
        if used.count > 1 && !self.reusable.load(Ordering::Relaxed) {
            self.reusable.store(true, Ordering::Relaxed);
        }
        let news = self.refusals.clear();
        if news {
            self.events.usable(true);
        }
        // The successor of a lane's nonce stays with the lane.
        if used.alone {
            self.lanes.accepted();
        } else {
            self.take_successor(response, used);
        }
        news
    }

    fn take_successor(&self, response: &HeaderMap, used: &Authorized) {
        let Some(next) = next_nonce(response) else { return };
        let mut recent = self.recent.lock();
        // Only the first answer to a nonce brings its successor; those of later answers would replace that at once.
        let is_current = self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| current.generation == used.nonce.generation && *current.text() != *next.value);
        if is_current {
            let challenge = used.nonce.challenge.with_nonce(next);
            self.replace(&mut recent, challenge);
        }
    }

    /// Decides what a request without a challenge does. See [`Self::prime`] for the usual loop around it.
    pub fn begin_prime(&self) -> Prime {
        self.primer.begin(|| self.has_challenge())
    }

    /// Waits, at most [`PRIME_WAIT`], for the challenge that another request fetches. Some: this request leads, and
    /// goes without credential; keep the guard until its 401 was handled. None: authorize, or go without if there is
    /// still no challenge. Cancel-safe.
    pub async fn prime(&self) -> Option<PrimeGuard> {
        let turn = async {
            loop {
                match self.begin_prime() {
                    Prime::Ready => return None,
                    Prime::Lead(guard) => return Some(guard),
                    Prime::Wait(wait) => {
                        if wait.answered().await {
                            return None;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(PRIME_WAIT, turn).await.unwrap_or(None)
    }

    /// The right to have a Digest request in flight; hold it until the answer's head is there. `Ok(None)`: no limit set.
    ///
    /// # Errors
    /// After [`PERMIT_WAIT`].
    pub async fn permit(&self, part: &Part) -> Result<Option<OwnedSemaphorePermit>, PermitTimeout> {
        let Some(permits) = &self.permits else {
            return Ok(None);
        };
        lanes::permit(permits, part, Line::Requests).await
    }

    /// Counts a 401 against the key if the nonce was fresh: never accepted, and too young to be stale. Each nonce
    /// counts once.
    fn count_refusal(&self, used: &Authorized) {
        let fresh = !used.nonce.was_accepted() && used.sent_age < self.life.observed();
        if fresh && used.nonce.count_refusal() {
            self.refusals.add();
        }
    }

    /// Puts the challenge's nonce in place, unless the current one is as good. Returns the one in place afterwards;
    /// None: no random bytes for a client nonce.
    fn keep_or_replace(&self, challenge: Challenge, used: Option<&Authorized>, now: Duration) -> Option<Arc<Nonce>> {
        let mut recent = self.recent.lock();
        if let Some(current) = self.current.load_full() {
            let same = current.text() == &*challenge.nonce.value && current.challenge.same_terms(&challenge);
            // Many requests in flight on an old nonce bring many new ones: all use the first.
            let newer = used.is_none_or(|used| used.nonce.generation < current.generation);
            if same || (newer && self.life.is_young(current.age(now))) {
                return Some(current);
            }
        }
        self.replace(&mut recent, challenge)
    }

    fn replace(&self, recent: &mut VecDeque<Arc<Nonce>>, challenge: Challenge) -> Option<Arc<Nonce>> {
        let nonce = self.remember_new(recent, challenge)?;
        self.current.store(Some(Arc::clone(&nonce)));
        Some(nonce)
    }

    /// A nonce that is not the shared one.
    fn new_nonce(&self, challenge: Challenge) -> Option<Arc<Nonce>> {
        self.remember_new(&mut self.recent.lock(), challenge)
    }

    /// Gives a lane's nonce back.
    fn give_back_lane(&self, nonce: Arc<Nonce>) {
        nonce.used_after(self.fetched.load(Ordering::Relaxed));
        self.lanes.give_back(nonce);
    }

    fn remember_new(&self, recent: &mut VecDeque<Arc<Nonce>>, challenge: Challenge) -> Option<Arc<Nonce>> {
        let mut client_nonce = [0; 16];
        getrandom::fill(&mut client_nonce).ok()?;
        // A nonce that the server hands out again keeps its count and its age.
        let known = recent
            .iter()
            .rev()
            .find(|known| known.text() == &*challenge.nonce.value);
        let (counter, born) = match known {
            Some(known) => (known.counter(), known.born),
            None => (Arc::default(), self.clock.boot()),
        };
        let nonce = Arc::new(Nonce::new(NonceParts {
            challenge,
            fetched_before: self.fetched.load(Ordering::Relaxed),
            generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1,
            born,
            counter,
            client_nonce: Hex::new(&client_nonce).as_bytes().into(),
            username: &self.public_key,
            password: &self.private_key,
        }));
        if recent.len() == REMEMBERED_NONCES {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&nonce));
        Some(nonce)
    }
}

impl fmt::Debug for Digest {
    /// Nothing of the key, the nonce or the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digest")
            .field("has_challenge", &self.has_challenge())
            .field("usable", &self.usable())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
