//! The HTTP client for the few requests that the proxy makes of itself: for tokens, checks and rotation. Requests of clients
//! never go through it (see `upstream`).

mod authority;
mod egress;

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::blocking;

/// The longest foreign error text that is repeated, in characters.
const MOST_REASON: usize = 200;

pub use authority::{AUTHORITY_AS_SERVER, handshake_words, is_authority_as_server};
pub use egress::{EgressProxy, EgressProxyError};
/// An answer to it.
pub use reqwest::Response as HttpResponse;

/// An HTTP client, cheap to clone, and the proxy that it goes through.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    egress: Option<EgressProxy>,
}

impl HttpClient {
    /// The proxy for `https`.
    pub fn egress(&self) -> Option<&EgressProxy> {
        self.egress.as_ref()
    }
}

impl Deref for HttpClient {
    type Target = reqwest::Client;

    fn deref(&self) -> &reqwest::Client {
        &self.client
    }
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for the proxy's own requests can't be made: {0}")]
pub struct HttpClientError(#[from] reqwest::Error);

/// Looks names up as connections for clients do: its own resolver panics when no thread can be made.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = blocking::lookup(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What the proxy speaks on its own connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: the upstream speaks, or shall be spoken to, in nothing else.
    Http2,
}

/// An HTTP client that verifies with `tls` alone, follows no redirect (the credential must not go elsewhere), goes through
/// `egress` or else directly, whatever the proxy variables say, and keeps no idle connections: there is one request in an
/// hour.
///
/// # Errors
/// When reqwest does not take the configuration.
pub fn http_client(
    mut tls: rustls::ClientConfig,
    connect_timeout: Duration,
    egress: Option<&EgressProxy>,
    speaks: Speaks,
) -> Result<HttpClient, HttpClientError> {
    let builder = reqwest::Client::builder().no_proxy();
    let (protocol, mut builder) = match speaks {
        Speaks::Http1 => (&b"http/1.1"[..], builder.http1_only()),
        Speaks::Http2 => (&b"h2"[..], builder.http2_prior_knowledge()),
    };
    // The one that it speaks, whatever the API's connections offer.
    tls.alpn_protocols = vec![protocol.to_vec()];
    if let Some(egress) = egress {
        // For `https` alone: a credential in plain text is for this machine.
        let mut proxy = reqwest::Proxy::https(egress.to_string())?;
        if let Some(authorization) = egress.authorization() {
            proxy = proxy.custom_http_auth(authorization);
        }
        builder = builder.proxy(proxy);
    }
    let client = builder
        .tls_backend_preconfigured(tls)
        .dns_resolver(Names)
        // RFC 6761 section 6.3: always loopback. Plain HTTP is let through to this name, and resolvers may say otherwise.
        .resolve_to_addrs(
            "localhost",
            &[(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()],
        )
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(0)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(HttpClient {
        client,
        egress: egress.cloned(),
    })
}

/// The innermost error's text: the outer ones only say "error sending request". It may quote the peer's certificate,
/// so it is cut to a line of printable characters.
pub fn reason(error: &reqwest::Error) -> String {
    if tls_error(error).is_some_and(is_authority_as_server) {
        return AUTHORITY_AS_SERVER.to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    // rustls ends some texts with where its manual says more.
    let text = text.split(": https://docs.rs/").next().unwrap_or_default();
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_REASON)
        .collect()
}

/// Whether rustls is at the bottom of it. `source` of an `io::Error` skips the error that it wraps, which may be the
/// one, or another `io::Error` around it.
pub fn is_tls(error: &reqwest::Error) -> bool {
    tls_error(error).is_some()
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
