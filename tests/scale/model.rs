//! Programs that ask one token endpoint for tokens of one service account, with a clock of its own: when they ask is decided
//! by the code of the proxy itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use atlas_auth_proxy::credential::bearer::{backoff, expiry_margin, renew_after};
use atlas_auth_proxy::token_store::{Held, Situation, StoreView, Verdict, Word, may_ask};

/// What Atlas grants and allows, of one service account (docs/OPERATIONS.md); all programs have one address.
pub const LIFE: Duration = Duration::from_secs(3600);
pub const MOST_LIVE: usize = 100;
pub const MOST_A_MINUTE: usize = 10;
/// After a failure the lock is kept for so long, and whoever finds it taken looks again.
const LOCK_PAUSE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(175);
/// What the store's table holds.
const MOST_REPLICAS: u32 = 1000;
/// How soon a replica sees that the store is there again, at most: and how often it offers its own token.
const OFFER: Duration = Duration::from_secs(30);
/// Between two requests of a leaf.
const PAUSE: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// Numbers by chance, in an order that the seed decides (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.number() >> 32).unwrap()) / 4_294_967_296.0
    }
}

/// From when to when something is away.
pub type Outage = Option<(Duration, Duration)>;

fn away(outage: Outage, now: Duration) -> bool {
    outage.is_some_and(|(from, to)| now >= from && now < to)
}

pub struct Setting {
    /// Programs that ask: sidecars with the credential, or gateways.
    pub askers: usize,
    /// Whether they share through a store, and when that is away.
    pub store: Option<Outage>,
    /// When the token endpoint answers nobody.
    pub endpoint_away: Outage,
    /// Programs that reach Atlas through the askers, in equal parts; none: the askers serve themselves.
    pub leaves: usize,
    /// They start within this time.
    pub start_within: Duration,
    pub end: Duration,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub most_live: usize,
    /// Requests within a minute, at most: while the endpoint answers.
    pub most_a_minute: usize,
    pub granted: usize,
    /// Refused by the limit of live tokens, and of requests a minute.
    pub over_live: usize,
    pub over_rate: usize,
    /// After the start, while the endpoint answers: the most askers without a token at once.
    pub most_without: usize,
    /// From the end of the endpoint's outage until all have a token again; `None`: not all had one at the end.
    pub recovered_after: Option<Duration>,
    /// The same, for leaves, which make a request each ten seconds, or when `Retry-After` tells.
    pub leaves_recovered_after: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Token {
    asked: Duration,
    own: bool,
}

impl Token {
    fn left(self, now: Duration) -> Option<Duration> {
        let end = self.asked + LIFE - expiry_margin(LIFE);
        (now < end).then(|| end - now)
    }
}

#[derive(Clone, Default)]
struct Asker {
    token: Option<Token>,
    failures: u32,
    asked: Option<Duration>,
    empty_since: Option<Duration>,
    limited_until: Option<Duration>,
    /// When the next step is made.
    next: Duration,
    renew_at: Duration,
}

struct World<'s> {
    setting: &'s Setting,
    random: Random,
    live: VecDeque<Duration>,
    asked: VecDeque<Duration>,
    granted: VecDeque<Duration>,
    stored: Option<Token>,
    lock_until: Duration,
    figures: Figures,
}

enum Answer {
    Granted,
    Limit,
    Failed,
}

impl World<'_> {
    fn ask(&mut self, now: Duration) -> Answer {
        while self.live.front().is_some_and(|end| *end <= now) {
            self.live.pop_front();
        }
        for times in [&mut self.asked, &mut self.granted] {
            while times.front().is_some_and(|at| now - *at >= MINUTE) {
                times.pop_front();
            }
        }
        if away(self.setting.endpoint_away, now) {
            return Answer::Failed;
        }
        self.asked.push_back(now);
        self.figures.most_a_minute = self.figures.most_a_minute.max(self.asked.len());
        if self.granted.len() >= MOST_A_MINUTE {
            self.figures.over_rate += 1;
            return Answer::Failed;
        }
        self.granted.push_back(now);
        if self.live.len() >= MOST_LIVE {
            self.figures.over_live += 1;
            return Answer::Limit;
        }
        self.live.push_back(now + LIFE);
        self.figures.granted += 1;
        self.figures.most_live = self.figures.most_live.max(self.live.len());
        Answer::Granted
    }

    fn store_answers(&self, now: Duration) -> bool {
        self.setting.store.is_some_and(|outage| !away(outage, now))
    }

    /// One step of an asker that wants a token; when the next is made.
    fn step(&mut self, number: usize, asker: &mut Asker, now: Duration) -> Duration {
        if let Some(token) = asker.token.filter(|token| token.own && now < asker.renew_at) {
            // When the store is back, what each took for itself is offered to all.
            if self.store_answers(now) && self.stored.is_none_or(|stored| stored.left(now).is_none()) {
                self.stored = Some(token);
            }
            return asker.renew_at.min(now + OFFER);
        }
        let left = asker.token.and_then(|token| token.left(now));
        let held = left.map_or(Held::Nothing, Held::Good);
        if self.setting.store.is_some() {
            let view = if self.store_answers(now) {
                let newer = self.stored.filter(|stored| {
                    stored.left(now).is_some_and(|left| left > LIFE / 5)
                        && asker.token.is_none_or(|token| token.asked != stored.asked)
                });
                if let Some(stored) = newer {
                    return self.take(asker, Token { own: false, ..stored }, now);
                }
                StoreView::Empty(now - *asker.empty_since.get_or_insert(now))
            } else {
                asker.empty_since = None;
                StoreView::Away
            };
            let word = Word {
                rank: u32::try_from(number).unwrap().min(MOST_REPLICAS),
                number: u32::try_from(self.setting.askers).unwrap().min(MOST_REPLICAS + 1),
                clock: now,
            };
            let verdict = may_ask(&Situation {
                // The table gives ranks half a minute after the first report.
                word: (now > Duration::from_secs(30)).then_some(word),
                life: LIFE,
                held,
                store: view,
                lost: None,
                asked: asker.asked.map(|at| now - at),
                limited: asker.limited_until.map(|until| until.saturating_sub(now)),
            });
            if let Verdict::Wait(time) = verdict {
                return now + time;
            }
            if view != StoreView::Away && now < self.lock_until {
                return now + LOOK_AGAIN.mul_f64(0.5 + self.random.unit());
            }
        }
        asker.asked = Some(now);
        match self.ask(now) {
            Answer::Granted => {
                let shared = self.store_answers(now);
                let token = Token {
                    asked: now,
                    own: self.setting.store.is_some() && !shared,
                };
                if shared {
                    self.stored = Some(token);
                }
                self.take(asker, token, now)
            }
            refused => {
                self.lock_until = now + LOCK_PAUSE;
                if matches!(refused, Answer::Limit) {
                    asker.limited_until = Some(now + left.unwrap_or(LIFE));
                }
                asker.failures += 1;
                now + backoff(asker.failures, None, self.random.unit())
            }
        }
    }

    fn take(&mut self, asker: &mut Asker, token: Token, now: Duration) -> Duration {
        asker.token = Some(token);
        (asker.failures, asker.empty_since, asker.limited_until) = (0, None, None);
        asker.renew_at = token.asked + renew_after(LIFE, self.random.unit());
        if token.own {
            asker.renew_at.min(now + OFFER)
        } else {
            asker.renew_at
        }
    }
}

/// The figures of a setting: the same for the same seed.
pub fn simulate(setting: &Setting, seed: u64) -> Figures {
    let mut world = World {
        setting,
        random: Random(seed),
        live: VecDeque::new(),
        asked: VecDeque::new(),
        granted: VecDeque::new(),
        stored: None,
        lock_until: Duration::ZERO,
        figures: Figures::default(),
    };
    let mut askers = vec![Asker::default(); setting.askers];
    let mut due = BinaryHeap::new();
    for (number, asker) in askers.iter_mut().enumerate() {
        asker.next = setting.start_within.mul_f64(world.random.unit());
        due.push(Reverse((asker.next, number)));
    }
    // When each leaf makes its next request, and whether the last was served.
    let mut leaves: Vec<Duration> = (0..setting.leaves)
        .map(|_| PAUSE.mul_f64(world.random.unit()))
        .collect();
    let mut served = vec![true; setting.leaves];
    // Looked at each second: expiry is no step of an asker.
    let second = Duration::from_secs(1);
    let mut look = second;
    while look <= setting.end {
        while let Some(Reverse((now, number))) = due.peek().copied().filter(|Reverse((at, _))| *at < look) {
            due.pop();
            let asker = &mut askers[number];
            let mut next = world.step(number, asker, now);
            // A request that finds no token wakes it up.
            if let Some(left) = asker.token.and_then(|token| token.left(now))
                && asker.failures == 0
            {
                next = next.min(now + left);
            }
            asker.next = next.max(now + Duration::from_millis(1));
            due.push(Reverse((asker.next, number)));
        }
        let without: Vec<usize> = (0..askers.len())
            .filter(|number| askers[*number].token.and_then(|token| token.left(look)).is_none())
            .collect();
        let outage = setting.endpoint_away;
        if look > setting.start_within + MINUTE * 2 && outage.is_none_or(|(from, _)| look < from) {
            world.figures.most_without = world.figures.most_without.max(without.len());
        }
        if let Some(since) = outage.and_then(|(_, to)| look.checked_sub(to)) {
            let figures = &mut world.figures;
            if without.is_empty() && figures.recovered_after.is_none() {
                figures.recovered_after = Some(since);
            }
        }
        if outage.is_some_and(|(from, _)| look >= from) {
            let mut failing = 0;
            for (number, leaf) in leaves.iter_mut().enumerate() {
                let gateway = &askers[number % askers.len()];
                if *leaf <= look {
                    // A request fails with `Retry-After`, in whole seconds, or the next one is made ten seconds later.
                    let has_token = gateway.token.and_then(|token| token.left(look)).is_some();
                    let later = if has_token {
                        PAUSE
                    } else {
                        second * (1 + u32::try_from(gateway.next.saturating_sub(look).as_secs()).unwrap())
                    };
                    *leaf = look + later;
                    served[number] = has_token;
                }
                failing += usize::from(!served[number]);
            }
            let since = outage.and_then(|(_, to)| look.checked_sub(to));
            let recovered = &mut world.figures.leaves_recovered_after;
            if failing == 0 && setting.leaves > 0 && recovered.is_none() {
                *recovered = since;
            }
        }
        look += second;
    }
    world.figures
}

/// A setting with its name.
pub struct Case {
    pub name: String,
    pub setting: Setting,
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

/// What docs/SCALE.md shows, in its order.
pub fn cases() -> Vec<Case> {
    let plain = |askers| Setting {
        askers,
        store: None,
        endpoint_away: None,
        leaves: 0,
        start_within: MINUTE * 10,
        end: hours(4),
    };
    let mut all = Vec::new();
    let mut add = |name: String, setting: Setting| {
        all.push(Case { name, setting });
    };
    for askers in [1, 10, 45, 100, 1000, 10_000] {
        add(format!("{askers} without a store"), plain(askers));
    }
    for askers in [10, 45, 100, 200, 1000, 10_000] {
        let store = Some(None);
        add(format!("{askers} with a store"), Setting { store, ..plain(askers) });
    }
    for askers in [45, 200, 1000] {
        let store = Some(Some((hours(1), hours(3))));
        add(
            format!("{askers}, the store away for 2 h"),
            Setting { store, ..plain(askers) },
        );
    }
    let endpoint_away = Some((hours(1), hours(2)));
    for (askers, leaves) in [(3, 1000), (3, 10_000), (5, 10_000), (10, 10_000), (45, 0)] {
        add(
            format!("{askers} without a store{}, no tokens for 1 h", before(leaves)),
            Setting {
                endpoint_away,
                leaves,
                ..plain(askers)
            },
        );
    }
    for (askers, leaves) in [(3, 10_000), (10, 10_000), (200, 0)] {
        add(
            format!("{askers} with a store{}, no tokens for 1 h", before(leaves)),
            Setting {
                endpoint_away,
                leaves,
                store: Some(None),
                ..plain(askers)
            },
        );
    }
    all
}

fn before(leaves: usize) -> String {
    if leaves == 0 {
        return String::new();
    }
    format!(" before {leaves} leaves")
}

/// A line of the table in docs/SCALE.md.
pub fn line(name: &str, figures: &Figures) -> String {
    let seconds = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{} s", time.as_secs()));
    format!(
        "| {name} | {} | {} | {} | {} | {} | {} |",
        figures.most_live,
        figures.most_a_minute,
        figures.over_live + figures.over_rate,
        figures.most_without,
        seconds(figures.recovered_after),
        seconds(figures.leaves_recovered_after),
    )
}

/// The head of that table.
pub const HEAD: &str = "| processes on one service account | live tokens, at most | requests in a minute, at most | refused for a limit | without a token at once, at most | all have one again after | leaves served again after |\n|---|---|---|---|---|---|---|";
