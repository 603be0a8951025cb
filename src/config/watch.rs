//! Which files the settings were made of, and whether one of them is another since.
//!
//! By looking at them, not by notifications of the kernel: that works on every file system (NFS, overlays, a tmpfs that
//! Kubernetes projects a Secret into), through every chain of symbolic links, for files that are not there yet, and without
//! a thread or a limit of its own. It costs a `stat` for each file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{Contents, Disk, Files};

/// What tells one state of a file from another; `None`: it can't be looked at, most likely because it is not there.
type Fingerprint = Option<[u64; 7]>;

/// The file system, with a memory of what was read.
#[derive(Debug, Default)]
pub struct Watched {
    seen: RefCell<BTreeMap<PathBuf, Fingerprint>>,
}

impl Watched {
    /// Whether a file that was read, or looked for, is another now. Says so once for each change.
    pub fn changed(&self) -> bool {
        let mut changed = false;
        for (path, seen) in self.seen.borrow_mut().iter_mut() {
            let now = fingerprint(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

impl Files for Watched {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Contents> {
        // Looked at before it is read: what changes in between is noticed the next time.
        let before = fingerprint(path);
        self.seen.borrow_mut().insert(path.to_owned(), before);
        Disk.read(path, limit)
    }
}

/// Device, inode, mode, size, and the times of the last change of content and of status.
fn fingerprint(path: &Path) -> Fingerprint {
    let of = std::fs::metadata(path).ok()?;
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

    fn watching(path: &Path) -> Watched {
        let watched = Watched::default();
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
