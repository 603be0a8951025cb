#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;

use super::*;
use crate::credential::ApiKeyPair;
use crate::time::Clock;

mod concurrent;

/// A clock that stands until it is told to go on.
#[derive(Default)]
struct StandingClock(Mutex<Duration>);

impl Clock for StandingClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn boot(&self) -> Duration {
        *self.0.lock()
    }
}

#[derive(Default)]
struct Recorded {
    challenges: Mutex<Vec<ChallengeCause>>,
    nonce_uses: AtomicU64,
    usable: Mutex<Vec<bool>>,
}

impl DigestEvents for Recorded {
    fn challenge(&self, cause: ChallengeCause) {
        self.challenges.lock().push(cause);
    }

    fn nonce_used(&self) {
        self.nonce_uses.fetch_add(1, Ordering::Relaxed);
    }

    fn usable(&self, usable: bool) {
        self.usable.lock().push(usable);
    }
}

struct Setup {
    digest: Digest,
    clock: Arc<StandingClock>,
    events: Arc<Recorded>,
    part: Arc<Part>,
}

impl Setup {
    fn new() -> Self {
        Self::limited(None)
    }

    fn limited(max_concurrent: Option<usize>) -> Self {
        let (clock, events) = (Arc::new(StandingClock::default()), Arc::new(Recorded::default()));
        let parts = DigestParts {
            key: ApiKeyPair {
                public_key: "public".to_owned(),
                private_key: Secret::new("private-value"),
                max_concurrent: max_concurrent.map(|most| NonZeroUsize::new(most).unwrap()),
            },
            clock: Arc::<StandingClock>::clone(&clock),
            events: Arc::<Recorded>::clone(&events),
        };
        Self {
            digest: Digest::new(parts).unwrap(),
            clock,
            events,
            part: crate::fair::Places::new(1).part(),
        }
    }

    async fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, PermitTimeout> {
        self.digest.permit(&self.part).await
    }

    fn pass(&self, time: Duration) {
        *self.clock.0.lock() += time;
    }

    fn authorize(&self) -> Authorized {
        self.digest
            .authorize(&Method::GET, "/api/atlas/v2/groups?pretty=true", BodyForDigest::Unknown)
            .unwrap()
    }

    /// A 401 to a first request with this nonce, on which others can build.
    fn cold(self, nonce: &str) -> Self {
        assert_eq!(self.digest.challenged(&challenge(nonce), None, 0), Verdict::Retry);
        self
    }

    fn accepted(&self, used: &Authorized) {
        self.digest.observe_success(&HeaderMap::new(), used);
    }
}

const SECOND: Duration = Duration::from_secs(1);
const REFUSED: Verdict = Verdict::GiveUp(GiveUp::Refused);

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap())])
}

fn challenge(nonce: &str) -> HeaderMap {
    headers(&format!(
        "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale=false"
    ))
}

fn stale(nonce: &str) -> HeaderMap {
    headers(&format!(
        "Digest realm=\"MMS Public API\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale=TRUE"
    ))
}

fn next_nonce_is(nonce: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authentication-info",
        HeaderValue::from_str(&format!("nextnonce=\"{nonce}\"")).unwrap(),
    );
    headers
}

/// Nonce and count of a header.
fn sent(authorized: &Authorized) -> (String, String) {
    let text = std::str::from_utf8(authorized.header.as_bytes()).unwrap();
    let after = |name: &str| text.split_once(name).unwrap().1;
    let nonce = after("nonce=\"").split_once('"').unwrap().0.to_owned();
    (nonce, after("nc=").split_once(',').unwrap().0.to_owned())
}

fn pair(nonce: &str, count: &str) -> (String, String) {
    (nonce.to_owned(), count.to_owned())
}

#[test]
fn a_challenge_is_used_again_and_again() {
    let setup = Setup::new();
    assert!(
        setup
            .digest
            .authorize(&Method::GET, "/", BodyForDigest::Unknown)
            .is_none()
    );
    let setup = setup.cold("a");
    for count in ["00000001", "00000002", "00000003"] {
        let used = setup.authorize();
        assert_eq!(sent(&used), pair("a", count));
        setup.accepted(&used);
    }
    let text = String::from_utf8(setup.authorize().header.as_bytes().to_vec()).unwrap();
    assert!(
        text.contains("username=\"public\"") && text.contains("uri=\"/api/atlas/v2/groups?pretty=true\""),
        "{text}"
    );
    assert_eq!(*setup.events.challenges.lock(), [ChallengeCause::First]);
    assert_eq!(setup.events.nonce_uses.load(Ordering::Relaxed), 4);
    assert_eq!(*setup.events.usable.lock(), [true]);
}

#[test]
fn a_stale_nonce_is_replaced() {
    let setup = Setup::new().cold("a");
    let used = setup.authorize();
    setup.accepted(&used);
    setup.pass(60 * SECOND);
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&stale("b"), Some(&used), 0), Verdict::Retry);
    assert_eq!(sent(&setup.authorize()), pair("b", "00000001"));
    assert_eq!(
        *setup.events.challenges.lock(),
        [ChallengeCause::First, ChallengeCause::Stale]
    );
}

#[test]
fn many_refusals_of_an_old_nonce_bring_one_new() {
    let setup = Setup::new().cold("a");
    let used: Vec<_> = (0..5).map(|_| setup.authorize()).collect();
    for (at, used) in used.iter().enumerate() {
        assert_eq!(
            setup.digest.challenged(&stale(&format!("b{at}")), Some(used), 0),
            Verdict::Retry
        );
    }
    assert_eq!(sent(&setup.authorize()), pair("b0", "00000001"), "the first is for all");
    assert_eq!(setup.digest.challenged(&challenge("c"), None, 0), Verdict::Retry);
    assert_eq!(
        sent(&setup.authorize()),
        pair("b0", "00000002"),
        "also for those that had none"
    );

    setup.pass(30 * SECOND);
    assert_eq!(setup.digest.challenged(&stale("d"), Some(&used[0]), 0), Verdict::Retry);
    assert_eq!(sent(&setup.authorize()), pair("d", "00000001"), "but not for ever");
}

#[test]
fn a_refusal_that_was_none_is_cured_by_the_fresh_nonce() {
    // The server's fault under concurrency: a replay 401 with stale=false, though each (nonce, nc) was sent once.
    let setup = Setup::new().cold("a");
    let (good, bad) = (setup.authorize(), setup.authorize());
    setup.accepted(&good);
    assert_eq!(setup.digest.challenged(&challenge("b"), Some(&bad), 0), Verdict::Retry);
    assert_eq!(sent(&setup.authorize()), pair("b", "00000001"));
    assert!(setup.digest.usable());
}

#[test]
fn a_path_that_refuses_everybody_does_not_speak_for_the_key() {
    let setup = Setup::new().cold("a");
    setup.accepted(&setup.authorize());
    for (attempt, next) in (0..).zip(["b", "c", "d"]) {
        let used = setup.authorize();
        setup.digest.challenged(&challenge(next), Some(&used), attempt);
    }
    assert!(setup.digest.suspected(), "worth asking on another path");
    assert!(setup.digest.usable());
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&challenge("e"), Some(&used), 0), Verdict::Retry);
    setup.accepted(&setup.authorize());
    assert!(!setup.digest.suspected());
    assert_eq!(*setup.events.usable.lock(), [true]);
}

#[test]
fn a_wrong_key_is_refused_after_two_fresh_nonces_and_a_probe_then_paused() {
    let setup = Setup::new().cold("a");
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&challenge("b"), Some(&used), 1), Verdict::Retry);
    assert!(!setup.digest.suspected());
    let used = setup.authorize();
    assert_eq!(
        setup.digest.challenged(&challenge("c"), Some(&used), 2),
        Verdict::GiveUp(GiveUp::RetriesSpent)
    );
    assert!(setup.digest.suspected() && setup.digest.usable());
    assert!(setup.digest.refusal_confirmed());
    assert!(!setup.digest.refusal_confirmed(), "no news");
    assert!(!setup.digest.usable() && !setup.digest.suspected());
    assert_eq!(*setup.events.usable.lock(), [true, false]);

    let refused = |left| Verdict::GiveUp(GiveUp::KeyRefused { pause_left: left });
    setup.pass(20 * SECOND);
    let used = setup.authorize();
    assert_eq!(
        sent(&used),
        pair("c", "00000001"),
        "requests still carry the credential: it may be good again"
    );
    assert_eq!(
        setup.digest.challenged(&challenge("d"), Some(&used), 0),
        refused(10 * SECOND)
    );
    assert_eq!(setup.digest.challenged(&challenge("e"), None, 0), refused(10 * SECOND));
    let used = setup.authorize();
    assert_eq!(
        setup.digest.challenged(&stale("f"), Some(&used), 0),
        Verdict::Retry,
        "a stale nonce says that the key is right"
    );

    setup.pass(10 * SECOND);
    let used = setup.authorize();
    assert_eq!(
        setup.digest.challenged(&challenge("g"), Some(&used), 0),
        Verdict::Retry,
        "the pause is over"
    );
    assert!(setup.digest.suspected(), "and asked again");

    assert!(setup.digest.observe_success(&HeaderMap::new(), &setup.authorize()));
    assert!(setup.digest.usable());
    assert_eq!(*setup.events.usable.lock(), [true, false, true]);
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&challenge("h"), Some(&used), 0), Verdict::Retry);
}

#[test]
fn requests_that_share_a_refused_nonce_say_nothing_about_the_key() {
    let setup = Setup::new().cold("a");
    let used: Vec<_> = (0..20).map(|_| setup.authorize()).collect();
    for used in &used {
        assert_eq!(setup.digest.challenged(&challenge("b"), Some(used), 0), Verdict::Retry);
    }
    assert!(setup.digest.usable() && !setup.digest.suspected());
    assert!(!setup.digest.minds_order(), "nor yet about the server");
}

#[test]
fn an_old_or_once_accepted_nonce_does_not_speak_against_the_key() {
    let setup = Setup::new().cold("a");
    for nonce in ["b", "c", "d", "e"] {
        setup.pass(11 * SECOND);
        let used = setup.authorize();
        assert_eq!(
            setup.digest.challenged(&challenge(nonce), Some(&used), 0),
            Verdict::Retry,
            "too old to be fresh"
        );
    }
    for nonce in ["f", "g", "h", "i"] {
        let used = setup.authorize();
        setup.accepted(&used);
        assert_eq!(
            setup.digest.challenged(&challenge(nonce), Some(&used), 0),
            Verdict::Retry
        );
    }
    assert!(setup.digest.usable());
}

#[test]
fn the_same_nonce_again_is_a_refusal_unless_it_is_called_stale() {
    let setup = Setup::new().cold("a");
    let used = setup.authorize();
    setup.accepted(&used);
    assert_eq!(setup.digest.challenged(&challenge("a"), Some(&used), 0), REFUSED);
    assert_eq!(setup.digest.challenged(&stale("a"), Some(&used), 0), Verdict::Retry);
    assert_eq!(sent(&setup.authorize()), pair("a", "00000002"), "and its count goes on");
}

#[test]
fn a_nonce_that_comes_back_later_goes_on_counting() {
    let setup = Setup::new().cold("a");
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&stale("b"), Some(&used), 0), Verdict::Retry);
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&stale("a"), Some(&used), 0), Verdict::Retry);
    assert_eq!(sent(&setup.authorize()), pair("a", "00000002"));
}

#[test]
fn a_request_is_sent_again_at_most_twice() {
    let setup = Setup::new().cold("a");
    let verdicts = ["b", "c", "d"].into_iter().enumerate().map(|(attempt, nonce)| {
        let used = setup.authorize();
        setup
            .digest
            .challenged(&stale(nonce), Some(&used), u32::try_from(attempt).unwrap())
    });
    let spent = Verdict::GiveUp(GiveUp::RetriesSpent);
    assert_eq!(verdicts.collect::<Vec<_>>(), [Verdict::Retry, Verdict::Retry, spent]);
    assert_eq!(
        sent(&setup.authorize()),
        pair("d", "00000001"),
        "the nonce serves the next request"
    );
}

#[test]
fn a_401_without_a_digest_challenge_is_final() {
    let setup = Setup::new();
    let none = Verdict::GiveUp(GiveUp::NoChallenge);
    assert_eq!(setup.digest.challenged(&HeaderMap::new(), None, 0), none);
    assert_eq!(setup.digest.challenged(&headers("Basic realm=\"r\""), None, 0), none);
    assert!(!setup.digest.has_challenge());
    assert!(setup.events.challenges.lock().is_empty());
}

#[test]
fn nextnonce_replaces_the_nonce_once() {
    let setup = Setup::new().cold("a");
    let (first, second) = (setup.authorize(), setup.authorize());
    setup.digest.observe_success(&next_nonce_is("a"), &first);
    setup.digest.observe_success(&next_nonce_is("b"), &first);
    setup.digest.observe_success(&next_nonce_is("c"), &second);
    assert_eq!(
        sent(&setup.authorize()),
        pair("b", "00000001"),
        "an answer to an old nonce changes nothing"
    );
}

#[test]
fn bodies_that_go_once_go_on_a_young_nonce() {
    let setup = Setup::new();
    assert!(!setup.digest.fresh_enough_for_streaming());
    assert_eq!(setup.digest.primed(&challenge("a")), Verdict::Retry);
    assert_eq!(*setup.events.challenges.lock(), [ChallengeCause::Prime]);
    assert!(setup.digest.fresh_enough_for_streaming());
    setup.pass(SECOND);
    assert!(!setup.digest.fresh_enough_for_streaming(), "half of a second");
    assert_eq!(setup.digest.primed(&challenge("b")), Verdict::Retry);
    assert!(
        setup.digest.fresh_enough_for_streaming(),
        "a fresh challenge is taken then"
    );

    setup.pass(40 * SECOND);
    setup.accepted(&setup.authorize());
    setup.pass(25 * SECOND);
    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&stale("c"), Some(&used), 0), Verdict::Retry);
    setup.pass(19 * SECOND);
    assert!(
        setup.digest.fresh_enough_for_streaming(),
        "a nonce was accepted at 40 s"
    );
    setup.pass(SECOND);
    assert!(!setup.digest.fresh_enough_for_streaming());

    let used = setup.authorize();
    assert_eq!(setup.digest.challenged(&stale("d"), Some(&used), 0), Verdict::Retry);
    setup.pass(11 * SECOND);
    assert!(!setup.digest.fresh_enough_for_streaming(), "a nonce was stale at 20 s");
}

#[test]
fn auth_int_alone_asks_for_the_body() {
    let setup = Setup::new();
    let only = headers("Digest realm=r, nonce=n, algorithm=SHA-256, qop=\"auth-int\"");
    assert_eq!(setup.digest.challenged(&only, None, 0), Verdict::Retry);
    assert!(setup.digest.needs_body());
    let authorize = |body| setup.digest.authorize(&Method::POST, "/", body);
    assert!(authorize(BodyForDigest::Unknown).is_none());
    assert_eq!(
        sent(&authorize(BodyForDigest::Bytes(b"x")).unwrap()),
        pair("n", "00000001"),
        "no count is lost"
    );
    assert!(!Setup::new().cold("a").digest.needs_body());
}

#[test]
fn a_nonce_that_is_used_up_is_dropped() {
    let setup = Setup::new().cold("a");
    setup
        .authorize()
        .nonce
        .counter()
        .given
        .store(u64::from(u32::MAX) - 1, Ordering::Relaxed);
    assert_eq!(sent(&setup.authorize()), pair("a", "ffffffff"));
    assert!(
        setup
            .digest
            .authorize(&Method::GET, "/", BodyForDigest::Unknown)
            .is_none()
    );
    assert!(!setup.digest.has_challenge());
}

#[test]
fn debug_shows_nothing_of_the_key() {
    let setup = Setup::new().cold("the-nonce");
    let text = format!("{:?} {:?}", setup.digest, setup.authorize());
    assert!(
        !["private-value", "public", "the-nonce", "response"]
            .iter()
            .any(|part| text.contains(part)),
        "{text}"
    );
}

#[test]
fn a_public_key_that_no_header_can_carry_is_refused() {
    let with = |public_key: &str| {
        let parts = DigestParts {
            key: ApiKeyPair {
                public_key: public_key.to_owned(),
                private_key: Secret::new("p"),
                max_concurrent: None,
            },
            clock: Arc::new(StandingClock::default()),
            events: Arc::new(Recorded::default()),
        };
        Digest::new(parts).err()
    };
    assert_eq!(with(""), Some(PublicKeyError::Empty));
    assert_eq!(with("abc\n"), Some(PublicKeyError::ControlCharacter));
    assert_eq!(with("abcdefgh"), None);
}

async fn need(turn: &mut Turn<'_>, once: bool) -> Need {
    turn.goes_alone();
    turn.need(once).await.unwrap()
}

#[tokio::test]
async fn a_server_that_minds_the_order_gets_each_nonce_from_one_request_at_a_time() {
    let setup = Setup::new().cold("a");
    let get = |turn: &mut Turn<'_>| turn.authorize(&Method::GET, "/", BodyForDigest::Unknown).unwrap();
    let refused_on_the_shared_one = async |fresh: &str| {
        let mut turn = setup.digest.turn(&setup.part).await.unwrap();
        assert!(matches!(need(&mut turn, false).await, Need::Nothing));
        let (used, other) = (get(&mut turn), setup.authorize());
        setup.accepted(&other);
        assert_eq!(turn.challenged(&challenge(fresh), Some(&used), 0), Verdict::Retry);
        assert!(
            matches!(need(&mut turn, false).await, Need::Challenge(None)),
            "alone this time"
        );
        turn
    };
    let mut in_vain = refused_on_the_shared_one("b").await;
    in_vain.primed(&challenge("b1"));
    let used = get(&mut in_vain);
    in_vain.challenged(&challenge("b2"), Some(&used), 1);
    assert!(!setup.digest.minds_order(), "refused alone, too: it was not the order");
    drop(in_vain);
    let mut passes = refused_on_the_shared_one("b3").await;
    passes.primed(&challenge("b4"));
    let used = get(&mut passes);
    passes.accepted(&HeaderMap::new(), &used);
    assert!(setup.digest.minds_order());
    drop(passes);
    let _lane = setup.digest.lanes.take();

    let mut one = setup.digest.turn(&setup.part).await.unwrap();
    let mut other = setup.digest.turn(&setup.part).await.unwrap();
    for (turn, nonce) in [(&mut one, "c"), (&mut other, "d")] {
        assert!(matches!(need(turn, false).await, Need::Challenge(None)));
        assert_eq!(turn.primed(&challenge(nonce)), Verdict::Retry);
        assert!(
            matches!(need(turn, true).await, Need::Nothing),
            "fresh enough for a body that goes once"
        );
    }
    let (used_one, used_other) = (get(&mut one), get(&mut other));
    assert_eq!(
        [sent(&used_one), sent(&used_other)],
        [pair("c", "00000001"), pair("d", "00000001")]
    );
    one.accepted(&next_nonce_is("e"), &used_one);
    other.accepted(&HeaderMap::new(), &used_other);

    let mut next = setup.digest.turn(&setup.part).await.unwrap();
    assert!(matches!(need(&mut next, false).await, Need::Nothing));
    let used = get(&mut next);
    assert_eq!(sent(&used), pair("d", "00000002"), "a lane is used again");
    let mut after = setup.digest.turn(&setup.part).await.unwrap();
    assert!(matches!(need(&mut after, false).await, Need::Nothing));
    assert_eq!(
        sent(&get(&mut after)),
        pair("e", "00000001"),
        "with the successor that it was given"
    );
    setup.pass(SECOND);
    assert!(
        matches!(need(&mut after, true).await, Need::Challenge(None)),
        "not for a body that goes once, when it is not young"
    );

    assert_eq!(next.challenged(&stale("f"), Some(&used), 0), Verdict::Retry);
    assert_eq!(
        sent(&get(&mut next)),
        pair("f", "00000001"),
        "a refused lane has the new nonce"
    );
    next.forget();
    assert!(matches!(need(&mut next, false).await, Need::Challenge(None)));

    setup.pass(601 * SECOND);
    let mut later = setup.digest.turn(&setup.part).await.unwrap();
    assert!(matches!(need(&mut later, false).await, Need::Nothing));
    assert_eq!(
        sent(&get(&mut later)),
        pair("b3", "00000001"),
        "after a while nonces are shared again"
    );
}

#[tokio::test]
async fn a_body_that_goes_once_shares_no_nonce_before_the_server_is_known_not_to_mind() {
    let setup = Setup::new().cold("a");
    let mut turn = setup.digest.turn(&setup.part).await.unwrap();
    assert!(matches!(need(&mut turn, true).await, Need::Challenge(None)));
    for _ in 0..256 {
        let (first, _second) = (setup.authorize(), setup.authorize());
        setup.accepted(&first);
    }
    let mut turn = setup.digest.turn(&setup.part).await.unwrap();
    assert!(matches!(need(&mut turn, true).await, Need::Nothing));
}
