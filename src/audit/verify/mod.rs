//! Proves that nothing was cut out of audit files, swapped or changed.

mod heads;
mod line;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, Read};

pub use heads::{HeadSeen, heads};
pub(in crate::audit) use line::hash_of;
pub use report::Report;

use super::keys::AuditKeys;
use crate::crypto::RootKey;
use crate::log::clean;
use line::{Line, begins_like_ours};

/// The longest line that is read: far longer than any that is written.
const LONGEST_LINE: u64 = 1 << 20;
/// Lines at the beginning of a file that are told one by one when they are no lines of ours.
const MOST_STRANGE: u64 = 3;

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

/// Where a line stands.
struct Place {
    /// `FILE:LINE`
    text: String,
    number: u64,
    /// The file is named like the chain: that of a second process, which wrote at the same time as the first.
    own_file: bool,
}

/// Goes through audit files.
pub struct Verifier {
    keys: HashMap<String, AuditKeys>,
    /// `ID (FILE)` of each key.
    keys_given: Vec<String>,
    /// Of each log, or answer of a status page.
    heads: Vec<Vec<HeadSeen>>,
    /// Hashes of last lines that a later chain has found.
    followed: BTreeSet<String>,
    chains: BTreeMap<String, ChainSeen>,
    /// In the order of their first lines.
    order: Vec<String>,
    /// The hash of the last line that was read.
    before: Option<String>,
    current: Option<String>,
    /// The files that were read.
    files: usize,
    /// Keys that others took the place of.
    retired: BTreeSet<String>,
    /// The files are in the wrong order, from which more follows.
    disordered: bool,
    report: Report,
    unhashed: u64,
    /// Keys that were not given: the place of the first line, and how many there are.
    strange_keys: BTreeMap<String, (String, u64)>,
}

impl Verifier {
    /// `keys`: of every key file, with its name. `heads`: what each log or status page said.
    pub fn new<'k>(
        keys: impl IntoIterator<Item = (String, &'k RootKey)>,
        heads: impl IntoIterator<Item = Vec<HeadSeen>>,
    ) -> Self {
        let (keys_given, keys) = keys
            .into_iter()
            .map(|(file, key)| (file, AuditKeys::of(key)))
            .map(|(file, keys)| (format!("{} ({file})", keys.id()), (keys.id().to_owned(), keys)))
            .unzip();
        Self {
            keys,
            keys_given,
            heads: heads.into_iter().collect(),
            followed: BTreeSet::new(),
            chains: BTreeMap::new(),
            order: Vec::new(),
            before: None,
            current: None,
            files: 0,
            retired: BTreeSet::new(),
            disordered: false,
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
        self.files += 1;
        let (mut number, mut line, mut torn) = (0_u64, Vec::new(), None);
        let (mut good, mut strange) = (false, 0_u64);
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
                // A process that was killed before the line break has left a whole line, too.
                Some(parsed)
                    if (ended || hash_of(&line).is_some()) && parsed.chain.is_some() && parsed.seq.is_some() =>
                {
                    good = true;
                    let own_file = parsed.chain.as_ref().is_some_and(|chain| name.contains(chain.as_str()));
                    self.line(
                        &Place {
                            text: place,
                            number,
                            own_file,
                        },
                        &line,
                        parsed,
                    );
                }
                _ if !good && strange >= MOST_STRANGE => strange += 1,
                _ if !good || !begins_like_ours(&line) => {
                    strange += u64::from(!good);
                    self.report.find(format!("{place}: this is no line of an audit log"));
                }
                // The last line of a process that was killed: the next one opens a chain, or there is no next one.
                _ => torn = Some(place),
            }
        }
        if let Some(place) = torn {
            self.torn(place, true);
        }
        if strange > MOST_STRANGE {
            let more = strange - MOST_STRANGE;
            self.report.find(format!("{name}: … and {more} more lines"));
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

    fn line(&mut self, at: &Place, text: &[u8], line: Line) {
        let (Some(name), Some(seq)) = (line.chain.clone(), line.seq) else {
            return;
        };
        let (place, number) = (&at.text, at.number);
        let hash = self.check_hash(place, text, &line);
        let event = line.event.as_deref().unwrap_or_default();
        if event == "open" {
            self.open(at, &line, seq);
        } else if self.current.as_ref() != Some(&name) && number > 1 {
            self.report.find(format!(
                "{place}: a line of another chain than the one before: lines were swapped or cut out"
            ));
        }
        if let Some(key) = &line.key
            && self.retired.contains(key)
            && !at.own_file
        {
            self.report.find(format!(
                "{place}: hashed with key {key}, which another one took the place of before"
            ));
        }
        let known = self.chains.contains_key(&name);
        let first_file = self.files == 1;
        let chain = self.chains.entry(name.clone()).or_default();
        if known {
            let prev = line.prev.as_deref();
            if seq <= chain.last && number == 1 {
                self.disordered = true;
                self.report.find(format!(
                    "{place}: this file comes before the one that was read before it: name the oldest file first"
                ));
            } else if seq != chain.last + 1 {
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
            if announced.is_some() {
                self.retired.extend(chain.key.clone());
            }
            if line.key != chain.key && announced != Some(line.key.clone()) {
                self.report
                    .find(format!("{place}: another key from here on, which no line announces"));
            }
        } else {
            self.order.push(name.clone());
            chain.first = seq;
            let heads = self.heads.iter().flatten();
            chain.heads = heads.filter(|head| head.chain == name).cloned().collect();
            if event != "open" && number == 1 && (first_file || at.own_file) {
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
            ("one", _) if line.decision.as_deref() == Some("dropped") => {
                let (count, changes) = (line.count.unwrap_or_default(), line.changes.unwrap_or_default());
                self.report.notes.push(format!(
                    "{place}: {count} lines before it found no room, {changes} of them about changes that were forwarded"
                ));
                self.report.unrecorded += changes;
            }
            ("key", _) => chain.next_key = Some(line.new_key),
            ("close", _) => chain.closed = true,
            _ => {}
        }
        self.before = hash;
        self.current = Some(name);
    }

    fn open(&mut self, at: &Place, line: &Line, seq: u64) {
        let Place {
            text: place,
            number,
            own_file,
        } = at;
        if seq != 1 {
            self.report
                .find(format!("{place}: a chain that does not open with its first line"));
        }
        self.followed.extend(line.previous.clone());
        // A file that is new names no line before.
        let follows = *number > 1 || line.previous.is_some();
        if *number == 1 && follows && self.files == 1 {
            self.report.notes.push(format!(
                "{place}: the file had lines before this one, which are not given"
            ));
        } else if follows && line.previous != self.before && !own_file {
            self.report.find(format!(
                "{place}: the process found another last line than the one before this: lines were cut out or changed"
            ));
        }
        let Some(chain) = self.current.take().and_then(|current| self.chains.get(&current)) else {
            return;
        };
        if !chain.closed {
            let current = self.order.last().map_or("", String::as_str);
            self.report.notes.push(format!(
                "{place}: chain {current} before it has no `close`: its process was killed, still runs, or its later lines are in a file that was not given or were cut off"
            ));
        }
        if chain.key != line.key && !own_file {
            self.retired.extend(chain.key.clone());
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
            None => {
                let first = || (place.to_owned(), 0);
                self.strange_keys.entry(key.clone()).or_insert_with(first).1 += 1;
            }
        }
        Some(hash.to_owned())
    }

    /// What was found.
    pub fn end(mut self) -> Report {
        let given = match self.keys_given.as_slice() {
            [] => "no key file is given".to_owned(),
            given => format!("the key files given have {}", given.join(", ")),
        };
        for (key, (first, lines)) in std::mem::take(&mut self.strange_keys) {
            let key = clean(&key, 64);
            self.report.missing_keys += 1;
            self.report.find(format!(
                "{first}: lines from here on, {lines} in all, are hashed with key {key}; {given}: name the file that has {key} with `--key`"
            ));
        }
        if self.unhashed > 0 {
            let lines = self.unhashed;
            self.report.find(format!(
                "{lines} lines have no keyed hash (`chain_key_file`): nothing proves that they were not changed"
            ));
        }
        if self.chains.is_empty() {
            self.report.find("there is no line of an audit log".to_owned());
        }
        if !self.disordered {
            self.check_heads();
        }
        for name in &self.order {
            if let Some(chain) = self.chains.get_mut(name) {
                let mut begun: Vec<_> = chain.begun.drain().map(|(_, told)| told).collect();
                begun.sort();
                self.report.unknown_outcomes.extend(begun);
            }
        }
        self.report
    }
}
