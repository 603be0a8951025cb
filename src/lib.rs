//! atlas-auth-proxy adds a MongoDB Atlas Administration API credential to the requests of programs that hold none.

pub mod access;
pub mod admin;
pub mod app;
pub mod atlas_api;
pub mod blocking;
#[allow(dead_code, reason = "its parts come one by one")]
pub mod caller;
pub mod catalogue;
pub mod certificate;
pub mod cli;
pub mod code;
pub mod config;
pub mod credential;
pub mod crypto;
pub mod doctor;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod fair;
pub mod guard;
pub mod hardening;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod own_http;
pub mod proxy;
pub mod report;
pub mod rotate;
pub mod secret;
pub mod server;
pub mod settings;
pub mod time;
#[cfg(feature = "token-store")]
pub mod token_store;
pub mod units;
pub mod upstream;
