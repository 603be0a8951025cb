//! The promises of the proxy, from the outside: over real sockets and real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

mod support;

mod access;
mod access_files;
mod admin;
mod answers;
mod atlas_says_no;
mod audit;
mod bearer;
mod blocked;
mod browser;
mod build;
mod callers;
#[cfg(feature = "emulator")]
mod check;
#[cfg(feature = "emulator")]
mod clients;
#[cfg(feature = "emulator")]
mod command_line;
mod contradictions;
#[cfg(all(feature = "emulator", feature = "token-store"))]
mod dashboard;
mod default_accept;
mod dependencies;
#[cfg(feature = "emulator")]
mod digest;
mod digest_places;
mod early_answers;
mod egress;
#[cfg(feature = "emulator")]
mod emulated;
mod endings;
mod faults;
mod forwarding;
mod guard;
mod hardening;
#[cfg(feature = "token-store")]
mod hostile_store;
mod http2_upstream;
mod instructions;
mod issuer_keys;
mod leaf;
mod limits;
mod links;
mod log_pipe;
mod metrics;
mod names;
mod pages;
mod proxy_protocol;
mod records;
#[cfg(feature = "emulator")]
mod refusals;
mod replicas;
#[cfg(feature = "emulator")]
mod rotate_secret;
#[cfg(feature = "emulator")]
mod rotation;
mod rules;
#[cfg(feature = "token-store")]
mod scale;
#[cfg(feature = "emulator")]
mod secret_commands;
mod secrets;
#[cfg(feature = "emulator")]
mod self_signed;
mod shares;
mod shutdown;
mod signals;
mod skipping;
mod smuggling;
#[cfg(feature = "emulator")]
mod status_page;
mod structure;
mod sunset;
mod systemd;
mod tls_listener;
#[cfg(feature = "token-store")]
mod token_store;
#[cfg(feature = "otel")]
mod traces;
#[cfg(feature = "emulator")]
mod transparent;
mod upstream_tls;
mod web_servers;
mod wiping;
