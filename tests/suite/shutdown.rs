//! The end: in flight finishes, new is refused, the exit is clean.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::support::client::{client, read_head, read_to_end};
use crate::support::proxy::{bearer, proxy};
use crate::support::upstream::{Upstream, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_finish_and_new_ones_are_refused() {
    let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&release));
    let upstream = Upstream::start(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.add_permits(1);
            wait.acquire().await.unwrap().forget();
            json(200, r#"{"done":true}"#)
        }
    })
    .await;
    let proxy = proxy(&upstream.base_url(), Some(&upstream.ca_file), bearer())
        .start()
        .await;
    let address = proxy.address;
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let url = proxy.url("/x");
            tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() })
        })
        .collect();
    begun.acquire_many(200).await.unwrap().forget();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let ending = tokio::spawn(proxy.running.shutdown());
    // An idle connection ends at once, and nobody is accepted any more.
    assert_eq!(read_to_end(&mut idle).await, "");
    crate::support::until("nobody is accepted", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(!ending.is_finished());
    release.add_permits(200);
    for call in calls {
        assert_eq!(call.await.unwrap(), r#"{"done":true}"#);
    }
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_finish_in_time_is_broken_off() {
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let upstream = Upstream::start(move |_| {
        tell.notify_one();
        async { std::future::pending().await }
    })
    .await;
    let proxy = proxy(&upstream.base_url(), Some(&upstream.ca_file), bearer())
        .with(|s| s.drain_timeout = Duration::from_millis(100))
        .start()
        .await;
    let url = proxy.url("/x");
    let call = tokio::spawn(async move { client().get(url).send().await });
    begun.notified().await;
    tokio::time::timeout(crate::support::PATIENCE, proxy.running.shutdown())
        .await
        .unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_alive_client_is_told_to_close() {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&release));
    let upstream = Upstream::start(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            json(200, "{}")
        }
    })
    .await;
    let proxy = proxy(&upstream.base_url(), Some(&upstream.ca_file), bearer())
        .start()
        .await;
    let (address, admin) = (proxy.address, proxy.admin);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    begun.notified().await;
    let ending = tokio::spawn(proxy.running.shutdown());
    let url = format!("http://{admin}/readyz");
    crate::support::until("readyz says draining", || async {
        client()
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    release.notify_one();
    assert!(
        read_head(&mut stream)
            .await
            .to_ascii_lowercase()
            .contains("connection: close")
    );
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_when_the_drain_begins_is_served_as_the_last() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = proxy(&upstream.base_url(), Some(&upstream.ca_file), bearer())
        .start()
        .await;
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut resting = TcpStream::connect(proxy.address).await.unwrap();
    let mut new = TcpStream::connect(proxy.address).await.unwrap();
    resting.write_all(get).await.unwrap();
    assert!(read_head(&mut resting).await.starts_with("HTTP/1.1 200 "));
    let address = proxy.address;
    let ending = tokio::spawn(proxy.running.shutdown());
    crate::support::until("nobody is accepted", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    // Both at once: they have half a second.
    for stream in [&mut resting, &mut new] {
        stream.write_all(get).await.unwrap();
    }
    for stream in [&mut resting, &mut new] {
        let rest = read_to_end(stream).await.to_ascii_lowercase();
        assert!(
            rest.contains("http/1.1 200 ") && rest.contains("connection: close"),
            "{rest}"
        );
    }
    ending.await.unwrap();
}
