//! What concerns the process as a whole: workers, draining.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::file::FileConfig;
use super::inputs::Inputs;
use super::source::Machine;
use super::{value, variable};

const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// One thread serves thousands of requests a second; more than a few take memory and give nothing.
const MOST_DEFAULT_WORKERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not zero");

pub(crate) fn workers(file: &FileConfig, inputs: &mut Inputs<'_>) -> NonZeroUsize {
    let flags = inputs.sources.flags;
    let over = inputs.setting("--workers", flags.workers.as_ref(), variable::WORKERS);
    let default = default_workers(&inputs.sources.machine);
    inputs
        .choose(over, file.workers.as_ref(), value::workers)
        .map_or(default, |given| given.value)
}

pub(crate) fn default_workers(machine: &Machine) -> NonZeroUsize {
    machine.cores.min(MOST_DEFAULT_WORKERS)
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
