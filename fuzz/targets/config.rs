//! Any file and any environment: settings, or problems in words that repeat no secret.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use atlas_auth_proxy::config::{Flags, Machine, NoCommands, NoNetwork, Sources, load};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "mdb_sa_sk_Secret-Of-The-Fuzzer";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The environment's lines begin with a dollar sign: `$ATLAS_PROXY_LISTEN=…`.
    let mut environment = BTreeMap::from([
        (
            "MONGODB_ATLAS_CLIENT_ID".to_owned(),
            "mdb_sa_id_0123456789abcdef01234567".to_owned(),
        ),
        ("MONGODB_ATLAS_CLIENT_SECRET".to_owned(), SECRET.to_owned()),
    ]);
    let mut file = String::new();
    for line in text.lines() {
        match line.strip_prefix('$').and_then(|line| line.split_once('=')) {
            Some((name, value)) => {
                environment.insert(name.to_owned(), value.replace('\0', ""));
            }
            None => {
                file.push_str(&line.replace("SECRET", SECRET));
                file.push('\n');
            }
        }
    }
    let files = BTreeMap::from([
        (PathBuf::from("/etc/proxy.toml"), file.into_bytes()),
        (PathBuf::from("/etc/secret"), SECRET.as_bytes().to_vec()),
    ]);
    let flags = Flags {
        config: Some("/etc/proxy.toml".into()),
        ..Flags::default()
    };
    let sources = Sources {
        flags: &flags,
        environment: &environment,
        files: &files,
        sockets: None,
        commands: &NoCommands,
        network: &NoNetwork,
        machine: Machine {
            overflow_uid: 65534,
            cores: NonZeroUsize::MIN,
            log_to_terminal: false,
        },
    };
    match load(sources) {
        Ok(loaded) => {
            assert!(!loaded.settings.listeners.is_empty());
            for listener in &loaded.settings.listeners {
                assert!(loaded.settings.accounts.contains_key(&listener.account));
            }
            assert!(!format!("{loaded:?}").contains(SECRET));
        }
        Err(errors) => {
            let said = format!("{errors} {errors:?}");
            assert!(!said.contains(SECRET), "{said}");
            assert!(errors.lines().count() > 0);
            assert!(errors.lines().all(|line| !line.is_empty() && !line.contains('\n')));
        }
    }
});
