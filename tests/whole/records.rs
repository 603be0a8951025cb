//! What the audit logs say, compared with what the emulator saw and what clients were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use atlas_auth_proxy::emulator::Record;
use serde_json::Value;

use crate::events::KILLED;
use crate::fleet::{Fleet, GREEDY_SHARE};
use crate::program::{PROGRAM, Program};
use crate::report::Report;
use crate::traffic::{Done, Got, Want};

/// A change in the log of a gateway.
struct Change {
    gateway: usize,
    chain: String,
    caller: String,
    begun: jiff::Timestamp,
    /// When it ended, and Atlas's status; `None`: there is no such line.
    end: Option<(jiff::Timestamp, u64)>,
}

/// What stands in the path in place of a database's name.
fn marker(path: &str) -> Option<&str> {
    path.split_once("/databaseUsers/")?.1.split('/').next()
}

pub fn examine(fleet: &Fleet, record: &Record, done: &[Done], report: &mut Report) {
    let mut changes: HashMap<String, Vec<Change>> = HashMap::new();
    let mut open_chains: Vec<BTreeSet<String>> = Vec::new();
    for (n, gateway) in fleet.gateways.iter().enumerate() {
        verify(gateway, report);
        open_chains.push(read(n, gateway, &mut changes, report));
    }
    // Only the killed process could not close its chain.
    for (n, open) in open_chains.iter().enumerate() {
        let expected = usize::from(n == KILLED);
        report.check(open.len() == expected, || {
            format!("gateway-{n}: {} chains have no `close`, and not {expected}", open.len())
        });
    }

    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for request in &record.requests {
        if request.method != "GET" {
            match marker(&request.path) {
                Some(marker) => *seen.entry(marker).or_default() += 1,
                None => report.wrong(format!("the emulator saw {} {}", request.method, request.path)),
            }
        }
    }
    report.figure("changes that the emulator saw", seen.len());
    for (marker, times) in &seen {
        let begun = changes.get(*marker).map_or(0, Vec::len);
        report.check(*times == 1 && begun == 1, || {
            format!("change {marker}: the emulator saw it {times} times, and there are {begun} `begin` lines")
        });
    }
    let all = || {
        changes
            .iter()
            .flat_map(|(marker, changes)| changes.iter().map(move |change| (marker, change)))
    };
    report.figure("`begin` lines", all().count());
    report.figure(
        "… of changes that did not reach it",
        all().filter(|(marker, _)| !seen.contains_key(marker.as_str())).count(),
    );
    let open: Vec<_> = all().filter(|(_, change)| change.end.is_none()).collect();
    report.figure("… without `end`", open.len());
    for (marker, change) in open {
        let killed = change.gateway == KILLED && open_chains[KILLED].contains(&change.chain);
        report.check(killed, || {
            format!(
                "change {marker} of {} has no `end` at gateway-{}",
                change.caller, change.gateway
            )
        });
    }
    for one in done.iter().filter(|one| one.want == Want::Change) {
        if matches!(one.got, Got::Answer { status: 200, .. }) {
            let ended = changes.get(&one.marker).is_some_and(|changes| {
                changes
                    .iter()
                    .any(|change| change.caller == one.caller && change.end.is_some_and(|end| end.1 == 200))
            });
            report.check(ended && seen.contains_key(one.marker.as_str()), || {
                format!(
                    "change {} was answered with 200 to {}, and is not recorded so",
                    one.marker, one.caller
                )
            });
        }
    }
    for one in done.iter().filter(|one| one.want == Want::Forbidden) {
        report.check(!seen.contains_key(one.marker.as_str()), || {
            format!(
                "what {}'s rules forbid reached the emulator: {}",
                one.caller, one.marker
            )
        });
    }
    shares(&changes, fleet.gateways.len(), report);
}

/// Between its `begin` and its `end` a change holds a place of its caller.
fn shares(changes: &HashMap<String, Vec<Change>>, gateways: usize, report: &mut Report) {
    let mut most = 0;
    for gateway in 0..gateways {
        for account in ["one", "two"] {
            let caller = format!("{account}-greedy");
            let mut steps: Vec<(jiff::Timestamp, i32)> = changes
                .values()
                .flatten()
                .filter(|change| change.gateway == gateway && change.caller == caller)
                .filter_map(|change| Some([(change.begun, 1), (change.end?.0, -1)]))
                .flatten()
                .collect();
            // At the same time the end comes first.
            steps.sort_unstable();
            let (mut now, mut highest) = (0, 0);
            for (_, step) in steps {
                now += step;
                highest = highest.max(now);
            }
            most = most.max(highest);
            report.check(
                usize::try_from(highest).is_ok_and(|highest| highest <= GREEDY_SHARE),
                || format!("{caller} had {highest} changes at once at gateway-{gateway}"),
            );
        }
    }
    report.figure("most changes at once of a greedy caller at one gateway", most);
}

/// Reads a file; returns the chains that have no `close`.
fn read(
    n: usize,
    gateway: &Program,
    changes: &mut HashMap<String, Vec<Change>>,
    report: &mut Report,
) -> BTreeSet<String> {
    let text = std::fs::read(gateway.file("disk/audit.jsonl")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut open = BTreeSet::new();
    let mut begun: HashMap<String, (String, Change)> = HashMap::new();
    for line in text.lines() {
        // A torn one; whether there may be one is for `audit verify`.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let time = || word("time").parse::<jiff::Timestamp>().unwrap_or_default();
        match line["event"].as_str() {
            Some("open") => _ = open.insert(word("chain")),
            Some("close") => _ = open.remove(&word("chain")),
            Some("begin") => {
                let change = Change {
                    gateway: n,
                    chain: word("chain"),
                    caller: word("caller"),
                    begun: time(),
                    end: None,
                };
                let marker = marker(&word("path")).unwrap_or_default().to_owned();
                let twice = begun.insert(word("id"), (marker, change)).is_some();
                report.check(!twice, || {
                    format!("gateway-{n}: two `begin` lines with the id {}", word("id"))
                });
            }
            Some("end") => match begun.get_mut(&word("id")) {
                Some((_, change)) if change.end.is_none() => {
                    change.end = Some((time(), line["upstream_status"].as_u64().unwrap_or(0)));
                }
                _ => report.wrong(format!("gateway-{n}: an `end` without its own `begin`: {}", word("id"))),
            },
            _ => {}
        }
    }
    for (marker, change) in begun.into_values() {
        changes.entry(marker).or_default().push(change);
    }
    open
}

fn verify(gateway: &Program, report: &mut Report) {
    let output = Command::new(PROGRAM)
        .args(["audit", "verify", "--key"])
        .arg(gateway.file("audit-key"))
        .arg("--head")
        .arg(gateway.file("log"))
        .arg(gateway.file("disk/audit.jsonl"))
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    report.check(output.status.code() == Some(0), || {
        format!("{}: audit verify: {said}", gateway.name)
    });
    let lines: Vec<&str> = said.lines().collect();
    println!("{}: audit verify: {}", gateway.name, lines.last().unwrap_or(&""));
}
