//! The scripts on a real server, `valkey-server` or `redis-server` (Debian packages of these names).
#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub, reason = "made for the other tests")]
#[path = "../../tests/suite/support/needs.rs"]
mod needs;
#[allow(unreachable_pub, reason = "made for the other tests")]
#[path = "../../tests/suite/support/ports.rs"]
mod ports;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use self::needs::needs;
use self::ports::free_address;
use super::super::fleet::Place;
use super::super::keys::Subject;
use super::super::{SealKey, SharedSource, TokenStoreSettings};
use super::*;
use crate::credential::bearer::{Granted, Moment, Refusal, Token, TokenSource};
use crate::metrics::Metrics;
use crate::time::Clock;

pub(in crate::token_store) struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(in crate::token_store) fn start() -> Option<Self> {
        let program = needs(&["valkey-server", "redis-server"], "redis-server or valkey-server")?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_address().port();
        let child = Command::new(program)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            child,
            port,
            _folder: folder,
        })
    }

    fn store(&self) -> Arc<RedisStore> {
        let settings = TokenStoreSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            database: 3,
            tls: None,
            username: None,
            password: None,
            key: SealKey::parse(&[7; 32]).unwrap(),
        };
        RedisStore::new(settings, Metrics::new(&[]).token_store_up()).unwrap()
    }
}

pub(in crate::token_store) async fn connected(server: &Server) -> Arc<RedisStore> {
    for _ in 0..1000 {
        // A new one each time: a store that has failed rests.
        let store = server.store();
        if store.probe().await.is_ok() {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server does not answer");
}

fn keys() -> Keys {
    Keys::of(&Subject {
        origin: "https://cloud.mongodb.com".to_owned(),
        client_id: "mdb_sa_id_1".to_owned(),
    })
}

fn put<'a>(fence: u64, value: &'a str, gives_way: Option<&'a [u8]>) -> Put<'a> {
    Put {
        fence,
        value,
        life: Duration::from_secs(60),
        gives_way,
    }
}

#[tokio::test]
async fn the_scripts_do_on_a_server_what_is_demanded_of_a_store() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let keys = keys();
    let raw = |command: &[&str]| {
        let mut made = redis::cmd(command[0]);
        made.arg(&command[1..]);
        let store = Arc::clone(&store);
        async move { store.step::<redis::Value>(&made).await.unwrap() }
    };

    let lock = |holder: &'static str, above: u64| {
        let (store, keys) = (Arc::clone(&store), keys.clone());
        async move { Some(store.lock(&keys, holder, above).await.unwrap()?.fence) }
    };
    let fence = |above: u64| {
        let (store, keys) = (Arc::clone(&store), keys.clone());
        async move { store.fence(&keys, above).await.unwrap().fence }
    };

    // One lock, and fences that rise whoever has it.
    assert_eq!(lock("a", 0).await, Some(1));
    assert_eq!(lock("b", 0).await, None);
    assert_eq!(fence(0).await, 2);
    store.release(&keys, "b", Duration::ZERO).await.unwrap();
    assert_eq!(lock("b", 0).await, None, "it was not b's to give back");
    store.release(&keys, "a", Duration::ZERO).await.unwrap();
    assert_eq!(lock("b", 40).await, Some(41), "above what was seen");
    store.release(&keys, "b", Duration::from_secs(9)).await.unwrap();
    assert_eq!(lock("a", 0).await, None, "it stands for a while");
    let ends = |key: String, least: i64, most: i64| {
        let store = Arc::clone(&store);
        async move {
            let left: i64 = store.step(redis::cmd("PTTL").arg(&key)).await.unwrap();
            assert!(left > least && left <= most, "{key} ends in {left} ms");
        }
    };
    ends(keys.lock.clone(), 1_000, 9_000).await;
    ends(keys.fence.clone(), 59 * 86_400_000, 60 * 86_400_000).await;
    raw(&["DEL", &keys.lock]).await;
    lock("c", 0).await;
    ends(keys.lock.clone(), 1_000, 15_000).await;

    // A token lies there for its life, and gives way to a higher fence or an equal one.
    assert_eq!(store.look(&keys).await.unwrap(), None);
    assert!(store.put(&keys, put(41, "41:one", None)).await.unwrap());
    let stored = store.look(&keys).await.unwrap().unwrap();
    assert_eq!(stored.value, b"41:one");
    assert!(stored.left.unwrap() <= Duration::from_secs(60) && stored.left.unwrap() > Duration::from_secs(1));
    assert!(!store.put(&keys, put(40, "40:late", None)).await.unwrap());
    assert!(store.put(&keys, put(41, "41:two", None)).await.unwrap());
    assert!(
        store.put(&keys, put(100, "100:three", None)).await.unwrap(),
        "compared as numbers"
    );
    assert_eq!(store.look(&keys).await.unwrap().unwrap().value, b"100:three");

    // A value that could not be opened is replaced, if it is still there.
    assert!(!store.put(&keys, put(42, "42:four", Some(b"99:else"))).await.unwrap());
    assert!(store.put(&keys, put(42, "42:four", Some(b"100:three"))).await.unwrap());
    for odd in [
        "no fence at all",
        "99999999999999999999999999:x",
        "-1:x",
        "nan:x",
        "1e9:x",
    ] {
        raw(&["SET", &keys.token, odd]).await;
        assert_eq!(store.look(&keys).await.unwrap().unwrap().left, None);
        assert!(store.put(&keys, put(1, "1:five", None)).await.unwrap(), "{odd}");
    }
    let long = "9:".to_owned() + &"x".repeat(100_000);
    raw(&["SET", &keys.token, &long]).await;
    let beginning = store.look(&keys).await.unwrap().unwrap().value;
    assert_eq!(beginning.len(), MOST_VALUE_BYTES);
    assert!(!store.put(&keys, put(1, "1:six", None)).await.unwrap());
    assert!(store.put(&keys, put(1, "1:six", Some(&beginning))).await.unwrap());

    // A counter that somebody tampered with.
    raw(&["SET", &keys.fence, "a lot"]).await;
    assert_eq!(fence(7).await, 8);
    for beyond in ["999999999999999", "99999999999999999999999999", "-5", "1e3", ""] {
        raw(&["SET", &keys.fence, beyond]).await;
        let turn = store.fence(&keys, 7).await.unwrap();
        assert_eq!((turn.fence, turn.odd), (8, true), "{beyond}: it starts over");
        assert!(!store.fence(&keys, 8).await.unwrap().odd);
    }
    assert_eq!(fence(MOST_FENCE - 1).await, MOST_FENCE);
    assert_eq!(fence(MOST_FENCE).await, 1, "there is none higher");
    assert_eq!(fence(1).await, 2);

    // It survives the loss of everything.
    raw(&["FLUSHALL"]).await;
    assert_eq!(lock("d", 9).await, Some(10));
}

#[tokio::test]
async fn whoever_takes_the_lock_sees_what_lies_there_in_the_same_step() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let keys = keys();
    assert_eq!(store.lock(&keys, "a", 0).await.unwrap().unwrap().stored, None);
    store.put(&keys, put(1, "1:one", None)).await.unwrap();
    store.release(&keys, "a", Duration::ZERO).await.unwrap();
    for turn in [
        store.lock(&keys, "b", 0).await.unwrap().unwrap(),
        store.fence(&keys, 0).await.unwrap(),
    ] {
        let stored = turn.stored.unwrap();
        assert_eq!(stored.value, b"1:one");
        assert!(stored.left.unwrap() > Duration::from_secs(1));
        assert!(!turn.odd);
    }
}

/// Grants tokens, and counts them.
#[derive(Default)]
struct Endpoint(AtomicU64);

impl TokenSource for Arc<Endpoint> {
    fn fetch<'a>(&'a self, _: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        Box::pin(async {
            let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(Granted::for_tests(&format!("token-{number}"), 3600))
        })
    }

    fn revoke<'a>(&'a self, _: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
}

/// A wall clock that stands, so many seconds after 1970.
struct Stands(u64);

impl Clock for Stands {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.boot()
    }

    fn boot(&self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// The one that asks first has seen fewer of the tokens than the other.
#[tokio::test]
async fn a_server_that_has_lost_everything_has_one_replica_ask_for_all() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let endpoint: Arc<Endpoint> = Arc::default();
    let replica = |seconds| {
        SharedSource::with_store(
            "default",
            Subject {
                origin: "https://cloud.mongodb.com".to_owned(),
                client_id: "mdb_sa_id_1".to_owned(),
            },
            Box::new(Arc::clone(&endpoint)),
            (Arc::clone(&store) as Arc<dyn SharedStore>, Arc::default()),
            SealKey::parse(&[7; 32]).unwrap(),
            Metrics::new(&[]).token_store_operations("default"),
            Arc::new(Stands(seconds)),
            unit_random,
        )
    };
    let fetch = async |replica: &SharedSource, held: Option<&Granted>| {
        let now = Moment::now(&Stands(0));
        let held = held.map(|granted| Token::new(granted, now, 1, 0.5));
        replica.fetch(held.as_ref()).await.unwrap()
    };
    let (knows_more, knows_less) = (replica(1_790_000_000), replica(1_790_000_001));
    let mut newest = fetch(&knows_more, None).await;
    let first = fetch(&knows_less, None).await;
    for _ in 0..3 {
        newest = fetch(&knows_more, Some(&newest)).await;
    }
    assert_eq!((first.token(), newest.token()), ("token-1", "token-4"));
    store.step::<String>(&redis::cmd("FLUSHALL")).await.unwrap();
    assert_eq!(fetch(&knows_less, Some(&first)).await.token(), "token-5");
    assert_eq!(fetch(&knows_more, Some(&newest)).await.token(), "token-5");
    assert_eq!(endpoint.0.load(Ordering::SeqCst), 5);
}

/// Every type of Redis under each of our names: nothing fails, and what no replica leaves there is replaced.
#[tokio::test]
async fn keys_of_other_types_are_replaced() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let keys = keys();
    let raw = |command: &[&str]| {
        let mut made = redis::cmd(command[0]);
        made.arg(&command[1..]);
        let store = Arc::clone(&store);
        async move { store.step::<redis::Value>(&made).await.unwrap() }
    };
    let types: [&[&str]; 6] = [
        &["RPUSH", "KEY", "x"],
        &["SADD", "KEY", "x"],
        &["HSET", "KEY", "f", "x"],
        &["ZADD", "KEY", "1", "x"],
        &["XADD", "KEY", "*", "f", "x"],
        &["PFADD", "KEY", "x"],
    ];
    for made in types {
        raw(&["FLUSHALL"]).await;
        for key in [&keys.token, &keys.lock, &keys.fence, keys::PROBE] {
            let command: Vec<&str> = made
                .iter()
                .map(|word| if *word == "KEY" { key } else { word })
                .collect();
            raw(&command).await;
        }
        store.probe().await.unwrap();
        assert!(store.look(&keys).await.unwrap().is_some(), "it is there, and no token");
        let turn = store.lock(&keys, "a", 7).await.unwrap().unwrap();
        assert_eq!((turn.fence, turn.odd), (8, true), "{made:?}");
        let old = turn.stored.unwrap();
        assert!(store.put(&keys, put(8, "8:new", Some(&old.value))).await.unwrap());
        assert_eq!(store.look(&keys).await.unwrap().unwrap().value, b"8:new");
        store.release(&keys, "a", Duration::ZERO).await.unwrap();
        let turn = store.lock(&keys, "b", 0).await.unwrap().unwrap();
        assert_eq!((turn.fence, turn.odd), (9, false), "{made:?}");
        // Also when it takes the place of the lock while that is held.
        raw(&["DEL", &keys.lock]).await;
        raw(&["RPUSH", &keys.lock, "x"]).await;
        store.release(&keys, "b", Duration::ZERO).await.unwrap();
    }
    // A lock without an expiry, or with one that no replica gives it, would hold up everybody.
    for life in [&[][..], &["PX", "16000"]] {
        let command: Vec<&str> = ["SET", &keys.lock, "for ever"]
            .into_iter()
            .chain(life.iter().copied())
            .collect();
        raw(&command).await;
        let turn = store.lock(&keys, "a", 0).await.unwrap().unwrap();
        assert!(turn.odd);
        assert_eq!(store.lock(&keys, "b", 0).await.unwrap(), None);
    }
}

/// A replica: its store, and its place there.
async fn replica(server: &Server) -> (Arc<RedisStore>, Arc<Place>) {
    let store = server.store();
    let place = store.places.take(&keys());
    store.report(false).await.unwrap();
    (store, place)
}

fn rank(place: &Place) -> Option<u32> {
    place.word().map(|word| word.rank)
}

/// The table as a string; what another process would see.
async fn table(store: &RedisStore) -> String {
    store.step(redis::cmd("GET").arg(keys().fleet)).await.unwrap()
}

async fn set_table(store: &RedisStore, table: &str) {
    let mut command = redis::cmd("SET");
    command.arg(keys().fleet).arg(table).arg("PX").arg(86_400_000);
    store.step::<String>(&command).await.unwrap();
}

/// As if the table had been in use for so long, in milliseconds.
async fn in_use_for(store: &RedisStore, millis: u64) {
    let old = table(store).await;
    let (service, rest) = old.split_once(' ').unwrap();
    let _: u64 = service.parse().unwrap();
    set_table(store, &format!("{millis} {rest}")).await;
}

#[tokio::test]
async fn replicas_learn_how_many_they_are_and_which_one_each_is() {
    let Some(server) = Server::start() else { return };
    let first = connected(&server).await;
    let place = first.places.take(&keys());
    first.report(false).await.unwrap();
    assert_eq!(place.word(), None, "no ranks before all have had the time to report");
    in_use_for(&first, 30_000).await;
    first.report(false).await.unwrap();
    let word = place.word().unwrap();
    assert_eq!((word.rank, word.number), (0, 1));
    let mut all = vec![(first, place)];
    for number in 1..60 {
        let next = replica(&server).await;
        let word = next.1.word().unwrap();
        assert_eq!((word.rank, word.number), (number, number + 1));
        all.push(next);
    }
    // They keep them, and all have one clock.
    for (expected, (store, place)) in all.iter().enumerate() {
        store.report(false).await.unwrap();
        let word = place.word().unwrap();
        assert_eq!((word.rank as usize, word.number), (expected, 60));
        let apart = word.clock.abs_diff(all[0].1.word().unwrap().clock);
        assert!(apart < Duration::from_secs(2), "{apart:?}");
    }
    // One that leaves makes room for one whose rank doesn't matter, and for no other.
    all[7].0.report(true).await.unwrap();
    let (last, place) = all.last().unwrap();
    let (before, kept) = &all[30];
    before.report(false).await.unwrap();
    assert_eq!(rank(kept), Some(30));
    last.report(false).await.unwrap();
    let word = place.word().unwrap();
    assert_eq!((word.rank, word.number), (7, 59));

    // One that is silent is struck off; the time without any report hardly counts.
    let now: u64 = table(last).await.split(' ').next().unwrap().parse().unwrap();
    in_use_for(last, now + 110_000).await;
    last.report(false).await.unwrap();
    assert_eq!(place.word().unwrap().number, 59, "not yet");
    in_use_for(last, now + 125_000).await;
    last.report(false).await.unwrap();
    assert_eq!(place.word().unwrap().number, 1);
    before.report(false).await.unwrap();
    assert_eq!(rank(kept), Some(30), "it had that last");

    let mut command = redis::cmd("PEXPIRE");
    command.arg(keys().fleet).arg(86_400_000 - 3_600_000);
    last.step::<u64>(&command).await.unwrap();
    let clock = place.word().unwrap().clock;
    last.report(false).await.unwrap();
    let word = place.word().unwrap();
    assert_eq!(
        (word.rank, word.number),
        (7, 2),
        "an hour without the store strikes nobody off"
    );
    assert!(word.clock >= clock + Duration::from_secs(3590));
}

#[tokio::test]
async fn a_store_that_has_lost_everything_takes_ranks_back_and_gives_no_new_ones_at_once() {
    let Some(server) = Server::start() else { return };
    let first = connected(&server).await;
    let place = first.places.take(&keys());
    first.report(false).await.unwrap();
    in_use_for(&first, 30_000).await;
    first.report(false).await.unwrap();
    let mut all = vec![(first, place)];
    for _ in 1..50 {
        all.push(replica(&server).await);
    }
    let clock = all[0].1.word().unwrap().clock;
    all[0].0.step::<String>(&redis::cmd("FLUSHALL")).await.unwrap();
    let (_, newcomer) = replica(&server).await;
    assert_eq!(newcomer.word(), None);
    for number in [48, 3, 0, 20] {
        let (store, place) = &all[number];
        let before = place.word().unwrap().number;
        store.report(false).await.unwrap();
        let word = place.word().unwrap();
        assert_eq!(word.rank as usize, number);
        assert!(word.number >= before, "not all have reported: {}", word.number);
        assert!(word.clock + Duration::from_secs(1) >= clock);
    }
    // Whoever comes second with a rank loses it, to none that matters.
    let (store, _) = &all[5];
    let now = table(store).await;
    set_table(store, &(now.clone() + "5.0123456789ab.0;")).await;
    store.report(false).await.unwrap();
    assert_eq!(rank(&all[5].1), Some(45));
    in_use_for(store, 30_000).await;
    store.report(false).await.unwrap();
    assert_eq!(rank(&all[5].1), Some(1), "the lowest that is free");
}

/// Whatever lies there, no two get one rank, and the next reports are as they should be.
#[tokio::test]
async fn a_table_that_others_have_written_gives_ranks_all_the_same() {
    let Some(server) = Server::start() else { return };
    let first = connected(&server).await;
    let place = first.places.take(&keys());
    let crowd: String = (0..1200).map(|n| format!("{n}.{n:012x}.999;")).collect();
    for (planted, expected) in [
        (String::new(), None),
        ("garbage".to_owned(), None),
        ("99999999999999999999 0;".to_owned(), None),
        ("1 99999999999999999999;".to_owned(), None),
        ("nan inf;".to_owned(), None),
        ("-5 0;".to_owned(), None),
        ("60000 0;".to_owned(), Some((0, 1))),
        (
            "60000 0;99999.aaaaaaaaaaaa.60000;0.aa.60000;0.bbbbbbbbbbbb.99999999999999;0.cccccccccccc.70000;"
                .to_owned(),
            Some((0, 1)),
        ),
        (
            "60000 0;0.aaaaaaaaaaaa.60000;0.bbbbbbbbbbbb.60000;1.aaaaaaaaaaaa.60000;junk;;..".to_owned(),
            Some((1, 3)),
        ),
        (
            format!("60000 0;{}", crowd.replace(".999;", ".60000;")),
            Some((1000, 1001)),
        ),
        (format!("60000 0;{}", "x".repeat(100_000)), Some((0, 1))),
        ("999999999999 999999999999;".to_owned(), Some((0, 1))),
    ] {
        let shown = &planted[..planted.len().min(60)];
        *place.forget() = None;
        set_table(&first, &planted).await;
        first.report(false).await.unwrap();
        let word = place.word().map(|word| (word.rank, word.number));
        assert_eq!(word, expected, "{shown}");
        let length: usize = first.step(redis::cmd("STRLEN").arg(keys().fleet)).await.unwrap();
        assert!(length <= MOST_VALUE_BYTES, "{shown}: {length}");
        first.report(false).await.unwrap();
    }
    for made in [["RPUSH", "x", "x"], ["HSET", "f", "x"], ["ZADD", "1", "x"]] {
        first.step::<u64>(redis::cmd("DEL").arg(keys().fleet)).await.unwrap();
        let mut command = redis::cmd(made[0]);
        command.arg(keys().fleet).arg(&made[1..]);
        first.step::<u64>(&command).await.unwrap();
        first.report(false).await.unwrap();
    }
    // Without an end, which no replica leaves it: begun anew.
    first
        .step::<String>(redis::cmd("SET").arg(keys().fleet).arg("60000 0;"))
        .await
        .unwrap();
    *place.forget() = None;
    first.report(false).await.unwrap();
    assert_eq!(place.word(), None);
}
