//! Whether nobody but this process's user and root chooses what a path names.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::CommandError;

/// As the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// Follows every link of the path; the program that it leads to, when each folder, link and file on the way is guarded.
pub(super) fn program(path: &Path) -> Result<PathBuf, CommandError> {
    let mut ahead = parts(path);
    // Always a real path, without links.
    let mut at = PathBuf::from("/");
    check(&at, &look(&at)?, true)?;
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(part);
        let of = look(&next)?;
        if of.is_symlink() {
            owned(&next, &of)?;
            links += 1;
            if links > MOST_LINKS {
                return Err(no_program(&next, "too many symbolic links"));
            }
            let target = fs::read_link(&next).map_err(|error| no_program(&next, error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
            continue;
        }
        check(&next, &of, of.is_dir())?;
        if !of.is_dir() && !ahead.is_empty() {
            return Err(no_program(&next, "no folder"));
        }
        at = next;
    }
    let of = look(&at)?;
    if !of.is_file() || of.mode() & EXECUTE == 0 {
        return Err(no_program(&at, "no program that may be run"));
    }
    Ok(at)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn look(path: &Path) -> Result<Metadata, CommandError> {
    fs::symlink_metadata(path).map_err(|error| {
        let why = format!("{error}; is the path right, and is it there for the user of the proxy?");
        no_program(path, why)
    })
}

fn no_program(path: &Path, why: impl ToString) -> CommandError {
    CommandError::NoProgram {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn unguarded(path: &Path, why: &'static str, remedy: String) -> CommandError {
    CommandError::Unguarded {
        path: path.to_owned(),
        why,
        remedy,
    }
}

/// An owner may change the mode, so can write.
fn owned(path: &Path, of: &Metadata) -> Result<(), CommandError> {
    if of.uid() == 0 || of.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(unguarded(path, "belongs to another user", owner_remedy(path, of)))
    }
}

/// What a stranger has put there is not to be kept: another owner alone would bless it.
fn owner_remedy(path: &Path, of: &Metadata) -> String {
    let path = path.display();
    if of.is_symlink() {
        "make this link anew as root".to_owned()
    } else if of.is_dir() {
        format!("`chown root {path}`")
    } else {
        format!("install it anew as root (`install -o root -m 0755 … {path}`)")
    }
}

fn chmod(change: &str, path: &Path) -> String {
    format!("`chmod {change} {}`", path.display())
}

fn check(path: &Path, of: &Metadata, is_folder: bool) -> Result<(), CommandError> {
    owned(path, of)?;
    // In a sticky folder others may make files, and neither rename nor remove those of somebody else.
    if is_folder && of.mode() & STICKY != 0 {
        return Ok(());
    }
    if of.mode() & OTHERS_WRITE != 0 {
        return Err(unguarded(
            path,
            "can be written by every user of this machine",
            chmod("o-w", path),
        ));
    }
    let own_group = of.gid() == 0 || of.gid() == rustix::process::getegid().as_raw();
    if of.mode() & GROUP_WRITE != 0 && !own_group {
        return Err(unguarded(path, "can be written by another group", chmod("g-w", path)));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_is_mended_by_another_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (program, link) = (folder.path().join("program"), folder.path().join("link"));
        fs::write(&program, "").unwrap();
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let remedy = |path: &Path| owner_remedy(path, &look(path).unwrap());
        assert!(remedy(folder.path()).starts_with("`chown root /"));
        assert!(remedy(&program).starts_with("install it anew as root (`install -o root -m 0755 … /"));
        assert_eq!(remedy(&link), "make this link anew as root");
    }
}
