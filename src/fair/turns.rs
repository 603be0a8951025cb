//! Turns at the processor: whoever asks for much has the others served between its requests.
//!
//! A request takes a turn to begin, and another to pass its answer on. Some turns of a sharer come at once. The next ones wait
//! in its queue, and in each round of the runtime, once a worker has run what was ready, a few of them come: one of each sharer,
//! and then one more. So what a round has to do stays small, and with it the time until somebody else's turn; and where nobody
//! has anything else to do, the next round follows at once. A sharer's answers come before its new requests, but for one turn of
//! eight: it has hardly more under way than it can finish, and what comes back in one burst isn't worked off in one.
//! What takes no turns, such as handshakes, can make rounds long: however long they are, some turns come each millisecond.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// So many turns of a sharer come without waiting for a round.
const AT_ONCE: usize = 8;
/// So many of those that wait come in a round: what they cost is a part of a millisecond, and a request of others has to be
/// ready half a dozen times, each in another round.
const IN_A_ROUND: usize = 2;
/// So much of a round lets one more come.
const ONE_MORE: Duration = Duration::from_millis(1);
/// No more than these: a process that was stopped has no debts.
const MOST_BY_TIME: usize = 64;
/// One of so many turns of a sharer is for a new request, whatever answers wait: a caller whose answers never end would have
/// none of its requests begin.
const ONE_FOR_A_REQUEST: usize = 8;
/// Whoever has taken part while others waited has fewer at once.
const AT_ONCE_BESIDE_OTHERS: usize = 2;
/// Nobody waits longer for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The turns that several share.
#[derive(Debug, Default)]
pub struct Turns {
    sharers: AtomicUsize,
    rounds: Mutex<Rounds>,
}

#[derive(Debug, Default)]
struct Rounds {
    /// Those that take part, in the order of their turns.
    sharers: VecDeque<Arc<Sharer>>,
    /// Somebody sees to the next round.
    go_on: bool,
}

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A request that has just come.
    Begin,
    /// Its answer, which is there.
    Answer,
}

/// One that takes turns with others.
#[derive(Debug)]
pub struct Sharer {
    turns: Arc<Turns>,
    /// Turns since it last took part in rounds; at least [`AT_ONCE`] while it does.
    taken: AtomicUsize,
    queue: Mutex<Queue>,
}

/// Locked after the rounds.
#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<oneshot::Sender<()>>,
    requests: VecDeque<oneshot::Sender<()>>,
    takes_part: bool,
    /// How many turns it was given.
    given: usize,
}

impl Turns {
    /// One sharer more.
    pub fn sharer(self: &Arc<Self>) -> Arc<Sharer> {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Arc::new(Sharer {
            turns: Arc::clone(self),
            taken: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// Gives some turns in each round, until nobody waits.
    async fn see_to_rounds(self: Arc<Self>) {
        let workers = Handle::current().metrics().num_workers();
        let mut began = Instant::now();
        loop {
            // Comes back when what is ready now has run, and what came in meanwhile was looked for.
            tokio::task::yield_now().await;
            let took = began.elapsed();
            began += took;
            let by_time = took.as_micros() / ONE_MORE.as_micros();
            let some = workers * (IN_A_ROUND + usize::try_from(by_time).unwrap_or(usize::MAX).min(MOST_BY_TIME));
            let mut rounds = self.rounds.lock();
            for _ in 0..some {
                let Some(sharer) = rounds.sharers.pop_front() else {
                    rounds.go_on = false;
                    return;
                };
                let alone = rounds.sharers.is_empty();
                if sharer.give_one(alone) {
                    rounds.sharers.push_back(sharer);
                }
            }
        }
    }
}

impl Sharer {
    /// Returns when the turn for this step of a request has come.
    pub async fn turn(self: &Arc<Self>, step: Step) {
        let alone = || self.turns.sharers.load(Ordering::Relaxed) <= 1;
        if self.taken.fetch_add(1, Ordering::Relaxed) < AT_ONCE || alone() {
            return;
        }
        // Too long, or nobody sees to the rounds any more, since the runtime ends: it goes on all the same.
        let _ = tokio::time::timeout(LONGEST_WAIT, self.queue_up(step)).await;
    }

    fn queue_up(self: &Arc<Self>, step: Step) -> oneshot::Receiver<()> {
        let (go, turn) = oneshot::channel();
        let mut rounds = self.turns.rounds.lock();
        let mut queue = self.queue.lock();
        match step {
            Step::Begin => queue.requests.push_back(go),
            Step::Answer => queue.answers.push_back(go),
        }
        if !std::mem::replace(&mut queue.takes_part, true) {
            self.taken.store(AT_ONCE, Ordering::Relaxed);
            rounds.sharers.push_back(Arc::clone(self));
        }
        drop(queue);
        if !std::mem::replace(&mut rounds.go_on, true) {
            tokio::spawn(Arc::clone(&self.turns).see_to_rounds());
        }
        drop(rounds);
        turn
    }

    /// Gives the turn to the next that has not given up. If nobody waits it takes part no more, and some turns come at once
    /// again: as many as ever if it was alone.
    fn give_one(&self, alone: bool) -> bool {
        let mut queue = self.queue.lock();
        queue.given = queue.given.wrapping_add(1);
        let request_first = queue.given.is_multiple_of(ONE_FOR_A_REQUEST);
        while let Some(next) = queue.next(request_first) {
            if next.send(()).is_ok() {
                return true;
            }
        }
        queue.takes_part = false;
        let used = if alone { 0 } else { AT_ONCE - AT_ONCE_BESIDE_OTHERS };
        self.taken.store(used, Ordering::Relaxed);
        false
    }
}

impl Queue {
    fn next(&mut self, request_first: bool) -> Option<oneshot::Sender<()>> {
        let Self { answers, requests, .. } = self;
        let (first, second) = if request_first {
            (requests, answers)
        } else {
            (answers, requests)
        };
        first.pop_front().or_else(|| second.pop_front())
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        self.turns.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// Requests of each of these sharers, all at once; the sharers in the order in which they begin.
    async fn order(requests: &[(&Arc<Sharer>, &'static str, usize)]) -> Vec<&'static str> {
        let began = Arc::new(Mutex::new(Vec::new()));
        let mut all = JoinSet::new();
        for (sharer, name, how_many) in requests {
            for _ in 0..*how_many {
                let (sharer, name, began) = (Arc::clone(sharer), *name, Arc::clone(&began));
                all.spawn(async move {
                    sharer.turn(Step::Begin).await;
                    began.lock().push(name);
                });
            }
        }
        all.join_all().await;
        until_the_rounds_end(&requests[0].0.turns).await;
        assert!(requests.iter().all(|(sharer, _, _)| !sharer.queue.lock().takes_part));
        std::mem::take(&mut *began.lock())
    }

    async fn until_the_rounds_end(turns: &Turns) {
        while turns.rounds.lock().go_on {
            yield_now().await;
        }
    }

    fn count(began: &[&str], name: &str) -> usize {
        began.iter().filter(|one| **one == name).count()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_little_waits_for_nobody_and_the_others_take_turns() {
        let turns = Arc::new(Turns::default());
        let (greedy, modest, third) = (turns.sharer(), turns.sharer(), turns.sharer());
        let began = order(&[(&greedy, "greedy", 500), (&modest, "modest", AT_ONCE)]).await;
        assert_eq!(count(&began[..2 * AT_ONCE], "modest"), AT_ONCE);
        // With more than that each has its turn: all 100 of both others are through when the greedy one had as many turns.
        let began = order(&[
            (&greedy, "greedy", 500),
            (&modest, "modest", 100),
            (&third, "third", 100),
        ])
        .await;
        let fair = &began[..300 + 3 * AT_ONCE];
        assert_eq!((count(fair, "modest"), count(fair, "third")), (100, 100));
        assert_eq!(began.len(), 700);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_turn_comes_whoever_gives_up_meanwhile() {
        let turns = Arc::new(Turns::default());
        let sharers: Vec<_> = (0..10).map(|_| turns.sharer()).collect();
        let mut all = JoinSet::new();
        for n in 0..5000 {
            let sharer = Arc::clone(&sharers[n % 10]);
            all.spawn(async move {
                if n % 7 == 0 {
                    tokio::select! { biased; () = sharer.turn(Step::Begin) => {} () = yield_now() => {} }
                } else {
                    sharer.turn(Step::Answer).await;
                }
            });
        }
        all.join_all().await;
        until_the_rounds_end(&turns).await;
    }

    /// How many of these that wait begin in the next round that lets any begin.
    async fn begin(waiting: &mut Vec<oneshot::Receiver<()>>) -> usize {
        loop {
            yield_now().await;
            let begun = waiting.extract_if(.., |turn| turn.try_recv().is_ok()).count();
            if begun > 0 {
                return begun;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_begins_a_few_and_turns_that_are_given_up_cost_nothing() {
        let turns = Arc::new(Turns::default());
        let (greedy, _other) = (turns.sharer(), turns.sharer());
        let given_up: Vec<_> = (0..100).map(|_| greedy.queue_up(Step::Begin)).collect();
        let mut waiting: Vec<_> = (0..20).map(|_| greedy.queue_up(Step::Begin)).collect();
        drop(given_up);
        assert_eq!(begin(&mut waiting).await, IN_A_ROUND);
        assert_eq!(begin(&mut waiting).await, IN_A_ROUND);
        // However long a round is, some begin in each millisecond.
        tokio::time::advance(10 * ONE_MORE).await;
        assert!(begin(&mut waiting).await >= 10);
        for turn in waiting {
            turn.await.unwrap();
        }
        until_the_rounds_end(&turns).await;
        assert_eq!(greedy.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_before_the_requests_of_their_sharer_but_not_before_others() {
        let turns = Arc::new(Turns::default());
        let (greedy, other) = (turns.sharer(), turns.sharer());
        let mut requests: Vec<_> = (0..20).map(|_| greedy.queue_up(Step::Begin)).collect();
        let mut answers: Vec<_> = (0..20).map(|_| greedy.queue_up(Step::Answer)).collect();
        let mut others: Vec<_> = (0..10).map(|_| other.queue_up(Step::Begin)).collect();
        let mut order = Vec::new();
        while !(requests.is_empty() && answers.is_empty() && others.is_empty()) {
            yield_now().await;
            for (name, waiting) in [("a", &mut answers), ("o", &mut others), ("r", &mut requests)] {
                order.extend(waiting.extract_if(.., |turn| turn.try_recv().is_ok()).map(|_| name));
            }
        }
        assert_eq!(count(&order[..20], "o"), 10);
        assert_eq!(
            (count(&order[..20], "a"), count(&order[..20], "r")),
            (9, 1),
            "one of eight is a request"
        );
        until_the_rounds_end(&turns).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_with_one_more_than_may_begin_at_once_has_no_advantage() {
        let turns = Arc::new(Turns::default());
        let (greedy, sly) = (turns.sharer(), turns.sharer());
        let mut waiting: Vec<_> = (0..100).map(|_| greedy.queue_up(Step::Begin)).collect();
        drop(sly.queue_up(Step::Begin));
        while sly.queue.lock().takes_part {
            yield_now().await;
        }
        assert_eq!(sly.taken.load(Ordering::Relaxed), AT_ONCE - AT_ONCE_BESIDE_OTHERS);
        assert!(begin(&mut waiting).await > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_waits_for_no_turn() {
        let turns = Arc::new(Turns::default());
        let (one, other) = (turns.sharer(), turns.sharer());
        drop(other);
        for _ in 0..1000 {
            one.turn(Step::Begin).await;
            assert!(!turns.rounds.lock().go_on);
        }
    }
}
