//! The table of replicas as the script keeps it, in Rust: for the simulated store. Compared with the script on a real server.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::server::tests::{Server, connected};
use super::{FLEET, MOST_GAP, MOST_REPLICAS, MOST_VALUE_BYTES, SEATS, SETTLED_AFTER, SILENT, TABLE_LIFE, eval, millis};

/// What one replica says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) me: usize,
    /// Its rank and its clock, as it last heard of them.
    pub(super) rank: Option<u32>,
    pub(super) clock: Duration,
    pub(super) leaves: bool,
    /// Since the last report of anybody.
    pub(super) passed: Duration,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) rank: Option<u32>,
    pub(super) number: u32,
    pub(super) clock: Duration,
    pub(super) settled: bool,
}

/// What the script is told of how many and how long.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// How many ranks matter.
    matter: u32,
    /// How many replicas the table holds.
    most: u32,
    silent: Duration,
    settled_after: Duration,
    most_gap: Duration,
}

pub(super) struct Table {
    bounds: Bounds,
    service: Duration,
    clock: Duration,
    /// Each with its rank, and when it was seen. Who reported last is the last.
    members: Vec<(usize, Option<u32>, Duration)>,
}

impl Default for Table {
    fn default() -> Self {
        Self::with(Bounds {
            matter: SEATS,
            most: MOST_REPLICAS,
            silent: SILENT,
            settled_after: SETTLED_AFTER,
            most_gap: MOST_GAP,
        })
    }
}

impl Table {
    fn with(bounds: Bounds) -> Self {
        Self {
            bounds,
            service: Duration::ZERO,
            clock: Duration::ZERO,
            members: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, report: Report) -> Said {
        self.service += report.passed.min(self.bounds.most_gap);
        self.clock += report.passed;
        let (service, settled) = (self.service, self.service >= self.bounds.settled_after);
        if !settled {
            self.clock = self.clock.max(report.clock);
        }
        self.members.retain(|(_, _, seen)| service - *seen < self.bounds.silent);
        let mine = self.members.iter().position(|(id, _, _)| *id == report.me);
        let mine = mine.and_then(|at| self.members.remove(at).1);
        let had = mine.or(report.rank);
        let ranks: HashSet<u32> = self.members.iter().filter_map(|(_, rank, _)| *rank).collect();
        let taken = |rank| ranks.contains(&rank);
        let mut rank = match had {
            Some(had) if !taken(had) && (had < self.bounds.matter || !settled) => Some(had),
            None if !settled => None,
            _ => (if settled { 0 } else { self.bounds.matter }..).find(|rank| !taken(*rank)),
        };
        let mut number = u32::try_from(self.members.len()).unwrap();
        if report.leaves {
            rank = None;
        } else {
            number += 1;
            if number <= self.bounds.most {
                self.members.push((report.me, rank, service));
            }
        }
        Said {
            rank,
            number,
            clock: self.clock,
            settled,
        }
    }
}

/// A report, or `None`: the store has lost the table.
fn happening() -> impl Strategy<Value = Option<Report>> {
    let passed = prop_oneof![0_u64..3000, 0_u64..40_000];
    let report = (
        // Some report seldom, and are struck off.
        prop_oneof![4 => 0_usize..3, 1 => 3_usize..8],
        proptest::option::of(0_u32..7),
        0_u64..100_000,
        proptest::bool::weighted(0.05),
        passed,
    );
    let report = report.prop_map(|(me, rank, clock, leaves, passed)| Report {
        me,
        rank,
        clock: Duration::from_millis(clock),
        leaves,
        passed: Duration::from_millis(passed),
    });
    prop_oneof![60 => report.prop_map(Some), 1 => Just(None)]
}

/// The simulations are worth what their store is.
#[test]
fn the_script_and_the_simulated_table_say_the_same() {
    let Some(server) = Server::start() else { return };
    let bounds = Bounds {
        matter: 3,
        most: 5,
        silent: Duration::from_secs(120),
        settled_after: Duration::from_secs(30),
        most_gap: Duration::from_secs(20),
    };
    // Time is what the report says.
    let time = "life - redis.call('PTTL', KEYS[1])";
    assert!(FLEET.contains(time));
    let script = FLEET.replace(time, "tonumber(ARGV[12])");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = runtime.block_on(connected(&server));
    let step = async |report: &Report| -> Said {
        let mut command = eval(&script, &["atlas-auth-proxy:v1:compared"]);
        command
            .arg(format!("{:012x}", report.me))
            .arg(report.rank.map_or(-1, i64::from))
            .arg(millis(report.clock))
            .arg(u8::from(report.leaves))
            .arg(millis(TABLE_LIFE))
            .arg(MOST_VALUE_BYTES - 1)
            .arg(bounds.matter)
            .arg(bounds.most)
            .arg(millis(bounds.silent))
            .arg(millis(bounds.settled_after))
            .arg(millis(bounds.most_gap))
            .arg(millis(report.passed));
        let (rank, number, clock, settled): (i64, u32, u64, u8) = store.step(&command).await.unwrap();
        Said {
            rank: u32::try_from(rank).ok(),
            number,
            clock: Duration::from_millis(clock),
            settled: settled == 1,
        }
    };
    let lose = || {
        let mut command = redis::cmd("DEL");
        command.arg("atlas-auth-proxy:v1:compared");
        runtime.block_on(store.step::<u64>(&command)).unwrap();
    };
    let seen = RefCell::new(HashSet::new());
    proptest!(ProptestConfig::with_cases(40), |(happenings in proptest::collection::vec(happening(), 1..200))| {
        lose();
        let mut table = None;
        for (n, happening) in happenings.iter().enumerate() {
            let Some(report) = happening else {
                lose();
                table = None;
                continue;
            };
            // A table that begins has no time before.
            let passed = if table.is_none() { Duration::ZERO } else { report.passed };
            let expected = table.get_or_insert_with(|| Table::with(bounds)).report(Report { passed, ..*report });
            prop_assert_eq!(runtime.block_on(step(report)), expected, "{}: {:?}", n, report);
            seen.borrow_mut().insert((expected.rank, expected.settled));
        }
    });
    let seen = seen.into_inner();
    for settled in [false, true] {
        let ranks = [None, Some(0), Some(3), Some(5)];
        assert!(ranks.iter().all(|rank| seen.contains(&(*rank, settled))), "{seen:?}");
    }
}
