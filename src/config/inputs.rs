//! Flags before environment, with the rules that hold for all of them: an empty variable counts as unset, a list is
//! split at commas, and every value remembers its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::problem::{Problems, shown};
use super::secret_place::ReadCommand;
use super::source::{Contents, Given, Source, Sources};
use super::variable;

/// Where values are read from, and what was found wrong on the way.
pub(crate) struct Inputs<'a> {
    pub(crate) sources: Sources<'a>,
    pub(crate) problems: Problems,
    /// The files that the client secrets in use came from, by account.
    pub(crate) secret_files: BTreeMap<String, PathBuf>,
    /// Sockets of the service manager that something is bound to.
    pub(crate) used_sockets: BTreeSet<String>,
    /// Something is bound to a socket of the service manager that this process does not get.
    pub(crate) unknown_sockets: bool,
    /// The folder of the configuration file: relative paths in it start there.
    pub(crate) folder: Option<PathBuf>,
    /// The commands of the configuration file, by where they stand.
    pub(crate) commands: BTreeMap<Source, ReadCommand>,
    /// Over the configuration file and the variables that were read: none of them holds a secret.
    digest: Sha256,
}

/// A list of values, and the source of the list as a whole.
pub(crate) type GivenList = Given<Vec<Given<String>>>;

impl<'a> Inputs<'a> {
    pub(crate) fn new(sources: Sources<'a>) -> Self {
        Self {
            sources,
            problems: Problems::default(),
            secret_files: BTreeMap::new(),
            used_sockets: BTreeSet::new(),
            unknown_sockets: false,
            folder: None,
            commands: BTreeMap::new(),
            digest: Sha256::new(),
        }
    }

    /// A variable; empty counts as unset.
    pub(crate) fn variable(&mut self, name: &'static str) -> Option<Given<String>> {
        let value = self.sources.environment.var(name).filter(|v| !v.is_empty())?;
        let source = Source::Variable(name);
        match value.into_string() {
            Ok(value) => {
                self.digest.update(format!("{name}={value}\n"));
                Some(Given { value, source })
            }
            Err(_) => {
                self.problems.add(&source, "the value is not UTF-8 text");
                None
            }
        }
    }

    /// Names the settings: SHA-256 over file, variables and flags, in hexadecimal. Contents of other files are no part of it.
    pub(crate) fn digest(&self) -> String {
        let mut digest = self.digest.clone();
        digest.update(format!("{:?}", self.sources.flags));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes the configuration file into the digest.
    pub(crate) fn digest_file(&mut self, content: &[u8]) {
        self.digest.update(content);
    }

    /// A variable that may hold a secret, as bytes that are wiped.
    pub(crate) fn secret_variable(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let value = self.sources.environment.var(name).filter(|v| !v.is_empty())?;
        Some(Zeroizing::new(value.into_encoded_bytes()))
    }

    /// A flag, else a variable.
    pub(crate) fn setting(
        &mut self,
        flag: &'static str,
        value: Option<&String>,
        variable: &'static str,
    ) -> Option<Given<String>> {
        match value {
            Some(value) => Some(Given {
                value: value.clone(),
                source: Source::Flag(flag),
            }),
            None => self.variable(variable),
        }
    }

    /// A repeated flag, else a variable that holds a list with commas.
    pub(crate) fn list(&mut self, flag: &'static str, values: &[String], variable: &'static str) -> Option<GivenList> {
        if !values.is_empty() {
            let source = Source::Flag(flag);
            return Some(Given {
                value: each(values.iter().map(String::as_str), &source),
                source,
            });
        }
        let Given { value, source } = self.variable(variable)?;
        let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Some(Given {
            value: each(entries, &source),
            source,
        })
    }

    /// Reads a flag or variable, else takes what the file says, as a `T`.
    pub(crate) fn choose<T>(
        &mut self,
        over: Option<Given<String>>,
        file: Option<&Given<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let given = over.or_else(|| file.cloned())?;
        self.problems.parse(given, parse)
    }

    /// Like [`Inputs::choose`], for a setting that is a boolean in the file.
    pub(crate) fn choose_bool(&mut self, over: Option<Given<String>>, file: Option<&Given<bool>>) -> Option<bool> {
        match over {
            Some(given) => self.problems.parse(given, super::value::boolean).map(|g| g.value),
            None => file.map(|g| g.value),
        }
    }

    /// The path that a value names: one in the configuration file starts at that file's folder.
    pub(crate) fn path(&self, given: &Given<String>) -> PathBuf {
        match (&given.source, &self.folder) {
            (Source::File(_), Some(folder)) => folder.join(&given.value),
            _ => PathBuf::from(&given.value),
        }
    }

    /// The path of a credential file: a relative one names a systemd credential when there are any.
    pub(crate) fn credential_path(&mut self, given: &Given<String>) -> PathBuf {
        match self.credentials_directory() {
            Some(directory) if Path::new(&given.value).is_relative() => directory.join(&given.value),
            _ => self.path(given),
        }
    }

    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5), `LoadCredential=`).
    pub(crate) fn credentials_directory(&mut self) -> Option<PathBuf> {
        self.variable(variable::CREDENTIALS_DIRECTORY)
            .map(|given| PathBuf::from(given.value))
    }

    /// The bytes of a file that a setting names; a failure is noted.
    pub(crate) fn read(&mut self, path: &Path, limit: usize, named_by: &Source) -> Option<Zeroizing<Vec<u8>>> {
        match self.sources.files.read(path, limit) {
            Ok(contents) => Some(contents.bytes),
            Err(error) => {
                self.problems.add(named_by, unreadable(path, &error));
                None
            }
        }
    }
}

impl Inputs<'_> {
    /// Like [`Inputs::read`], for a file that holds a secret: who else can read or write it matters.
    pub(crate) fn read_secret(&mut self, path: &Path, limit: usize, named_by: &Source) -> Option<Zeroizing<Vec<u8>>> {
        match self.sources.files.read(path, limit) {
            Ok(contents) => self.guarded(path, contents, named_by),
            Err(error) => {
                self.problems.add(named_by, unreadable(path, &error));
                None
            }
        }
    }

    /// The bytes of a secret file that nobody else can write.
    pub(crate) fn guarded(&mut self, path: &Path, contents: Contents, named_by: &Source) -> Option<Zeroizing<Vec<u8>>> {
        let mode = contents.mode.unwrap_or_default() & 0o7777;
        let path = path.display().to_string();
        let path = shown(&path);
        if mode & OTHERS_WRITE != 0 {
            self.problems.add(
                named_by,
                format_args!(
                    "every user of this machine can write the secret file {path} (mode {mode:04o}), and so choose the \
                     credential: `chmod 600` it"
                ),
            );
            return None;
        }
        if mode & (OTHERS_READ | GROUP_WRITE) == 0 {
            if contents.mode.is_some() {
                self.problems
                    .note(format_args!("the secret file {path} is guarded (mode {mode:04o})"));
            }
        } else {
            let who = if mode & OTHERS_READ != 0 {
                "every user of this machine can read"
            } else {
                "its group can write"
            };
            self.problems.warn(format_args!(
                "{named_by}: {who} the secret file {path} (mode {mode:04o}): `chmod 600` it, or in Kubernetes set \
                 `defaultMode: 0400`, with `fsGroup` 0440"
            ));
        }
        Some(contents.bytes)
    }
}

/// The message that a file can't be read: why, and what to do.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> String {
    let what_to_do = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "; is the path right, and what holds it mounted?",
        io::ErrorKind::PermissionDenied => {
            "; the user of this process may not read it: `chown` or `chmod` it, or in Kubernetes set `fsGroup`"
        }
        io::ErrorKind::IsADirectory => "; name a file in this directory",
        _ => "",
    };
    let path = path.display().to_string();
    format!("cannot read the file {}: {error}{what_to_do}", shown(&path))
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITE: u32 = 0o020;

fn each<'t>(values: impl Iterator<Item = &'t str>, source: &Source) -> Vec<Given<String>> {
    values
        .map(|value| Given {
            value: value.to_owned(),
            source: source.clone(),
        })
        .collect()
}
