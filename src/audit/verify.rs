//! Proves that nothing was cut out of audit files, swapped or changed.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::chain::HASH_MEMBER;
use super::keys::AuditKeys;
use crate::crypto::RootKey;
use crate::log::clean;

/// The longest line that is read: far longer than any that is written.
const LONGEST_LINE: u64 = 1 << 20;
/// Findings that are told one by one.
const MOST_TOLD: usize = 100;

/// What was found in audit files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that were read.
    pub lines: u64,
    /// What shows that lines are missing, swapped or changed, each with its place.
    pub found: Vec<String>,
    /// What is worth knowing, and no fault.
    pub notes: Vec<String>,
    /// Changes that were begun, and whose end nobody knows.
    pub unknown_outcomes: Vec<String>,
}

impl Report {
    /// Whether nothing was found.
    pub fn whole(&self) -> bool {
        self.found.is_empty()
    }

    fn find(&mut self, what: String) {
        match self.found.len() {
            MOST_TOLD => self.found.push("… and more".to_owned()),
            0..MOST_TOLD => self.found.push(what),
            _ => {}
        }
    }
}

/// The head of a chain, as log and status page show it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct HeadSeen {
    chain: String,
    seq: u64,
    hash: Option<String>,
}

/// The heads in a log, or in what `/status.json` gave, in their order.
pub fn heads(text: &str) -> Vec<HeadSeen> {
    text.match_indices("audit")
        .filter_map(|(at, word)| {
            // `"audit": {…}` of JSON, `audit={…}` of a line of text.
            let rest = text[at + word.len()..].trim_start_matches('"').trim_start();
            let object = rest.strip_prefix([':', '='])?.trim_start();
            let mut values = serde_json::Deserializer::from_str(object).into_iter::<HeadSeen>();
            values.next()?.ok()
        })
        .collect()
}

/// A line, as far as the proof is concerned.
#[derive(Default, Deserialize)]
struct Line {
    event: Option<String>,
    id: Option<String>,
    caller: Option<String>,
    method: Option<String>,
    path: Option<String>,
    time: Option<serde_json::Value>,
    chain: Option<String>,
    seq: Option<u64>,
    key: Option<String>,
    prev: Option<String>,
    previous: Option<String>,
    new_key: Option<String>,
    torn: Option<bool>,
    /// Of OCSF: all members of ours.
    unmapped: Option<Box<Line>>,
}

/// The part of a line that its hash covers, and the hash.
pub(super) fn hash_of(line: &[u8]) -> Option<(&[u8], &str)> {
    let at = line
        .windows(HASH_MEMBER.len())
        .rposition(|window| window == HASH_MEMBER)?;
    let rest = std::str::from_utf8(&line[at + HASH_MEMBER.len()..]).ok()?;
    let hash = rest.trim_end_matches('}').strip_suffix('"')?;
    let hexadecimal = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal && rest.len() <= hash.len() + 3).then_some((&line[..at], hash))
}

/// What is known of a chain so far.
#[derive(Default)]
struct ChainSeen {
    first: u64,
    last: u64,
    hash: Option<String>,
    key: Option<String>,
    /// The key that a `key` line announced.
    next_key: Option<Option<String>>,
    closed: bool,
    /// Changes that were begun, by id.
    begun: HashMap<String, String>,
    heads: Vec<HeadSeen>,
}

/// Goes through audit files.
pub struct Verifier {
    keys: HashMap<String, AuditKeys>,
    heads: Vec<HeadSeen>,
    chains: BTreeMap<String, ChainSeen>,
    /// In the order of their first lines.
    order: Vec<String>,
    /// The hash of the last line that was read of this file.
    before: Option<String>,
    current: Option<String>,
    report: Report,
    unhashed: u64,
    strange_keys: BTreeMap<String, u64>,
}

impl Verifier {
    /// `keys`: of every key file. `heads`: what log or status page said.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k RootKey>, heads: Vec<HeadSeen>) -> Self {
        let keys = keys.into_iter().map(AuditKeys::of);
        Self {
            keys: keys.map(|keys| (keys.id().to_owned(), keys)).collect(),
            heads,
            chains: BTreeMap::new(),
            order: Vec::new(),
            before: None,
            current: None,
            report: Report::default(),
            unhashed: 0,
            strange_keys: BTreeMap::new(),
        }
    }

    /// Reads a file, the oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&mut self, name: &str, mut file: impl BufRead) -> io::Result<()> {
        (self.before, self.current) = (None, None);
        let (mut number, mut line, mut torn) = (0_u64, Vec::new(), None);
        loop {
            line.clear();
            if file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            self.report.lines += 1;
            let place = format!("{name}:{number}");
            let ended = line.pop_if(|byte| *byte == b'\n').is_some();
            let parsed = serde_json::from_slice::<Line>(&line).ok().map(|mut parsed| {
                let inner = parsed.unmapped.take();
                inner.map_or(parsed, |inner| *inner)
            });
            if let Some(earlier) = torn.take() {
                let opens = parsed
                    .as_ref()
                    .is_some_and(|line| line.event.as_deref() == Some("open"));
                self.torn(
                    earlier,
                    opens && parsed.as_ref().is_some_and(|line| line.torn == Some(true)),
                );
            }
            match parsed {
                Some(parsed) if ended && parsed.chain.is_some() && parsed.seq.is_some() => {
                    self.line(&place, number, &line, parsed);
                }
                // The last line of a process that was killed: the next one opens a chain, or there is no next one.
                _ => torn = Some(place),
            }
        }
        if let Some(place) = torn {
            self.torn(place, true);
        }
        Ok(())
    }

    fn torn(&mut self, place: String, by_accident: bool) {
        if by_accident {
            self.report.notes.push(format!(
                "{place}: torn: the process was killed, or the machine stopped, as it was written"
            ));
        } else {
            self.report.find(format!("{place}: this is no line of an audit log"));
        }
    }

    fn line(&mut self, place: &str, number: u64, text: &[u8], line: Line) {
        let (Some(name), Some(seq)) = (line.chain.clone(), line.seq) else {
            return;
        };
        let hash = self.check_hash(place, text, &line);
        let event = line.event.as_deref().unwrap_or_default();
        if event == "open" {
            self.open(place, number, &line, seq);
        } else if self.current.as_ref() != Some(&name) && number > 1 {
            self.report.find(format!(
                "{place}: a line of another chain than the one before: lines were swapped or cut out"
            ));
        }
        let known = self.chains.contains_key(&name);
        let chain = self.chains.entry(name.clone()).or_default();
        if known {
            let prev = line.prev.as_deref();
            if seq != chain.last + 1 {
                let what = match seq.checked_sub(chain.last + 1) {
                    Some(missing) => format!("{missing} lines before it are missing"),
                    None => "it stands in the wrong place, or twice".to_owned(),
                };
                self.report.find(format!(
                    "{place}: line {seq} of chain {name} follows line {}: {what}",
                    chain.last
                ));
            } else if prev != chain.hash.as_deref() && hash.is_some() {
                self.report.find(format!(
                    "{place}: it does not follow the line before: one of the two was changed or swapped"
                ));
            }
            if chain.closed {
                self.report
                    .find(format!("{place}: chain {name} was closed before this line"));
            }
            let announced = chain.next_key.take();
            if line.key != chain.key && announced != Some(line.key.clone()) {
                self.report
                    .find(format!("{place}: another key from here on, which no line announces"));
            }
        } else {
            self.order.push(name.clone());
            chain.first = seq;
            chain.heads = self.heads.iter().filter(|head| head.chain == name).cloned().collect();
            if event != "open" && number == 1 {
                self.report.notes.push(format!(
                    "{place}: the beginning of chain {name}, {} lines, is in no file given",
                    seq - 1
                ));
            } else if event != "open" {
                self.report
                    .find(format!("{place}: the beginning of chain {name} is missing"));
            }
        }
        chain.last = seq;
        chain.hash.clone_from(&hash);
        chain.key.clone_from(&line.key);
        for head in chain.heads.iter().filter(|head| head.seq == seq) {
            if head.hash != hash {
                self.report.find(format!(
                    "{place}: line {seq} of chain {name} has another hash than the log or status page says"
                ));
            }
        }
        match (event, line.id) {
            ("begin", Some(id)) => {
                let text = |text: Option<String>| clean(&text.unwrap_or_default(), 300).into_owned();
                let told = format!(
                    "{place}: {} {} {} by {}",
                    line.time
                        .map(|time| time.to_string())
                        .unwrap_or_default()
                        .trim_matches('"'),
                    text(line.method),
                    text(line.path),
                    text(line.caller.or_else(|| Some("none".to_owned()))),
                );
                chain.begun.insert(id, told);
            }
            ("end", Some(id)) if chain.begun.remove(&id).is_none() && chain.first == 1 => {
                self.report
                    .find(format!("{place}: the end of a change that was never begun"));
            }
            ("key", _) => chain.next_key = Some(line.new_key),
            ("close", _) => chain.closed = true,
            _ => {}
        }
        self.before = hash;
        self.current = Some(name);
    }

    fn open(&mut self, place: &str, number: u64, line: &Line, seq: u64) {
        if seq != 1 {
            self.report
                .find(format!("{place}: a chain that does not open with its first line"));
        }
        if number > 1 && line.previous != self.before {
            self.report.find(format!(
                "{place}: the process found another last line than the one before this: lines were cut out or changed"
            ));
        }
        if number == 1 && line.previous.is_some() {
            self.report.notes.push(format!(
                "{place}: the file had lines before this one, which are not given"
            ));
        }
        if let Some(current) = self.current.take()
            && self.chains.get(&current).is_some_and(|chain| !chain.closed)
        {
            self.report.notes.push(format!(
                "{place}: chain {current} before it has no `close`: its process was killed"
            ));
        }
    }

    /// The line's hash, where it has one; whether it is right is told.
    fn check_hash(&mut self, place: &str, text: &[u8], line: &Line) -> Option<String> {
        let (Some((covered, hash)), Some(key)) = (hash_of(text), &line.key) else {
            self.unhashed += 1;
            return None;
        };
        match self.keys.get(key) {
            Some(keys) if keys.hash(covered) == hash => {}
            Some(_) => self.report.find(format!("{place}: this line was changed")),
            None => *self.strange_keys.entry(key.clone()).or_default() += 1,
        }
        Some(hash.to_owned())
    }

    /// What was found.
    pub fn end(mut self) -> Report {
        for (key, lines) in std::mem::take(&mut self.strange_keys) {
            self.report.find(format!(
                "{lines} lines are hashed with key {key}, which is in no key file given: `--key FILE` names it"
            ));
        }
        if self.unhashed > 0 {
            let lines = self.unhashed;
            self.report.find(format!(
                "{lines} lines have no keyed hash (`chain_key_file`): nothing proves that they were not changed"
            ));
        }
        if self.report.lines == 0 {
            self.report.notes.push("there is no line".to_owned());
        }
        self.check_heads();
        for name in &self.order {
            if let Some(chain) = self.chains.get_mut(name) {
                let mut begun: Vec<_> = chain.begun.drain().map(|(_, told)| told).collect();
                begun.sort();
                self.report.unknown_outcomes.extend(begun);
            }
        }
        self.report
    }

    /// Whether the files reach as far as log or status page say that they do.
    fn check_heads(&mut self) {
        let mut last_of: BTreeMap<&str, &HeadSeen> = BTreeMap::new();
        for head in &self.heads {
            let last = last_of.entry(head.chain.as_str()).or_insert(head);
            if head.seq >= last.seq {
                *last = head;
            }
        }
        let newest = self.heads.last().map(|head| head.chain.as_str());
        let mut proven = false;
        for (name, head) in last_of {
            match self.chains.get(name) {
                Some(chain) if chain.last < head.seq => self.report.find(format!(
                    "the end of chain {name} was cut off: its last line is {}, and the log or status page tells of {}",
                    chain.last, head.seq
                )),
                Some(chain) if self.order.last().map(String::as_str) == Some(name) => {
                    proven = true;
                    self.report.notes.push(format!(
                        "the end is proven up to line {} of chain {name}; {} lines follow",
                        head.seq,
                        chain.last - head.seq
                    ));
                }
                Some(_) => {}
                None if Some(name) == newest => self.report.find(format!(
                    "the log or status page tells of chain {name}, of which there is no line"
                )),
                None => {}
            }
        }
        if !proven {
            self.report.notes.push(
                "end not proven: `--head FILE`, the log or what /status.json gave, shows whether lines were cut off at the end"
                    .to_owned(),
            );
        }
    }
}
