//! The file: a regular one that only this user can read, with one writer, and with room taken ahead of what is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

/// What is read of the end of a file, to find its last line: longer than any line.
const TAIL: u64 = 64 << 10;
/// Room that is taken beyond what is needed now, so that it need not be taken for each batch.
const AHEAD: u64 = 1 << 20;

/// Why the file can't be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditFileError {
    /// The system refuses.
    #[error("cannot write the audit file {path}: {source}{}", advice(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device, a directory, a pipe.
    #[error("the audit file {0} is no regular file: name one, or `stdout`")]
    NotRegular(PathBuf),
    /// Others can read or write it.
    #[error("others than its owner may read or write the audit file {path} (mode {mode:04o}): `chmod 600` it")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It has another name, too.
    #[error("the audit file {0} has another name, too (a hard link): remove that, or name another file")]
    Linked(PathBuf),
    /// It belongs to another user.
    #[error("the audit file {path} belongs to user {owner}: `chown` it to the user of this process")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "; make its directory first, owned by the user of this process",
        Some(Errno::LOOP) => "; it is a symbolic link: name the file itself",
        Some(Errno::ACCESS | Errno::PERM) => "; the user of this process needs to write in its directory",
        Some(Errno::ROFS) => "; its directory is mounted read-only: name a volume that can be written",
        Some(Errno::NOSPC | Errno::DQUOT) => "; there is no room: free some, or move the file",
        _ => "",
    }
}

/// The file that lines go to.
pub(super) struct AuditFile {
    file: File,
    path: PathBuf,
    /// Up to here the file system has promised room.
    reserved: u64,
    /// The file system can promise room.
    reserves: bool,
}

/// What the end of a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The hash of the last whole line, if it has one.
    pub(super) hash: Option<String>,
    /// Something that is no whole line stands at the end.
    pub(super) torn: bool,
    /// The end has no line break: the next line is to begin with one.
    pub(super) open: bool,
}

impl AuditFile {
    /// Opens or makes the file. Where another process writes to it, `FILE.<chain>` instead.
    pub(super) fn open(wanted: &Path, chain: &str) -> Result<(Self, Found), AuditFileError> {
        let path = wanted.to_owned();
        let file = open(&path)?;
        if lock(&file, &path)? {
            return Self::begin(file, path);
        }
        let mut name = path.into_os_string();
        name.push(format!(".{chain}"));
        let path = PathBuf::from(name);
        let file = open(&path)?;
        if lock(&file, &path)? {
            return Self::begin(file, path);
        }
        let source = io::Error::new(io::ErrorKind::WouldBlock, "another process writes to it");
        Err(AuditFileError::Io { path, source })
    }

    fn begin(mut file: File, path: PathBuf) -> Result<(Self, Found), AuditFileError> {
        let begin = |file: &mut File| {
            let size = file.metadata()?.len();
            // Gives back room that a process before took ahead.
            file.set_len(size)?;
            let found = tail(file, size)?;
            // The name of a new file is on disk before its lines are. Not every file system can do that.
            let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
            Ok(found)
        };
        match begin(&mut file) {
            Ok(found) => Ok((
                Self {
                    file,
                    path,
                    reserved: 0,
                    reserves: true,
                },
                found,
            )),
            Err(source) => Err(AuditFileError::Io { path, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` leads to this very file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let id = |of: io::Result<fs::Metadata>| of.ok().map(|of| (of.dev(), of.ino()));
        let ours = id(self.file.metadata());
        ours.is_some() && ours == id(fs::symlink_metadata(path))
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Its size, and whether it has no name any more.
    pub(super) fn state(&self) -> io::Result<(u64, bool)> {
        let about = self.file.metadata()?;
        Ok((about.len(), about.nlink() == 0))
    }

    /// Takes room on disk for `bytes` from `from` on.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn reserve(&mut self, from: u64, bytes: u64) -> io::Result<()> {
        let until = from.saturating_add(bytes);
        if !self.reserves || bytes == 0 || (until <= self.reserved && from <= self.reserved) {
            return Ok(());
        }
        for more in [AHEAD, 0] {
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, bytes + more) {
                Ok(()) => {
                    self.reserved = until + more;
                    return Ok(());
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.reserves = false;
                    tracing::warn!(
                        file = %self.path.display(),
                        "the file system of the audit file can't take room ahead: when it is full, ends of changes may stay unrecorded"
                    );
                    return Ok(());
                }
                Err(error) if more == 0 => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Writes whole lines, or nothing.
    pub(super) fn append(&mut self, size: u64, lines: &[u8]) -> io::Result<()> {
        let result = self.file.write_all(lines);
        if result.is_err() {
            // What was written of them would be taken for a torn line.
            let _ = self.file.set_len(size);
            self.reserved = 0;
        }
        result
    }

    /// Returns when all lines are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives back the room that was taken ahead.
    pub(super) fn give_back(&mut self) {
        self.reserved = 0;
        let _ = self.size().and_then(|size| self.file.set_len(size));
    }
}

/// The folder that the file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn open(path: &Path) -> Result<File, AuditFileError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .and_then(|file| Ok((file.metadata()?, file)));
    let (about, file) = opened.map_err(|source| AuditFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    if judge(&about, path)? {
        // Kubernetes gives the files of a volume to `fsGroup` each time that it mounts one.
        let closed = file.set_permissions(fs::Permissions::from_mode(0o600));
        closed.map_err(|source| AuditFileError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mode = mode(&about);
        tracing::warn!(file = %path.display(), mode = format!("{mode:04o}"), "the group could read or write the audit file: its mode is 0600 now");
    }
    Ok(file)
}

/// Whether a file can be the audit file. True: as soon as it is closed to its group.
pub(super) fn judge(about: &fs::Metadata, path: &Path) -> Result<bool, AuditFileError> {
    let path = path.to_owned();
    if !about.is_file() {
        return Err(AuditFileError::NotRegular(path));
    }
    if about.nlink() > 1 {
        return Err(AuditFileError::Linked(path));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        let owner = about.uid();
        return Err(AuditFileError::Owner { path, owner });
    }
    let mode = mode(about);
    if mode & 0o007 != 0 {
        return Err(AuditFileError::Mode { path, mode });
    }
    Ok(mode & 0o070 != 0)
}

fn mode(about: &fs::Metadata) -> u32 {
    about.mode() & 0o7777
}

/// Whether the file is ours alone now.
fn lock(file: &File, path: &Path) -> Result<bool, AuditFileError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        // Not every file system has locks.
        Err(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS) => Ok(true),
        Err(error) => Err(AuditFileError::Io {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

fn tail(file: &mut File, size: u64) -> io::Result<Found> {
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    let open = end.last().is_some_and(|byte| *byte != b'\n');
    let mut lines = end.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty());
    let mut torn = false;
    // A process that was killed before a line break has left a whole line, too.
    let hash = lines.find_map(|line| {
        let hash = super::verify::hash_of(line).map(|(_, hash)| hash.to_owned());
        let keyless = || line.ends_with(b"}");
        torn |= hash.is_none() && !keyless();
        hash.map(Some).or_else(|| keyless().then_some(None))
    });
    Ok(Found {
        hash: hash.flatten(),
        torn,
        open,
    })
}
