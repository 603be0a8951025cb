//! Work that blocks its thread: name lookups, and files that may lie on a mount which doesn't answer.
//!
//! It runs on a few threads of the process's own. tokio's `spawn_blocking` panics when no thread can be made; here the
//! work waits for a thread that is there, or fails, and one log line says so.

mod lookup;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::OFlags;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub use lookup::lookup;

/// Threads at most. There is one lookup at a time for a name, and one check of the files.
const MOST_THREADS: usize = 16;
/// Work that waits at most; more is refused.
const MOST_WAITING: usize = 256;
/// A thread beyond the first that has nothing to do for so long ends.
const IDLE_FOR: Duration = Duration::from_secs(10);
/// For `getaddrinfo` with the modules of a name service, and for PEM files.
const STACK: usize = 1 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// One for the process, as the limit of threads is.
static THREADS: LazyLock<Arc<Threads>> = LazyLock::new(|| Threads::at_most(MOST_THREADS, spawn));

struct Threads {
    most: usize,
    state: Mutex<State>,
    filled: Condvar,
    spawn: fn(Arc<Threads>) -> io::Result<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
    /// The log tells that no more threads can be made.
    said: bool,
}

/// Makes the first thread, which stays: from then on the work can do without any other.
///
/// # Errors
/// When no thread can be made.
pub fn start() -> io::Result<()> {
    let mut state = THREADS.state.lock();
    if state.threads == 0 {
        (THREADS.spawn)(Arc::clone(&THREADS))?;
        state.threads = 1;
    }
    Ok(())
}

/// Runs `work` on a thread that may block. It goes on when nobody waits for it any more.
///
/// # Errors
/// When there is no thread for it and none can be made, when too much waits already, or when it panicked.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    THREADS.submit(Box::new(move || {
        let _ = done.send(work());
    }))?;
    result
        .await
        .map_err(|_| io::Error::other("a defect ended the work on its thread"))
}

/// The same outside of a runtime. `slow` is called once, when it takes longer than `patience`.
///
/// # Errors
/// As for [`run`].
pub fn wait<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    patience: Duration,
    slow: impl FnOnce(),
) -> io::Result<T> {
    let (done, result) = mpsc::channel();
    THREADS.submit(Box::new(move || {
        let _ = done.send(work());
    }))?;
    match result.recv_timeout(patience) {
        Ok(value) => return Ok(value),
        Err(mpsc::RecvTimeoutError::Timeout) => slow(),
        Err(mpsc::RecvTimeoutError::Disconnected) => {}
    }
    result
        .recv()
        .map_err(|_| io::Error::other("a defect ended the work on its thread"))
}

/// The same for at most `limit`; `None`: there is no result by then, or none at all. The work goes on.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    THREADS
        .submit(Box::new(move || {
            let _ = done.send(work());
        }))
        .ok()?;
    result.recv_timeout(limit).ok()
}

/// What a file holds.
pub struct FileContent {
    /// Wiped when they are dropped: they may be a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The permission bits of the very file that was read.
    pub mode: u32,
}

/// The whole of a regular file of at most `most` bytes: opening a FIFO, or reading a device, might not end. Blocks its thread.
///
/// # Errors
/// When it can't be read, is larger, or is no regular file.
pub fn read_file(path: &Path, most: usize) -> io::Result<FileContent> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    // Room for all of it, made at once: a vector that grows leaves copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(most).min(most);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} KiB", most >> 10),
        ));
    }
    Ok(FileContent {
        bytes,
        mode: metadata.permissions().mode(),
    })
}

/// Whether so many more threads can be made: tokio panics, or goes on with fewer, where it gets none for its workers.
///
/// # Errors
/// When they can't.
pub fn can_make(threads: usize) -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let made: Vec<_> = (0..threads)
        .map(|_| {
            let held = Arc::clone(&held);
            thread::Builder::new().spawn(move || {
                let _ = held.lock().recv();
            })
        })
        .collect();
    drop(hold);
    let mut result = Ok(());
    for made in made {
        match made {
            Ok(thread) => drop(thread.join()),
            Err(error) => result = Err(error),
        }
    }
    result
}

fn spawn(threads: Arc<Threads>) -> io::Result<()> {
    thread::Builder::new()
        .name("blocking".to_owned())
        .stack_size(STACK)
        .spawn(move || threads.work())
        .map(drop)
}

impl Threads {
    fn at_most(most: usize, spawn: fn(Arc<Threads>) -> io::Result<()>) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
            filled: Condvar::new(),
            spawn,
        })
    }

    fn submit(self: &Arc<Self>, work: Work) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.waiting.len() >= MOST_WAITING {
            return Err(io::Error::other("too much waits for a thread already"));
        }
        state.waiting.push_back(work);
        if state.idle >= state.waiting.len() {
            drop(state);
            self.filled.notify_one();
            return Ok(());
        }
        if state.threads >= self.most {
            return Ok(());
        }
        match (self.spawn)(Arc::clone(self)) {
            Ok(()) => {
                state.threads += 1;
                state.said = false;
                Ok(())
            }
            Err(error) => {
                let first = !std::mem::replace(&mut state.said, true);
                let alone = state.threads == 0;
                if alone {
                    state.waiting.pop_back();
                }
                drop(state);
                if first {
                    tracing::error!(
                        %error,
                        "no thread can be made: name lookups and files wait for those that are there (check the limit of \
                         processes and threads: `ulimit -u`, TasksMax, pids limit)"
                    );
                }
                if alone { Err(error) } else { Ok(()) }
            }
        }
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                // Whoever waits for it learns from the channel that it is gone.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.filled.wait_for(&mut state, IDLE_FOR);
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() && state.threads > 1 {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    static NO_MORE: AtomicBool = AtomicBool::new(false);

    fn until_no_more(threads: Arc<Threads>) -> io::Result<()> {
        if NO_MORE.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        spawn(threads)
    }

    #[test]
    fn work_waits_for_a_thread_that_is_there_when_none_can_be_made() {
        let threads = Threads::at_most(8, until_no_more);
        NO_MORE.store(true, Ordering::Relaxed);
        assert!(threads.submit(Box::new(|| {})).is_err(), "there is none");
        NO_MORE.store(false, Ordering::Relaxed);
        let (release, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        threads
            .submit(Box::new(move || {
                let _ = held.recv();
            }))
            .unwrap();
        NO_MORE.store(true, Ordering::Relaxed);
        for n in 0..3 {
            let tell = tell.clone();
            threads.submit(Box::new(move || tell.send(n).unwrap())).unwrap();
        }
        assert!(told.try_recv().is_err());
        drop(release);
        assert_eq!(told.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        // A panic ends its work alone.
        threads.submit(Box::new(|| panic!("on purpose"))).unwrap();
        threads.submit(Box::new(move || tell.send(3).unwrap())).unwrap();
        assert_eq!(told.recv().unwrap(), 3);
    }

    #[test]
    fn work_is_waited_for_until_the_limit_and_no_longer() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (release, held) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(1), move || held.recv().is_ok()), None);
        drop(release);
        assert_eq!(within(Duration::from_secs(60), || -> u8 { panic!("on purpose") }), None);
    }

    #[test]
    fn slow_work_is_told_of_and_waited_for() {
        let (release, held) = mpsc::channel::<()>();
        let value = wait(
            move || {
                held.recv().unwrap();
                7
            },
            Duration::from_millis(1),
            || release.send(()).unwrap(),
        );
        assert_eq!(value.unwrap(), 7);
    }
}
