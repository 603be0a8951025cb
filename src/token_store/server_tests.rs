//! The scripts on a real server, `valkey-server` or `redis-server` (Debian packages of these names). Where there is none
//! the test says so and ends; with `CI` set, that is a failure.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::{Child, Command, Stdio};

use super::super::keys::Subject;
use super::super::{SealKey, TokenStoreSettings};
use super::*;
use crate::metrics::Metrics;

struct Server {
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
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // Below the ports of outgoing connections, which come and go.
        let first = 31_000 + u16::try_from(std::process::id() % 1_500).unwrap();
        let port = (first..)
            .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .unwrap();
        for name in ["valkey-server", "redis-server"] {
            let child = Command::new(name)
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
                .spawn();
            if let Ok(child) = child {
                return Some(Self {
                    child,
                    port,
                    _folder: folder,
                });
            }
        }
        assert!(std::env::var_os("CI").is_none(), "no redis-server: .ci/run installs it");
        eprintln!("skipped: neither valkey-server nor redis-server is installed");
        None
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
        RedisStore::new(settings, Metrics::new().token_store_up()).unwrap()
    }
}

async fn connected(server: &Server) -> Arc<RedisStore> {
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

fn put<'a>(fence: u64, value: &'a str, unreadable: Option<&'a [u8]>) -> Put<'a> {
    Put {
        fence,
        value,
        life: Duration::from_secs(60),
        unreadable,
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

    // One lock, and fences that rise whoever has it.
    assert_eq!(store.lock(&keys, "a", 0).await.unwrap(), Some(1));
    assert_eq!(store.lock(&keys, "b", 0).await.unwrap(), None);
    assert_eq!(store.fence(&keys, 0).await.unwrap(), 2);
    store.release(&keys, "b", Duration::ZERO).await.unwrap();
    assert_eq!(
        store.lock(&keys, "b", 0).await.unwrap(),
        None,
        "it was not b's to give back"
    );
    store.release(&keys, "a", Duration::ZERO).await.unwrap();
    assert_eq!(
        store.lock(&keys, "b", 40).await.unwrap(),
        Some(41),
        "above what was seen"
    );
    store.release(&keys, "b", Duration::from_secs(9)).await.unwrap();
    assert_eq!(store.lock(&keys, "a", 0).await.unwrap(), None, "it stands for a while");
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
    store.lock(&keys, "c", 0).await.unwrap();
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

    // What could not be opened gives way, if it still is what lies there.
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
    assert_eq!(store.fence(&keys, 7).await.unwrap(), 8);
    raw(&["SET", &keys.fence, "999999999999999"]).await;
    assert!(store.fence(&keys, 7).await.is_err());
    assert_eq!(store.fence(&keys, 8).await.unwrap(), 9, "it starts over");

    // It survives the loss of everything.
    raw(&["FLUSHALL"]).await;
    assert_eq!(store.lock(&keys, "d", 9).await.unwrap(), Some(10));
}
