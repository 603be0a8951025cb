//! `[limits]`: bounds, each for the part that keeps it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{Problems, shown};
use super::source::Given;
use super::table::tables;
use super::value;
use crate::settings::Limits;

tables! {
    /// `[limits]`.
    FileLimits {
        max_connections: integer,
        max_connections_per_peer: integer,
        max_connection_age: text,
        header_read_timeout: text,
        max_header_bytes: text_or_integer,
        max_headers: integer,
        request_body_idle_timeout: text,
        request_body_min_rate: text,
        connect_timeout: text,
        response_head_timeout: text,
        response_body_idle_timeout: text,
        upstream_connection_max_age: text,
        replay_limit: text_or_integer,
        replay_budget: text_or_integer,
    }
}

/// A process has at most about a million descriptors (`fs.nr_open`).
const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 20;
const CONNECTIONS_PER_PEER: RangeInclusive<usize> = 0..=1 << 20;
/// hyper takes no read buffer under 8 KiB; a head beyond 1 MiB is an attack.
const HEADER_BYTES: RangeInclusive<usize> = 8 << 10..=1 << 20;
const HEADERS: RangeInclusive<usize> = 1..=4096;
/// Fits 32 bits.
const REPLAY_BYTES: RangeInclusive<usize> = 0..=1 << 31;

/// Bytes a second that a client must send: beyond a megabyte honest ones would be cut off.
const RATE_BYTES: RangeInclusive<usize> = 0..=1 << 20;

pub(crate) fn build(table: &FileLimits, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let mut set = |given: &Option<Given<String>>, place: &mut usize, bounds, parse| {
        number(given.as_ref(), place, bounds, parse, problems);
    };
    set(
        &table.max_connections,
        &mut limits.capacity.max_connections,
        CONNECTIONS,
        value::count,
    );
    set(
        &table.max_connections_per_peer,
        &mut limits.capacity.max_connections_per_peer,
        CONNECTIONS_PER_PEER,
        value::count,
    );
    set(
        &table.max_header_bytes,
        &mut limits.connection.max_header_bytes,
        HEADER_BYTES,
        value::size,
    );
    set(
        &table.max_headers,
        &mut limits.connection.max_headers,
        HEADERS,
        value::count,
    );
    set(
        &table.replay_limit,
        &mut limits.body.replay_limit,
        REPLAY_BYTES,
        value::size,
    );
    set(
        &table.replay_budget,
        &mut limits.body.replay_budget,
        REPLAY_BYTES,
        value::size,
    );
    set(
        &table.request_body_min_rate,
        &mut limits.body.request_body_min_rate,
        RATE_BYTES,
        value::size,
    );
    let mut wait = |given: &Option<Given<String>>, place: &mut Duration| {
        if let Some(given) = given.clone().and_then(|given| problems.parse(given, value::wait)) {
            *place = given.value;
        }
    };
    wait(&table.max_connection_age, &mut limits.connection.max_age);
    wait(&table.header_read_timeout, &mut limits.connection.header_read_timeout);
    wait(
        &table.request_body_idle_timeout,
        &mut limits.body.request_body_idle_timeout,
    );
    wait(&table.connect_timeout, &mut limits.upstream.connect_timeout);
    wait(&table.response_head_timeout, &mut limits.upstream.response_head_timeout);
    wait(
        &table.response_body_idle_timeout,
        &mut limits.upstream.response_body_idle_timeout,
    );
    wait(
        &table.upstream_connection_max_age,
        &mut limits.upstream.connection_max_age,
    );
    limits
}

fn number(
    given: Option<&Given<String>>,
    place: &mut usize,
    bounds: RangeInclusive<usize>,
    parse: fn(&str) -> Result<usize, String>,
    problems: &mut Problems,
) {
    let within = |text: &str| {
        let number = parse(text)?;
        if bounds.contains(&number) {
            Ok(number)
        } else {
            let (least, most) = bounds.clone().into_inner();
            Err(format!("{} is not within {least} and {most}", shown(text)))
        }
    };
    if let Some(given) = given.cloned().and_then(|given| problems.parse(given, within)) {
        *place = given.value;
    }
}
