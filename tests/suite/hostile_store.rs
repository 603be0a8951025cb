//! A token store that is somebody else's: whatever it says, memory stays flat, and clients are served as if there were none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::client;
use crate::support::program::Program;
use crate::support::redis::{KEY, Redis, program, settings};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// More than the buffers of a loopback connection hold, and than a store has to say in all these tests.
const MOST_TAKEN: usize = 24 << 20;

/// A store that answers whatever it is sent with the same bytes, and then with others without an end.
struct Hostile {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

impl Hostile {
    async fn start(first: &'static str, endless: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (opened, counted) = (Arc::clone(&connections), Arc::clone(&taken));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pour(stream, first, endless, Arc::clone(&counted)));
            }
        });
        Self {
            address,
            connections,
            taken,
        }
    }
}

/// Waits for a command, answers, and pours on as long as it is taken.
async fn pour(mut stream: TcpStream, first: &str, endless: &str, taken: Arc<AtomicUsize>) {
    let mut command = vec![0; 4096];
    if !matches!(stream.read(&mut command).await, Ok(1..)) || stream.write_all(first.as_bytes()).await.is_err() {
        return;
    }
    let piece = endless.repeat((64 << 10) / endless.len().max(1));
    while !piece.is_empty() && taken.load(Ordering::SeqCst) < 64 << 20 {
        match stream.write(piece.as_bytes()).await {
            Ok(1..) => taken.fetch_add(piece.len(), Ordering::SeqCst),
            _ => return,
        };
    }
    // Stays open: whoever has heard enough ends it.
    let _ = stream.read(&mut command).await;
}

async fn upstream() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_store_says_no_more_than_an_answer_is_taken_and_clients_are_served() {
    let cases = [
        // A value of 1.9 GB, announced and sent.
        ("$1900000000\r\n", "x"),
        // Room for so many elements would be made at once: 100 GB.
        ("*2000000000\r\n", ""),
        ("*2000000000\r\n", "$1\r\nx\r\n"),
        ("", "*1\r\n"),
        // Lines without an end: of text, an error, a number, a length.
        ("+", "x"),
        ("-ERR ", "x"),
        (":", "1"),
        ("$", "1"),
        // RESP3, which nobody asked for.
        ("%1000000000\r\n", "+x\r\n"),
        ("=1900000000\r\ntxt:", "x"),
        (">1000000000\r\n", ""),
        ("|1000000000\r\n", ""),
        ("$-2\r\n", ""),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        // Answers that nobody asked for, after one that was.
        ("*2\r\n$0\r\n\r\n:-2\r\n", "+OK\r\n"),
        // Well-formed, and no answer of the scripts.
        ("+OK\r\n", ""),
        (":5\r\n", ""),
        ("*0\r\n", ""),
        ("*4\r\n:-5\r\n:0\r\n$0\r\n\r\n:-2\r\n", ""),
        ("*4\r\n:9999999999999999\r\n:0\r\n$0\r\n\r\n:-2\r\n", ""),
    ];
    let upstream = upstream().await;
    // With a password the first command is AUTH, else it is ours.
    for password in [None, Some("only-for-tests-store-password")] {
        for (first, endless) in cases {
            let store = Hostile::start(first, endless).await;
            let proxy = upstream
                .proxy()
                .with(|all| all.token_store = Some(settings(store.address, password, None)))
                .start()
                .await;
            let answer = client().get(proxy.url("/x")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{first:?} {endless:?}");
            let fallbacks = proxy
                .metric(
                    "atlas_auth_proxy_token_store_operations_total",
                    &[("outcome", "fallback")],
                )
                .await;
            assert_eq!(fallbacks, 1.0, "{first:?} {endless:?}");
            assert!(store.connections.load(Ordering::SeqCst) > 0);
            let taken = store.taken.load(Ordering::SeqCst);
            assert!(taken < MOST_TAKEN, "{taken} bytes were taken of {first:?} {endless:?}");
            proxy.app.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_almost_two_gigabytes_takes_no_memory_and_is_warned_of_once() {
    let upstream = upstream().await;
    let store = Hostile::start("$1900000000\r\n", "x").await;
    let folder = tempfile::tempdir().unwrap();
    let program = program(&upstream, folder.path(), "proxy", store.address, &KEY).await;
    let url = format!("http://{}/x", program.address);
    // Two failures: the watch looks again after a rest.
    until("the store was asked twice", || async {
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
        store.connections.load(Ordering::SeqCst) >= 2
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (_, said) = program.stop().await;
    assert!(peak < 100_000, "it took {peak} KiB");
    assert_eq!(said.matches("the shared token store fails").count(), 1, "{said}");
    assert!(
        // Of two steps on the way, one learns why the connection ended, the other that it did.
        said.contains("its answer is longer than any that is asked for") || said.contains("the connection broke"),
        "{said}"
    );
}

/// On a real server, over a real connection: each of our keys is of each other type, and all is well at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_other_types_in_a_real_store_are_replaced_with_one_warning() {
    let Some(redis) = Redis::start().await else { return };
    let upstream = upstream().await;
    let folder = tempfile::tempdir().unwrap();
    let first = program(&upstream, folder.path(), "proxy", redis.address, &KEY).await;
    let get = async |program: &Program| {
        let url = format!("http://{}/x", program.address);
        client().get(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!(get(&first).await, 200);
    let (_, said) = first.stop().await;
    assert!(
        !said.contains("was replaced") && !said.contains("is replaced"),
        "{said}"
    );
    let names: Vec<String> = redis.command(&["KEYS", "*:token"]);
    let name = |what: &str| names[0].replace(":token", what);
    for (made, asked) in [("RPUSH", 2), ("SADD", 3)] {
        for what in [":token", ":lock", ":fence"] {
            let () = redis.command(&["DEL", &name(what)]);
            let () = redis.command(&[made, &name(what), "x"]);
        }
        let next = program(&upstream, folder.path(), "proxy", redis.address, &KEY).await;
        assert_eq!(get(&next).await, 200);
        assert_eq!(upstream.token_requests(), asked);
        let (_, said) = next.stop().await;
        assert_eq!(said.matches("can't be opened and is replaced").count(), 1, "{said}");
        assert_eq!(
            said.matches("was not as replicas leave it, and was replaced").count(),
            1,
            "{said}"
        );
        assert!(!said.contains("the shared token store fails"), "{said}");
        // The one after it takes what this one stored.
        let another = program(&upstream, folder.path(), "proxy", redis.address, &KEY).await;
        assert_eq!(get(&another).await, 200);
        assert_eq!(upstream.token_requests(), asked);
        another.stop().await;
    }
}
