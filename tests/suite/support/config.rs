//! Configurations as users write them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use atlas_auth_proxy::config::{self, Disk, Flags, Machine, NoCommands, NoNetwork, Sources};
use atlas_auth_proxy::settings::Settings;

/// Reads a file as `run` does, with nothing in the environment.
pub fn load(file: PathBuf) -> Result<Settings, String> {
    let flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let loaded = config::load(Sources {
        flags: &flags,
        environment: &BTreeMap::<String, String>::new(),
        files: &Disk,
        sockets: None,
        commands: &NoCommands,
        network: &NoNetwork,
        machine: Machine {
            cores: NonZeroUsize::MIN,
            overflow_uid: 65534,
            log_to_terminal: false,
        },
    });
    loaded
        .map(|loaded| loaded.settings)
        .map_err(|errors| errors.to_string())
}
