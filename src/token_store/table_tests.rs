//! The table of replicas as the script keeps it, in Rust: for the simulated store. Compared with the script on a real server.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use super::{MOST_GAP, MOST_REPLICAS, SEATS, SETTLED_AFTER, SILENT};

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

pub(super) struct Table {
    /// How many ranks matter, and how many replicas it may hold.
    matter: u32,
    most: usize,
    service: Duration,
    clock: Duration,
    /// Each with its rank, and when it was seen. Who reported last is the last.
    members: Vec<(usize, Option<u32>, Duration)>,
}

impl Default for Table {
    fn default() -> Self {
        Self::with(SEATS, usize::try_from(MOST_REPLICAS).unwrap())
    }
}

impl Table {
    fn with(matter: u32, most: usize) -> Self {
        Self {
            matter,
            most,
            service: Duration::ZERO,
            clock: Duration::ZERO,
            members: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, report: Report) -> Said {
        self.service += report.passed.min(MOST_GAP);
        self.clock += report.passed;
        let (service, settled) = (self.service, self.service >= SETTLED_AFTER);
        if !settled {
            self.clock = self.clock.max(report.clock);
        }
        self.members.retain(|(_, _, seen)| service - *seen < SILENT);
        let mine = self.members.iter().position(|(id, _, _)| *id == report.me);
        let mine = mine.and_then(|at| self.members.remove(at).1);
        let had = mine.or(report.rank);
        let ranks: HashSet<u32> = self.members.iter().filter_map(|(_, rank, _)| *rank).collect();
        let taken = |rank| ranks.contains(&rank);
        let mut rank = match had {
            Some(had) if !taken(had) && (had < self.matter || !settled) => Some(had),
            None if !settled => None,
            _ => (if settled { 0 } else { self.matter }..).find(|rank| !taken(*rank)),
        };
        let mut number = self.members.len();
        if report.leaves {
            rank = None;
        } else {
            number += 1;
            if number <= self.most {
                self.members.push((report.me, rank, service));
            }
        }
        Said {
            rank,
            number: u32::try_from(number).unwrap(),
            clock: self.clock,
            settled,
        }
    }
}
