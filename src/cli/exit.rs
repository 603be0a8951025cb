//! Exit codes: what scripts and supervisors read.

use std::process::ExitCode;

/// A clean stop, or a check that passed.
pub(crate) const CLEAN: ExitCode = ExitCode::SUCCESS;

/// The start failed, or a check did.
pub(crate) fn failed() -> ExitCode {
    ExitCode::from(1)
}

/// The configuration or the command line is wrong: a restart will not help.
pub(crate) fn misused() -> ExitCode {
    ExitCode::from(2)
}
