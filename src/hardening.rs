//! What the process gives up at its start: no other process of its user may look into it, it leaves no core dump, and
//! it can never gain privileges.

use std::fmt;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

/// What could not be done, for the log. The process is as safe as its surroundings make it, and goes on.
#[derive(Debug)]
pub struct NotHardened {
    what: &'static str,
    error: Errno,
}

impl fmt::Display for NotHardened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (the kernel said: {})", self.what, self.error)
    }
}

/// Hardens the process. To be called before it makes threads, and before it reads a secret.
///
/// - No core dumps (RLIMIT_CORE 0): they hold whatever the memory held.
/// - Not dumpable (PR_SET_DUMPABLE, prctl(2)): other processes of the same user can neither attach a debugger nor read
///   `/proc/PID/mem` and `/proc/PID/environ`.
/// - No new privileges (PR_SET_NO_NEW_PRIVS), whatever program it might be made to execute.
/// - As many open files as the hard limit allows: the soft one is for programs that use select(2).
#[must_use]
pub fn harden() -> Vec<NotHardened> {
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let files = getrlimit(Resource::Nofile);
    let all_files = Rlimit {
        current: files.maximum,
        ..files
    };
    [
        (
            "core dumps could not be switched off",
            setrlimit(Resource::Core, no_core),
        ),
        (
            "the memory could not be closed to other processes of this user",
            set_dumpable_behavior(DumpableBehavior::NotDumpable),
        ),
        ("new privileges could not be forbidden", set_no_new_privs(true)),
        (
            "the limit of open files could not be raised",
            setrlimit(Resource::Nofile, all_files),
        ),
    ]
    .into_iter()
    .filter_map(|(what, result)| result.err().map(|error| NotHardened { what, error }))
    .collect()
}
