//! The addresses that listeners bind.

use super::FileListener;
use crate::config::handed::BoundAt;
use crate::config::inputs::Inputs;
use crate::config::problem::Problems;
use crate::config::source::{Given, Source};
use crate::config::unix::{UnixKeys, with_unix_keys};
use crate::config::variable;
use crate::server::Bind;

const DEFAULT_BIND: &str = "localhost:8080";

/// An address, and the table of the file that describes its listener.
pub(crate) struct Entry<'f> {
    pub(crate) bind: Given<String>,
    pub(crate) table: Option<&'f FileListener>,
    /// False when several addresses take the place of one: they can't share its name, the bound address tells them
    /// apart.
    pub(crate) keeps_name: bool,
}

/// Every address to bind, in order.
pub(crate) fn entries<'f>(tables: &'f [FileListener], inputs: &mut Inputs<'_>) -> Vec<Entry<'f>> {
    let entry = |bind, table, keeps_name| Entry {
        bind,
        table,
        keeps_name,
    };
    let default = || Given {
        value: DEFAULT_BIND.to_owned(),
        source: Source::Nowhere,
    };
    let listen = inputs.list("--listen", &inputs.sources.flags.listen, variable::LISTEN);
    match (listen, tables) {
        (None, []) => vec![entry(default(), None, true)],
        (None, tables) => tables
            .iter()
            .map(|table| entry(table.bind.clone().unwrap_or_else(default), Some(table), true))
            .collect(),
        (Some(listen), _) if listen.value.is_empty() => {
            inputs.problems.add(&listen.source, "this list names no address");
            Vec::new()
        }
        (Some(listen), [] | [_]) => {
            let single = listen.value.len() == 1;
            let binds = listen.value.into_iter();
            binds.map(|bind| entry(bind, tables.first(), single)).collect()
        }
        (Some(listen), several) => {
            inputs.problems.add(
                &listen.source,
                format_args!(
                    "the file has {} listeners, and this can't tell which one it is about: unset it, and change `bind` \
                     in the file",
                    several.len()
                ),
            );
            Vec::new()
        }
    }
}

/// Where the first listener is bound, and whether it speaks TLS.
pub(crate) fn first(tables: &[FileListener], inputs: &mut Inputs<'_>) -> Option<(Bind, bool)> {
    let entry = entries(tables, inputs).into_iter().next()?;
    let tls = entry.table.is_some_and(|table| table.tls.is_some());
    let bound = inputs.bind(entry.bind)?;
    Some((bound.value.bind, tls))
}

/// `mode` and `uids` belong to a unix socket, `allow` does not.
pub(super) fn with_unix_settings(bound: BoundAt, table: Option<&FileListener>, problems: &mut Problems) -> Bind {
    let Some(table) = table else { return bound.bind };
    if let (Bind::Unix { .. }, Some(given)) = (&bound.bind, &table.allow) {
        problems.add(
            &given.source,
            "a unix socket has no peer addresses: remove this; `mode` and `uids` say who may connect",
        );
    }
    let keys = UnixKeys {
        place: &table.place,
        mode: table.mode.as_ref(),
        uids: table.uids.as_ref(),
    };
    with_unix_keys(bound, &keys, problems)
}
