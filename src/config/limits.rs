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
        /// Open client connections of all listeners together.
        max_connections: integer as Range(1, 1048576) default 16384,
        /// Of one address; 0: no limit of its own.
        max_connections_per_peer: integer as Range(0, 1048576) default 0,
        /// Longest life of a client connection; it ends after 90 to 100 % of that.
        max_connection_age: text as Duration default "1h",
        /// For a whole request head.
        header_read_timeout: text as Duration default "10s",
        /// Of a request head; 8 KiB to 1 MiB.
        max_header_bytes: text_or_integer as Size default "64KiB",
        /// Fields of a request head.
        max_headers: integer as Range(1, 4096) default 100,
        /// Longest pause within a request body.
        request_body_idle_timeout: text as Duration default "30s",
        /// Least that a client must send of a request body, a second, over each 30 s in which the proxy waits for it; `0`: no bound.
        request_body_min_rate: text as Size default "1KiB",
        /// DNS, TCP and TLS to the upstream together.
        connect_timeout: text as Duration default "5s",
        /// Wait for the head of the upstream's answer.
        response_head_timeout: text as Duration default "60s",
        /// Longest pause within an answer's body.
        response_body_idle_timeout: text as Duration default "60s",
        /// Age at which a connection to the upstream serves no further request.
        upstream_connection_max_age: text as Duration default "5m",
        /// A body known or found to be larger is streamed and never recorded, so it can't be sent a second time.
        replay_limit: text_or_integer as Size default "1MiB",
        /// Recorded bytes of all requests together; beyond it a body counts as not replayable.
        replay_budget: text_or_integer as Size default "16MiB",
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
