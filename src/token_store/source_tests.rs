//! Who asks and who waits, without a server: a store in memory, a scripted endpoint, and tokio's paused clock.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::super::store::{LOCK_LIFE, Turn};
use super::*;
use crate::credential::bearer::{Outcome as Ended, Token};
use crate::metrics::Metrics;
use crate::time::Clock;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A value, and until when it lies there.
type Entry<T> = Option<(T, Instant)>;

fn alive<T: Clone>(entry: &Entry<T>) -> Option<T> {
    entry
        .as_ref()
        .filter(|(_, end)| *end > Instant::now())
        .map(|(value, _)| value.clone())
}

type Happens = Box<dyn FnOnce(&Memory) + Send>;

#[derive(Default)]
struct Memory {
    token: Mutex<Entry<Vec<u8>>>,
    lock: Mutex<Entry<String>>,
    fence: AtomicU64,
    steps: AtomicUsize,
    /// The faults of the next steps; the last stays.
    faults: Mutex<VecDeque<Fault>>,
    /// What others do between a look and the turn that follows it, once.
    before_turn: Mutex<Option<Happens>>,
    /// The fence after which counting starts over; 0: never.
    most_fence: AtomicU64,
    odd: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lost {
    Everything,
    Token,
    Counter,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Fails,
    Rests,
    /// The step takes effect, but its answer is lost.
    HappensUnheard,
}

impl Memory {
    fn fault(&self) -> Result<Fault, StoreError> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        let mut faults = self.faults.lock();
        let fault = match faults.len() {
            0 => Fault::None,
            1 => faults[0],
            _ => faults.pop_front().unwrap(),
        };
        match fault {
            Fault::Fails => Err(StoreError::Failed("scripted".into())),
            Fault::Rests => Err(StoreError::Resting),
            fault => Ok(fault),
        }
    }

    fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.faults.lock() = faults.into_iter().collect();
    }

    fn heard<T>(fault: Fault, answer: T) -> Result<T, StoreError> {
        match fault {
            Fault::HappensUnheard => Err(StoreError::Failed("scripted".into())),
            _ => Ok(answer),
        }
    }

    fn turn(&self, above: u64) -> Turn {
        let mut fence = self.fence.load(Ordering::SeqCst).max(above) + 1;
        let most = self.most_fence.load(Ordering::SeqCst);
        if most > 0 && fence > most {
            fence = 1;
        }
        self.fence.store(fence, Ordering::SeqCst);
        Turn {
            fence,
            stored: self.stored(),
            odd: self.odd.load(Ordering::SeqCst),
        }
    }

    fn stored(&self) -> Option<Stored> {
        let token = self.token.lock().clone();
        alive(&token).map(|value| Stored {
            value,
            left: token.map(|(_, end)| end - Instant::now()),
        })
    }

    fn loses(&self, what: Lost) {
        if what != Lost::Counter {
            *self.token.lock() = None;
        }
        if what != Lost::Token {
            self.fence.store(0, Ordering::SeqCst);
        }
    }

    fn others_come_first(&self) {
        if let Some(happens) = self.before_turn.lock().take() {
            happens(self);
        }
    }

    fn leave(&self, value: impl Into<Vec<u8>>, life: Duration) {
        *self.token.lock() = Some((value.into(), Instant::now() + life));
    }

    /// Somebody took the lock so long ago, and is gone.
    fn dead_holder(&self, since: Duration) {
        *self.lock.lock() = Some(("gone".to_owned(), Instant::now() + LOCK_LIFE - since));
    }

    fn locked(&self) -> bool {
        alive(&self.lock.lock()).is_some()
    }

    fn value(&self) -> Vec<u8> {
        alive(&self.token.lock()).unwrap()
    }
}

impl SharedStore for Memory {
    fn look<'a>(&'a self, _: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async {
            let fault = self.fault()?;
            Self::heard(fault, self.stored())
        })
    }

    fn lock<'a>(&'a self, _: &'a Keys, holder: &'a str, above: u64) -> BoxFuture<'a, Result<Option<Turn>, StoreError>> {
        Box::pin(async move {
            let fault = self.fault()?;
            self.others_come_first();
            if self.locked() {
                return Self::heard(fault, None);
            }
            *self.lock.lock() = Some((holder.to_owned(), Instant::now() + LOCK_LIFE));
            Self::heard(fault, Some(self.turn(above)))
        })
    }

    fn fence<'a>(&'a self, _: &'a Keys, above: u64) -> BoxFuture<'a, Result<Turn, StoreError>> {
        Box::pin(async move {
            let fault = self.fault()?;
            self.others_come_first();
            Self::heard(fault, self.turn(above))
        })
    }

    fn put<'a>(&'a self, _: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let fault = self.fault()?;
            let old = alive(&self.token.lock());
            if let Some(old) = old.filter(|old| Some(old.as_slice()) != put.gives_way) {
                let old = String::from_utf8_lossy(&old).into_owned();
                let fence = old.split_once(':').and_then(|(fence, _)| fence.parse::<u64>().ok());
                if fence.is_some_and(|fence| fence > put.fence) {
                    return Self::heard(fault, false);
                }
            }
            self.leave(put.value, put.life);
            Self::heard(fault, true)
        })
    }

    fn release<'a>(&'a self, _: &'a Keys, holder: &'a str, pause: Duration) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let fault = self.fault()?;
            let mut lock = self.lock.lock();
            if alive(&lock).as_deref() == Some(holder) {
                *lock = Some((holder.to_owned(), Instant::now() + pause));
            }
            Self::heard(fault, ())
        })
    }
}

/// The token endpoint: counts, takes its time, refuses.
#[derive(Default)]
struct Endpoint {
    asked: Mutex<Vec<Instant>>,
    /// The time that each request takes, in turn; empty: no time at all.
    takes: Mutex<VecDeque<Duration>>,
    refuses: AtomicBool,
}

impl Endpoint {
    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

impl TokenSource for Arc<Endpoint> {
    fn fetch<'a>(&'a self, _: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        Box::pin(async {
            let number = {
                let mut asked = self.asked.lock();
                asked.push(Instant::now());
                asked.len()
            };
            let takes = self.takes.lock().pop_front();
            if let Some(takes) = takes {
                sleep(takes).await;
            }
            if self.refuses.load(Ordering::SeqCst) {
                return Err(Refusal::new(Ended::RateLimited, "scripted"));
            }
            Ok(Granted::for_tests(&format!("token-{number}"), 3600))
        })
    }

    fn revoke<'a>(&'a self, _: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
}

/// A replica's wall clock: 1970 when the scene begins.
struct WallClock {
    began: Instant,
    slow: Duration,
}

impl Clock for WallClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.began.elapsed().saturating_sub(self.slow)
    }

    fn boot(&self) -> Duration {
        secs(5000) + self.began.elapsed()
    }
}

struct Scene {
    began: Instant,
    store: Arc<Memory>,
    endpoint: Arc<Endpoint>,
    metrics: Arc<Metrics>,
}

fn scene() -> Scene {
    Scene {
        began: Instant::now(),
        store: Arc::default(),
        endpoint: Arc::default(),
        metrics: Metrics::new(&[]),
    }
}

fn sealer(key: u8) -> Sealer {
    let subject = Subject {
        origin: "https://cloud.mongodb.com".to_owned(),
        client_id: "mdb_sa_id_1".to_owned(),
    };
    Sealer::new(SealKey::parse(&[key; 32]).unwrap(), subject)
}

impl Scene {
    fn replica(&self) -> Arc<SharedSource> {
        self.replica_with(7, Duration::ZERO)
    }

    fn replica_with_key(&self, key: u8) -> Arc<SharedSource> {
        self.replica_with(key, Duration::ZERO)
    }

    fn replica_with(&self, key: u8, slow: Duration) -> Arc<SharedSource> {
        let subject = Subject {
            origin: "https://cloud.mongodb.com".to_owned(),
            client_id: "mdb_sa_id_1".to_owned(),
        };
        Arc::new(SharedSource::with_store(
            "default",
            subject,
            Box::new(Arc::clone(&self.endpoint)),
            (Arc::clone(&self.store) as Arc<dyn SharedStore>, Arc::default()),
            SealKey::parse(&[key; 32]).unwrap(),
            self.metrics.token_store_operations("default"),
            Arc::new(WallClock {
                began: self.began,
                slow,
            }),
            unit_random,
        ))
    }

    fn held_now(&self, granted: &Granted) -> Token {
        let clock = WallClock {
            began: self.began,
            slow: Duration::ZERO,
        };
        Token::new(granted, Moment::now(&clock), 1, 0.5)
    }

    fn count(&self, outcome: Outcome) -> usize {
        let line = format!(
            "atlas_auth_proxy_token_store_operations_total{{account=\"default\",outcome=\"{}\"}} ",
            outcome.as_str()
        );
        let text = self.metrics.render();
        text.lines()
            .find_map(|l| l.strip_prefix(&line))
            .unwrap()
            .parse()
            .unwrap()
    }

    /// So many replicas without a token, all at once.
    async fn all_at_once(&self, replicas: usize) -> Vec<Result<Granted, Refusal>> {
        let mut all = JoinSet::new();
        for _ in 0..replicas {
            let replica = self.replica();
            all.spawn(async move { replica.fetch(None).await });
        }
        all.join_all().await
    }
}

fn held(granted: &Granted) -> Token {
    Token::new(
        granted,
        crate::credential::bearer::Moment {
            wall: SystemTime::UNIX_EPOCH,
            boot: secs(5000),
        },
        1,
        0.5,
    )
}

async fn fetch(replica: &SharedSource, held: Option<&Token>) -> (String, Ownership) {
    let granted = replica.fetch(held).await.unwrap();
    (granted.token().to_owned(), granted.ownership())
}

#[tokio::test(start_paused = true)]
async fn one_of_fifty_asks_and_the_others_take_what_it_got() {
    let scene = scene();
    scene.endpoint.takes.lock().push_back(secs(1));
    let granted = scene.all_at_once(50).await;
    assert_eq!(scene.endpoint.asked(), 1);
    let mut published = 0;
    for granted in granted {
        let granted = granted.unwrap();
        assert_eq!(granted.token(), "token-1");
        published += usize::from(granted.ownership() == Ownership::Published);
        // However long a replica waited, the expiry is the same for all, but for the time to the store.
        let end = granted.counts_after() + granted.life() - granted.age();
        assert!(end > secs(3590) && end <= secs(3602), "{end:?}");
    }
    assert_eq!(published, 1);
    assert!(!scene.store.locked());
    assert_eq!((scene.count(Outcome::Renewed), scene.count(Outcome::Waited)), (1, 49));
    assert_eq!(
        fetch(&scene.replica(), None).await,
        ("token-1".into(), Ownership::Taken)
    );
    assert_eq!(scene.count(Outcome::Hit), 1);
}

#[tokio::test(start_paused = true)]
async fn the_token_that_is_held_is_replaced_by_one_replica_for_all() {
    let scene = scene();
    let replicas: Vec<_> = (0..50).map(|_| scene.replica()).collect();
    let mut tokens = Vec::new();
    for replica in &replicas {
        tokens.push(held(&replica.fetch(None).await.unwrap()));
    }
    // A refused token and one that is due are replaced in the same way.
    scene.endpoint.takes.lock().push_back(secs(1));
    let mut all = JoinSet::new();
    for (replica, token) in replicas.into_iter().zip(tokens) {
        all.spawn(async move { fetch(&replica, Some(&token)).await.0 });
    }
    assert!(all.join_all().await.iter().all(|token| token == "token-2"));
    assert_eq!(scene.endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_stored_between_look_and_lock_is_taken() {
    // With the lock given back meanwhile; and still held by somebody, after whom nobody waits any more.
    for (locked, outcome) in [(false, Outcome::Hit), (true, Outcome::Waited)] {
        let scene = scene();
        if locked {
            scene.store.dead_holder(secs(0));
        }
        let theirs = sealer(7).seal("theirs", secs(3600), 1).unwrap();
        let replica = scene.replica();
        let fetching = tokio::spawn(async move { fetch(&replica, None).await });
        if locked {
            sleep(PATIENCE).await;
        }
        // No await between these two looks and this: whatever turn is taken next, is taken after it.
        *scene.store.before_turn.lock() = Some(Box::new(|store| store.leave(theirs, secs(3600))));
        assert_eq!(fetching.await.unwrap(), ("theirs".into(), Ownership::Taken), "{locked}");
        assert_eq!(scene.endpoint.asked(), 0, "a token was spent for nothing");
        assert_eq!(scene.count(outcome), 1);
        assert_eq!(scene.store.locked(), locked, "what was taken is given back");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_fences_end_the_counting_begins_anew_for_all() {
    let scene = scene();
    scene.store.most_fence.store(5, Ordering::SeqCst);
    let (one, two) = (scene.replica(), scene.replica());
    let mut of_one = held(&one.fetch(None).await.unwrap());
    let mut of_two = held(&two.fetch(None).await.unwrap());
    // Somebody pushes the counter to its end.
    scene.store.fence.store(4, Ordering::SeqCst);
    let mut asked = Vec::new();
    for _ in 0..4 {
        of_one = held(&one.fetch(Some(&of_one)).await.unwrap());
        of_two = held(&two.fetch(Some(&of_two)).await.unwrap());
        asked.push(scene.endpoint.asked());
    }
    // Fence 5 is the last; each replica starts over once, and then one request is enough for both again.
    assert_eq!(asked, [2, 4, 5, 6]);
    assert!(sealer(7).open(&scene.store.value()).unwrap().fence < 5);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_is_succeeded_when_its_lock_ends() {
    let scene = scene();
    scene.store.dead_holder(secs(10));
    let began = Instant::now();
    let granted = scene.all_at_once(20).await;
    assert!(
        granted
            .iter()
            .all(|granted| granted.as_ref().unwrap().token() == "token-1")
    );
    assert_eq!(scene.endpoint.asked(), 1);
    let waited = began.elapsed();
    assert!(waited >= secs(5) && waited < secs(6), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_too_long_is_not_waited_for_and_one_goes_first() {
    let scene = scene();
    scene.store.dead_holder(secs(0));
    let began = Instant::now();
    let granted = scene.all_at_once(20).await;
    assert!(granted.iter().all(Result::is_ok));
    let asked = scene.endpoint.asked();
    assert!(asked < 5, "{asked} of 20 asked");
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < PATIENCE.mul_f64(1.5), "{waited:?}");
    assert_eq!(scene.count(Outcome::Renewed), asked);
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_overwrites_nothing_and_keeps_its_token_to_itself() {
    let scene = scene();
    // The first token request takes longer than its lock lives.
    scene.endpoint.takes.lock().extend([secs(20), secs(0)]);
    let (slow, other) = (scene.replica(), scene.replica());
    let late = tokio::spawn(async move { fetch(&slow, None).await });
    sleep(secs(16)).await;
    assert_eq!(fetch(&other, None).await, ("token-2".into(), Ownership::Published));
    assert_eq!(late.await.unwrap(), ("token-1".into(), Ownership::Own));
    assert_eq!(*sealer(7).open(&scene.store.value()).unwrap().token, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_late_holder_does_not_give_back_the_lock_of_another() {
    let scene = scene();
    scene.endpoint.takes.lock().extend([secs(16), secs(10)]);
    let (slow, other) = (scene.replica(), scene.replica());
    let late = tokio::spawn(async move { fetch(&slow, None).await });
    sleep(secs(15)).await;
    let next = tokio::spawn(async move { fetch(&other, None).await });
    late.await.unwrap();
    assert!(scene.store.locked(), "by the other one");
    next.await.unwrap();
    assert!(!scene.store.locked());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_passed_on_and_the_others_meet_it_one_after_the_other() {
    let scene = scene();
    scene.endpoint.refuses.store(true, Ordering::SeqCst);
    let refusals = scene.all_at_once(10).await;
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().outcome, Ended::RateLimited);
    }
    let asked = scene.endpoint.asked.lock().clone();
    assert_eq!(asked.len(), 10);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE_AFTER_REFUSAL));
    assert_eq!(scene.count(Outcome::Fallback), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_done_without() {
    for (fault, errors) in [(Fault::Fails, 1), (Fault::Rests, 0)] {
        let scene = scene();
        scene.store.script([fault]);
        let began = Instant::now();
        assert_eq!(fetch(&scene.replica(), None).await, ("token-1".into(), Ownership::Own));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(scene.store.steps.load(Ordering::SeqCst), 1, "asked once");
        assert_eq!(
            (scene.count(Outcome::Fallback), scene.count(Outcome::Error)),
            (1, errors)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_in_the_middle_takes_no_token_from_anybody() {
    for (put, ownership, stored) in [
        (Fault::Rests, Ownership::Own, false),
        // Perhaps others have it: it must not be revoked.
        (Fault::Fails, Ownership::Published, false),
        (Fault::HappensUnheard, Ownership::Published, true),
    ] {
        let scene = scene();
        // Look, lock, put, release.
        scene.store.script([Fault::None, Fault::None, put, Fault::Rests]);
        assert_eq!(fetch(&scene.replica(), None).await, ("token-1".into(), ownership));
        assert_eq!(scene.store.token.lock().is_some(), stored);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_broken_off_gives_the_lock_back() {
    let scene = scene();
    scene.endpoint.takes.lock().push_back(secs(9));
    let replica = scene.replica();
    let fetch = tokio::time::timeout(secs(1), replica.fetch(None)).await;
    assert!(fetch.is_err());
    sleep(Duration::from_millis(1)).await;
    assert!(!scene.store.locked());
}

#[tokio::test(start_paused = true)]
async fn a_token_near_its_end_is_not_taken() {
    let scene = scene();
    fetch(&scene.replica(), None).await;
    sleep(secs(2879)).await;
    let granted = scene.replica().fetch(None).await.unwrap();
    assert_eq!(granted.token(), "token-1");
    assert_eq!((granted.life(), granted.age()), (secs(3600), secs(2879)));
    sleep(secs(1)).await;
    assert_eq!(fetch(&scene.replica(), None).await.0, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_life_is_never_longer_than_it_was_granted() {
    let scene = scene();
    fetch(&scene.replica(), None).await;
    let value = scene.store.value();
    // Somebody gives it ten years.
    scene.store.leave(value, secs(315_360_000));
    let granted = scene.replica().fetch(None).await.unwrap();
    assert_eq!(granted.token(), "token-1");
    assert_eq!((granted.life(), granted.age()), (secs(3600), secs(0)));
}

#[tokio::test(start_paused = true)]
async fn an_older_token_that_is_put_back_is_replaced_by_whoever_saw_a_newer_one() {
    let scene = scene();
    let replica = scene.replica();
    let first = held(&replica.fetch(None).await.unwrap());
    let old = scene.store.value();
    let mut last = held(&replica.fetch(Some(&first)).await.unwrap());
    // Even when the store has forgotten how far it had counted, and time and again: that costs a token, each time.
    for expected in 3..8 {
        sleep(secs(600)).await;
        scene.store.leave(old.clone(), secs(3600));
        scene.store.fence.store(0, Ordering::SeqCst);
        let granted = replica.fetch(Some(&last)).await.unwrap();
        assert_eq!(granted.token(), format!("token-{expected}"));
        let stored = sealer(7).open(&scene.store.value()).unwrap();
        assert_eq!(*stored.token, granted.token());
        last = held(&granted);
    }
    assert_eq!(scene.endpoint.asked(), 7);
}

/// The replica that asks first has seen fewer of the tokens than the other, and its clock is slow.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_has_one_replica_ask_for_all() {
    for lost in [Lost::Everything, Lost::Token, Lost::Counter] {
        let scene = scene();
        sleep(secs(3600)).await;
        let (knows_more, knows_less) = (scene.replica(), scene.replica_with(7, secs(30)));
        let mut newest = held(&knows_more.fetch(None).await.unwrap());
        let first = held(&knows_less.fetch(None).await.unwrap());
        for _ in 0..3 {
            sleep(secs(60)).await;
            newest = held(&knows_more.fetch(Some(&newest)).await.unwrap());
        }
        sleep(secs(60)).await;
        scene.store.loses(lost);
        let (expected, granted) = match lost {
            Lost::Counter => ("token-4", 4),
            Lost::Everything | Lost::Token => ("token-5", 5),
        };
        assert_eq!(fetch(&knows_less, Some(&first)).await.0, expected, "{lost:?}");
        assert_eq!(scene.endpoint.asked(), granted, "{lost:?}");
        if granted == 5 {
            assert_eq!(
                fetch(&knows_more, Some(&newest)).await,
                (expected.into(), Ownership::Taken),
                "{lost:?}"
            );
            assert_eq!(
                scene.endpoint.asked(),
                granted,
                "{lost:?}: a token was spent for nothing"
            );
        }
    }
}

/// One has replaced the token, and the other is about to.
#[tokio::test(start_paused = true)]
async fn a_token_that_the_store_has_lost_is_put_back_by_whoever_has_the_newest() {
    let scene = scene();
    let (one, two) = (scene.replica(), scene.replica());
    let first = scene.held_now(&one.fetch(None).await.unwrap());
    fetch(&two, None).await;
    sleep(secs(2700)).await;
    let second = scene.held_now(&one.fetch(Some(&first)).await.unwrap());
    // Not in the place of anything, also of what is of no use.
    let stored = scene.store.value();
    for value in [stored.as_slice(), b"no token"] {
        scene.store.leave(value, secs(3600));
        assert!(!one.offer(&second).await && !two.offer(&first).await);
        assert_eq!(scene.store.value(), value);
    }
    scene.store.loses(Lost::Everything);
    let refusal = two.fetch(Some(&first)).await.unwrap_err();
    assert_eq!(refusal.outcome, Ended::NotItsTurn);
    assert!(!two.offer(&first).await, "it is due for replacement");
    assert!(one.offer(&second).await);
    assert!(!scene.store.locked());
    let granted = two.fetch(Some(&first)).await.unwrap();
    assert_eq!((granted.token(), granted.ownership()), ("token-2", Ownership::Taken));
    assert_eq!(scene.endpoint.asked(), 2);
    // Nobody puts it back: whoever has it is gone.
    let second = scene.held_now(&granted);
    sleep(secs(2700)).await;
    scene.store.loses(Lost::Token);
    let lost = Instant::now();
    let third = loop {
        match two.fetch(Some(&second)).await {
            Ok(granted) => break granted,
            Err(refusal) => sleep(refusal.retry_after.unwrap()).await,
        }
    };
    assert_eq!((third.token(), lost.elapsed()), ("token-3", secs(60)));
}

/// Somebody who can write to the store, but lacks the key, puts them back, each newer than the one before.
#[tokio::test(start_paused = true)]
async fn old_tokens_that_are_put_back_one_after_the_other_are_taken_twice_and_no_more() {
    let scene = scene();
    let writer = scene.replica();
    let mut old = Vec::new();
    let mut last = None;
    for _ in 0..5 {
        last = Some(held(&writer.fetch(last.as_ref()).await.unwrap()));
        old.push(scene.store.value());
    }
    let mut old = old.into_iter();
    let replica = scene.replica();
    let mut now = None;
    for expected in ["token-1", "token-2", "token-7"] {
        scene.store.leave(old.next().unwrap(), secs(3600));
        if expected == "token-7" {
            // Nor is a stored token taken when the token endpoint refuses for now.
            scene.endpoint.refuses.store(true, Ordering::SeqCst);
            assert!(replica.fetch(now.as_ref()).await.is_err());
            scene.endpoint.refuses.store(false, Ordering::SeqCst);
        }
        let granted = replica.fetch(now.as_ref()).await.unwrap();
        assert_eq!(granted.header(), &format!("Bearer {expected}"));
        now = Some(held(&granted));
    }
    // The others have it from the store, in place of what was put there.
    assert_eq!(fetch(&scene.replica(), None).await.0, "token-7");
    // A token that served for a while does not count as refused.
    let newest = scene.store.value();
    let patient = scene.replica();
    let mut now = None;
    for (value, expected, serves) in [
        (old.next().unwrap(), "token-4", 1),
        (old.next().unwrap(), "token-5", 600),
        (newest, "token-7", 1),
    ] {
        scene.store.leave(value, secs(3600));
        let granted = patient.fetch(now.as_ref()).await.unwrap();
        assert_eq!(granted.header(), &format!("Bearer {expected}"));
        now = Some(held(&granted));
        tokio::time::advance(secs(serves)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_counts_as_nothing_and_is_overwritten() {
    let foreign = sealer(8).seal("foreign", secs(3600), 999).unwrap();
    for garbage in ["", "no token", "999:AAAA", &foreign] {
        let scene = scene();
        scene.store.leave(garbage, secs(3600));
        assert_eq!(
            fetch(&scene.replica(), None).await,
            ("token-1".into(), Ownership::Published)
        );
        assert_eq!(scene.count(Outcome::Error), 1);
        assert_eq!(
            fetch(&scene.replica(), None).await,
            ("token-1".into(), Ownership::Taken)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_with_another_key_get_tokens_all_the_same() {
    let scene = scene();
    let (ours, theirs) = (scene.replica_with_key(7), scene.replica_with_key(8));
    assert_eq!(fetch(&ours, None).await.0, "token-1");
    assert_eq!(fetch(&theirs, None).await.0, "token-2");
    assert_eq!(fetch(&ours, None).await.0, "token-3");
}
