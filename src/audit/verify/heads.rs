//! What the log, or the status page, said of the last lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Verifier;

/// The head of a chain, as log and status page show it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct HeadSeen {
    pub(super) chain: String,
    pub(super) seq: u64,
    pub(super) hash: Option<String>,
}

/// Where `audit` of a log line, or of a status answer, stands.
#[derive(Deserialize)]
struct Telling {
    target: Option<String>,
    audit: Option<HeadSeen>,
}

/// What a line of text about the last line has before the object. Only time and level stand before this: a path that a client
/// sends holds no blank.
const TOLD: &str = "atlas_auth_proxy::audit: the last line of the audit log audit=";
/// The target of such a line.
const TARGET: &str = "atlas_auth_proxy::audit";

/// The heads in a log, or in what `/status.json` gave, in their order. What clients make others log is not taken for one.
pub fn heads(text: &str) -> Vec<HeadSeen> {
    if let Ok(Telling { target: None, audit }) = serde_json::from_str(text) {
        return audit.into_iter().collect();
    }
    text.lines()
        .filter_map(|line| match line.split_once(TOLD) {
            Some((before, object)) if before.split_whitespace().count() == 2 => serde_json::from_str(object).ok(),
            Some(_) => None,
            None => {
                let told: Telling = serde_json::from_str(line).ok()?;
                told.audit.filter(|_| told.target.as_deref() == Some(TARGET))
            }
        })
        .collect()
}

impl Verifier {
    /// Whether the files reach as far as log or status page say that they do.
    pub(super) fn check_heads(&mut self) {
        let mut last_of: BTreeMap<&str, &HeadSeen> = BTreeMap::new();
        for head in self.heads.iter().flatten() {
            let last = last_of.entry(head.chain.as_str()).or_insert(head);
            if head.seq >= last.seq {
                *last = head;
            }
        }
        // A chain that is here and an absent one that was told of later: the absent one was taken away.
        for heads in &self.heads {
            let mut told: Vec<&str> = heads.iter().map(|head| head.chain.as_str()).collect();
            told.dedup();
            let here = |chain: &&str| self.chains.contains_key(*chain);
            let first = told.iter().position(here).unwrap_or(told.len().saturating_sub(1));
            let absent: BTreeSet<&str> = told.into_iter().skip(first).filter(|chain| !here(chain)).collect();
            for chain in absent {
                self.report.find(format!(
                    "the log or status page tells of chain {chain}, of which there is no line"
                ));
            }
        }
        for name in &self.order {
            let Some(chain) = self.chains.get(name) else { continue };
            // The chain after it has found its last line; that it was the last one that was written, `close` alone says.
            let followed = chain.hash.as_ref().is_some_and(|hash| self.followed.contains(hash));
            let head = last_of.get(name.as_str());
            if let Some(head) = head.filter(|head| chain.last < head.seq) {
                self.report.find(format!(
                    "the end of chain {name} was cut off, or its later lines are in a file that was not given: its last line is {}, and the log or status page tells of {}",
                    chain.last, head.seq
                ));
            } else if followed && chain.closed {
                continue;
            } else if let Some(head) = head {
                let proven = format!("the end is proven up to line {} of chain {name}", head.seq);
                self.report.notes.push(match chain.last - head.seq {
                    0 => proven,
                    _ if followed => format!(
                        "{proven}; lines after {} could be cut off without a trace before the next chain was opened",
                        chain.last
                    ),
                    1 => format!("{proven}; the line after it could be cut off without a trace"),
                    after => format!("{proven}; the {after} lines after it could be cut off without a trace"),
                });
            } else if followed {
                self.report.notes.push(format!(
                    "end not proven of chain {name}: it has no `close`, and lines could be cut off at its end before the next chain was \
                     opened; `--head FILE`, the log of its process, shows whether they were"
                ));
            } else {
                self.report.notes.push(format!(
                    "end not proven of chain {name}: `--head FILE`, the log of its process or what /status.json gave there, shows \
                     whether lines were cut off at the end"
                ));
            }
        }
    }
}
