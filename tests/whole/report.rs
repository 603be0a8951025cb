//! What was found: figures, and what was wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use atlas_auth_proxy::emulator::Record;

use crate::events::Windows;
use crate::fleet::{ACCOUNTS, DIRECT};
use crate::place::GATEWAYS;
use crate::traffic::{Done, Got, Want};

/// Told one by one.
const MOST_TOLD: usize = 40;
/// After the death of a gateway a client may still run into it for so long.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// When a client secret is in force, the tokens that verified it count as any other.
const AFTER_ROTATION: Duration = Duration::from_secs(2);
/// Live tokens of an account, beside those that verify a new secret.
const MOST_TOKENS: usize = 2;

#[derive(Default)]
pub struct Report {
    figures: Vec<(String, String)>,
    wrong: Vec<String>,
}

impl Report {
    pub fn figure(&mut self, name: &str, value: impl Display) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    pub fn check(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(what());
        }
    }

    /// Prints everything; says whether nothing was wrong.
    pub fn print(&self) -> bool {
        println!();
        for (name, value) in &self.figures {
            println!("{value:>10}  {name}");
        }
        println!();
        for wrong in self.wrong.iter().take(MOST_TOLD) {
            println!("WRONG: {wrong}");
        }
        if self.wrong.len() > MOST_TOLD {
            println!("… and {} more", self.wrong.len() - MOST_TOLD);
        }
        self.wrong.is_empty()
    }
}

/// Every request has the answer that it should have, or one that an event explains.
pub fn requests(done: &[Done], windows: &Windows, begun: Instant, report: &mut Report) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for one in done {
        let kind = match &one.got {
            Got::Answer { status, code, .. } => format!("{:?}: {status} {code}", one.want),
            Got::Broken(why) => format!("{:?}: {why}", one.want),
        };
        let explained = explain(one, windows);
        let kind = match &explained {
            Some(explained) if !explained.is_empty() => format!("{kind} ({explained})"),
            _ => kind,
        };
        *kinds.entry(kind.trim().to_owned()).or_default() += 1;
        report.check(explained.is_some(), || {
            let at = one.sent.duration_since(begun).as_secs_f64();
            let took = one.answered.duration_since(one.sent).as_secs_f64();
            format!(
                "{} at {at:.1} s, {took:.2} s long: {:?} {}: {:?}",
                one.caller, one.want, one.marker, one.got
            )
        });
    }
    report.figure("requests", done.len());
    for (kind, count) in kinds {
        report.figure(&kind, count);
    }
    let full = done
        .iter()
        .any(|one| matches!(one.got, Got::Answer { status: 503, .. }));
    report.check(full, || "the full disk was never met".to_owned());
    let limited = |one: &&Done| matches!(one.got, Got::Answer { status: 429, .. });
    for account in &ACCOUNTS {
        let caller = format!("{}-greedy", account.name);
        let turned_away = done.iter().filter(|one| one.caller == caller).filter(limited).count();
        report.check(turned_away > 0, || format!("{caller} never met the end of its share"));
    }
}

/// `None`: nothing explains it. Empty: as it should be.
fn explain(one: &Done, windows: &Windows) -> Option<&'static str> {
    let direct = one.caller == DIRECT;
    if let Got::Answer {
        status,
        code,
        from_gateway,
    } = &one.got
    {
        let gateways_own = *from_gateway || direct;
        match (one.want, status, code.as_str()) {
            (Want::Read | Want::Change, 200, "") => return Some(""),
            (Want::Forbidden, 403, "PROXY_RULE_DENIED") if gateways_own => return Some(""),
            (_, 429, "PROXY_RATE_LIMITED") if gateways_own && one.caller.ends_with("-greedy") => {
                return Some("its share");
            }
            (Want::Change, 503, "PROXY_AUDIT_UNAVAILABLE") if gateways_own => {
                let (from, to) = windows.disk_full?;
                return (one.answered >= from && one.sent <= to).then_some("the disk was full");
            }
            _ => {}
        }
        // An answer of a gateway, or through it, is no broken connection.
        if gateways_own || code.is_empty() {
            return None;
        }
    }
    let killed = windows.killed?;
    (one.answered >= killed && one.sent <= killed + AFTER_KILL).then_some("connection to the killed gateway")
}

/// Live tokens of an account at one time.
pub struct LiveTokens {
    pub at: Instant,
    pub account: usize,
    pub tokens: Vec<String>,
}

pub fn tokens(samples: &[LiveTokens], record: &Record, windows: &Windows, begun: Instant, report: &mut Report) {
    for (n, account) in ACCOUNTS.iter().enumerate() {
        let given: Vec<_> = record
            .tokens
            .iter()
            .filter(|given| given.client_id == account.id)
            .collect();
        for given in &given {
            let at = given.given.into_std().saturating_duration_since(begun).as_secs_f64();
            let secret = if given.secret == account.secret {
                "first"
            } else {
                "second"
            };
            println!("account {}: a token by the {secret} secret at {at:.1} s", account.name);
        }
        report.figure(&format!("tokens given to account {}", account.name), given.len());
        // What a gateway asks for by the new secret while that is rotated shows whether the secret is good.
        let rotated = windows.secret_rotated;
        let verifies = |token: &str| {
            given.iter().any(|given| {
                let during = |(from, to)| (from..=to).contains(&given.given.into_std());
                given.token == token && given.secret == account.next_secret && rotated.is_some_and(during)
            })
        };
        let (mut most, mut most_verifying) = (0, 0);
        for sample in samples.iter().filter(|sample| sample.account == n) {
            let late = rotated.is_none_or(|(_, to)| sample.at > to + AFTER_ROTATION);
            let (verifying, other): (Vec<_>, Vec<_>) = sample.tokens.iter().partition(|token| !late && verifies(token));
            most = most.max(other.len());
            most_verifying = most_verifying.max(verifying.len());
            let at = sample.at.duration_since(begun).as_secs_f64();
            report.check(other.len() <= MOST_TOKENS && verifying.len() <= GATEWAYS, || {
                let (name, other, verifying) = (account.name, other.len(), verifying.len());
                format!("account {name}: {other} live tokens at {at:.1} s, and {verifying} to verify a secret")
            });
        }
        report.figure(&format!("most live tokens of account {}", account.name), most);
        report.figure("… and beside them to verify a new secret", most_verifying);
    }
}
