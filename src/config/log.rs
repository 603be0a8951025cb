//! `[log]`.

use tracing::level_filters::LevelFilter;

use super::inputs::Inputs;
use super::table::tables;
use super::{value, variable};
use crate::log::{LogFormat, LogSettings};

tables! {
    /// `[log]`.
    FileLog {
        level: text,
        format: text,
    }
}

pub(crate) fn build(table: &FileLog, inputs: &mut Inputs<'_>) -> LogSettings {
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
            .choose(level, table.level.as_ref(), value::level)
            .map_or(LevelFilter::INFO, |given| given.value),
        format: inputs
            .choose(format, table.format.as_ref(), value::log_format)
            .map_or(default_format, |given| given.value),
    }
}
