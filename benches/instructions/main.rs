//! Counts the instructions that the proxy executes per request: unlike times, the figures of two commits can be compared,
//! also when they come from a busy machine. Started by `benches/instructions.sh`.
//!
//! Each scenario runs twice under valgrind, with N and with 2N requests one after the other, so that the difference is
//! N requests and nothing else. The client and the upstream are fixed, and run natively in this process. What the kernel
//! does is not counted, and valgrind shows the proxy a processor without the newest vector instructions.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod baseline;
mod client;
mod here;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use baseline::{Baseline, TOLERANCE, change, losses};
use proxy::{Credential, Proxy};
use upstream::Upstream;

/// What `--check` ends with where figures can't be compared with the baseline's: neither better nor worse.
const NOT_COMPARABLE: u8 = 3;

/// What `--bless` measures: few, so that CI can afford them.
const BLESSED: [&str; 4] = [
    "GET 1 KiB JSON, Bearer, h1",
    "GET 1 KiB JSON, Bearer, h1, requests logged",
    "GET 1 KiB JSON, Digest, h1",
    "GET 100 KiB JSON, links rewritten, h1",
];

/// What seems worse is measured so often: a busy machine has bad moments, a worse program has no good one.
const TRIES: usize = 3;

/// Sent before anything is compared: connections, token, nonce and caches are there afterwards.
const WARM_UP: usize = 20;

struct Scenario {
    name: &'static str,
    credential: Credential,
    upstream_http: &'static str,
    log_level: &'static str,
    path: &'static str,
}

const fn scenario(name: &'static str, upstream_http: &'static str, path: &'static str) -> Scenario {
    Scenario {
        name,
        credential: Credential::Bearer,
        upstream_http,
        log_level: "warn",
        path,
    }
}

const SCENARIOS: &[Scenario] = &[
    scenario("GET 1 KiB JSON, Bearer, h1", "1", upstream::SMALL),
    scenario("GET 1 KiB JSON, Bearer, h2", "2", upstream::SMALL),
    Scenario {
        credential: Credential::Digest,
        ..scenario("GET 1 KiB JSON, Digest, h1", "1", upstream::SMALL)
    },
    Scenario {
        log_level: "info",
        ..scenario("GET 1 KiB JSON, Bearer, h1, requests logged", "1", upstream::SMALL)
    },
    scenario("GET 100 KiB JSON, links rewritten, h1", "1", upstream::LARGE),
    scenario("GET 100 KiB JSON, links rewritten, h2", "2", upstream::LARGE),
    scenario("GET 100 KiB gzip log, h1", "1", upstream::LOG),
];

struct Arguments {
    proxy: PathBuf,
    requests: Option<usize>,
    only: String,
    save: Option<PathBuf>,
    compare: Option<PathBuf>,
    check: Option<PathBuf>,
    fits: Option<PathBuf>,
    bless: Option<PathBuf>,
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == here::SHOWN) {
        println!("{}", here::shown().join(" "));
        return ExitCode::SUCCESS;
    }
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let here = here::made_with();
    let old = [&arguments.compare, &arguments.check, &arguments.fits]
        .into_iter()
        .flatten()
        .next();
    let old = old.map(|file| {
        let mut old = read(file);
        old.instructions
            .retain(|scenario, _| scenario.contains(&arguments.only));
        old
    });
    let differs = match (&old, &here) {
        (None, _) => None,
        (Some(old), Ok(here)) => old.made_with.differs_from(here),
        (Some(_), Err(missing)) => Some(missing.clone()),
    };
    if let Some(why) = &differs {
        println!("figures can't be compared with the baseline's: {why}");
        if arguments.compare.is_none() {
            return ExitCode::from(NOT_COMPARABLE);
        }
    }
    if arguments.fits.is_some() {
        return ExitCode::SUCCESS;
    }
    let requests = match &old {
        Some(old) if arguments.check.is_some() => old.requests,
        _ => arguments.requests.unwrap_or(500),
    };
    let figures = measure(&arguments, requests, old.as_ref()).await;
    if let Some(file) = arguments.save.as_ref().or(arguments.bless.as_ref()) {
        let made_with = here.unwrap_or_else(|missing| panic!("{missing}"));
        let text = serde_json::to_string_pretty(&Baseline {
            made_with,
            requests,
            instructions: figures.clone(),
        });
        std::fs::write(file, text.unwrap() + "\n").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let (Some(file), Some(old)) = (&arguments.check, &old) else {
        return ExitCode::SUCCESS;
    };
    let losses = losses(&old.instructions, &figures);
    if losses.is_empty() {
        return ExitCode::SUCCESS;
    }
    for loss in losses {
        eprintln!("worse: {loss}");
    }
    eprintln!(
        "Where that is the price of something: benches/instructions.sh --bless {} makes these the figures to compare with.",
        file.display()
    );
    ExitCode::FAILURE
}

/// A file that [`Baseline`] was written to.
fn read(file: &Path) -> Baseline {
    let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text)
        .unwrap_or_else(|error| panic!("{}: no figures that this version wrote: {error}", file.display()))
}

/// Measures scenarios and prints their table.
async fn measure(arguments: &Arguments, requests: usize, old: Option<&Baseline>) -> BTreeMap<String, u64> {
    let wanted = |scenario: &&Scenario| {
        let in_ci = match old {
            Some(old) if arguments.check.is_some() => old.instructions.contains_key(scenario.name),
            _ => arguments.bless.is_none() || BLESSED.contains(&scenario.name),
        };
        in_ci && scenario.name.contains(&arguments.only)
    };
    let upstream = Upstream::start().await;
    let mut figures = BTreeMap::new();
    println!(
        "| instructions per request | {}",
        if old.is_some() {
            "before | now | change |"
        } else {
            "now |"
        }
    );
    println!("|---|--:|{}", if old.is_some() { "--:|--:|" } else { "" });
    for scenario in SCENARIOS.iter().filter(wanted) {
        let before = old.map(|old| old.instructions.get(scenario.name));
        let mut each = measured(scenario, requests, &upstream, arguments).await;
        if let (Some(_), Some(Some(&before))) = (&arguments.check, before) {
            for _ in 1..TRIES {
                if change(before, each) > TOLERANCE {
                    each = each.min(measured(scenario, requests, &upstream, arguments).await);
                }
            }
        }
        match before {
            None => println!("| {} | {} |", scenario.name, grouped(each)),
            Some(None) => println!("| {} | | {} | |", scenario.name, grouped(each)),
            Some(Some(&old)) => println!(
                "| {} | {} | {} | {:+.1} % |",
                scenario.name,
                grouped(old),
                grouped(each),
                change(old, each)
            ),
        }
        figures.insert(scenario.name.to_owned(), each);
    }
    figures
}

/// Instructions of a request.
async fn measured(scenario: &Scenario, requests: usize, upstream: &Upstream, arguments: &Arguments) -> u64 {
    let once = run(scenario, requests, upstream, arguments).await;
    let twice = run(scenario, 2 * requests, upstream, arguments).await;
    twice.saturating_sub(once) / requests as u64
}

/// Instructions of a whole run with so many requests behind the warm-up.
async fn run(scenario: &Scenario, requests: usize, upstream: &Upstream, arguments: &Arguments) -> u64 {
    let proxy = Proxy::start(&arguments.proxy, scenario, upstream).await;
    let mut client = proxy.connect().await;
    let expected = upstream.length_of_answer(scenario.path, client::ORIGIN);
    client.first(scenario.path).await;
    for _ in 0..WARM_UP + requests {
        let length = client.get(scenario.path).await;
        assert_eq!(length, expected, "{}: the answer has another length", scenario.name);
    }
    drop(client);
    let (instructions, profile) = proxy.end().await;
    if let Some(folder) = &arguments.keep {
        let name: String = scenario
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::copy(profile.path(), folder.join(format!("callgrind.{name}.{requests}"))).unwrap();
    }
    instructions
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        proxy: PathBuf::new(),
        requests: None,
        only: String::new(),
        save: None,
        compare: None,
        check: None,
        fits: None,
        bless: None,
        keep: None,
    };
    while let Some(flag) = given.next() {
        // What `cargo bench` adds by itself.
        if flag == "--bench" {
            continue;
        }
        let value = given.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
        match flag.as_str() {
            "--proxy" => arguments.proxy = value.into(),
            "--requests" => {
                let requests = value.parse::<NonZero<usize>>();
                arguments.requests = Some(
                    requests
                        .map_err(|_| format!("`{value}` is no number of requests"))?
                        .get(),
                );
            }
            "--only" => arguments.only = value,
            "--save" => arguments.save = Some(value.into()),
            "--compare" => arguments.compare = Some(value.into()),
            "--check" => arguments.check = Some(value.into()),
            "--fits" => arguments.fits = Some(value.into()),
            "--bless" => arguments.bless = Some(value.into()),
            "--keep" => arguments.keep = Some(value.into()),
            _ => return Err(format!("`{flag}` is not known; benches/instructions.sh says what is")),
        }
    }
    if arguments.proxy.as_os_str().is_empty() && arguments.fits.is_none() {
        return Err("start benches/instructions.sh".to_owned());
    }
    Ok(arguments)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
