//! `make-ca`: a private certificate authority, and a server certificate with which a listener is Atlas to clients whose base
//! URL can't be set (docs/TRANSPARENT.md).

mod certificates;
mod files;
mod told;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{exit, misconfigured, print_error, sources};
use crate::config::{self, Environment, Flags, NoCommands};
use crate::guard::HostName;
use crate::time::{Clock, SystemClock};

use certificates::make;
use files::{NewFile, write_all};
use told::told;

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const SERVER: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
/// For anybody.
const PUBLIC: u32 = 0o644;
/// For their owner.
const SECRET: u32 = 0o600;

/// What is to be made, and where.
#[derive(Debug, Args)]
pub(crate) struct MakeCaArgs {
    /// Folder for `ca.crt`, `server.crt` and `server.key`; it is made when it is not there. Files that are there stay, and
    /// nothing is made then.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Host that clients call, by its DNS name; may be repeated. The authority can vouch for servers of these names and those
    /// below them; for no other host, no address and no mailbox.
    ///
    /// [default: the host of the environment]
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,

    /// Atlas realm whose host is the default: `commercial` (cloud.mongodb.com) or `gov` (cloud.mongodbgov.com).
    ///
    /// [env: MONGODB_ATLAS_SERVICE, with the words `cloud` and `cloudgov`] [default: commercial]
    #[arg(long, value_name = "REALM")]
    environment: Option<String>,

    /// Write the authority's key, too (`ca.key`): whoever has it can be these hosts to every client that trusts the authority.
    ///
    /// Without it the key is forgotten, and no other certificate can be made with it.
    #[arg(long)]
    keep_ca_key: bool,
}

pub(super) fn make_ca(args: &MakeCaArgs, environment: &dyn Environment) -> ExitCode {
    let names = match names(args, environment) {
        Ok(names) => names,
        Err(refused) => return refused,
    };
    let made = match make(&names, args.keep_ca_key, SystemClock.wall()) {
        Ok(made) => made,
        Err(error) => {
            print_error(&error.to_string());
            return exit::failed();
        }
    };
    let file = |name, mode, content| NewFile { name, mode, content };
    let mut files = vec![
        file(CA, PUBLIC, made.ca.as_str()),
        file(SERVER, PUBLIC, &made.server),
        file(SERVER_KEY, SECRET, &made.server_key),
    ];
    if args.keep_ca_key {
        files.push(file(CA_KEY, SECRET, &made.ca_key));
    }
    // A key of another authority beside this one's certificate would mislead.
    if let Err(error) = write_all(&args.out, &files, &[CA_KEY]) {
        print_error(&error.to_string());
        return exit::failed();
    }
    let folder = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout()
        .lock()
        .write_all(told(&folder, &names, args.keep_ca_key, made.until).as_bytes());
    exit::CLEAN
}

fn names(args: &MakeCaArgs, environment: &dyn Environment) -> Result<Vec<String>, ExitCode> {
    if args.names.is_empty() {
        let flags = Flags {
            environment: args.environment.clone(),
            ..Flags::default()
        };
        let origin =
            config::realm(sources(&flags, environment, &NoCommands)).map_err(|errors| misconfigured(&errors))?;
        return Ok(vec![origin.host().to_owned()]);
    }
    let mut names = Vec::new();
    for text in &args.names {
        let name = name(text).map_err(|error| {
            print_error(&format!("--name: {error}"));
            exit::misused()
        })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A DNS name. A certificate for an address or for everything below `com` would be good for nothing that is wanted here.
fn name(text: &str) -> Result<String, String> {
    let name = HostName::parse(text).ok().map(|name| name.to_string());
    // Addresses have dots, too.
    let is_address = |name: &str| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    name.filter(|name| name.contains('.') && !is_address(name))
        .ok_or_else(|| {
            format!(
                "`{text}` is not the name of a host that clients look up: write a DNS name with a dot in it, such as cloud.mongodb.com; no \
                 address, scheme, port or wildcard"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_those_of_hosts() {
        assert_eq!(name("Cloud.MongoDB.com").as_deref(), Ok("cloud.mongodb.com"));
        for bad in [
            "com",
            "127.0.0.1",
            "[::1]",
            "::1",
            "*.mongodb.com",
            "https://cloud.mongodb.com",
            "[::ffff:192.0.2.7]",
            "a.b:443",
            "",
        ] {
            let said = name(bad).unwrap_err();
            assert!(
                said.starts_with(&format!("`{bad}` is not")) && said.contains("no address, scheme, port or wildcard"),
                "{said}"
            );
        }
    }
}
