//! Everything together: three gateways in network namespaces of their own, a token store, a plain TCP balancer, twelve leaves,
//! eight callers on two accounts, constant traffic; and while it goes on, everything that may happen to them, happens.
//! `cargo test --release --test whole -- MINUTES`; without a number a short form of about a minute, which `.ci/run` runs.
//!
//! Needs root, `ip`, and `redis-server` or `valkey-server`. Ends with 1, and says what was wrong, when a client got an answer
//! that nothing explains, an account had too many tokens, a caller left its rules or its share, the audit logs don't say what
//! the emulator saw, or anything of Atlas was found in a leaf.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)]

mod balancer;
mod events;
mod fleet;
mod identity;
#[path = "../suite/support/issuer.rs"]
#[allow(dead_code, reason = "of the suite, which uses all of it")]
mod issuer;
#[path = "../suite/support/needs.rs"]
mod needs;
mod place;
mod program;
mod records;
mod report;
mod secrets;
#[path = "../suite/support/tls.rs"]
#[allow(dead_code, reason = "of the suite, which uses all of it")]
mod tls;
mod traffic;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use balancer::Balancer;
use events::{Event, Stage, Windows};
use fleet::{ACCOUNTS, DIRECT_SECRET, Fleet, PROJECT};
use identity::Authorities;
use place::{CENTRE, GATEWAYS, Place, Store};
use program::until;
use report::{LiveTokens, Report};
use traffic::Traffic;

/// All of it starts within this time; the first tokens are asked for early in it.
const START: Duration = Duration::from_secs(8);
/// A token counts as two seconds shorter than it is: without this the first renewal comes just before the store stops where
/// the gateways are up quickly, and a token that not all have taken is lost with it.
const COUNTED_SHORTER: Duration = Duration::from_secs(3);
/// Without a number of minutes.
const SHORT: Duration = Duration::from_secs(75);

fn main() -> ExitCode {
    if !place::enter() {
        return ExitCode::SUCCESS;
    }
    let time = match std::env::args().nth(1) {
        Some(text) => Duration::from_secs_f64(60.0 * text.parse::<f64>().expect("the argument is a number of minutes")),
        None => SHORT,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        // What was started ends with what this drops.
        tokio::select! {
            code = whole(time) => code,
            _ = terminate.recv() => ExitCode::FAILURE,
            _ = interrupt.recv() => ExitCode::FAILURE,
        }
    })
}

async fn whole(time: Duration) -> ExitCode {
    let place = Place::new();
    let emulator = Emulator::start(EmulatorSettings {
        service_accounts: ACCOUNTS
            .iter()
            .map(|one| (one.id.to_owned(), one.secret.to_owned()))
            .collect(),
        // So that renewal, after 75 to 85 % of it, falls into the time without a store, and the end of that before the gateways
        // would ask for tokens of their own.
        token_life: (START + time * Event::STORE_STOPS / 100).mul_f64(1.0 / 0.75) + COUNTED_SHORTER,
        // The least that Atlas was ever said to grant.
        tokens_per_minute: 10,
        requests_per_minute: 10_000_000,
        address: CENTRE.parse().unwrap(),
        record: true,
        ..EmulatorSettings::default()
    })
    .await
    .unwrap();
    let emulator = Arc::new(emulator);
    let starts = Instant::now();
    let authorities = Authorities::start().await;
    let store = Store::start(&place);
    for account in &ACCOUNTS {
        store.settle(&emulator.base_url(), account.id);
    }
    let balancer = Balancer::start([ACCOUNTS[0].port, ACCOUNTS[1].port]).await;
    let fleet = Fleet::start(&place, &emulator, &authorities);
    let mut report = Report::default();
    for n in 0..GATEWAYS {
        if let Err(never) = until("a gateway is ready", async || balancer.is_ready(n)).await {
            report.wrong(format!(
                "gateway-{n}: {never}: see its log:\n{}",
                log_of(&fleet.gateways[n])
            ));
            report.print();
            return ExitCode::FAILURE;
        }
    }
    for leaf in &fleet.leaves {
        let address = format!("127.0.0.1:{}", leaf.admin);
        let ready = async || {
            let answer = program::get(&address, "/readyz").await;
            answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
        };
        if let Err(never) = until("a leaf is ready", ready).await {
            report.wrong(format!("{}: {never}:\n{}", leaf.program.name, log_of(&leaf.program)));
        }
    }

    tokio::time::sleep_until((starts + START).into()).await;
    let traffic = Arc::new(Traffic::new(DIRECT_SECRET, &authorities));
    let clients: Vec<_> = fleet
        .clients
        .iter()
        .map(|client| tokio::spawn(client.clone().run(Arc::clone(&traffic), PROJECT)))
        .collect();
    let samples = Arc::new(Mutex::new(Vec::new()));
    let sampler = tokio::spawn(sample(Arc::clone(&emulator), Arc::clone(&samples)));
    let begun = Instant::now();
    println!(
        "{GATEWAYS} gateways, {} leaves, {} clients, {:.0} s",
        fleet.leaves.len(),
        clients.len(),
        time.as_secs_f64()
    );

    let mut stage = Stage {
        fleet,
        store,
        authorities,
        balancer: &balancer,
        emulator: &emulator,
        traffic: &traffic,
        windows: Windows::default(),
    };
    for (at, event) in Event::SCHEDULE {
        let due = begun + time * at / 100;
        tokio::time::sleep_until(due.into()).await;
        let from = begun.elapsed().as_secs_f64();
        let played = stage.play(event, time).await;
        println!(
            "{from:6.1} to {:5.1} s  {event:?}, {} requests so far",
            begun.elapsed().as_secs_f64(),
            traffic.done.lock().len()
        );
        if let Err(why) = played {
            report.wrong(format!("{event:?}: {why}"));
        }
        if matches!(event, Event::Kill) {
            secrets::examine(
                &stage.fleet,
                &emulator.record(),
                &format!("after {event:?}"),
                &mut report,
            );
        }
    }
    tokio::time::sleep_until((begun + time).into()).await;
    traffic.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let Stage { mut fleet, windows, .. } = stage;
    secrets::examine(&fleet, &emulator.record(), "at the end", &mut report);
    sampler.abort();
    for program in fleet
        .gateways
        .iter_mut()
        .chain(fleet.leaves.iter_mut().map(|leaf| &mut leaf.program))
    {
        program.signal(Signal::TERM);
        let ended = program.ended().await;
        report.check(ended.and_then(|status| status.code()) == Some(0), || {
            format!("{} ended with {ended:?}", program.name)
        });
    }

    let (record, done) = (emulator.record(), traffic.done.lock());
    report::requests(&done, &windows, begun, &mut report);
    report::tokens(&samples.lock(), &record, &windows, begun, &mut report);
    records::examine(&fleet, &record, &done, &mut report);
    if report.print() {
        println!("all as it should be");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Which tokens live, as often as that changes.
async fn sample(emulator: Arc<Emulator>, samples: Arc<Mutex<Vec<LiveTokens>>>) {
    let mut last: [Vec<String>; 2] = Default::default();
    loop {
        for (n, account) in ACCOUNTS.iter().enumerate() {
            let mut tokens = emulator.live_tokens_of(account.id);
            tokens.sort_unstable();
            if tokens != last[n] {
                last[n].clone_from(&tokens);
                samples.lock().push(LiveTokens {
                    at: Instant::now(),
                    account: n,
                    tokens,
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn log_of(program: &program::Program) -> String {
    std::fs::read_to_string(program.file("log")).unwrap_or_default()
}
