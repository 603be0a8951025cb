//! What stands for tracing in a build without it: types of which there is no value.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, Version};

use super::{Asked, Outcome, Sending, TraceSettings};
use crate::metrics::Metrics;

/// There is none.
#[derive(Debug)]
pub enum Tracer {}

/// There is none.
#[derive(Debug)]
pub enum RequestSpan {}

/// There is none.
#[derive(Debug)]
pub enum SendSpan {}

impl Tracer {
    /// None.
    pub fn start(_: &TraceSettings, _: rustls::ClientConfig, _: &Metrics) -> Option<Arc<Self>> {
        None
    }

    /// Never called.
    pub fn request(&self, _: &Asked<'_>) -> Box<RequestSpan> {
        match *self {}
    }

    /// Never called.
    pub async fn close(&self) {
        match *self {}
    }
}

impl RequestSpan {
    /// Never called.
    pub fn found(&mut self, _: &'static str) {
        match *self {}
    }

    /// Never called.
    pub fn asked_for(&mut self, _: &str) {
        match *self {}
    }

    /// Never called.
    pub fn send(&self, _: &Sending<'_>, _: &mut HeaderMap) -> Box<SendSpan> {
        match *self {}
    }

    /// Never called.
    pub fn end(self, _: &Outcome<'_>) {
        match self {}
    }
}

impl SendSpan {
    /// Never called.
    pub fn answered(self, _: StatusCode, _: Version) {
        match self {}
    }

    /// Never called.
    pub fn failed(self, _: &'static str) {
        match self {}
    }
}
