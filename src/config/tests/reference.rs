//! `docs/CONFIGURATION.md` names every variable and every key. (Its flags are compared with clap's in `cli`.)

use super::super::file::{ACCOUNT, ADMIN, LIMITS, LISTENER, LOG, RULE, TLS, TOKEN_STORE, TOP};
use super::super::variable;

const REFERENCE: &str = include_str!("../../../docs/CONFIGURATION.md");

#[test]
fn every_variable_is_documented() {
    for name in variable::ALL {
        assert!(REFERENCE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_key_is_documented() {
    for shape in [
        &TOP,
        &LISTENER,
        &RULE,
        &ACCOUNT,
        &ADMIN,
        &LIMITS,
        &LOG,
        &TLS,
        &TOKEN_STORE,
    ] {
        for key in shape.keys {
            let tables = [
                "listener",
                "rule",
                "account",
                "admin",
                "limits",
                "log",
                "tls",
                "token_store",
            ];
            assert!(tables.contains(key) || REFERENCE.contains(&format!("`{key}`")), "{key}");
        }
    }
}
