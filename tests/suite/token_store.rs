//! Replicas that share one token through a real Redis or Valkey server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use atlas_auth_proxy::token_store::TokenStoreSettings;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::client::client;
use crate::support::ports::free_address;
use crate::support::program::Program;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, Proxy};
use crate::support::redis::{KEY, Redis, program, settings};
use crate::support::until;
use crate::support::upstream::{Tokens, Upstream, json};

const OPERATIONS: &str = "atlas_auth_proxy_token_store_operations_total";

/// An upstream that refuses every token but a valid one of its own.
async fn strict() -> Upstream {
    let tokens: Arc<std::sync::OnceLock<Arc<Tokens>>> = Arc::default();
    let known = Arc::clone(&tokens);
    let upstream = Upstream::start(move |request| {
        let known = Arc::clone(&known);
        async move {
            if known.get().is_some_and(|tokens| tokens.accepts(request.headers())) {
                json(200, "{}")
            } else {
                json(401, r#"{"error":401,"errorCode":"UNAUTHORIZED"}"#)
            }
        }
    })
    .await;
    assert!(tokens.set(Arc::clone(&upstream.tokens)).is_ok());
    upstream
}

async fn replica(upstream: &Upstream, store: TokenStoreSettings) -> Proxy {
    upstream
        .proxy()
        .with(|settings| settings.token_store = Some(store))
        .start()
        .await
}

async fn replicas(upstream: &Upstream, store: &TokenStoreSettings, number: usize) -> Vec<Proxy> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(replica(upstream, store.clone()).await);
    }
    all
}

async fn status(proxy: &Proxy) -> u16 {
    client().get(proxy.url("/x")).send().await.unwrap().status().as_u16()
}

/// One request through each, all at once; every one must succeed.
async fn call_each(replicas: &[Proxy]) {
    let mut calls = JoinSet::new();
    for replica in replicas {
        let url = replica.url("/x");
        calls.spawn(async move { client().get(url).send().await.unwrap().status().as_u16() });
    }
    for status in calls.join_all().await {
        assert_eq!(status, 200);
    }
}

async fn operations(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(OPERATIONS, &[("outcome", outcome)]).await
}

async fn operations_of_all(replicas: &[Proxy], outcome: &str) -> f64 {
    let mut sum = 0.0;
    for replica in replicas {
        sum += operations(replica, outcome).await;
    }
    sum
}

async fn up(proxy: &Proxy) -> f64 {
    proxy.metric("atlas_auth_proxy_token_store_up", &[]).await
}

/// Requests through all replicas without a pause, until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Traffic {
    fn through(replicas: &[Proxy]) -> Self {
        let (stop, calls, failures) = (Arc::default(), Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for replica in replicas {
            let (http, url) = (client(), replica.url("/x"));
            let (stop, calls, failures): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>) =
                (Arc::clone(&stop), Arc::clone(&calls), Arc::clone(&failures));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let good = http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
                    calls.fetch_add(1, Ordering::SeqCst);
                    failures.fetch_add(usize::from(!good), Ordering::SeqCst);
                    // Leaves the machine to the other tests.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self {
            stop,
            calls,
            failures,
            tasks,
        }
    }

    /// How many requests there were, and how many of them failed.
    async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        (self.calls.load(Ordering::SeqCst), self.failures.load(Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_replicas_make_one_token_request_and_store_nothing_readable() {
    // A machine that is busy with all the other tests may leave the store no time to answer; which is told, and then means
    // nothing.
    for _ in 0..3 {
        let Some(redis) = Redis::start().await else { return };
        let upstream = strict().await;
        let replicas = replicas(&upstream, &redis.settings(), 50).await;
        call_each(&replicas).await;
        if operations_of_all(&replicas, "fallback").await == 0.0 {
            return one_token_request_and_nothing_readable(&redis, &upstream, replicas).await;
        }
    }
    panic!("the store never answered in time");
}

async fn one_token_request_and_nothing_readable(redis: &Redis, upstream: &Upstream, replicas: Vec<Proxy>) {
    assert_eq!(upstream.token_requests(), 1);
    assert_eq!(operations_of_all(&replicas, "renewed").await, 1.0);
    let taken = operations_of_all(&replicas, "hit").await + operations_of_all(&replicas, "waited").await;
    assert_eq!(taken, 49.0);
    assert_eq!(up(&replicas[0]).await, 1.0);
    // Only the one that asked counts a token request.
    let mut counted = 0.0;
    for replica in &replicas {
        counted += replica
            .metric("atlas_auth_proxy_token_requests_total", &[("outcome", "ok")])
            .await;
    }
    assert_eq!(counted, 1.0);

    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    assert_eq!(keys.len(), 4, "token, fence, fleet and probe, and no lock: {keys:?}");
    for key in keys {
        assert!(key.starts_with("atlas-auth-proxy:v1:"), "{key}");
        let value: String = redis.command(&["GET", &key]);
        for secret in ["token-1", CLIENT_ID, CLIENT_SECRET, "localhost", "Bearer"] {
            assert!(!value.contains(secret) && !key.contains(secret), "{key}: {value}");
        }
        let left: i64 = redis.command(&["PTTL", &key]);
        assert!(left > 0, "{key} has an end");
    }

    for replica in replicas {
        replica.app.shutdown().await;
    }
    assert_eq!(upstream.revocations(), 0, "others may use it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lives_make_about_one_token_request_each_for_all_replicas() {
    let Some(redis) = Redis::start().await else { return };
    let upstream = strict().await;
    upstream.tokens.life.store(5, Ordering::SeqCst);
    let replicas = replicas(&upstream, &redis.settings(), 20).await;
    call_each(&replicas).await;
    let began = Instant::now();
    let traffic = Traffic::through(&replicas);
    until("four more tokens", || async { upstream.token_requests() >= 5 }).await;
    let (elapsed, requests) = (began.elapsed(), upstream.token_requests());
    let (calls, failures) = traffic.end().await;
    assert_eq!(failures, 0, "of {calls}");
    // A token is replaced at three quarters of its life at the earliest. Twenty replicas by themselves would have made 80.
    let most = 2 + usize::try_from(elapsed.as_millis() / 3_500).unwrap();
    assert!(requests <= most, "{requests} token requests in {elapsed:?}");
    assert_eq!(operations_of_all(&replicas, "fallback").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_and_comes_back_is_seen_by_no_client() {
    let Some(mut redis) = Redis::start().await else { return };
    let upstream = strict().await;
    upstream.tokens.life.store(5, Ordering::SeqCst);
    let replicas = replicas(&upstream, &redis.settings(), 10).await;
    call_each(&replicas).await;
    let traffic = Traffic::through(&replicas);
    until("a renewal", || async { upstream.token_requests() >= 2 }).await;
    redis.stop();
    for replica in &replicas {
        until("each asks for itself", || async {
            operations(replica, "fallback").await >= 1.0
        })
        .await;
        assert_eq!(up(replica).await, 0.0);
    }
    redis.start_again().await;
    for replica in &replicas {
        let before = operations(replica, "hit").await + operations(replica, "waited").await;
        until("it takes what others asked for", || async {
            up(replica).await == 1.0 && operations(replica, "hit").await + operations(replica, "waited").await > before
        })
        .await;
    }
    let (calls, failures) = traffic.end().await;
    assert_eq!(failures, 0, "of {calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_replicas_replace_a_refused_token_with_one_request() {
    let Some(redis) = Redis::start().await else { return };
    let upstream = strict().await;
    let replicas = replicas(&upstream, &redis.settings(), 50).await;
    call_each(&replicas).await;
    upstream.tokens.expire_all();
    call_each(&replicas).await;
    assert_eq!(upstream.token_requests(), 2);
    assert_eq!(upstream.last().headers["authorization"], "Bearer token-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_each_replica_has_a_token_of_its_own_and_revokes_it() {
    let upstream = strict().await;
    let nobody = settings(free_address(), None, None);
    let replicas = replicas(&upstream, &nobody, 3).await;
    call_each(&replicas).await;
    assert_eq!(upstream.token_requests(), 3);
    for replica in replicas {
        assert_eq!(up(&replica).await, 0.0);
        replica.app.shutdown().await;
    }
    assert_eq!(upstream.revocations(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_says_nothing_holds_up_no_first_request() {
    let upstream = strict().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let replica = replica(&upstream, settings(silent.local_addr().unwrap(), None, None)).await;
    assert_eq!(status(&replica).await, 200);
    assert_eq!(operations(&replica, "fallback").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_is_overwritten() {
    let Some(redis) = Redis::start().await else { return };
    let upstream = strict().await;
    let first = replica(&upstream, redis.settings()).await;
    assert_eq!(status(&first).await, 200);
    let keys: Vec<String> = redis.command(&["KEYS", "*:token"]);
    let () = redis.command(&["SET", &keys[0], "999999999999999:garbage"]);
    let all = replicas(&upstream, &redis.settings(), 5).await;
    call_each(&all).await;
    assert_eq!(upstream.token_requests(), 2);
    assert_eq!(operations_of_all(&all, "renewed").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_given_and_a_wrong_one_does_no_harm() {
    let Some(redis) = Redis::start_with_password("only-for-tests-store-password").await else {
        return;
    };
    let upstream = strict().await;
    call_each(&replicas(&upstream, &redis.settings(), 3).await).await;
    assert_eq!(upstream.token_requests(), 1);
    for password in [None, Some("wrong")] {
        let before = upstream.token_requests();
        let outside = replicas(&upstream, &settings(redis.address, password, None), 2).await;
        call_each(&outside).await;
        assert_eq!(upstream.token_requests(), before + 2);
        assert_eq!(up(&outside[0]).await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_the_store_is_verified() {
    let Some(redis) = Redis::start_with_tls().await else {
        return;
    };
    let upstream = strict().await;
    call_each(&replicas(&upstream, &redis.settings(), 3).await).await;
    assert_eq!(upstream.token_requests(), 1);
    // The upstream's authority is another one; and by its address the certificate does not name it.
    let mut stranger = redis.settings();
    stranger.tls.as_mut().unwrap().ca_file = Some(upstream.ca_file.clone());
    let mut other_name = redis.settings();
    other_name.host = "127.0.0.1".to_owned();
    for settings in [stranger, other_name] {
        let before = upstream.token_requests();
        let outside = replica(&upstream, settings).await;
        assert_eq!(status(&outside).await, 200);
        assert_eq!(upstream.token_requests(), before + 1);
        assert_eq!(up(&outside).await, 0.0);
    }
}

/// Alive, but of no use: that is an outage like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written_to_counts_as_away() {
    let Some(redis) = Redis::start().await else { return };
    let () = redis.command(&["REPLICAOF", "127.0.0.1", &free_address().port().to_string()]);
    let upstream = strict().await;
    let all = replicas(&upstream, &redis.settings(), 2).await;
    call_each(&all).await;
    assert_eq!(upstream.token_requests(), 2);
    assert_eq!(up(&all[0]).await, 0.0);
    let () = redis.command(&["REPLICAOF", "NO", "ONE"]);
    until("it can be written to again", || async { up(&all[0]).await == 1.0 }).await;
}

/// The hundred and first of a fleet goes on with the shared token, and then says that it has none, and when to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_many_answers_503_and_is_not_ready_when_store_and_token_are_gone() {
    let Some(mut redis) = Redis::start().await else { return };
    let upstream = strict().await;
    upstream.tokens.life.store(5, Ordering::SeqCst);
    let replica = replica(&upstream, redis.settings()).await;
    assert_eq!(status(&replica).await, 200);
    let keys: Vec<String> = redis.command(&["KEYS", "*:token"]);
    let table = keys[0].replace(":token", ":fleet");
    let others: String = (0..100).map(|rank| format!("{rank}.{rank:012x}.60000;")).collect();
    let () = redis.command(&["SET", &table, &format!("60000 0;{others}"), "PX", "86400000"]);
    until("it has reported itself", || async {
        let now: String = redis.command(&["GET", &table]);
        now.contains(";100.")
    })
    .await;
    assert_eq!(status(&replica).await, 200, "the store is there");

    redis.stop();
    let ready = async || {
        let url = format!("http://{}/readyz", replica.admin);
        client().get(url).send().await.unwrap().status().as_u16()
    };
    let mut before = 0;
    until("its token has expired", || {
        before = upstream.token_requests();
        async { status(&replica).await == 503 }
    })
    .await;
    assert_eq!(ready().await, 503);
    let answer = client().get(replica.url("/x")).send().await.unwrap();
    assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_TOKEN_UNAVAILABLE");
    assert_eq!(answer.headers()["retry-after"], "1");
    let told = answer.text().await.unwrap();
    assert!(told.contains("of 101 replicas 45 take tokens of their own"), "{told}");
    assert_eq!(upstream.token_requests(), before, "it has not asked");
    let asked = replica.metric("atlas_auth_proxy_token_requests_total", &[]).await;
    assert_eq!(
        asked,
        f64::from(u32::try_from(before).unwrap()),
        "and counts no request that it didn't make"
    );

    redis.start_again().await;
    until("nobody else asks", || async { status(&replica).await == 200 }).await;
    assert_eq!(ready().await, 200);
}

/// The command that the documentation gives, as it stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_and_no_more_will_do() {
    let Some(redis) = Redis::start().await else { return };
    let page = include_str!("../../docs/OPERATIONS.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    let words: Vec<String> = line.split(' ').map(|word| word.replace("PASSWORD", "sesame")).collect();
    let () = redis.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let upstream = strict().await;
    let mut store = redis.settings();
    store.username = Some(words[2].clone());
    store.password = Some(atlas_auth_proxy::secret::Secret::new("sesame"));
    store.database = 1;
    let mut all = replicas(&upstream, &store, 3).await;
    call_each(&all).await;
    assert_eq!(upstream.token_requests(), 1);
    let mut inside = redis::Client::open(format!("redis://{}/1", redis.address))
        .unwrap()
        .get_connection()
        .unwrap();
    until("each has reported itself, to learn its rank and their number", || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*:fleet").query(&mut inside).unwrap();
        let table: String = keys.first().map_or(String::new(), |key| {
            redis::cmd("GET").arg(key).query(&mut inside).unwrap()
        });
        async move { table.matches(';').count() == 4 }
    })
    .await;
    upstream.tokens.expire_all();
    call_each(&all).await;
    assert_eq!(upstream.token_requests(), 2);
    assert_eq!(operations_of_all(&all, "error").await, 0.0);
    assert_eq!(up(&all.remove(0)).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_gives_a_token_of_its_own_and_says_so_and_outages_are_logged_once() {
    let Some(mut redis) = Redis::start().await else { return };
    let upstream = strict().await;
    let folder = tempfile::tempdir().unwrap();
    let same: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let get = async |program: &Program| {
        let url = format!("http://{}/x", program.address);
        client().get(url).send().await.unwrap().status().as_u16()
    };
    let first = program(&upstream, folder.path(), "first", redis.address, &KEY).await;
    assert_eq!(get(&first).await, 200);
    let second = program(&upstream, folder.path(), "second", redis.address, same.as_bytes()).await;
    assert_eq!(get(&second).await, 200);
    assert_eq!(upstream.token_requests(), 1, "the key in another shape is the same");
    let third = program(&upstream, folder.path(), "third", redis.address, &[9; 32]).await;
    assert_eq!(get(&third).await, 200);
    assert_eq!(upstream.token_requests(), 2);

    let is_up = async |wanted: &str| {
        let url = format!("http://{}/metrics", third.admin);
        until("the outage is noticed, or its end", || async {
            let text = client().get(&url).send().await.unwrap().text().await.unwrap();
            text.lines()
                .any(|line| line == format!("atlas_auth_proxy_token_store_up {wanted}"))
        })
        .await;
    };
    redis.stop();
    is_up("0").await;
    redis.start_again().await;
    is_up("1").await;
    let (_, said) = third.stop().await;
    let times = |text: &str| said.matches(text).count();
    assert_eq!(times("can't be opened"), 1, "{said}");
    assert_eq!(times("the shared token store fails"), 1, "{said}");
    assert_eq!(times("the shared token store answers again"), 1, "{said}");
    for secret in ["token-1", "token-2", CLIENT_SECRET] {
        assert!(!said.contains(secret), "{said}");
    }
    let (_, said) = first.stop().await;
    assert!(!said.contains("can't be opened"), "{said}");
    second.stop().await;
}
