//! Writes files that are not there yet: all of them, or none.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Clients of every user read what is for them.
const FOLDER_MODE: u32 = 0o755;

/// A file to be made.
pub(super) struct NewFile<'c> {
    pub(super) name: &'static str,
    pub(super) mode: u32,
    pub(super) content: &'c str,
}

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(
        "{} is there already, and is not written over: clients may trust what belongs to it. Name another folder with --out, or move \
         the files away", .0.display()
    )]
    There(PathBuf),
    #[error("{} is a file, not a folder: name a folder with --out, there or yet to be made", .0.display())]
    NoFolder(PathBuf),
    #[error("{} can't be made: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Makes the files in a folder, which is made, too, when it is not there. `never`: names that must not be there either.
pub(super) fn write_all(folder: &Path, files: &[NewFile<'_>], never: &[&str]) -> Result<(), WriteError> {
    let names = files.iter().map(|file| file.name).chain(never.iter().copied());
    if let Some(there) = names
        .map(|name| folder.join(name))
        .find(|path| fs::symlink_metadata(path).is_ok())
    {
        return Err(WriteError::There(there));
    }
    let mut made = Made::default();
    let written = make_folder(folder, &mut made).and_then(|()| {
        files
            .iter()
            .try_for_each(|file| write(&folder.join(file.name), file, &mut made))
    });
    if written.is_err() {
        made.remove();
    }
    written
}

/// What has been made until now, in this order.
#[derive(Default)]
struct Made {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    fn remove(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes the folder and those above it that are missing.
fn make_folder(folder: &Path, made: &mut Made) -> Result<(), WriteError> {
    // A path of one part has the empty one above it, which is where the process is.
    if folder.is_dir() || folder.as_os_str().is_empty() {
        return Ok(());
    }
    if fs::symlink_metadata(folder).is_ok() {
        return Err(WriteError::NoFolder(folder.to_owned()));
    }
    if let Some(above) = folder.parent() {
        make_folder(above, made)?;
    }
    let make = || {
        fs::create_dir(folder)?;
        made.folders.push(folder.to_owned());
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
    };
    at(folder, make)
}

fn write(path: &Path, file: &NewFile<'_>, made: &mut Made) -> Result<(), WriteError> {
    let make = || {
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(path)?;
        made.files.push(path.to_owned());
        // The umask may have taken away some of it.
        open.set_permissions(Permissions::from_mode(file.mode))?;
        open.write_all(file.content.as_bytes())?;
        open.sync_all()
    };
    at(path, make)
}

/// Says where an error happened.
fn at(path: &Path, make: impl FnOnce() -> io::Result<()>) -> Result<(), WriteError> {
    make().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => WriteError::There(path.to_owned()),
        _ => WriteError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(name: &'static str) -> NewFile<'static> {
        NewFile {
            name,
            mode: 0o600,
            content: "content",
        }
    }

    #[test]
    fn all_files_are_made_or_none() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("new/folder");
        // The second name is the first one's: it is there by then.
        let error = write_all(&folder, &[file("a"), file("b"), file("a")], &[]).unwrap_err();
        assert!(matches!(error, WriteError::There(path) if path.ends_with("a")));
        assert!(!folder.parent().unwrap().exists());

        write_all(&folder, &[file("a")], &["b"]).unwrap();
        assert_eq!(
            fs::metadata(folder.join("a")).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        // A link that leads nowhere is there, too.
        std::os::unix::fs::symlink("nowhere", folder.join("b")).unwrap();
        for (files, never) in [(&["c", "b"][..], &[][..]), (&["c"], &["b"])] {
            let files: Vec<_> = files.iter().map(|name| file(name)).collect();
            assert!(matches!(write_all(&folder, &files, never), Err(WriteError::There(path)) if path.ends_with("b")));
            assert!(!folder.join("c").exists());
        }
    }

    #[test]
    fn a_file_where_the_folder_should_be_is_told_as_that() {
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("file");
        fs::write(&there, "").unwrap();
        let nowhere = place.path().join("link");
        std::os::unix::fs::symlink("nowhere", &nowhere).unwrap();
        for (folder, what) in [
            (there.clone(), &there),
            (there.join("new/folder"), &there),
            (nowhere.clone(), &nowhere),
        ] {
            let error = write_all(&folder, &[file("a")], &[]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{} is a file, not a folder: name a folder with --out, there or yet to be made",
                    what.display()
                )
            );
        }
    }
}
