//! The `atlas-auth-proxy` binary.

use std::process::ExitCode;

use atlas_auth_proxy::cli::{self, ProcessEnvironment};

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &ProcessEnvironment)
}
