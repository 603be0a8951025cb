//! The audit log: who changed what, on disk before it is forwarded (docs/AUDIT.md).
//!
//! A change has two lines: `begin` is on disk before the request is forwarded, and takes the room for `end` along; `end` is
//! written before the client gets the last byte. A read or a refusal has one, which is dropped where there is no room. One
//! thread writes; whoever is on a request's way only puts a line into a queue with bounds.

mod chain;
mod examine;
mod file;
mod keys;
mod line;
mod path;
mod queue;
mod refusals;
mod settings;
mod start;
mod trouble;
pub mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::Method;
use parking_lot::{Condvar, Mutex};
use serde_json::json;

pub use chain::Head;
pub use examine::{ExaminedFile, examine};
pub use file::AuditFileError;
pub use line::{AuditOutcome, AuditRequest};
pub use queue::ROOM_FOR_CHANGES;
pub use settings::{AuditFormat, AuditSettings, Destination, Include, PathShown, WhenFull};
pub use start::AuditStartError;
pub use trouble::AuditTrouble;

use crate::crypto::KeyFile;
use crate::fair::Part;
use crate::log::clean;
use crate::time::SharedClock;
use keys::{AuditKeys, PathKey};
use line::Event;
use queue::{BeginState, EndRoom, Lost, Queue, Waiting};
use refusals::Refusals;
use trouble::Troubles;

/// How long a request waits for its line.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the end looks whether all has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One line of each kind.
const CHANGE: Lost = Lost { changes: 1, others: 0 };
const OTHER: Lost = Lost { changes: 0, others: 1 };

/// Why a change is not recorded, and so not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// So many are under way that another one has no room.
    #[error("so many changes are under way, the caller's own or all together, that another one can't be recorded")]
    TooMany,
    /// The disk is full.
    #[error("the disk of the audit log is full")]
    Full,
    /// The file can't be written.
    #[error("the audit file can't be written")]
    Failed,
    /// The disk did not answer.
    #[error("the disk of the audit log did not answer within {} s", PATIENCE.as_secs())]
    Slow,
}

/// The audit log of the process.
pub struct Audit {
    include: Include,
    format: AuditFormat,
    when_full: WhenFull,
    path: PathShown,
    to_file: bool,
    chain: Arc<str>,
    requests: AtomicU64,
    queue: Arc<Queue>,
    head: Arc<Mutex<Option<Head>>>,
    logged: AtomicU64,
    path_key: ArcSwap<PathKey>,
    keys: Mutex<Option<KeyFile>>,
    refusals: Arc<Mutex<Refusals>>,
    trouble: Arc<Troubles>,
    to: Destination,
    clock: SharedClock,
    ended: Arc<Ended>,
}

/// Whether the writer has ended.
#[derive(Default)]
struct Ended {
    ended: Mutex<bool>,
    told: Condvar,
}

impl Ended {
    fn set(&self) {
        *self.ended.lock() = true;
        self.told.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.ended.lock()
    }

    fn wait(&self, limit: Duration) {
        self.told.wait_while_for(&mut self.ended.lock(), |ended| !*ended, limit);
    }
}

/// A change that was begun: its end has room.
#[derive(Debug)]
pub struct Ticket {
    id: String,
    begin: Arc<BeginState>,
    room: EndRoom,
}

/// Tells when the line of a change's begin is on disk.
#[derive(Debug)]
pub struct OnDisk {
    done: Waiting,
    queue: Arc<Queue>,
}

impl OnDisk {
    /// Waits for it.
    ///
    /// # Errors
    /// When it is not, or not in time.
    pub async fn wait(self) -> Result<(), NotRecorded> {
        match tokio::time::timeout(PATIENCE, self.done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NotRecorded::Failed),
            Err(_) => {
                self.queue.set_stuck(true);
                Err(NotRecorded::Slow)
            }
        }
    }
}

/// Tells when the line of a request's end is written.
#[derive(Debug)]
pub struct Written(Waiting);

impl Written {
    /// Waits for it, but not for ever: its room is taken, and the client is to have its answer.
    pub async fn wait(self) {
        let _ = tokio::time::timeout(PATIENCE, self.0).await;
    }
}

impl Audit {
    /// Whether requests with this method are recorded.
    pub fn includes(&self, method: &str) -> bool {
        self.include == Include::All || !matches!(method, "GET" | "HEAD" | "OPTIONS" | "")
    }

    /// Whether a request with this method changes something at Atlas: its begin is recorded, too.
    pub fn is_change(method: &Method) -> bool {
        !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// How a line shows a path that is an operation's with this template (none: empty), and has these ids in it.
    pub fn path<'p>(&self, path: &'p str, template: &str, ids: [Option<&str>; 2]) -> Cow<'p, str> {
        match self.path {
            PathShown::Full => clean(path, line::MOST_PATH),
            PathShown::Template => {
                let hidden = path::hidden(path, template, ids, &self.path_key.load());
                Cow::Owned(clean(&hidden, line::MOST_PATH).into_owned())
            }
        }
    }

    /// How a line shows a `User-Agent`.
    pub fn user_agent(text: &str) -> Cow<'_, str> {
        clean(text, line::MOST_USER_AGENT)
    }

    /// Records that a change is about to be forwarded. The ticket is for its end; wait for the other before anything is
    /// forwarded. `part`: of the room for changes ([`ROOM_FOR_CHANGES`]), whoever makes it. `None`: it is not recorded, and forwarded all the same (`when_full = "drop"`).
    ///
    /// # Errors
    /// When there is no room, and it must not be forwarded.
    pub fn begin(
        &self,
        request: &AuditRequest<'_>,
        part: &Arc<Part>,
    ) -> Result<Option<(Ticket, Option<OnDisk>)>, NotRecorded> {
        let drops = self.when_full == WhenFull::Drop;
        let stuck = self.queue.is_stuck();
        if stuck && !drops {
            return Err(NotRecorded::Slow);
        }
        let id = self.next_id();
        let line = line::of_request(self.format, Event::Begin, self.clock.wall(), &id, request, None);
        let end = line.len() + line::END_MORE;
        // Nobody waits for a pipe, nor where the answer changes nothing.
        let wait = self.to_file && !(drops && stuck);
        match self.queue.begin(line, end, wait, part) {
            Ok((begin, room, done)) => {
                let queue = Arc::clone(&self.queue);
                let on_disk = done.map(|done| OnDisk { done, queue });
                Ok(Some((Ticket { id, begin, room }, on_disk)))
            }
            Err(_) if drops => {
                self.queue.lose(CHANGE);
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Whether a change whose line is not on disk is forwarded all the same; counts it then, unless the line may still come
    /// there.
    pub fn may_forward_unrecorded(&self, why: NotRecorded) -> bool {
        let drops = self.when_full == WhenFull::Drop;
        if drops && why != NotRecorded::Slow {
            self.queue.lose(CHANGE);
        }
        drops
    }

    /// Records the end of a change.
    pub fn end(&self, ticket: Ticket, request: &AuditRequest<'_>, outcome: &AuditOutcome<'_>) -> Option<Written> {
        if ticket.begin.refused() {
            self.one(request, outcome, false);
            return None;
        }
        let Ticket { id, begin, room } = ticket;
        let now = self.clock.wall();
        let line = line::of_request(self.format, Event::End, now, &id, request, Some(outcome));
        let written = self.queue.end(line, begin, room);
        // Nobody waits for a pipe, nor where the answer changes nothing.
        let wait = self.to_file && !(self.when_full == WhenFull::Drop && self.queue.is_stuck());
        wait.then(|| Written(written))
    }

    /// Records all of a request that was not begun. `refused`: it was not forwarded; of these a peer has a few lines a second,
    /// and one that counts the rest.
    pub fn one(&self, request: &AuditRequest<'_>, outcome: &AuditOutcome<'_>, refused: bool) {
        let now = self.clock.wall();
        if refused {
            let mut refusals = self.refusals.lock();
            let ended = refusals.ended(second(now));
            let own_line = refusals.count(&request.site.to_string(), request.listener);
            drop(refusals);
            self.count_lines(ended, now);
            if !own_line {
                return;
            }
        }
        let line = line::of_request(self.format, Event::One, now, &self.next_id(), request, Some(outcome));
        if !self.queue.other(line) {
            self.queue.lose(OTHER);
        }
    }

    fn count_lines(&self, ended: Vec<(String, refusals::Counted)>, now: SystemTime) {
        put_counts(ended, &self.queue, self.format, now);
    }

    fn next_id(&self) -> String {
        format!("{}-{}", self.chain, self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Records that settings were read again, and whether they are in force. `configuration` names them.
    pub fn reloaded(&self, in_force: bool, configuration: Option<&str>) {
        let mut members = vec![("outcome", json!(if in_force { "ok" } else { "error" }))];
        if let Some(configuration) = configuration {
            members.push(("configuration", json!(configuration)));
        }
        let line = line::of_log(self.format, Event::Reload, self.clock.wall(), &members);
        drop(self.queue.own(line, None));
    }

    /// Goes on with these keys.
    pub fn take_keys(&self, keys: Option<&KeyFile>) {
        let mut now = self.keys.lock();
        if now.as_ref() == keys {
            return;
        }
        *now = keys.cloned();
        let new = keys.map(|keys| Arc::new(AuditKeys::of(&keys.current)));
        if let Some(keys) = keys {
            self.path_key.store(Arc::new(PathKey::of(&keys.current)));
        }
        let members = [("new_key", json!(new.as_ref().map(|new| new.id().to_owned())))];
        let line = line::of_log(self.format, Event::Key, self.clock.wall(), &members);
        drop(self.queue.own(line, Some(new)));
    }

    /// Goes on in the file that is at the path now: to be called when it was renamed.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// The last line of the chain; `None`: standard output has none.
    pub fn head(&self) -> Option<Head> {
        self.head.lock().clone()
    }

    /// Tells the log what the last line is, if that is another one than at the last time.
    pub fn log_head(&self) {
        if let Some(head) = self.head()
            && self.logged.swap(head.seq, Ordering::Relaxed) != head.seq
        {
            crate::log::audit_head(&json!(head));
        }
    }

    /// Ends the chain when what is under way has ended, and waits until all is on disk; for `limit` at most.
    pub async fn close(&self, limit: Duration) {
        let ended = async {
            while self.queue.awaits_ends() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(limit / 2, ended).await;
        if !self.end_chain() {
            return;
        }
        let done = async {
            while !self.ended.is_set() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(limit, done).await;
        self.log_head();
    }

    /// The same where there is no runtime any more, and nothing is under way.
    pub fn close_at_once(&self, limit: Duration) {
        if self.end_chain() {
            self.ended.wait(limit);
            self.log_head();
        }
    }

    /// Whether its last line was taken.
    pub fn is_closed(&self) -> bool {
        self.queue.is_stopped()
    }

    /// Puts the last line into the queue, unless that was done already.
    fn end_chain(&self) -> bool {
        let now = self.clock.wall();
        let counted = self.refusals.lock().all();
        put_counts(counted, &self.queue, self.format, now);
        let line = line::of_log(self.format, Event::Close, now, &[]);
        self.queue.close(line)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

fn second(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn put_counts(ended: Vec<(String, refusals::Counted)>, queue: &Queue, format: AuditFormat, now: SystemTime) {
    for (peer, counted) in ended {
        let members = [
            ("peer", json!(peer)),
            ("listener", json!(counted.listener)),
            ("decision", json!("refused")),
            ("count", json!(counted.more())),
        ];
        if !queue.other(line::of_log(format, Event::One, now, &members)) {
            queue.lose(OTHER);
        }
    }
}
