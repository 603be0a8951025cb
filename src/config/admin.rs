//! `[admin]`: the address of metrics and health, and whether a request there may end the process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::handed::{BoundAt, BoundBy};
use super::inputs::Inputs;
use super::source::{Given, Source};
use super::table::tables;
use super::unix::{UnixKeys, refuse_unix_keys, with_unix_keys};
use super::{value, variable};
use crate::server::Bind;
use crate::settings::AdminSettings;

tables! {
    /// `[admin]`.
    FileAdmin {
        /// Where it listens: `IP:port`, `unix:/path`, `systemd:NAME`, or `off`.
        bind: text default "127.0.0.1:9091",
        /// Permission bits of a unix socket, in octal. Left out: `0600`.
        mode: text_or_integer as Mode,
        /// User ids that may connect to a unix socket. Left out: whoever the mode lets in.
        uids: integers,
        /// Let every program on this machine that reaches it end the proxy, by `POST /quitquitquit`.
        quit: boolean default false,
    }
}

const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9091);

/// The settings, and where the address was given.
pub(crate) fn build(table: &FileAdmin, inputs: &mut Inputs<'_>) -> Given<AdminSettings> {
    let flags = inputs.sources.flags;
    let over = inputs.setting("--admin-listen", flags.admin_listen.as_ref(), variable::ADMIN_LISTEN);
    let quit = inputs.setting("--admin-quit", flags.admin_quit.as_ref(), variable::ADMIN_QUIT);
    let quit = inputs.choose_bool(quit, table.quit.as_ref()).unwrap_or(false);
    let given = over.or_else(|| table.bind.clone());
    let bound = given.and_then(|given| bind(given, inputs));
    let Given { value, source } = bound.unwrap_or(Given {
        value: Some(BoundAt {
            bind: Bind::Tcp(DEFAULT_BIND),
            by: BoundBy::Us,
        }),
        source: Source::Nowhere,
    });
    let bind = with_keys(value, table, inputs);
    Given {
        value: AdminSettings { bind, quit },
        source,
    }
}

fn bind(given: Given<String>, inputs: &mut Inputs<'_>) -> Option<Given<Option<BoundAt>>> {
    if given.value.trim() == "off" {
        return Some(given.map(|_| None));
    }
    if given.value.trim().starts_with("systemd:") {
        return Some(inputs.bind(given)?.map(Some));
    }
    let parsed = inputs.problems.parse(given, |text| {
        value::bind(text)
            .map(|bind| match bind {
                // 127.0.0.1 alone: clients of the admin port are configured with its address, or are told it.
                Bind::Localhost { port } => Bind::Tcp((Ipv4Addr::LOCALHOST, port).into()),
                bind => bind,
            })
            .map_err(|error| format!("{error}, or `off`"))
    })?;
    Some(parsed.map(|bind| Some(BoundAt { bind, by: BoundBy::Us })))
}

/// `mode` and `uids` belong to a unix socket.
fn with_keys(bound: Option<BoundAt>, table: &FileAdmin, inputs: &mut Inputs<'_>) -> Option<Bind> {
    let keys = UnixKeys {
        place: &table.place,
        mode: table.mode.as_ref(),
        uids: table.uids.as_ref(),
    };
    match bound {
        Some(bound) => Some(with_unix_keys(bound, &keys, &mut inputs.problems)),
        None => {
            refuse_unix_keys(&keys, &mut inputs.problems);
            None
        }
    }
}
