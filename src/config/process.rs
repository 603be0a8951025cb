//! What concerns the process as a whole: limits, workers, logging, draining.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::file::{FileConfig, FileLimits};
use super::inputs::Inputs;
use super::problem::{Problems, shown};
use super::source::Given;
use super::{value, variable};
use crate::log::{LogFormat, LogSettings};
use crate::settings::Limits;

const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// One thread serves thousands of requests a second; more than a few take memory and give nothing.
const MOST_DEFAULT_WORKERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not zero");

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

pub(crate) fn workers(file: &FileConfig, inputs: &mut Inputs<'_>) -> NonZeroUsize {
    let flags = inputs.sources.flags;
    let over = inputs.setting("--workers", flags.workers.as_ref(), variable::WORKERS);
    let cores = inputs.sources.machine.cores;
    inputs
        .choose(over, file.workers.as_ref(), value::workers)
        .map_or(cores.min(MOST_DEFAULT_WORKERS), |given| given.value)
}

pub(crate) fn drain_timeout(file: &FileConfig, inputs: &mut Inputs<'_>) -> Duration {
    let flags = inputs.sources.flags;
    let over = inputs.setting("--drain-timeout", flags.drain_timeout.as_ref(), variable::DRAIN_TIMEOUT);
    inputs
        .choose(over, file.drain_timeout.as_ref(), value::duration)
        .map_or(DEFAULT_DRAIN, |given| given.value)
}

pub(crate) fn drain_delay(file: &FileConfig, inputs: &mut Inputs<'_>) -> Duration {
    let flags = inputs.sources.flags;
    let over = inputs.setting("--drain-delay", flags.drain_delay.as_ref(), variable::DRAIN_DELAY);
    inputs
        .choose(over, file.drain_delay.as_ref(), value::duration)
        .map_or(Duration::ZERO, |given| given.value)
}

pub(crate) fn log(file: &FileConfig, inputs: &mut Inputs<'_>) -> LogSettings {
    let flags = inputs.sources.flags;
    let level = inputs.setting("--log-level", flags.log_level.as_ref(), variable::LOG_LEVEL);
    let format = inputs.setting("--log-format", flags.log_format.as_ref(), variable::LOG_FORMAT);
    let default_format = if inputs.sources.machine.log_to_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    LogSettings {
        level: inputs
            .choose(level, file.log.level.as_ref(), value::level)
            .map_or(LevelFilter::INFO, |given| given.value),
        format: inputs
            .choose(format, file.log.format.as_ref(), value::log_format)
            .map_or(default_format, |given| given.value),
    }
}

pub(crate) fn limits(file: &FileLimits, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let mut set = |given: &Option<Given<String>>, place: &mut usize, bounds, parse| {
        number(given.as_ref(), place, bounds, parse, problems);
    };
    set(
        &file.max_connections,
        &mut limits.capacity.max_connections,
        CONNECTIONS,
        value::count,
    );
    set(
        &file.max_connections_per_peer,
        &mut limits.capacity.max_connections_per_peer,
        CONNECTIONS_PER_PEER,
        value::count,
    );
    set(
        &file.max_header_bytes,
        &mut limits.connection.max_header_bytes,
        HEADER_BYTES,
        value::size,
    );
    set(
        &file.max_headers,
        &mut limits.connection.max_headers,
        HEADERS,
        value::count,
    );
    set(
        &file.replay_limit,
        &mut limits.body.replay_limit,
        REPLAY_BYTES,
        value::size,
    );
    set(
        &file.replay_budget,
        &mut limits.body.replay_budget,
        REPLAY_BYTES,
        value::size,
    );
    set(
        &file.request_body_min_rate,
        &mut limits.body.request_body_min_rate,
        RATE_BYTES,
        value::size,
    );
    let mut wait = |given: &Option<Given<String>>, place: &mut Duration| {
        if let Some(given) = given.clone().and_then(|given| problems.parse(given, value::wait)) {
            *place = given.value;
        }
    };
    wait(&file.max_connection_age, &mut limits.connection.max_age);
    wait(&file.header_read_timeout, &mut limits.connection.header_read_timeout);
    wait(
        &file.request_body_idle_timeout,
        &mut limits.body.request_body_idle_timeout,
    );
    wait(&file.connect_timeout, &mut limits.upstream.connect_timeout);
    wait(&file.response_head_timeout, &mut limits.upstream.response_head_timeout);
    wait(
        &file.response_body_idle_timeout,
        &mut limits.upstream.response_body_idle_timeout,
    );
    wait(
        &file.upstream_connection_max_age,
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
