//! Writes files that are not there yet: all of them, or none.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    let folder_is_ours = !folder.exists();
    DirBuilder::new()
        .recursive(true)
        .create(folder)
        .map_err(|source| WriteError::Io {
            path: folder.to_owned(),
            source,
        })?;
    let mut made = Vec::new();
    for file in files {
        let path = folder.join(file.name);
        if let Err(source) = write(&path, file, &mut made) {
            for path in made {
                let _ = fs::remove_file(path);
            }
            if folder_is_ours {
                let _ = fs::remove_dir(folder);
            }
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists => WriteError::There(path),
                _ => WriteError::Io { path, source },
            });
        }
    }
    Ok(())
}

fn write(path: &Path, file: &NewFile<'_>, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?;
    made.push(path.to_owned());
    open.write_all(file.content.as_bytes())?;
    open.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
        assert!(!folder.exists());

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
}
