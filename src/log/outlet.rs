//! Lines on their way to a descriptor that somebody else reads, or doesn't.
//!
//! A pipe that nobody reads is full after 64 KiB, and whoever writes then waits for ever. So only a thread that has
//! nothing else to do writes: all others put their lines into a queue with a bound, which takes no longer than copying
//! them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that wait at most: half a second of 5,000 requests a second.
const MOST_WAITING: usize = 1 << 20;
/// The writer lets lines gather for so long: to wake it for each would cost more than to write it.
const GATHER: Duration = Duration::from_millis(2);
/// Lines are written whole, and several together up to here: POSIX keeps the words of several writers to one pipe apart in
/// pieces of this size (PIPE_BUF).
const MOST_AT_ONCE: usize = 4096;
/// A buffer larger than this is given back.
const KEPT: usize = 64 << 10;

/// A queue with its writer.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signalled when there is something to write, or the writer must hurry.
    filled: Condvar,
    /// Signalled when all was written.
    emptied: Condvar,
    /// Called with the number of lines that found no room, or could not be written.
    lost: fn(u64),
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The writer waits for something to write.
    asleep: bool,
    /// The writer holds lines that are not written yet.
    writing: bool,
    /// Somebody waits until all lines are written.
    hurry: bool,
    /// Lost lines that the log does not mention yet.
    unsaid: u64,
}

impl Outlet {
    /// An outlet to a descriptor, with its thread. `lost` is called at once when lines are lost, and `say` with their
    /// number when there is room again.
    ///
    /// # Errors
    /// When no thread can be made.
    pub(super) fn start(name: &str, to: BorrowedFd<'_>, lost: fn(u64), say: fn(u64)) -> io::Result<Self> {
        // A descriptor of its own: the standard library's handles have locks that others may want.
        let sink = to.try_clone_to_owned().map(File::from)?;
        let outlet = Self(Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost,
        }));
        let shared = Arc::clone(&outlet.0);
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 << 10)
            .spawn(move || shared.write_on(sink, say))?;
        Ok(outlet)
    }

    /// Standard output, with a thread of its own.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn stdout() -> io::Result<Self> {
        Self::start("stdout", io::stdout().as_fd(), |_| {}, |_| {})
    }

    /// Takes whole lines, or drops and counts them.
    pub fn put(&self, lines: &[u8]) {
        let shared = &self.0;
        let mut state = shared.state.lock();
        if state.waiting.len() + lines.len() > MOST_WAITING {
            state.unsaid += 1;
            drop(state);
            (shared.lost)(1);
            return;
        }
        state.waiting.extend_from_slice(lines);
        let wake = std::mem::replace(&mut state.asleep, false);
        drop(state);
        if wake {
            shared.filled.notify_one();
        }
    }

    /// Waits until all that is here was written, but no longer than `limit`.
    #[allow(
        clippy::disallowed_methods,
        reason = "the end of the process: there is no runtime any more"
    )]
    pub fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.0.state.lock();
        state.hurry = true;
        self.0.filled.notify_one();
        while !state.waiting.is_empty() || state.writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.0.emptied.wait_for(&mut state, left);
        }
        state.hurry = false;
    }
}

impl Shared {
    /// Runs the writer, for as long as the process lives.
    fn write_on(&self, mut sink: File, say: fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let unsaid = self.next(&mut batch);
            if unsaid > 0 {
                // There is room again: the line about it follows those of the batch.
                say(unsaid);
            }
            let unwritten = write_lines(&mut sink, &batch);
            if unwritten > 0 {
                (self.lost)(unwritten);
            }
            batch.clear();
            batch.shrink_to(KEPT);
        }
    }

    /// Waits for lines and takes them; returns how many were lost before.
    fn next(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.writing = false;
        while state.waiting.is_empty() {
            self.emptied.notify_all();
            state.asleep = true;
            self.filled.wait(&mut state);
        }
        if !state.hurry {
            self.filled.wait_while_for(&mut state, |state| !state.hurry, GATHER);
        }
        state.asleep = false;
        state.writing = true;
        std::mem::swap(&mut state.waiting, batch);
        std::mem::take(&mut state.unsaid)
    }
}

/// Writes until there is an error; returns how many lines were not written.
fn write_lines(sink: &mut File, lines: &[u8]) -> u64 {
    let mut left = lines;
    while !left.is_empty() {
        let piece = piece(left);
        if write_all(sink, &left[..piece]).is_err() {
            // Nobody is there to read.
            return left.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        left = &left[piece..];
    }
    0
}

/// The length of the whole lines that are written together.
fn piece(lines: &[u8]) -> usize {
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let most = lines.len().min(MOST_AT_ONCE);
    end(&lines[..most])
        .or_else(|| lines.iter().position(|byte| *byte == b'\n').map(|at| at + 1))
        .unwrap_or(lines.len())
}

/// Writes all, also to a pipe that somebody has made non-blocking. Blocks.
///
/// # Errors
/// When nobody is there to read, and as the system says.
pub fn write_all(sink: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The parent process may have made the pipe non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(sink, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl io::Write for &Outlet {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.put(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static LOST: AtomicU64 = AtomicU64::new(0);
    static SAID: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn lines_that_find_no_room_are_counted_and_told_of() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lost = |lines| {
            LOST.fetch_add(lines, Ordering::Relaxed);
        };
        let say = |lines| {
            SAID.fetch_add(lines, Ordering::Relaxed);
        };
        let outlet = Outlet::start("test", writer.as_fd(), lost, say).unwrap();
        drop(writer);
        // Nobody reads: what the pipe, the writer and the queue hold is a bound.
        const LINES: u64 = 3000;
        for _ in 0..LINES {
            outlet.put(&[&[b'x'; 999][..], b"\n"].concat());
        }
        outlet.flush(Duration::from_millis(10));
        let lost = LOST.load(Ordering::Relaxed);
        assert!(lost > 0 && lost < LINES, "{lost}");
        let reader = thread::spawn(move || {
            let mut lines = 0;
            let mut chunk = [0; 1000];
            while lines < LINES - lost {
                reader.read_exact(&mut chunk).unwrap();
                assert!(chunk.ends_with(b"x\n"));
                lines += 1;
            }
        });
        reader.join().unwrap();
        outlet.put(b"y\n");
        outlet.flush(Duration::from_secs(30));
        assert_eq!(SAID.load(Ordering::Relaxed), lost);
    }

    #[test]
    fn lines_are_written_whole() {
        assert_eq!(piece(b"a\nbc\nd"), 5);
        assert_eq!(piece(b"abc"), 3);
        let long = [vec![b'x'; 5000], b"\ny\n".to_vec()].concat();
        assert_eq!(piece(&long), 5001);
        let many = b"12345678\n".repeat(1000);
        assert_eq!(piece(&many), MOST_AT_ONCE / 9 * 9);
    }
}
