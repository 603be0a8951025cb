//! Who asks for a token, and when: a decision without clocks, I/O or randomness of its own.
//!
//! Of a fleet only [`SEATS`] replicas ask, by rank, for the shared token as well as for tokens of their own while the store
//! is away; each once in three quarters of a token's life, so that no more than two of its tokens live at a time. Where
//! they would ask at any time they ask in turns: a cycle of the clock that all replicas share has a slot for each seat.
//! So no minute has more requests than the token endpoint grants, whoever knows whatever of the others.
//!
//! While the store is away, who has a good token goes on with it until the last turns before its end: an outage that is
//! over by then costs nothing.

use std::time::Duration;

use super::fleet::{SEATS, Word};

/// So few replicas may all ask in the same minute, also when one of them thinks that they are one more: Atlas grants ten
/// requests. Their cycle has a slot for each of them. More replicas have one cycle for all numbers, so that no two ask in
/// the same slot when they disagree about the number.
const FEW: u32 = 9;
/// The requests that a few may make together in a minute, and a minute in slots, twice.
const MOST_A_MINUTE: u32 = 10;
const TWO_MINUTES: u32 = 15;
/// The time that belongs to one seat: seven and a half requests a minute.
const SLOT: Duration = Duration::from_secs(8);
/// A cycle is at most a tenth of a token's life: the last begins at 85 % of it, when the last replica wants another.
const CYCLES_IN_A_LIFE: u32 = 10;
/// The last twentieth of a token's life is for who asked in vain.
const LAST: u32 = 20;
/// Tokens that live too short for slots of this length are beyond what turns are for.
const LEAST_SLOT: Duration = Duration::from_secs(1);
/// How soon to look again at what others have done, at the latest; sooner where tokens live shorter than Atlas's.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// For so long a store must have been there without a token, while a replica without a seat needs one: then those with a
/// seat are gone, or the store lies, and it asks, too. They have given their tokens to all before that.
const NOBODY_ASKS: Duration = Duration::from_secs(60);

/// The hundredth part of a short life, and no shorter pause than this.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// What a replica knows when it wants a token.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The store's last word; `None`: it has given no rank yet.
    pub word: Option<Word>,
    /// How long a token lives.
    pub life: Duration,
    /// What it has.
    pub held: Held,
    /// What it sees of the store.
    pub store: StoreView,
    /// For how long the store has answered, and has had no token at all: if this replica has one, it has lost it.
    pub lost: Option<Duration>,
    /// How long ago it asked last, with or without success.
    pub asked: Option<Duration>,
    /// How long it is until a token can have expired, since the token endpoint said that too many live.
    pub limited: Option<Duration>,
}

/// The token that a replica has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// None that has not expired.
    Nothing,
    /// One that Atlas refuses.
    Refused,
    /// A good one that expires after so long.
    Good(Duration),
}

/// The store, as a replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreView {
    /// It doesn't answer.
    Away,
    /// It answers, and for so long has had no token for this replica.
    Empty(Duration),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the token endpoint.
    Ask,
    /// Ask nobody, and look again after so long: at most 15 s.
    Wait(Duration),
}

/// Whether this replica may ask the token endpoint now. One that knows of no others, and so has no rank, always may.
pub fn may_ask(situation: &Situation) -> Verdict {
    let look_again = LOOK_AGAIN.min(situation.life / 100).max(LEAST_LOOK);
    let wait = |time: Duration| Verdict::Wait(time.min(look_again));
    if let Some(left) = situation.limited.filter(|left| !left.is_zero()) {
        return wait(left);
    }
    let (life, last) = (situation.life, situation.life / LAST);
    let nobody_asks = NOBODY_ASKS.min(life / 60);
    if let (Some(ago), Held::Good(left)) = (situation.lost, situation.held)
        && left > last
        && ago < nobody_asks
    {
        // Another may have a newer token, and puts it there before that.
        return wait(nobody_asks - ago);
    }
    let Some(word) = situation.word else {
        return Verdict::Ask;
    };
    let turns = Turns::of(word, life);
    let in_turn = || turns.wait(situation.asked).map_or(Verdict::Ask, wait);
    let few = word.number <= FEW;
    let has_seat = few || word.rank < SEATS;
    let urgent = match situation.held {
        Held::Good(left) => left <= last,
        Held::Refused | Held::Nothing => true,
    };
    let not_asked_for = |time: Duration| situation.asked.is_none_or(|ago| ago >= time);
    match (situation.store, situation.held) {
        (StoreView::Away, Held::Good(left)) if has_seat => {
            let early = left.saturating_sub(turns.cycle() + last);
            if early.is_zero() { in_turn() } else { wait(early) }
        }
        (StoreView::Away, _) if few => match situation.asked {
            Some(ago) if ago < turns.pause() => wait(turns.pause() - ago),
            _ => Verdict::Ask,
        },
        _ if few => Verdict::Ask,
        // One request for all: the lock sees to it. Those that the token endpoint has refused try again in their turns, and
        // without a seat hardly ever.
        (StoreView::Empty(_), Held::Refused) => Verdict::Ask,
        (StoreView::Empty(_), _) if urgent && has_seat && not_asked_for(life / CYCLES_IN_A_LIFE) => Verdict::Ask,
        (StoreView::Empty(empty), _) if urgent && empty >= nobody_asks && not_asked_for(life / 2) => Verdict::Ask,
        _ if has_seat => in_turn(),
        _ => wait(look_again),
    }
}

/// The turns of one rank.
struct Turns {
    seats: u32,
    slot: Duration,
    word: Word,
}

impl Turns {
    fn of(word: Word, life: Duration) -> Self {
        let seats = if word.number <= FEW { word.number.max(1) } else { SEATS };
        Self {
            seats,
            slot: SLOT.min(life / (CYCLES_IN_A_LIFE * SEATS)),
            word,
        }
    }

    fn cycle(&self) -> Duration {
        self.slot * self.seats
    }

    /// How long a few replicas without a token wait between two requests of one, so that all together make no more than the
    /// token endpoint grants, whatever their turns are.
    fn pause(&self) -> Duration {
        if self.slot < LEAST_SLOT {
            return Duration::ZERO;
        }
        self.slot * TWO_MINUTES / 2 / (MOST_A_MINUTE / self.word.number.clamp(1, MOST_A_MINUTE))
    }

    /// How long it is until the next one; `None`: it is now, and was not used yet.
    fn wait(&self, asked: Option<Duration>) -> Option<Duration> {
        let (slot, cycle) = (self.slot, self.cycle());
        if slot < LEAST_SLOT {
            return None;
        }
        let beyond =
            |time: Duration| Duration::from_millis(u64::try_from(time.as_millis() % cycle.as_millis()).unwrap_or(0));
        let into = beyond(beyond(self.word.clock) + cycle - slot * (self.word.rank % self.seats));
        let now = into < slot && asked.is_none_or(|ago| ago > into);
        (!now).then(|| cycle - into)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: Duration = Duration::from_secs(3600);

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn situation(rank: u32, number: u32, clock: u64) -> Situation {
        Situation {
            word: Some(Word {
                rank,
                number,
                clock: secs(clock),
            }),
            life: LIFE,
            held: Held::Good(secs(540)),
            store: StoreView::Away,
            lost: None,
            asked: None,
            limited: None,
        }
    }

    #[test]
    fn who_knows_of_no_others_asks_at_once_and_of_few_without_a_token() {
        let mut alone = situation(100, 200, 0);
        alone.word = None;
        assert_eq!(may_ask(&alone), Verdict::Ask);
        for (number, few) in [(9, true), (10, false)] {
            for (held, store) in [
                (Held::Nothing, StoreView::Away),
                (Held::Refused, StoreView::Away),
                (Held::Good(secs(600)), StoreView::Empty(secs(0))),
            ] {
                let mut one = situation(8, number, 0);
                (one.held, one.store) = (held, store);
                assert_eq!(may_ask(&one) == Verdict::Ask, few, "{number}, {held:?}");
            }
        }
    }

    #[test]
    fn while_the_store_is_away_a_good_token_serves_until_the_last_turns() {
        let left = |rank, number, clock, left| {
            let mut one = situation(rank, number, clock);
            one.held = Held::Good(secs(left));
            may_ask(&one)
        };
        for (number, window) in [(1, 188), (2, 196), (9, 252), (10, 540), (45, 540), (200, 540)] {
            assert_eq!(left(0, number, 0, window), Verdict::Ask, "{number}");
            assert_eq!(left(0, number, 0, window + 1), Verdict::Wait(secs(1)), "{number}");
            assert_eq!(left(0, number, 0, window + 100), Verdict::Wait(LOOK_AGAIN), "{number}");
        }
        // A few take turns, too, as long as they have a token.
        assert_eq!(left(1, 2, 0, 196), Verdict::Wait(secs(8)));
        assert_eq!(left(1, 2, 8, 188), Verdict::Ask);
        assert_eq!(left(3, 2, 8, 188), Verdict::Ask, "a rank from when they were more");
        assert_eq!(left(0, 0, 8, 188), Verdict::Ask, "whatever the word is");
    }

    #[test]
    fn a_seat_has_its_turn_once_in_six_minutes() {
        assert_eq!(may_ask(&situation(0, 45, 0)), Verdict::Ask);
        assert_eq!(may_ask(&situation(1, 45, 7)), Verdict::Wait(secs(1)));
        assert_eq!(may_ask(&situation(1, 45, 8)), Verdict::Ask);
        assert_eq!(may_ask(&situation(1, 45, 15)), Verdict::Ask);
        assert_eq!(may_ask(&situation(1, 45, 16)), Verdict::Wait(LOOK_AGAIN));
        assert_eq!(may_ask(&situation(44, 45, 359)), Verdict::Ask);
        assert_eq!(may_ask(&situation(1, 45, 360 + 8)), Verdict::Ask);
        let mut asked = situation(1, 45, 360 + 10);
        asked.asked = Some(secs(1));
        assert_eq!(may_ask(&asked), Verdict::Wait(LOOK_AGAIN), "once in a turn");
        asked.asked = Some(secs(361));
        assert_eq!(may_ask(&asked), Verdict::Ask);
    }

    #[test]
    fn without_a_seat_nobody_asks_while_the_store_is_away() {
        for held in [Held::Nothing, Held::Refused, Held::Good(secs(1))] {
            let mut outside = situation(45, 46, 0);
            outside.held = held;
            assert_eq!(may_ask(&outside), Verdict::Wait(LOOK_AGAIN));
        }
    }

    #[test]
    fn a_store_that_answers_is_asked_for_by_those_with_a_seat_first() {
        let mut outside = situation(45, 46, 0);
        outside.store = StoreView::Empty(secs(3000));
        assert_eq!(may_ask(&outside), Verdict::Wait(LOOK_AGAIN));
        outside.held = Held::Nothing;
        assert_eq!(may_ask(&outside), Verdict::Ask, "nobody else does");
        outside.store = StoreView::Empty(secs(59));
        assert_eq!(may_ask(&outside), Verdict::Wait(LOOK_AGAIN));
        outside.held = Held::Refused;
        assert_eq!(may_ask(&outside), Verdict::Ask, "one for all");
        let mut inside = situation(30, 200, 0);
        inside.store = StoreView::Empty(secs(0));
        assert_eq!(
            may_ask(&inside),
            Verdict::Wait(LOOK_AGAIN),
            "in its turn, while it has a token"
        );
        inside.held = Held::Nothing;
        assert_eq!(may_ask(&inside), Verdict::Ask);
        (inside.asked, outside.asked) = (Some(secs(300)), Some(secs(300)));
        assert_eq!(
            may_ask(&inside),
            Verdict::Wait(LOOK_AGAIN),
            "refused a moment ago: in its turn"
        );
        (outside.held, outside.store) = (Held::Nothing, StoreView::Empty(secs(3000)));
        assert_eq!(may_ask(&outside), Verdict::Wait(LOOK_AGAIN));
    }

    #[test]
    fn a_store_that_has_lost_its_token_gets_one_back_before_anybody_asks_who_has_one() {
        for number in [1, 45] {
            let after = |ago, held| {
                let mut one = situation(0, number, 0);
                (one.held, one.store, one.lost) = (held, StoreView::Empty(secs(3000)), Some(secs(ago)));
                may_ask(&one)
            };
            let good = Held::Good(secs(540));
            assert_eq!(after(0, good), Verdict::Wait(LOOK_AGAIN));
            assert_eq!(after(59, good), Verdict::Wait(secs(1)));
            for (ago, held) in [
                (60, good),
                (0, Held::Good(secs(180))),
                (0, Held::Nothing),
                (0, Held::Refused),
            ] {
                assert_eq!(after(ago, held), Verdict::Ask, "{number}, {ago} s, {held:?}");
            }
        }
    }

    #[test]
    fn after_the_endpoints_limit_nobody_asks_before_a_token_can_have_expired() {
        for rank in [0, 45] {
            for number in [1, 200] {
                for store in [StoreView::Away, StoreView::Empty(secs(1000))] {
                    let mut limited = situation(rank, number, 0);
                    (limited.held, limited.store, limited.limited) = (Held::Nothing, store, Some(secs(3000)));
                    assert_eq!(may_ask(&limited), Verdict::Wait(LOOK_AGAIN));
                }
            }
        }
    }

    /// The token endpoint refuses, the store is away, and nobody has a token.
    #[test]
    fn a_few_without_a_token_never_pass_ten_requests_in_a_minute() {
        for number in 1..=9_u32 {
            let mut asked: Vec<(u32, u64)> = Vec::new();
            for now in 0..1800 {
                for rank in 0..number {
                    let mut one = situation(rank, number, now);
                    one.held = Held::Nothing;
                    let last = asked.iter().rfind(|(by, _)| *by == rank);
                    one.asked = last.map(|(_, at)| secs(now - at));
                    if may_ask(&one) == Verdict::Ask {
                        asked.push((rank, now));
                    }
                }
            }
            let most = (0..1800).map(|from| asked.iter().filter(|(_, at)| (from..from + 60).contains(at)).count());
            assert!((5..=10).contains(&most.max().unwrap()), "{number}");
            let longest = asked.iter().filter(|(by, _)| *by == 0).map(|(_, at)| at);
            let longest = longest.clone().zip(longest.skip(1)).map(|(one, next)| next - one).max();
            assert!(longest.unwrap() <= 60, "{number}");
        }
    }

    proptest! {
        /// Whoever waits, asks within a cycle; no two ranks have a turn at once.
        #[test]
        fn each_has_its_turn_alone_and_in_time(clock in 0_u64..10_000_000_000, rank in 0..SEATS, other in 0..SEATS, life in 1_u64..100_000) {
            let (life, clock) = (secs(life), Duration::from_millis(clock));
            let at = |rank, clock| Turns::of(Word { rank, number: 200, clock }, life).wait(None);
            match at(rank, clock) {
                None => prop_assert!(rank == other || life < secs(450) || at(other, clock).is_some()),
                Some(wait) => {
                    prop_assert!(wait > Duration::ZERO && wait <= life / 10);
                    prop_assert_eq!(at(rank, clock + wait + Duration::from_millis(1)), None);
                }
            }
        }
    }
}
