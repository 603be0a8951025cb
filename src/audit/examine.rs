//! What stands in the way of the audit file, found without writing, making or locking anything.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::io::Errno;

use super::file::{AuditFileError, folder_of, judge};

/// What was found of an audit file that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExaminedFile {
    /// It is there already.
    pub exists: bool,
    /// Its group may read or write it, until the next start takes that away.
    pub open_to_group: bool,
    /// Another file can be begun beside it, after it was renamed or where another process writes to it.
    pub folder_writable: bool,
    /// What its file system has left for this user, bytes.
    pub free: u64,
}

/// Examines the file, or the place where it would be made. Blocks: a network file system may not answer.
///
/// # Errors
/// What `run` would refuse to start with, as far as it can be seen from outside.
pub fn examine(path: &Path) -> Result<ExaminedFile, AuditFileError> {
    let refused = |source: io::Error| AuditFileError::Io {
        path: path.to_owned(),
        source,
    };
    let may = |path: &Path, what| access(path, what).map_err(|error| refused(error.into()));
    let folder = folder_of(path);
    let writable = may(folder, Access::WRITE_OK | Access::EXEC_OK);
    let folder_writable = writable.is_ok();
    let found = match fs::symlink_metadata(path) {
        Ok(about) => Some(about),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(refused(error)),
    };
    let open_to_group = match &found {
        Some(about) if about.is_symlink() => return Err(refused(Errno::LOOP.into())),
        Some(about) => {
            let open_to_group = judge(about, path)?;
            may(path, Access::READ_OK | Access::WRITE_OK)?;
            open_to_group
        }
        None => {
            writable?;
            false
        }
    };
    let space = statvfs(folder).map_err(|error| refused(error.into()))?;
    Ok(ExaminedFile {
        exists: found.is_some(),
        open_to_group,
        folder_writable,
        free: space.f_bavail.saturating_mul(space.f_frsize),
    })
}
