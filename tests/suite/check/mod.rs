//! `check` names the cause: each test is a broken set-up, and the line that says so, with what to do. The program itself
//! runs; nothing that it prints holds a secret. How it is set up and asked is in `support/check.rs`.

mod accounts;
mod api;
mod audit;
mod certificates;
mod clock;
mod configuration;
mod credential;
mod egress_proxy;
mod gateway;
mod json;
mod network;
mod ports;
mod terminal;
mod tls;
#[cfg(feature = "token-store")]
mod token_store;
mod working;
