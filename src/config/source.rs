//! Where settings come from: the flags, the environment, files, the machine. Each is a parameter, so that tests hand in
//! their own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::blocking;
pub use crate::secret_command::{Check, Output};
use crate::secret_command::{CommandError, Printer, SecretCommand};
use crate::server::HandedSockets;

/// The environment variables of the process.
pub trait Environment: Sync {
    /// The value of `name`, if it is set.
    fn var(&self, name: &str) -> Option<OsString>;

    /// The names of all that are set; those that are not UTF-8 may be left out.
    fn names(&self) -> Vec<String>;
}

impl Environment for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<OsString> {
        self.get(name).map(OsString::from)
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The files of the machine.
pub trait Files: Sync {
    /// The whole of a file.
    ///
    /// # Errors
    /// When the file can't be read, or is larger than `limit` bytes.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Contents>;
}

/// What a file holds.
pub struct Contents {
    /// Wiped when they are dropped: they may be a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Permission bits of the very file that was read; `None`: there are none.
    pub mode: Option<u32>,
}

impl Files for BTreeMap<PathBuf, Vec<u8>> {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Contents> {
        let bytes = self.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        within(bytes.clone().into(), limit).map(|bytes| Contents { bytes, mode: None })
    }
}

/// The programs of the machine that print secrets.
pub trait Commands: Sync {
    /// What the command gives. `good` says whether that can be used; else the command has failed.
    ///
    /// # Errors
    /// When it failed, and never gave anything good.
    fn output(&self, command: &SecretCommand, good: Check<'_>) -> Result<Output, CommandError>;

    /// Runs those of them that are due, side by side: what they give is asked for next.
    fn run_ahead(&self, _: BTreeSet<SecretCommand>) {}

    /// The command, for whoever asks it again by itself.
    ///
    /// # Errors
    /// When it is never run.
    fn printer(&self, _: &SecretCommand) -> Result<Arc<Printer>, CommandError> {
        Err(CommandError::NotRun)
    }
}

/// Runs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCommands;

impl Commands for NoCommands {
    fn output(&self, _: &SecretCommand, _: Check<'_>) -> Result<Output, CommandError> {
        Err(CommandError::NotRun)
    }
}

/// Files up to this size, all credentials among them, are read into a buffer that is never reallocated.
const LARGEST_WHOLE: usize = 64 << 10;

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Contents> {
        read_open(std::fs::File::open(path)?, limit)
    }
}

impl Disk {
    /// The whole of a regular file: opening a FIFO, or reading a device, might not end.
    ///
    /// # Errors
    /// As for [`Files::read`], and when it is not a regular file.
    pub(crate) fn read_regular(path: &Path, limit: usize) -> io::Result<Contents> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file: what is read again must be one",
            ));
        }
        read_open(file, limit)
    }
}

fn read_open(file: std::fs::File, limit: usize) -> io::Result<Contents> {
    // The mode of the open file, not of what the path may name by now.
    let mode = file.metadata()?.permissions().mode();
    // Room for all of a credential, made at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.min(LARGEST_WHOLE) + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    within(bytes, limit).map(|bytes| Contents {
        bytes,
        mode: Some(mode),
    })
}

fn within(bytes: Zeroizing<Vec<u8>>, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// Names and addresses as this machine knows them: only to find out whether a way leads back to it.
pub trait Network: Sync {
    /// The addresses of a name; none: it has none, or nobody says so in time.
    fn addresses(&self, name: &str) -> Vec<IpAddr>;

    /// Whether an address is this machine's own.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// The network of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

/// How long a name may take. What is not known then is found out when a connection is made.
const LOOKUP: Duration = Duration::from_secs(5);

impl Network for SystemNetwork {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let asked = (name.to_owned(), 0);
        let found = blocking::within(LOOKUP, move || asked.to_socket_addrs());
        let found = found.into_iter().flatten().flatten();
        found.map(|address| address.ip()).collect()
    }

    fn is_own(&self, address: IpAddr) -> bool {
        // What can be bound is, unless everything can (the sysctl `ip_nonlocal_bind`): then the handshake finds out.
        let can_be_bound = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
        let nobodys: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        address.is_loopback() || can_be_bound(address) && !can_be_bound(nobodys)
    }
}

/// A network without names, in which loopback alone is this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNetwork;

impl Network for NoNetwork {
    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
}

/// Facts about the machine that defaults depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: NonZeroUsize,
    /// The user id that the kernel shows of users that it has no name for in this namespace
    /// (`/proc/sys/kernel/overflowuid`).
    pub overflow_uid: u32,
    /// Whether the log goes to a terminal.
    pub log_to_terminal: bool,
}

/// The flags of `run`, as they were typed. `None` and an empty list: not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the flag of its name")]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Vec<String>,
    pub allow: Vec<String>,
    pub host: Vec<String>,
    pub required_header: Option<String>,
    pub read_only: Option<String>,
    pub insecure_plaintext: Option<String>,
    pub environment: Option<String>,
    pub base_url: Option<String>,
    pub upstream_ca: Option<String>,
    pub upstream_http: Option<String>,
    pub admin_listen: Option<String>,
    pub admin_quit: Option<String>,
    pub rewrite_links: Option<String>,
    pub workers: Option<String>,
    pub drain_timeout: Option<String>,
    pub drain_delay: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
}

impl Flags {
    /// What was typed for a flag, with its dashes; empty: nothing.
    pub(crate) fn typed(&self, flag: &str) -> &[String] {
        match flag {
            "--listen" => &self.listen,
            "--allow" => &self.allow,
            "--host" => &self.host,
            "--required-header" => self.required_header.as_slice(),
            "--read-only" => self.read_only.as_slice(),
            "--insecure-plaintext" => self.insecure_plaintext.as_slice(),
            "--environment" => self.environment.as_slice(),
            "--base-url" => self.base_url.as_slice(),
            "--upstream-ca" => self.upstream_ca.as_slice(),
            "--upstream-http" => self.upstream_http.as_slice(),
            "--admin-listen" => self.admin_listen.as_slice(),
            "--admin-quit" => self.admin_quit.as_slice(),
            "--rewrite-links" => self.rewrite_links.as_slice(),
            "--workers" => self.workers.as_slice(),
            "--drain-timeout" => self.drain_timeout.as_slice(),
            "--drain-delay" => self.drain_delay.as_slice(),
            "--log-level" => self.log_level.as_slice(),
            "--log-format" => self.log_format.as_slice(),
            _ => &[],
        }
    }
}

/// All that settings are made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The command line.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a dyn Environment,
    /// The files.
    pub files: &'a dyn Files,
    /// The sockets that the service manager has made; `None`: nothing is served, so that they matter to nobody.
    pub sockets: Option<&'a HandedSockets>,
    /// The commands that print secrets.
    pub commands: &'a dyn Commands,
    /// The network.
    pub network: &'a dyn Network,
    /// The machine.
    pub machine: Machine,
}

/// Where one value came from. The order is that in which problems are reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A position in the configuration file.
    File(Position),
    /// A file of `$CREDENTIALS_DIRECTORY`, by its own name.
    CredentialsDirectory(&'static str),
    /// No single place: something is missing, or two places contradict each other.
    #[default]
    Nowhere,
}

/// A position in the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) file: Arc<Path>,
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// The key with its tables, such as `listener.bind`.
    pub(crate) key: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(place) => {
                let Position {
                    file,
                    line,
                    column,
                    key,
                } = place;
                write!(f, "{}:{line}:{column}", file.display())?;
                if key.is_empty() { Ok(()) } else { write!(f, ": `{key}`") }
            }
            Self::CredentialsDirectory(name) => write!(f, "$CREDENTIALS_DIRECTORY/{name}"),
            Self::Nowhere => Ok(()),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

impl<T> Given<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Given<U> {
        Given {
            value: f(self.value),
            source: self.source,
        }
    }
}
