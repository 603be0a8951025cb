//! atlas-auth-proxy adds a MongoDB Atlas Administration API credential to the requests of programs that hold none.

pub mod admin;
pub mod app;
pub mod atlas_api;
pub mod cli;
pub mod code;
pub mod config;
pub mod credential;
pub mod crypto;
pub mod doctor;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod guard;
pub mod hardening;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod proxy;
pub mod rotate;
pub mod secret;
pub mod server;
pub mod settings;
pub mod time;
#[cfg(feature = "token-store")]
pub mod token_store;
pub mod units;
pub mod upstream;
