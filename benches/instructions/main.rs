//! Counts the instructions that the proxy executes per request: unlike times, the figures of two commits can be compared,
//! also when they come from a busy machine. Started by `benches/instructions.sh`.
//!
//! Each scenario runs twice under valgrind, with N and with 2N requests one after the other, so that the difference is
//! N requests and nothing else. The client and the upstream are fixed, and run natively in this process. What the kernel
//! does is not counted, and valgrind shows the proxy a processor without the newest vector instructions.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod client;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use proxy::{Credential, Proxy};
use serde_json::json;
use upstream::Upstream;

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
    requests: usize,
    only: String,
    save: Option<PathBuf>,
    compare: Option<PathBuf>,
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let old = arguments.compare.as_ref().map(|file| {
        let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice::<BTreeMap<String, u64>>(&text).expect("figures that --save wrote")
    });
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
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| scenario.name.contains(&arguments.only))
    {
        let once = run(scenario, arguments.requests, &upstream, &arguments).await;
        let twice = run(scenario, 2 * arguments.requests, &upstream, &arguments).await;
        let each = twice.saturating_sub(once) / arguments.requests as u64;
        match old.as_ref().map(|old| old.get(scenario.name)) {
            None => println!("| {} | {} |", scenario.name, grouped(each)),
            Some(None) => println!("| {} | | {} | |", scenario.name, grouped(each)),
            Some(Some(&old)) => {
                let change = (each as f64 / old as f64 - 1.0) * 100.0;
                println!(
                    "| {} | {} | {} | {change:+.1} % |",
                    scenario.name,
                    grouped(old),
                    grouped(each)
                );
            }
        }
        figures.insert(scenario.name, each);
    }
    if let Some(file) = &arguments.save {
        let text = serde_json::to_string_pretty(&json!(figures)).unwrap();
        std::fs::write(file, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    ExitCode::SUCCESS
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
        requests: 500,
        only: String::new(),
        save: None,
        compare: None,
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
                arguments.requests = value.parse().map_err(|_| format!("`{value}` is no number"))?;
            }
            "--only" => arguments.only = value,
            "--save" => arguments.save = Some(value.into()),
            "--compare" => arguments.compare = Some(value.into()),
            "--keep" => arguments.keep = Some(value.into()),
            _ => return Err(format!("`{flag}` is not known; benches/instructions.sh says what is")),
        }
    }
    if arguments.proxy.as_os_str().is_empty() || arguments.requests == 0 {
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
