//! What the proxy costs, and how long its answers take, at a rate that is given: with an audit log (`audit`), and beside
//! neighbours that misbehave (`neighbours`). `cargo bench --bench load -- audit`, `… -- neighbours`.
//!
//! The proxy is a process of its own; client and upstream are in this one. Rates are kept whatever the answers take (open loop).
//! `PROXY=FILE` measures another binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod client;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::time::Duration;

use client::{Latencies, Load, STUCK_POST, stuck};
use proxy::Proxy;
use upstream::Upstream;

/// Changes a second.
const RATE: u32 = 5000;
const FOR: Duration = Duration::from_secs(8);
/// Requests a second of the caller whose answers are timed beside others.
const MODEST: u32 = 100;
/// Each is measured so many times, in turn with the others.
const ROUNDS: usize = 3;

#[tokio::main]
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
            let latencies = Load::post(proxy.address, 64, RATE).measured(FOR).await;
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

async fn neighbours() {
    const ATLAS: Duration = Duration::from_millis(20);
    let upstream = Upstream::start(ATLAS).await;
    println!(
        "one caller with {MODEST} requests a second, Atlas answers after {} ms; its p99 beside others by that alone, median of {ROUNDS}:",
        ATLAS.as_millis()
    );
    let mut results: Vec<Vec<Vec<f64>>> = vec![vec![Vec::new(); 2]; 3];
    for _ in 0..ROUNDS {
        let proxy = Proxy::start(proxy::CALLERS, &upstream).await;
        let modest = || async { Load::get(proxy.address, "modest", MODEST).measured(FOR / 2).await };
        let with = |result: &mut Vec<Vec<f64>>, alone: &Latencies, beside: &Latencies| {
            assert_eq!((alone.failed(), beside.failed()), (0, 0), "its requests fail");
            result[0].push(alone.at(0.99));
            result[1].push(beside.at(0.99));
        };
        let alone = modest().await;
        // As many as it may have, all the time.
        let greedy = Load::flood(proxy.address, "greedy", 1500);
        let beside = modest().await;
        drop(greedy);
        with(&mut results[0], &alone, &beside);
        let alone = modest().await;
        let held = stuck(proxy.address, STUCK_POST, 1500).await;
        let beside = modest().await;
        drop(held);
        with(&mut results[1], &alone, &beside);
        let alone = modest().await;
        let broken = Load::flood(proxy.broken, "modest", 1000);
        let beside = modest().await;
        drop(broken);
        with(&mut results[2], &alone, &beside);
    }
    println!("| beside | p99 alone | p99 | times |\n|---|--:|--:|--:|");
    for (result, name) in results.iter_mut().zip([
        "a caller with 1500 requests at once",
        "1500 clients that send half of a body",
        "an account whose Atlas does not answer, 1000 requests at once",
    ]) {
        result.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let (alone, beside) = (result[0][ROUNDS / 2], result[1][ROUNDS / 2]);
        println!("| {name} | {alone:.1} ms | {beside:.1} ms | {:.2} |", beside / alone);
    }
}
