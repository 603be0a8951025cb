//! What belongs to a unix socket, be it a listener's or the admin port's.

use super::handed::{BoundAt, BoundBy};
use super::inputs::GivenList;
use super::problem::{Problems, shown};
use super::source::{Given, Source};
use super::value;
use crate::server::Bind;

/// The keys that belong to a unix socket, of a listener or of the admin port.
#[derive(Clone, Copy)]
pub(crate) struct UnixKeys<'f> {
    pub(crate) place: &'f Source,
    pub(crate) mode: Option<&'f Given<String>>,
    pub(crate) uids: Option<&'f GivenList>,
}

/// A bind with its `mode` and `uids`; they are refused where it is no unix socket.
pub(crate) fn with_unix_keys(bound: BoundAt, keys: &UnixKeys<'_>, problems: &mut Problems) -> Bind {
    let BoundAt { mut bind, by } = bound;
    if let (Some(given), true) = (keys.mode, by != BoundBy::Us) {
        problems.add(
            &given.source,
            "systemd makes this socket: remove this, and write `SocketMode=` in its unit",
        );
    }
    if by == BoundBy::ManagerOfAnother {
        return bind;
    }
    let Bind::Unix { mode, uids, .. } = &mut bind else {
        let mode = keys.mode.filter(|_| by == BoundBy::Us);
        refuse_unix_keys(&UnixKeys { mode, ..*keys }, problems);
        return bind;
    };
    if by == BoundBy::Us
        && let Some(given) = keys.mode.cloned().and_then(|given| problems.parse(given, value::mode))
    {
        *mode = given.value;
    }
    for uid in keys.uids.iter().flat_map(|list| &list.value) {
        uids.extend(problems.parse(uid.clone(), user_id).map(|given| given.value));
    }
    if let Some(list) = keys.uids.filter(|list| list.value.is_empty()) {
        problems.add(
            &list.source,
            "an empty list would let nobody connect: name a user id, or remove the key",
        );
    }
    if *mode & 0o002 != 0 && uids.is_empty() {
        problems.warn(format_args!(
            "{}: every user of this machine may connect (mode {mode:04o}, no `uids`)",
            keys.place
        ));
    }
    bind
}

/// Says that the keys are for unix sockets only.
pub(crate) fn refuse_unix_keys(keys: &UnixKeys<'_>, problems: &mut Problems) {
    let sources = [
        keys.mode.map(|given| &given.source),
        keys.uids.map(|given| &given.source),
    ];
    for source in sources.into_iter().flatten() {
        problems.add(
            source,
            "this is for unix sockets only (`bind = \"unix:/path\"`): remove it",
        );
    }
}

pub(crate) fn user_id(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not a user id: a whole number from 0 to {}",
            shown(text),
            u32::MAX
        )
    })
}
