//! What is said of a listener.

use std::sync::Arc;

use crate::proxy::Usage;
use crate::server::ListenerSettings;

/// A listener that serves, for logs and the status page.
#[derive(Debug, Clone)]
pub struct ListenerStatus {
    /// Its label.
    pub name: String,
    /// Where: `http://127.0.0.1:8080` or `unix:/path`.
    pub url: String,
    /// The second address: `http://[::1]:8080`.
    pub also: Option<String>,
    /// Whose credential it adds.
    pub account: String,
    /// `service_account` or `api_key`.
    pub credential: &'static str,
    /// Where requests go.
    pub upstream: String,
    /// Its settings.
    pub(in crate::app) settings: ListenerSettings,
    /// What it has used of its bounds.
    pub(in crate::app) usage: Arc<Usage>,
}
