//! What the proxy costs, and how long its answers take, at a rate that is given: with an audit log (`audit`), and beside
//! neighbours that misbehave (`neighbours`). `cargo bench --bench load -- audit`, `… -- neighbours`.
//!
//! The proxy is a process of its own; clients and upstream are in this one, each on a thread of its own so that none waits for
//! another's tasks. Rates are kept whatever the answers take (open loop).
//! `PROXY=FILE` measures another binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod client;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::Instant;

use client::{Flood, Load, STUCK_POST, flood, stuck};
use proxy::Proxy;
use upstream::Upstream;

/// Changes a second.
const RATE: u32 = 5000;
const FOR: Duration = Duration::from_secs(8);
/// Requests a second of the caller whose answers are timed beside others.
const MODEST: u32 = 100;
/// Before each measurement.
const SETTLE: Duration = Duration::from_secs(2);
/// Each is measured so many times, in turn with the others.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|one| one == what);
    if wants("audit") {
        audit().await;
    }
    if wants("neighbours") {
        neighbours().await;
    }
}

/// Runs it on a thread of its own.
fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _ = done.send(runtime.block_on(work));
    });
    result
}

async fn audit() {
    let upstream = Upstream::start(Duration::ZERO).await;
    println!(
        "{RATE} changes a second for {} s, 64 connections, median of {ROUNDS}:",
        FOR.as_secs()
    );
    let kinds = [
        ("without", ""),
        (
            "json, hashed",
            "[audit]\nfile = \"audit.jsonl\"\nchain_key_file = \"key\"\n",
        ),
        ("json, not hashed", "[audit]\nfile = \"audit.jsonl\"\n"),
        (
            "ocsf, hashed",
            "[audit]\nfile = \"audit.jsonl\"\nchain_key_file = \"key\"\nformat = \"ocsf\"\n",
        ),
    ];
    let mut results: [Vec<_>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (result, (_, config)) in results.iter_mut().zip(kinds) {
            let proxy = Proxy::start(config, &upstream).await;
            let load = Load::post(proxy.address, 64, RATE)
                .measured(Duration::from_secs(1))
                .await;
            drop(load);
            let before = proxy.processor_time();
            let latencies = on_a_thread(Load::post(proxy.address, 64, RATE).measured(FOR))
                .await
                .unwrap();
            let used = proxy.processor_time() - before;
            let each = used.as_secs_f64() * 1e6 / latencies.count() as f64;
            result.push((each, latencies));
        }
    }
    println!("| audit | processor time a change | p50 | p99 | failed |\n|---|--:|--:|--:|--:|");
    for (mut result, (name, _)) in results.into_iter().zip(kinds) {
        result.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (each, latencies) = &result[ROUNDS / 2];
        println!(
            "| {name} | {each:.1} us | {:.2} ms | {:.2} ms | {} |",
            latencies.at(0.5),
            latencies.at(0.99),
            latencies.failed()
        );
    }
}

/// How others misbehave.
#[derive(Clone, Copy)]
enum Misbehaviour {
    Greedy,
    Stuck,
    Hanging,
}

impl Misbehaviour {
    const ALL: [(Self, &str); 3] = [
        (Self::Greedy, "a caller with 1500 requests at once"),
        (Self::Stuck, "1500 clients that send half of a body"),
        (
            Self::Hanging,
            "an account whose Atlas does not answer, 1000 requests at once",
        ),
    ];

    /// Goes on until what is returned is dropped.
    async fn begin(self, proxy: &Proxy) -> Others {
        match self {
            Self::Greedy => Others::Flood(flood(proxy.address, "greedy", 1500)),
            Self::Stuck => Others::Stuck(stuck(proxy.address, STUCK_POST, 1500).await),
            Self::Hanging => Others::Flood(flood(proxy.broken, "modest", 1000)),
        }
    }
}

/// Those who misbehave.
enum Others {
    Flood(Flood),
    Stuck(Vec<TcpStream>),
}

impl Others {
    fn answered(&self) -> usize {
        match self {
            Self::Flood(flood) => flood.answered(),
            // Nobody answers a half.
            Self::Stuck(_connections) => 0,
        }
    }
}

/// What is measured of one caller beside others.
#[derive(Default)]
struct Beside {
    /// Its p99, in milliseconds.
    p99: Vec<f64>,
    /// Answers to the others, a second.
    others: Vec<f64>,
}

/// The p99 of a modest caller alone, beside another that uses another process, and beside one that uses the same.
async fn neighbours() {
    const ATLAS: Duration = Duration::from_millis(20);
    let upstream = Upstream::start(ATLAS).await;
    println!(
        "one caller with {MODEST} requests a second, Atlas answers after {} ms; its p99 alone, beside others that use a proxy of \
         their own on this machine, and beside them at the same proxy; median of {ROUNDS}:",
        ATLAS.as_millis()
    );
    let mut results: [[Beside; 3]; 3] = Default::default();
    for _ in 0..ROUNDS {
        let proxy = Proxy::start(proxy::CALLERS, &upstream).await;
        let other = Proxy::start(proxy::CALLERS, &upstream).await;
        let modest = || async {
            // What was before has ended, or is under way.
            tokio::time::sleep(SETTLE).await;
            let load = Load::get(proxy.address, "modest", MODEST).measured(FOR / 2);
            let answers = on_a_thread(load).await.unwrap();
            assert_eq!(answers.failed(), 0, "its requests fail");
            answers.at(0.99)
        };
        for ((what, _), [alone, apart, beside]) in Misbehaviour::ALL.into_iter().zip(&mut results) {
            alone.p99.push(modest().await);
            for (proxy, measured) in [(&other, apart), (&proxy, beside)] {
                let others = what.begin(proxy).await;
                let began = Instant::now();
                measured.p99.push(modest().await);
                measured
                    .others
                    .push(others.answered() as f64 / began.elapsed().as_secs_f64());
                drop(others);
            }
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(ROUNDS / 2).copied().unwrap_or_default()
    };
    println!(
        "| beside | alone | apart | beside | beside / apart | answers a second to the others, apart | beside |\n\
         |---|--:|--:|--:|--:|--:|--:|"
    );
    for ([mut alone, mut apart, mut beside], (_, name)) in results.into_iter().zip(Misbehaviour::ALL) {
        let [alone, others_apart, others_beside] = [&mut alone.p99, &mut apart.others, &mut beside.others].map(median);
        let [apart, beside] = [&mut apart.p99, &mut beside.p99].map(median);
        println!(
            "| {name} | {alone:.1} ms | {apart:.1} ms | {beside:.1} ms | {:.2} | {others_apart:.0} | {others_beside:.0} |",
            beside / apart
        );
    }
}
