//! The `atlas-auth-proxy` binary.

use std::alloc::System;
use std::process::ExitCode;

use atlas_auth_proxy::cli::{self, ProcessEnvironment};
use zeroizing_alloc::ZeroAlloc;

/// Memory is wiped when it is given back: secrets also pass through buffers of the HTTP and TLS libraries, which wipe nothing.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &ProcessEnvironment)
}
