//! A whole fleet with a clock of its own: real credentials and sources, a store in memory that is away as a pattern says,
//! and a token endpoint that counts.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::SystemTime;

use proptest::prelude::*;
use tokio::time::sleep;

use super::super::source::SharedSource;
use super::super::store::{LOCK_LIFE, Put, SharedStore, Stored, Turn};
use super::super::{SealKey, keys::Subject};
use super::table::{Report, Table};
use super::*;
use crate::credential::bearer::{Bearer, BoxFuture, Granted, Outcome, Refusal, Token, TokenEvents, TokenSource};
use crate::metrics::Metrics;
use crate::time::Clock;

const LIFE: Duration = secs(3600);
/// What Atlas allows.
const MOST_LIVE: usize = 100;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(1) };
}

/// In `0.0..1.0`, by splitmix64: the runtime has one thread.
fn random() -> f64 {
    SEED.with(|seed| {
        seed.set(seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut z = seed.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / 4_294_967_296.0
    })
}

struct FleetClock(Instant);

impl Clock for FleetClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + secs(1_790_000_000) + self.0.elapsed()
    }

    fn boot(&self) -> Duration {
        secs(5000) + self.0.elapsed()
    }
}

struct Quiet;

impl TokenEvents for Quiet {
    fn token_request(&self, _: Outcome) {}
    fn token_expiry(&self, _: Option<SystemTime>) {}
    fn token_refreshed(&self, _: SystemTime) {}
    fn usable(&self, _: bool) {}
}

/// The token endpoint: grants as long as fewer than a hundred tokens live.
#[derive(Default)]
struct Endpoint {
    live: Mutex<Vec<(String, Instant)>>,
    asked: Mutex<VecDeque<Instant>>,
    granted: Mutex<u64>,
    most_live: Mutex<usize>,
    most_a_minute: Mutex<usize>,
    limits: Mutex<Vec<Instant>>,
}

impl Endpoint {
    fn ask(&self) -> Result<Granted, Refusal> {
        let now = Instant::now();
        let mut asked = self.asked.lock();
        asked.push_back(now);
        while asked.front().is_some_and(|at| now - *at >= secs(60)) {
            asked.pop_front();
        }
        let mut most = self.most_a_minute.lock();
        *most = asked.len().max(*most);
        let mut live = self.live.lock();
        live.retain(|(_, end)| *end > now);
        if live.len() >= MOST_LIVE {
            self.limits.lock().push(now);
            return Err(Refusal::new(Outcome::TokenLimit, "scripted"));
        }
        *self.granted.lock() += 1;
        let token = format!("token-{}", self.granted.lock());
        live.push((token.clone(), now + LIFE));
        let mut most = self.most_live.lock();
        *most = live.len().max(*most);
        Ok(Granted::for_tests(&token, LIFE.as_secs()))
    }
}

impl TokenSource for Arc<Endpoint> {
    fn fetch<'a>(&'a self, _: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        Box::pin(async {
            sleep(Duration::from_millis(200)).await;
            self.ask()
        })
    }

    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        let value = token.header().to_str().unwrap().to_owned();
        self.live.lock().retain(|(token, _)| format!("Bearer {token}") != value);
        Box::pin(async { Ok(()) })
    }
}

/// The store itself.
#[derive(Default)]
struct World {
    away: tokio::sync::watch::Sender<bool>,
    /// It says to each replica that it is the first of many, and has neither token nor lock.
    lies: Mutex<bool>,
    table: Mutex<Table>,
    reported: Mutex<Option<Instant>>,
    token: Mutex<Option<(Vec<u8>, Instant)>>,
    lock: Mutex<Option<(String, Instant)>>,
    fence: Mutex<u64>,
}

impl World {
    fn lose_everything(&self) {
        *self.table.lock() = Table::default();
        (*self.token.lock(), *self.lock.lock(), *self.fence.lock()) = (None, None, 0);
    }

    fn report(&self, me: usize, place: &Place) {
        if *self.lies.lock() {
            return place.hear(Some(0), 200, Duration::ZERO, true);
        }
        let passed = self.reported.lock().replace(Instant::now()).map(|at| at.elapsed());
        let before = place.word();
        let said = self.table.lock().report(Report {
            me,
            rank: before.map(|word| word.rank),
            clock: before.map_or(Duration::ZERO, |word| word.clock),
            leaves: false,
            passed: passed.unwrap_or_default(),
        });
        place.hear(said.rank, said.number, said.clock, said.settled);
    }

    fn stored(&self) -> Option<Stored> {
        let token = self.token.lock().clone().filter(|(_, end)| *end > Instant::now());
        token.filter(|_| !*self.lies.lock()).map(|(value, end)| Stored {
            value,
            left: Some(end - Instant::now()),
        })
    }

    fn turn(&self, above: u64) -> Turn {
        let mut fence = self.fence.lock();
        *fence = above.max(*fence) + 1;
        Turn {
            fence: *fence,
            stored: self.stored(),
            odd: false,
        }
    }
}

/// The store as one replica reaches it: with rest after a failure.
struct Way {
    world: Arc<World>,
    rest_until: Mutex<Instant>,
}

impl Way {
    fn step(&self) -> Result<&World, StoreError> {
        let mut rest_until = self.rest_until.lock();
        if Instant::now() < *rest_until {
            return Err(StoreError::Resting);
        }
        if *self.world.away.borrow() {
            *rest_until = Instant::now() + secs(4).mul_f64(1.0 + 0.5 * random());
            return Err(StoreError::Failed("scripted".to_owned()));
        }
        Ok(&self.world)
    }
}

impl SharedStore for Way {
    fn look<'a>(&'a self, _: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async { Ok(self.step()?.stored()) })
    }

    fn lock<'a>(&'a self, _: &'a Keys, holder: &'a str, above: u64) -> BoxFuture<'a, Result<Option<Turn>, StoreError>> {
        Box::pin(async move {
            let world = self.step()?;
            let mut lock = world.lock.lock();
            if lock.as_ref().is_some_and(|(_, end)| *end > Instant::now()) && !*world.lies.lock() {
                return Ok(None);
            }
            *lock = Some((holder.to_owned(), Instant::now() + LOCK_LIFE));
            Ok(Some(world.turn(above)))
        })
    }

    fn fence<'a>(&'a self, _: &'a Keys, above: u64) -> BoxFuture<'a, Result<Turn, StoreError>> {
        Box::pin(async move { Ok(self.step()?.turn(above)) })
    }

    fn put<'a>(&'a self, _: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            *self.step()?.token.lock() = Some((put.value.into(), Instant::now() + put.life));
            Ok(true)
        })
    }

    fn release<'a>(&'a self, _: &'a Keys, holder: &'a str, pause: Duration) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut lock = self.step()?.lock.lock();
            if lock.as_ref().is_some_and(|(of, _)| of == holder) {
                *lock = Some((holder.to_owned(), Instant::now() + pause));
            }
            Ok(())
        })
    }
}

struct Replica {
    bearer: Arc<Bearer>,
    _tasks: tokio::task::JoinSet<()>,
}

struct Fleet {
    world: Arc<World>,
    endpoint: Arc<Endpoint>,
    clock: Arc<FleetClock>,
    replicas: VecDeque<Replica>,
    started: usize,
}

impl Fleet {
    fn start(number: usize) -> Self {
        let mut fleet = Self {
            world: Arc::default(),
            endpoint: Arc::default(),
            clock: Arc::new(FleetClock(Instant::now())),
            replicas: VecDeque::new(),
            started: 0,
        };
        for _ in 0..number {
            fleet.add();
        }
        fleet
    }

    fn add(&mut self) {
        let me = self.started;
        self.started += 1;
        let place = Arc::new(Place::default());
        let subject = Subject {
            origin: "https://cloud.mongodb.com".to_owned(),
            client_id: "mdb_sa_id_1".to_owned(),
        };
        let way = Arc::new(Way {
            world: Arc::clone(&self.world),
            rest_until: Mutex::new(Instant::now()),
        });
        let source = SharedSource::with_store(
            "default",
            subject,
            Box::new(Arc::clone(&self.endpoint)),
            (Arc::clone(&way) as Arc<dyn SharedStore>, Arc::clone(&place)),
            SealKey::parse(&[7; 32]).unwrap(),
            Metrics::new(&[]).token_store_operations("default"),
            Arc::clone(&self.clock) as crate::time::SharedClock,
            random,
        );
        let bearer = Bearer::with_source(
            "default".to_owned(),
            Box::new(source),
            Arc::clone(&self.clock) as crate::time::SharedClock,
            Arc::new(Quiet),
            random,
        );
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(&bearer).run(std::future::pending::<()>()));
        tasks.spawn(async move {
            loop {
                let pause = if let Ok(world) = way.step() {
                    world.report(me, &place);
                    secs(10)
                } else {
                    // Looks in vain change nothing.
                    let _ = way.world.away.subscribe().wait_for(|away| !away).await;
                    secs(4).mul_f64(random())
                };
                sleep(pause.mul_f64(1.0 + 0.5 * random())).await;
            }
        });
        self.replicas.push_back(Replica { bearer, _tasks: tasks });
    }

    /// The oldest goes without a word.
    fn kill(&mut self) {
        self.replicas.pop_front();
    }

    fn granted(&self) -> u64 {
        *self.endpoint.granted.lock()
    }

    fn without(&self) -> usize {
        self.replicas.iter().filter(|replica| !replica.bearer.usable()).count()
    }

    /// The most replicas without a token at once, in this time.
    async fn most_without(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut most = 0;
        while Instant::now() < end {
            sleep(secs(5).min(end - Instant::now())).await;
            most = most.max(self.without());
        }
        most
    }

    /// When the token ends that all have.
    fn shared_ends(&self) -> Instant {
        self.endpoint.live.lock()[0].1
    }

    fn assert_bounds(&self) {
        let (live, minute) = (*self.endpoint.most_live.lock(), *self.endpoint.most_a_minute.lock());
        assert!(live <= 90, "{live} live tokens");
        assert!(minute <= 10, "{minute} token requests in a minute");
    }
}

/// With a clock that goes on by itself to the next thing that happens.
fn run(seed: u64, test: impl Future<Output = ()>) {
    SEED.with(|cell| cell.set(seed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn while_the_store_is_away_for_two_hours_forty_five_of_two_hundred_go_on() {
    run(1, async {
        let fleet = Fleet::start(200);
        sleep(secs(4000)).await;
        assert_eq!((fleet.without(), fleet.granted()), (0, 2));
        fleet.world.away.send_replace(true);
        // What is left of the shared token costs nothing.
        assert_eq!(fleet.most_without(secs(600)).await, 0);
        sleep(secs(3000)).await;
        // From now on only those with a seat have one, and they keep having one.
        for _ in 0..720 {
            sleep(secs(5)).await;
            assert_eq!(fleet.without(), 200 - SEATS as usize);
        }
        fleet.assert_bounds();
        let granted = fleet.granted();
        fleet.world.away.send_replace(false);
        sleep(secs(60)).await;
        assert_eq!(fleet.without(), 0, "all have a token soon after its return");
        assert_eq!(fleet.granted(), granted, "one that was there already");
        assert_eq!(fleet.most_without(secs(2700)).await, 0);
        fleet.assert_bounds();
    });
}

/// From before any renewal until the last turns begin.
#[test]
fn an_outage_that_is_over_before_the_last_turns_costs_no_token() {
    for (number, turns) in [
        (1, 8),
        (2, 16),
        (3, 24),
        (8, 64),
        (9, 72),
        (10, 360),
        (45, 360),
        (200, 360),
    ] {
        run(turns, async move {
            let fleet = Fleet::start(number);
            sleep(secs(2600)).await;
            fleet.world.away.send_replace(true);
            // A store that is back is looked at again after six seconds at most.
            let until_turns = fleet.shared_ends() - secs(1 + 180 + turns + 6) - Instant::now();
            assert_eq!(fleet.most_without(until_turns).await, 0);
            assert_eq!(fleet.granted(), 1, "{number}");
            fleet.world.away.send_replace(false);
            assert_eq!(fleet.most_without(secs(370)).await, 0);
            assert_eq!(fleet.granted(), 2, "{number}: one for all");
            fleet.assert_bounds();
        });
    }
}

#[test]
fn an_outage_that_outlasts_the_turns_costs_a_token_for_each_seat() {
    for (number, tokens) in [(1, 1), (2, 2), (3, 3), (8, 8), (9, 9), (10, 10), (45, 45), (200, 45)] {
        run(tokens, async move {
            let fleet = Fleet::start(number);
            sleep(secs(2600)).await;
            fleet.world.away.send_replace(true);
            let until_last = fleet.shared_ends() - secs(180) - Instant::now();
            assert_eq!(fleet.most_without(until_last).await, 0);
            assert_eq!(fleet.granted(), 1 + tokens, "{number}");
            fleet.world.away.send_replace(false);
            assert_eq!(fleet.most_without(secs(300)).await, 0);
            assert_eq!(fleet.granted(), 1 + tokens, "{number}");
            fleet.assert_bounds();
        });
    }
}

/// Some have replaced the shared token, and others are about to.
#[test]
fn a_store_that_loses_everything_between_two_renewals_gets_the_newer_token_back() {
    for number in [2, 3, 9, 10, 45, 200] {
        run(number, async move {
            let fleet = Fleet::start(usize::try_from(number).unwrap());
            while fleet.granted() < 2 {
                sleep(secs(1)).await;
            }
            fleet.world.lose_everything();
            assert_eq!(fleet.most_without(secs(1000)).await, 0, "{number}");
            assert_eq!(fleet.granted(), 2, "{number}: all go on with the second");
            fleet.assert_bounds();
        });
    }
}

/// Each that started since has never heard the store, and takes a token when it wants one, as if there were none.
#[test]
fn replicas_that_come_and_go_while_the_store_is_away_add_two_tokens_each() {
    // How many there are, how often one is killed and another starts, and how many started within any hour at most.
    for (number, each, an_hour) in [(3, 300, 12), (20, 600, 6), (45, 800, 5)] {
        run(each, async move {
            let mut fleet = Fleet::start(number);
            sleep(secs(4000)).await;
            fleet.world.away.send_replace(true);
            for _ in 0..(4 * 3600 / each) {
                fleet.kill();
                fleet.add();
                assert_eq!(fleet.most_without(secs(each)).await, 0, "{number}");
            }
            let live = *fleet.endpoint.most_live.lock();
            assert!(live <= 2 * (number + an_hour), "{number}: {live} live tokens");
            assert!(*fleet.endpoint.most_a_minute.lock() <= 10);
            assert!(fleet.endpoint.limits.lock().is_empty());
            fleet.world.away.send_replace(false);
            assert_eq!(fleet.most_without(secs(600)).await, 0);
        });
    }
}

#[test]
fn a_fleet_of_up_to_forty_five_sees_no_failure() {
    for number in [1, 2, 3, 8, 9, 10, 45] {
        run(number, async move {
            let fleet = Fleet::start(usize::try_from(number).unwrap());
            sleep(secs(1000 + 250 * number)).await;
            for loses in [false, true] {
                fleet.world.away.send_replace(true);
                assert_eq!(fleet.most_without(secs(6000)).await, 0, "{number}");
                if loses {
                    fleet.world.lose_everything();
                }
                fleet.world.away.send_replace(false);
                assert_eq!(fleet.most_without(secs(600)).await, 0, "{number}");
            }
            fleet.assert_bounds();
        });
    }
}

/// Every replica is told that it has the first seat, that the lock is its, and that there is no token.
#[test]
fn against_a_store_that_lies_nobody_asks_again_before_a_token_can_have_expired() {
    run(3, async {
        let fleet = Fleet::start(200);
        sleep(secs(100)).await;
        *fleet.world.lies.lock() = true;
        sleep(secs(3500)).await;
        let limits = fleet.endpoint.limits.lock().clone();
        let first = fleet.endpoint.live.lock()[0].1;
        assert!(!limits.is_empty());
        // The shared token is the first to expire.
        let again = limits.iter().filter(|at| **at < first).count();
        assert!(again <= 200, "{again} requests beyond the limit");
        sleep(secs(1000)).await;
        let before = fleet.endpoint.limits.lock().len();
        sleep(secs(500)).await;
        assert_eq!(
            fleet.endpoint.limits.lock().len(),
            before,
            "quiet until one can have expired"
        );
        assert!(fleet.without() <= 110);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Whatever the pattern, also when the store loses everything each time that it is away, and replicas are there or come.
    #[test]
    fn no_pattern_of_outages_breaks_the_bounds(
        seed in any::<u64>(),
        number in 46_usize..200,
        begins in 60_u64..5000,
        pattern in proptest::collection::vec((prop_oneof![1_u64..20, 1_u64..600, 1_u64..7200], prop_oneof![1_u64..20, 1_u64..300], any::<bool>()), 1..40),
    ) {
        run(seed, async move {
            let fleet = Fleet::start(number);
            sleep(secs(begins)).await;
            let end = Instant::now() + secs(2 * 3600);
            for (away, there, loses) in pattern.iter().cycle() {
                fleet.world.away.send_replace(true);
                sleep(secs(*away)).await;
                if *loses {
                    fleet.world.lose_everything();
                }
                fleet.world.away.send_replace(false);
                sleep(secs(*there)).await;
                if Instant::now() > end {
                    break;
                }
            }
            fleet.assert_bounds();
            sleep(secs(150)).await;
            assert_eq!(fleet.without(), 0);
            fleet.assert_bounds();
        });
    }
}
