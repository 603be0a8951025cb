//! How connections and streams of HTTP/2 end at the upstream, frame by frame.

use std::sync::Arc;

use atlas_auth_proxy::upstream::HttpVersion;
use tokio::sync::Semaphore;

use crate::support::client::client;
use crate::support::proxy::{Proxy, bearer, proxy};
use crate::support::raw_h2::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, OK, RST_STREAM, RawH2, frame};
use crate::support::until;

async fn before(upstream: &RawH2) -> Proxy {
    proxy(&upstream.base_url(), None, bearer())
        .upstream(|upstream| upstream.http = HttpVersion::Http2)
        .start()
        .await
}

fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

async fn answer_all(mut frames: Frames) {
    while let Some(stream) = frames.request().await {
        frames.answer(stream, b"ok").await;
    }
}

async fn post(proxy: &Proxy) -> tokio::task::JoinHandle<u16> {
    let call = client().post(proxy.url("/x")).body("content").send();
    tokio::spawn(async move { call.await.unwrap().status().as_u16() })
}

/// What may still be open when the first connection ends, and how that ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// A `GOAWAY` that lets the open stream end.
    Graceful,
    /// Nothing is said.
    Eof,
}

/// One request has the only stream, and others wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_processed_when_a_connection_of_http2_ends_goes_once_more() {
    const WAITING: usize = 10;
    for end in [End::Graceful, End::Eof] {
        let (held, ends) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (says_held, awaits_end) = (Arc::clone(&held), Arc::clone(&ends));
        let upstream = RawH2::start(
            |nth| if nth == 0 { 1 } else { 100 },
            move |nth, mut frames| {
                let (held, ends) = (Arc::clone(&says_held), Arc::clone(&awaits_end));
                async move {
                    if nth > 0 {
                        return answer_all(frames).await;
                    }
                    let stream = frames.request().await.unwrap();
                    held.add_permits(1);
                    ends.acquire().await.unwrap().forget();
                    if end == End::Graceful {
                        frames.send(&[goaway(u32::MAX >> 1)]).await;
                        frames.answer(stream, b"ok").await;
                        while frames.next().await.is_some() {}
                    }
                }
            },
        )
        .await;
        let proxy = before(&upstream).await;
        let first = post(&proxy).await;
        held.acquire().await.unwrap().forget();
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            waiting.push(post(&proxy).await);
        }
        until("all have been sent", || async {
            let sent = proxy.metric("atlas_auth_proxy_upstream_attempts_total", &[]).await;
            sent == (WAITING + 1) as f64
        })
        .await;
        ends.add_permits(1);
        let expected = if end == End::Graceful { 200 } else { 502 };
        assert_eq!(first.await.unwrap(), expected, "it may have been processed");
        for call in waiting {
            assert_eq!(call.await.unwrap(), 200);
        }
        assert_eq!(upstream.requests(), WAITING + 1, "each of them went once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_above_the_last_of_a_goaway_go_once_more() {
    let upstream = RawH2::start(
        |_| 100,
        |nth, mut frames| async move {
            if nth > 0 {
                return answer_all(frames).await;
            }
            let mut first = u32::MAX;
            for _ in 0..3 {
                first = first.min(frames.request().await.unwrap());
            }
            frames.send(&[goaway(first)]).await;
            frames.answer(first, b"ok").await;
            while frames.next().await.is_some() {}
        },
    )
    .await;
    let proxy = before(&upstream).await;
    let calls = [post(&proxy).await, post(&proxy).await, post(&proxy).await];
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(upstream.requests(), 5);
    let cause = [("cause", "not_processed")];
    let again = proxy.metric("atlas_auth_proxy_upstream_attempts_total", &cause).await;
    assert_eq!(again, 2.0);
}

/// RFC 9113 section 8.1: a server that needs no more of a request may answer, and then have it stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_before_the_end_of_its_request_stays_whole() {
    const BODY: [u8; 10_000] = [b'x'; 10_000];
    let upstream = RawH2::start(
        |_| 100,
        |_, mut frames| async move {
            while let Some(came) = frames.next().await {
                if came.kind == HEADERS {
                    let stream = came.stream;
                    frames
                        .send(&[
                            frame(HEADERS, END_HEADERS, stream, OK),
                            frame(DATA, END_STREAM, stream, &BODY),
                            frame(RST_STREAM, 0, stream, &[0; 4]),
                        ])
                        .await;
                }
            }
        },
    )
    .await;
    let proxy = before(&upstream).await;
    for _ in 0..20 {
        // More than the window of a stream.
        let call = client().post(proxy.url("/x")).body(vec![b'y'; 200_000]);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap(), BODY[..]);
    }
    assert_eq!(upstream.requests(), 0, "none was sent whole");
}
