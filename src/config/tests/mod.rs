//! Flags, environment and file in; typed settings or error text out. No process, no real file.
#![allow(clippy::unwrap_used)]

mod audit;
mod callers;
mod commands;
mod connect_to;
mod credentials;
mod effective;
mod examples;
mod gateway;
mod listeners;
mod precedence;
mod reference;
mod refusals;
mod schema;
mod tls;
mod token_store;
mod traces;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::{Commands, Flags, Loaded, Machine, NoCommands, Sources, load};
use crate::settings::Settings;

const ID: &str = "mdb_sa_id_0123456789abcdef01234567";
const SECRET: &str = "mdb_sa_sk_Top-Secret_Value";
const STORE_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const LOCAL_SECRET: &str = "a-local-secret-of-a-caller-0123456789";
const PRIVATE_KEY: &str = "11111111-2222-3333-4444-555555555555";

/// What a test hands in.
#[derive(Default)]
struct Case {
    flags: Flags,
    environment: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Case {
    /// No credential, nothing.
    fn bare() -> Self {
        Self::default()
    }

    /// A service account in the environment.
    fn new() -> Self {
        Self::bare()
            .env("MONGODB_ATLAS_CLIENT_ID", ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET", SECRET)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The configuration file, `/etc/proxy.toml`.
    fn toml(self, text: &str) -> Self {
        let mut case = self.file("/etc/proxy.toml", text);
        case.flags.config = Some("/etc/proxy.toml".into());
        case
    }

    fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), bytes.as_ref().to_vec());
        self
    }

    fn flags(mut self, change: impl FnOnce(&mut Flags)) -> Self {
        change(&mut self.flags);
        self
    }

    fn try_load(&self) -> Result<Loaded, Vec<String>> {
        load(self.sources()).map_err(|errors| errors.lines().collect())
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            flags: &self.flags,
            environment: &self.environment,
            files: &self.files,
            sockets: None,
            commands: &NoCommands,
            network: &connect_to::Names,
            machine: Machine {
                overflow_uid: 65534,
                cores: NonZeroUsize::new(8).unwrap(),
                log_to_terminal: true,
            },
        }
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        match self.try_load() {
            Ok(loaded) => loaded.settings,
            Err(lines) => panic!("refused: {lines:#?}"),
        }
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.try_load().unwrap().warnings
    }

    /// Every line of the errors.
    #[track_caller]
    fn errors(&self) -> Vec<String> {
        match self.try_load() {
            Ok(loaded) => panic!("accepted: {:#?}", loaded.settings),
            Err(lines) => lines,
        }
    }

    /// The only line of the errors.
    #[track_caller]
    fn error(&self) -> String {
        let mut lines = self.errors();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.remove(0)
    }
}
