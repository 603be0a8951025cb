//! The files that the settings were read from, and whether one of them has changed since.
//!
//! Polls them instead of using the kernel's notifications: that works on every file system (NFS, overlays, a tmpfs that
//! Kubernetes projects a Secret into), through every chain of symbolic links, for files that do not exist yet, and
//! without a thread or a limit of its own. It costs a `stat` for each file.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::source::{Contents, Disk, Files};
use crate::blocking;

/// A file whose read blocks for this long at the start is named.
const PATIENCE: Duration = Duration::from_secs(5);

/// Differs between two states of a file; `None`: `stat` failed, most likely because the file does not exist.
type Fingerprint = Option<[u64; 7]>;

/// The file system, with a memory of what was read.
#[derive(Debug)]
pub struct WatchedFiles {
    seen: Mutex<BTreeMap<PathBuf, Fingerprint>>,
    /// The file that is being examined or read.
    at: Mutex<Option<PathBuf>>,
    /// Called at the start with a file whose read blocks.
    slow: fn(&Path),
    /// The start is over: from now on only regular files are read.
    started: AtomicBool,
}

impl WatchedFiles {
    /// `slow` is called with a file whose read blocks at the start.
    pub fn new(slow: fn(&Path)) -> Self {
        Self {
            seen: Mutex::default(),
            at: Mutex::default(),
            slow,
            started: AtomicBool::new(false),
        }
    }

    /// To be called when the settings were read for the first time: a FIFO may be read once, at the start.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Whether a file that was read, or was missing, has changed. True once for each change. Blocks its thread.
    pub fn changed(&self) -> bool {
        let paths: Vec<_> = self.seen.lock().keys().cloned().collect();
        let mut changed = false;
        for path in paths {
            let now = self.at(&path, || fingerprint(&path));
            let seen = self.seen.lock().insert(path, now);
            changed |= seen != Some(now);
        }
        changed
    }

    /// The file that is being waited for, if one is.
    pub fn waits_for(&self) -> Option<PathBuf> {
        self.at.lock().clone()
    }

    fn at<T>(&self, path: &Path, work: impl FnOnce() -> T) -> T {
        *self.at.lock() = Some(path.to_owned());
        let done = work();
        *self.at.lock() = None;
        done
    }
}

impl Files for WatchedFiles {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Contents> {
        // `stat` before the read: a change in between is noticed the next time.
        let (before, contents) = if self.started.load(Ordering::Relaxed) {
            self.at(path, || (fingerprint(path), Disk::read_regular(path, limit)))
        } else {
            let wanted = path.to_owned();
            blocking::wait(
                move || (fingerprint(&wanted), Disk.read(&wanted, limit)),
                PATIENCE,
                || (self.slow)(path),
            )?
        };
        self.seen.lock().insert(path.to_owned(), before);
        contents
    }
}

/// Device, inode, mode, size, and the times of the last change of content and of status. For anything but a regular
/// file only the first three: reading a FIFO changes its times.
fn fingerprint(path: &Path) -> Fingerprint {
    let of = std::fs::metadata(path).ok()?;
    if !of.is_file() {
        return Some([of.dev(), of.ino(), u64::from(of.mode()), 0, 0, 0, 0]);
    }
    Some([
        of.dev(),
        of.ino(),
        u64::from(of.mode()),
        of.size(),
        of.mtime().cast_unsigned(),
        of.ctime().cast_unsigned(),
        of.mtime_nsec().cast_unsigned() << 32 | of.ctime_nsec().cast_unsigned(),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn watching(path: &Path) -> WatchedFiles {
        let watched = WatchedFiles::new(|_| {});
        let _ = watched.read(path, 100);
        assert!(!watched.changed());
        watched
    }

    #[test]
    fn each_way_to_change_a_file_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "one").unwrap();
        let watched = watching(&path);
        // In place, longer.
        fs::write(&path, "three").unwrap();
        assert!(watched.changed() && !watched.changed());
        // By an atomic rename, of the same length.
        fs::write(dir.path().join("new"), "seven").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(watched.changed() && !watched.changed());
        fs::remove_file(&path).unwrap();
        assert!(watched.changed() && !watched.changed());
        fs::write(&path, "again").unwrap();
        assert!(watched.changed() && !watched.changed());
    }

    #[test]
    fn a_fifo_is_read_once_and_never_waited_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, "secret").unwrap()
        });
        let watched = WatchedFiles::new(|_| {});
        let contents = watched.read(&path, 100).unwrap();
        assert_eq!(&contents.bytes[..], b"secret");
        writer.join().unwrap();
        assert!(!watched.changed(), "being read is no change");
        watched.started();
        let error = watched.read(&path, 100).err().unwrap();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn the_swap_of_a_kubernetes_projection_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for generation in ["..1", "..2"] {
            fs::create_dir(at(generation)).unwrap();
            fs::write(at(generation).join("secret"), "same length").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/secret", at("secret")).unwrap();
        let watched = watching(&at("secret"));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(watched.changed() && !watched.changed());
    }
}
