//! Where a new secret is put.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::{Cluster, KubernetesSecret};
use crate::secret::Secret;

/// A file or a Kubernetes Secret, for one client secret.
#[derive(Debug)]
pub enum Destination {
    /// A file, which is replaced as a whole.
    File(PathBuf),
    /// A key of a Secret, through the API of the cluster that this process runs in.
    Kubernetes(Box<Cluster>, KubernetesSecret),
}

/// Why a secret was not put somewhere.
#[derive(Debug)]
pub(super) struct PutError {
    /// What happened, and what to do.
    pub(super) why: String,
    /// Whether the previous value is certainly still there.
    pub(super) untouched: bool,
}

impl PutError {
    /// Nothing was sent or written.
    pub(super) fn before(why: String) -> Self {
        Self { why, untouched: true }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Kubernetes(_, secret) => write!(f, "the Kubernetes Secret {secret}"),
        }
    }
}

impl Destination {
    /// Whether a secret can be written there; leaves everything as it was.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) async fn check(&self) -> Result<(), String> {
        match self {
            Self::File(path) => Replacement::begin(path)
                .map(drop)
                .map_err(|error| unwritable(path, &error)),
            Self::Kubernetes(cluster, secret) => cluster.try_patch(secret).await,
        }
    }

    /// Puts a secret there.
    ///
    /// # Errors
    /// Why that failed.
    pub(super) async fn put(&self, value: &Secret) -> Result<(), PutError> {
        match self {
            Self::File(path) => write_file(path, value).map_err(|error| PutError::before(unwritable(path, &error))),
            Self::Kubernetes(cluster, secret) => cluster.patch(secret, value).await,
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is its directory there?",
        io::ErrorKind::PermissionDenied => "; the user of this process must be able to write to its directory",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; a mounted Kubernetes Secret can't be written: use --kubernetes-secret, or --out for another file"
        }
        _ => "",
    };
    format!("cannot write {}: {error}{hint}", path.display())
}

fn write_file(path: &Path, value: &Secret) -> io::Result<()> {
    let mut replacement = Replacement::begin(path)?;
    replacement.file.write_all(value.expose().as_bytes())?;
    replacement.commit()
}

/// A file beside the one that it replaces in the end. Removed if it is dropped before.
struct Replacement {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Replacement {
    fn begin(path: &Path) -> io::Result<Self> {
        // The target of a link is replaced, not the link.
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let directory = directory_of(&path);
        if directory.ancestors().any(|above| above.join("..data").is_symlink()) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let before = match fs::metadata(&path) {
            Ok(before) if before.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(name) = path.file_name() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.new", std::process::id()));
        let beside = directory.join(hidden);
        let create = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)
        };
        let file = match create() {
            // Left over from a process that was killed: in a container the next one has the same id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&beside)?;
                create()?
            }
            other => other?,
        };
        let replacement = Self {
            file,
            beside,
            path,
            done: false,
        };
        if let Some(before) = before {
            let own = replacement.file.metadata()?;
            if own.uid() != before.uid() {
                // Whoever can read the file now must be able to read it afterwards.
                fchown(&replacement.file, Some(before.uid()), Some(before.gid()))?;
            } else if own.gid() != before.gid() {
                // Its mode lets no group read it: a group that this user may not give it is no reason to stop.
                let _ = fchown(&replacement.file, None, Some(before.gid()));
            }
        }
        Ok(replacement)
    }

    fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.done = true;
        // Makes the rename survive a crash of the machine; a failure changes nothing, as the new secret is already
        // there.
        let _ = File::open(directory_of(&self.path)).and_then(|directory| directory.sync_all());
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn entries(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_file(&path, &Secret::new("one")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        symlink("secret", &link).unwrap();
        write_file(&link, &Secret::new("two")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(entries(folder.path()), 2);
    }

    #[test]
    fn a_trial_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Replacement::begin(&folder.path().join("secret")).unwrap());
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let left = folder.path().join(format!(".secret.{}.new", std::process::id()));
        fs::write(&left, "half a sec").unwrap();
        write_file(&path, &Secret::new("whole")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn what_cannot_be_replaced_is_found_before() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |path: &Path| Replacement::begin(path).map(drop).unwrap_err().kind();
        assert_eq!(kind(&folder.path().join("no/secret")), io::ErrorKind::NotFound);
        assert_eq!(kind(folder.path()), io::ErrorKind::IsADirectory);
        // A Kubernetes projection.
        fs::create_dir(folder.path().join("..1")).unwrap();
        fs::write(folder.path().join("..1/secret"), "one").unwrap();
        symlink("..1", folder.path().join("..data")).unwrap();
        symlink("..data/secret", folder.path().join("secret")).unwrap();
        assert_eq!(kind(&folder.path().join("secret")), io::ErrorKind::ReadOnlyFilesystem);
    }
}
