//! The thread that writes: whole batches, one sync for all changes that begin in one.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use super::NotRecorded;
use super::chain::{Chain, Head, SEAL_MOST, end};
use super::file::AuditFile;
use super::queue::{Batch, Entry, Kind, Queue};
use super::settings::AuditFormat;

/// Where lines go.
pub(super) enum Sink {
    File {
        /// What the settings name.
        wanted: PathBuf,
        file: AuditFile,
        chain: Chain,
    },
    Stdout(File),
}

/// Counts lines that were dropped.
pub(super) type Dropped = Box<dyn Fn(u64) + Send + Sync>;

/// What the writer works with.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) sink: Sink,
    pub(super) format: AuditFormat,
    pub(super) head: Arc<Mutex<Option<Head>>>,
    pub(super) dropped: Arc<Dropped>,
    /// Ends and lines of the log itself that could not be written yet.
    pub(super) again: Vec<Entry>,
    /// The log says that the file can't be written.
    pub(super) failing: bool,
    /// Called when the writer has nothing to do, and once a second else: a second of refusals may be over.
    pub(super) tick: Box<dyn FnMut() + Send>,
}

impl Writer {
    /// Runs until the queue is stopped.
    pub(super) fn run(mut self) {
        loop {
            (self.tick)();
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
            let empty = batch.is_empty();
            if !empty {
                self.write(batch, open_ends);
            }
            if stop && (empty || !self.again.is_empty()) {
                if let Sink::File { file, .. } = &mut self.sink {
                    file.give_back();
                }
                return;
            }
        }
    }

    /// Goes on in the file that is at the path now.
    fn reopen(&mut self) {
        let Sink::File { wanted, file, chain } = &mut self.sink else {
            return;
        };
        if file.is_at(wanted) {
            return;
        }
        match AuditFile::open(wanted, &chain.head().chain) {
            Ok((new, _)) => {
                file.give_back();
                *file = new;
                tracing::info!(file = %file.path().display(), "the audit log goes on in a new file");
            }
            Err(error) => {
                tracing::error!(%error, "the audit log goes on in the old file, wherever that is now");
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
                    (self.dropped)(batch.len() as u64);
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
        let needed = |batch: &[Entry]| (batch.iter().map(size).sum::<usize>() + open_ends) as u64;
        let size = match file.size() {
            Ok(size) => size,
            Err(error) => return self.failed(batch, &error),
        };
        let (queue, dropped) = (&self.queue, &self.dropped);
        let mut no_room = None;
        if let Err(error) = file.reserve(size, needed(&batch)) {
            // Others first: they must not take the room of changes.
            batch = without(
                queue,
                dropped,
                batch,
                |kind| matches!(kind, Kind::Other),
                NotRecorded::Full,
            );
            if file.reserve(size, needed(&batch)).is_err() {
                batch = without(
                    queue,
                    dropped,
                    batch,
                    |kind| matches!(kind, Kind::Begin(_)),
                    NotRecorded::Full,
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
            return self.failed(batch, &error);
        }
        *self.head.lock() = Some(chain.head());
        let synced = if sync { file.sync() } else { Ok(()) };
        if let Err(error) = synced {
            // The lines are in the file, perhaps: whoever waits for one must not rely on it.
            self.say_failing(&error);
            return finish(&self.queue, batch, Err(NotRecorded::Failed));
        }
        match no_room {
            Some(error) => self.say_failing(&error),
            None if std::mem::take(&mut self.failing) => tracing::info!("the audit file can be written again"),
            None => {}
        }
        finish(&self.queue, batch, Ok(()));
    }

    /// Nothing was written: what must not be lost waits for another try.
    fn failed(&mut self, batch: Vec<Entry>, error: &io::Error) {
        self.say_failing(error);
        let lost = |kind: &Kind| matches!(kind, Kind::Begin(_) | Kind::Other);
        self.again = without(&self.queue, &self.dropped, batch, lost, NotRecorded::Failed);
    }

    fn say_failing(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true)
            && let Sink::File { file, .. } = &self.sink
        {
            tracing::error!(file = %file.path().display(), %error, "the audit file can't be written: changes are refused, or not recorded where `when_full` says so");
        }
    }
}

/// Takes out of a batch what is not written after all.
fn without(
    queue: &Queue,
    dropped: &Dropped,
    batch: Vec<Entry>,
    these: impl Fn(&Kind) -> bool,
    why: NotRecorded,
) -> Vec<Entry> {
    let (gone, kept): (Vec<_>, Vec<_>) = batch.into_iter().partition(|entry| these(&entry.kind));
    let mut lines = 0;
    for entry in &gone {
        match &entry.kind {
            // Whoever forwards it counts it.
            Kind::Begin(begin) => begin.refuse(),
            _ => lines += 1,
        }
    }
    dropped(lines);
    finish(queue, gone, Err(why));
    kept
}

/// The most that a line takes in the file.
fn size(entry: &Entry) -> usize {
    entry.line.len() + SEAL_MOST
}

/// Tells who waits, and gives the room back.
fn finish(queue: &Queue, batch: Vec<Entry>, result: Result<(), NotRecorded>) {
    let (mut changes, mut others) = (0, 0);
    for entry in batch {
        match entry.kind {
            Kind::Begin(_) | Kind::End(_) => changes += entry.line.len(),
            Kind::Other => others += entry.line.len(),
            Kind::Own(_) => {}
        }
        if let Some(done) = entry.done {
            // Nobody waits any more.
            let _ = done.send(result);
        }
    }
    queue.give_back(changes, others);
}

fn write_all(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The parent process may have made the pipe non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(out, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
