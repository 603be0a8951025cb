//! Lines on their way to the writer, and the room that they have there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::NotRecorded;
use super::chain::SEAL_MOST;
use super::keys::AuditKeys;
use crate::fair::{Amount, Part};

/// Bytes for changes: lines that wait, and room for the ends of what is under way. 5,000 changes a second that take three
/// seconds each.
pub const ROOM_FOR_CHANGES: usize = 32 << 20;
/// Bytes of reads and refusals that wait.
const MOST_OTHERS: usize = 4 << 20;
/// The writer lets reads and refusals gather for so long: to wake it for each would cost more than to write it.
const GATHER: Duration = Duration::from_millis(5);
/// How often the writer looks whether a second of refusals is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells when a line is written, or why it is not.
pub(super) type Waiting = oneshot::Receiver<Result<(), NotRecorded>>;
type Done = oneshot::Sender<Result<(), NotRecorded>>;

/// One line, or what else is to be done in its order.
pub(super) struct Entry {
    pub(super) line: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) done: Option<Done>,
    /// What it takes of the room for changes; free again when it is written, or given up.
    _room: Option<Amount>,
}

impl Entry {
    /// A line that takes nothing of the room for changes.
    pub(super) fn without_room(line: Vec<u8>, kind: Kind, done: Option<Done>) -> Self {
        Self {
            line,
            kind,
            done,
            _room: None,
        }
    }
}

pub(super) enum Kind {
    /// On disk before it is answered.
    Begin(Arc<BeginState>),
    /// Never dropped: its room was taken with its begin.
    End(Arc<BeginState>),
    /// Dropped where there is no room.
    Other,
    /// Of the log itself: never dropped. With other keys, those that hash from the next line on.
    Own(Option<Option<Arc<AuditKeys>>>),
}

/// Whether the line of a change's begin was refused: then there is none of its end.
#[derive(Debug, Default)]
pub(super) struct BeginState(AtomicU8);

impl BeginState {
    pub(super) fn refuse(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

/// What the writer takes at a time.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Room for the ends of changes that are under way.
    pub(super) open_ends: usize,
    /// The file is to be opened anew.
    pub(super) reopen: bool,
    /// Nothing more will come.
    pub(super) stop: bool,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    open_ends: usize,
    others: usize,
    reopen: bool,
    stop: bool,
    asleep: bool,
    /// A line waits that somebody waits for.
    hurry: bool,
}

/// Told of lines that are lost.
pub(super) type Dropped = Box<dyn Fn(u64) + Send + Sync>;

/// Lines that are lost, and that no line tells of yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// About changes that were forwarded all the same.
    pub(super) changes: u64,
    /// About reads and refusals.
    pub(super) others: u64,
}

/// The queue.
pub(super) struct Queue {
    dropped: Dropped,
    lost: Mutex<Lost>,
    state: Mutex<State>,
    filled: Condvar,
    /// A change has waited for the disk in vain, and the writer has not come back from it yet.
    stuck: AtomicBool,
}

/// Room for the line of a change's end.
#[derive(Debug)]
pub(super) struct EndRoom {
    pub(super) bytes: usize,
    room: Option<Amount>,
    queue: std::sync::Weak<Queue>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Drop for EndRoom {
    /// Of a change whose end is never written.
    fn drop(&mut self) {
        if self.bytes > 0
            && let Some(queue) = self.queue.upgrade()
        {
            queue.state.lock().open_ends -= self.bytes;
        }
    }
}

impl Queue {
    /// `dropped` is told of lines that are lost.
    pub(super) fn new(dropped: Dropped) -> Self {
        Self {
            dropped,
            lost: Mutex::default(),
            state: Mutex::default(),
            filled: Condvar::default(),
            stuck: AtomicBool::default(),
        }
    }

    /// Counts lines that are lost.
    pub(super) fn lose(&self, lost: Lost) {
        let lines = lost.changes + lost.others;
        if lines > 0 {
            self.give_lost_back(lost);
            (self.dropped)(lines);
        }
    }

    /// The lines that were lost since the last time.
    pub(super) fn take_lost(&self) -> Lost {
        std::mem::take(&mut self.lost.lock())
    }

    /// No line could tell of these.
    pub(super) fn give_lost_back(&self, lost: Lost) {
        let mut all = self.lost.lock();
        all.changes += lost.changes;
        all.others += lost.others;
    }

    pub(super) fn has_lost(&self) -> bool {
        *self.lost.lock() != Lost::default()
    }

    /// Takes the line of a begin, and room for that of the end, of this part of the room for changes. `wait`: somebody waits
    /// until it is on disk.
    pub(super) fn begin(
        self: &Arc<Self>,
        line: Vec<u8>,
        end: usize,
        wait: bool,
        part: &Arc<Part>,
    ) -> Result<(Arc<BeginState>, EndRoom, Option<Waiting>), NotRecorded> {
        let mut state = self.state.lock();
        let end = end + SEAL_MOST;
        let (mut of_begin, mut of_end) = (Amount::none(part), Amount::none(part));
        if state.stop || !of_begin.grow(line.len()) || !of_end.grow(end) {
            return Err(NotRecorded::TooMany);
        }
        state.open_ends += end;
        let begin = Arc::new(BeginState::default());
        let (done, written) = if wait {
            let (done, written) = oneshot::channel();
            (Some(done), Some(written))
        } else {
            (None, None)
        };
        let room = EndRoom {
            bytes: end,
            room: Some(of_end),
            queue: Arc::downgrade(self),
        };
        let entry = Entry {
            line,
            kind: Kind::Begin(Arc::clone(&begin)),
            done,
            _room: Some(of_begin),
        };
        self.push(state, entry, true);
        Ok((begin, room, written))
    }

    /// Takes the line of an end, which has its room.
    pub(super) fn end(&self, line: Vec<u8>, begin: Arc<BeginState>, mut room: EndRoom) -> Waiting {
        let (done, written) = oneshot::channel();
        let mut state = self.state.lock();
        state.open_ends -= std::mem::take(&mut room.bytes);
        if state.stop {
            // Behind the last line there is none.
            return written;
        }
        let entry = Entry {
            line,
            kind: Kind::End(begin),
            done: Some(done),
            _room: room.room.take(),
        };
        self.push(state, entry, true);
        written
    }

    /// Takes a line that may be dropped; whether there was room.
    pub(super) fn other(&self, line: Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if state.others + line.len() > MOST_OTHERS || state.stop {
            return false;
        }
        state.others += line.len();
        self.push(state, Entry::without_room(line, Kind::Other, None), false);
        true
    }

    /// Takes a line of the log itself.
    pub(super) fn own(&self, line: Vec<u8>, keys: Option<Option<Arc<AuditKeys>>>) -> Waiting {
        let (done, written) = oneshot::channel();
        let state = self.state.lock();
        if state.stop {
            return written;
        }
        self.push(state, Entry::without_room(line, Kind::Own(keys), Some(done)), true);
        written
    }

    fn push(&self, mut state: parking_lot::MutexGuard<'_, State>, entry: Entry, hurry: bool) {
        state.entries.push_back(entry);
        let wake = std::mem::replace(&mut state.asleep, false) || (hurry && !state.hurry);
        state.hurry |= hurry;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        let mut state = self.state.lock();
        state.reopen = true;
        state.hurry = true;
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the last line of all; whether none was taken before.
    pub(super) fn close(&self, line: Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.stop, true) {
            return false;
        }
        self.push(state, Entry::without_room(line, Kind::Own(None), None), true);
        true
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Whether changes are under way whose end is to come.
    pub(super) fn awaits_ends(&self) -> bool {
        self.state.lock().open_ends > 0
    }

    /// No line is taken any more; those that are here are written.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        state.hurry = true;
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for something to do. `again`: lines that could not be written wait for another try.
    pub(super) fn next(&self, again: bool) -> Batch {
        let mut state = self.state.lock();
        if state.entries.is_empty() && !state.reopen && !state.stop {
            state.asleep = true;
            self.filled.wait_for(&mut state, LOOK_EVERY);
            state.asleep = false;
        } else if again && !state.stop {
            // Whatever is wrong with the disk is not mended by asking it all the time.
            self.filled.wait_for(&mut state, LOOK_EVERY / 10);
        }
        if !state.hurry && !state.entries.is_empty() {
            self.filled.wait_while_for(&mut state, |state| !state.hurry, GATHER);
        }
        state.hurry = false;
        Batch {
            entries: state.entries.drain(..).collect(),
            open_ends: state.open_ends,
            reopen: std::mem::take(&mut state.reopen),
            stop: state.stop,
        }
    }

    /// Gives back the room of reads and refusals that were written or dropped.
    pub(super) fn give_back(&self, others: usize) {
        self.state.lock().others -= others;
    }

    pub(super) fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }
}
