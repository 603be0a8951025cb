//! The thread that writes: whole batches, one sync for all changes that begin in one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::NotRecorded;
use super::chain::{Chain, Head, SEAL_MOST, end};
use super::file::{AuditFile, AuditFileError};
use super::line::{self, Event};
use super::queue::{Batch, Entry, Kind, Lost, Queue};
use super::settings::AuditFormat;
use super::trouble::Troubles;
use crate::log::write_all;
use crate::time::SharedClock;

/// Where lines go.
pub(super) enum Sink {
    File { file: AuditFile, chain: Chain },
    Stdout(File),
}

/// How late lines that nobody waits for are on disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// With so much room on disk there is room again.
const ROOM_AGAIN: u64 = 64 << 10;

/// What the writer works with.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) sink: Sink,
    pub(super) format: AuditFormat,
    pub(super) head: Arc<Mutex<Option<Head>>>,
    /// Changes that are not recorded are refused.
    pub(super) refuses: bool,
    pub(super) clock: SharedClock,
    /// Ends and lines of the log itself that could not be written yet.
    pub(super) again: Vec<Entry>,
    /// Lines are written that are not surely on disk.
    pub(super) unsynced: bool,
    pub(super) synced_at: Instant,
    /// Why the file can't be written, which the log says.
    pub(super) trouble: Arc<Troubles>,
    /// Called when the writer has nothing to do, and once a second else: a second of refusals may be over.
    pub(super) tick: Box<dyn FnMut() + Send>,
}

impl Writer {
    /// Runs until the queue is stopped.
    pub(super) fn run(mut self) {
        loop {
            (self.tick)();
            self.sync_late();
            let Batch {
                entries,
                open_ends,
                reopen,
                stop,
            } = self.queue.next(!self.again.is_empty());
            if reopen {
                self.reopen();
            }
            let mut batch = std::mem::take(&mut self.again);
            batch.extend(entries);
            let empty = batch.is_empty() && !self.queue.has_lost();
            if !empty {
                self.write(batch, open_ends);
            }
            let in_vain = !self.again.is_empty() || self.queue.has_lost();
            if stop && (empty || in_vain) {
                if !self.again.is_empty() {
                    tracing::error!(
                        lines = self.again.len(),
                        "the last lines of the audit log could not be written"
                    );
                }
                if let Sink::File { file, .. } = &mut self.sink {
                    let _ = file.sync();
                    file.give_back();
                }
                return;
            }
        }
    }

    /// Nobody waits for reads and ends to be on disk: they are within a second, and then are the last lines that are known.
    fn sync_late(&mut self) {
        if self.unsynced
            && self.synced_at.elapsed() >= SYNC_EVERY
            && let Sink::File { file, chain } = &self.sink
            && file.sync().is_ok()
        {
            *self.head.lock() = Some(chain.head());
            (self.unsynced, self.synced_at) = (false, Instant::now());
        }
    }

    /// Goes on in the file that is at the path now.
    fn reopen(&mut self) {
        let Sink::File { file, chain } = &mut self.sink else {
            return;
        };
        if file.is_at(file.path()) {
            return;
        }
        match go_on(file, chain) {
            Ok(()) => tracing::info!(file = %file.path().display(), "the audit log goes on in a new file"),
            Err(error) => {
                tracing::error!(%error, "the audit log goes on in the old file, wherever that is now: mend this, then send SIGHUP again");
            }
        }
    }

    fn write(&mut self, batch: Vec<Entry>, open_ends: usize) {
        match &mut self.sink {
            Sink::Stdout(out) => {
                let format = self.format;
                let lines: Vec<u8> = batch
                    .iter()
                    .flat_map(|entry| [&entry.line, end(format)].concat())
                    .collect();
                let result = write_all(out, &lines);
                if result.is_err() {
                    self.queue.lose(Lost {
                        others: batch.len() as u64,
                        changes: 0,
                    });
                }
                finish(&self.queue, batch, result.map_err(|_| NotRecorded::Failed));
            }
            Sink::File { .. } => self.write_to_file(batch, open_ends),
        }
        self.queue.set_stuck(false);
    }

    fn write_to_file(&mut self, mut batch: Vec<Entry>, open_ends: usize) {
        let Sink::File { file, chain, .. } = &mut self.sink else {
            return;
        };
        let (mut size, removed) = match file.state() {
            Ok(state) => state,
            Err(error) => return self.failed(batch, &error),
        };
        if removed {
            let path = file.path().display().to_string();
            // Said once, however often a new one can't be made.
            if !self.trouble.is_on() {
                tracing::error!(file = %path, "the audit file was removed while it was open: its lines are lost; the log goes on in a new one");
            }
            size = match go_on(file, chain).map_err(io::Error::other).and_then(|()| file.size()) {
                Ok(size) => size,
                Err(error) => return self.failed(batch, &error),
            };
        }
        let lost = self.queue.take_lost();
        // It stands last, so that it can be taken back: while nothing can be written, further ones are only counted.
        let mut tells = lost != Lost::default();
        if tells {
            batch.push(tell_lost(lost, self.format, self.clock.wall()));
        }
        let queue = &self.queue;
        let needed = |batch: &[Entry]| (batch.iter().map(size_of).sum::<usize>() + open_ends) as u64;
        let mut no_room = None;
        if let Err(error) = file.reserve(size, needed(&batch)) {
            if std::mem::take(&mut tells) {
                batch.pop();
                queue.give_lost_back(lost);
            }
            // Others first: they must not take the room of changes. What is of the log itself waits.
            batch = without(
                queue,
                batch,
                |kind| matches!(kind, Kind::Other),
                NotRecorded::Full,
                self.refuses,
            );
            self.again
                .extend(batch.extract_if(.., |entry| matches!(entry.kind, Kind::Own(_))));
            if file.reserve(size, needed(&batch)).is_err() {
                batch = without(
                    queue,
                    batch,
                    |kind| matches!(kind, Kind::Begin(_)),
                    NotRecorded::Full,
                    self.refuses,
                );
            }
            no_room = Some(error);
        }
        let (before, mut lines, mut sync) = (chain.clone(), Vec::new(), false);
        for entry in &batch {
            match &entry.kind {
                // There is no line of its begin.
                Kind::End(begin) if begin.refused() => continue,
                Kind::Begin(_) | Kind::Own(_) => sync = true,
                Kind::End(_) | Kind::Other => {}
            }
            chain.seal(&entry.line, self.format, &mut lines);
            if let Kind::Own(Some(keys)) = &entry.kind {
                chain.take_keys(keys.clone());
            }
        }
        if let Err(error) = file.append(size, &lines) {
            *chain = before;
            if tells {
                batch.pop();
                queue.give_lost_back(lost);
            }
            return self.failed(batch, &error);
        }
        let synced = if sync { file.sync() } else { Ok(()) };
        if sync && synced.is_ok() {
            *self.head.lock() = Some(chain.head());
        }
        self.unsynced = !sync;
        if let Err(error) = synced {
            // The lines are in the file, perhaps: whoever waits for one must not rely on it.
            self.say_failing(&error);
            return finish(&self.queue, batch, Err(NotRecorded::Failed));
        }
        match no_room {
            Some(error) => self.say_failing(&error),
            None => self.say_written(),
        }
        finish(&self.queue, batch, Ok(()));
    }

    /// Nothing was written: what must not be lost waits for another try.
    fn failed(&mut self, batch: Vec<Entry>, error: &io::Error) {
        self.say_failing(error);
        let lost = |kind: &Kind| matches!(kind, Kind::Begin(_) | Kind::Other);
        let kept = without(&self.queue, batch, lost, NotRecorded::Failed, self.refuses);
        self.again.extend(kept);
    }

    fn say_failing(&mut self, error: &io::Error) {
        if self.trouble.begin(error.to_string(), self.clock.wall())
            && let Sink::File { file, .. } = &self.sink
        {
            let so = if self.refuses {
                "changes are refused, reads go on"
            } else {
                "changes are forwarded unrecorded (`when_full = \"drop\"`)"
            };
            tracing::error!(file = %file.path().display(), %error, "the audit file can't be written: {so}, until there is room and it can be");
        }
    }

    /// A short line may fit where a change has no room: that is no good news.
    fn say_written(&mut self) {
        if self.trouble.is_on()
            && let Sink::File { file, .. } = &mut self.sink
            && let Ok((size, _)) = file.state()
            && file.reserve(size, ROOM_AGAIN).is_ok()
        {
            self.trouble.end();
            tracing::info!("the audit file can be written again");
        }
    }
}

/// Goes on in a file at the same path.
fn go_on(file: &mut AuditFile, chain: &Chain) -> Result<(), AuditFileError> {
    let (new, found) = AuditFile::open(file.path(), &chain.head().chain)?;
    file.give_back();
    *file = new;
    if found.open {
        // Whoever made that file did not end its last line.
        let size = file.size().unwrap_or_default();
        let _ = file.append(size, b"\n");
    }
    Ok(())
}

/// Takes out of a batch what is not written after all.
fn without(
    queue: &Queue,
    batch: Vec<Entry>,
    these: impl Fn(&Kind) -> bool,
    why: NotRecorded,
    refuses: bool,
) -> Vec<Entry> {
    let (gone, kept): (Vec<_>, Vec<_>) = batch.into_iter().partition(|entry| these(&entry.kind));
    let mut lost = Lost::default();
    for entry in &gone {
        match &entry.kind {
            Kind::Begin(begin) => {
                begin.refuse();
                // Whoever waits counts it. Where changes are refused, who waits no more has refused this one.
                let waits = entry.done.as_ref().is_some_and(|done| !done.is_closed());
                lost.changes += u64::from(!waits && !refuses);
            }
            _ => lost.others += 1,
        }
    }
    queue.lose(lost);
    finish(queue, gone, Err(why));
    kept
}

/// The most that a line takes in the file.
fn size_of(entry: &Entry) -> usize {
    entry.line.len() + SEAL_MOST
}

/// The line about lines that were lost.
fn tell_lost(lost: Lost, format: AuditFormat, now: SystemTime) -> Entry {
    let members = [
        ("decision", json!("dropped")),
        ("count", json!(lost.changes + lost.others)),
        ("changes", json!(lost.changes)),
    ];
    Entry::without_room(line::of_log(format, Event::One, now, &members), Kind::Own(None), None)
}

/// Tells who waits, and gives the room back.
fn finish(queue: &Queue, batch: Vec<Entry>, result: Result<(), NotRecorded>) {
    let mut others = 0;
    for entry in batch {
        if matches!(entry.kind, Kind::Other) {
            others += entry.line.len();
        }
        if let Some(done) = entry.done {
            // Nobody waits any more.
            let _ = done.send(result);
        }
    }
    queue.give_back(others);
}
