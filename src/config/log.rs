//! `[log]`.

use tracing::level_filters::LevelFilter;

use super::inputs::Inputs;
use super::source::Machine;
use super::table::tables;
use super::{value, variable};
use crate::log::{LogFormat, LogSettings};

tables! {
    /// `[log]`.
    FileLog {
        /// Least severe level that is logged.
        level: text as OneOf("error", "warn", "info", "debug", "trace") default "info",
        /// Shape of a line. Left out: `text` on a terminal, else `json`.
        format: text as OneOf("text", "json"),
    }
}

pub(crate) fn build(table: &FileLog, inputs: &mut Inputs<'_>) -> LogSettings {
    let flags = inputs.sources.flags;
    let level = inputs.setting("--log-level", flags.log_level.as_ref(), variable::LOG_LEVEL);
    let format = inputs.setting("--log-format", flags.log_format.as_ref(), variable::LOG_FORMAT);
    let default_format = default_format(&inputs.sources.machine);
    LogSettings {
        level: inputs
            .choose(level, table.level.as_ref(), value::level)
            .map_or(LevelFilter::INFO, |given| given.value),
        format: inputs
            .choose(format, table.format.as_ref(), value::log_format)
            .map_or(default_format, |given| given.value),
    }
}

pub(crate) fn default_format(machine: &Machine) -> LogFormat {
    if machine.log_to_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }
}
