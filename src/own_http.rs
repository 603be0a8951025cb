//! The HTTP client of the proxy's few own requests: for tokens, checks and rotation. Each request has a connection of
//! its own, which ends with it: there is about one request in an hour. Requests of clients never go this way (see
//! `upstream`).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, request, response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::upstream::{
    AUTHORITY_AS_SERVER, ConnectTo, EgressProxy, HttpVersion, PROXY_NOT_ATLAS, TunnelError, UNKNOWN_ISSUER, Untrusted,
    UpstreamSettings, connect_host, connect_through, is_authority_as_server, is_of_make_ca,
};

/// The longest error text of a library or peer that is repeated, in characters.
const MOST_REASON: usize = 200;
/// Bound on a response head, bytes.
const MOST_HEAD: usize = 64 << 10;
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));

/// An HTTP client, cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    tls: Arc<rustls::ClientConfig>,
    connect_timeout: Duration,
    egress: Option<EgressProxy>,
    /// Where TLS connections go in place of what the URI names.
    connect_to: Option<ConnectTo>,
    version: HttpVersion,
}

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request is not valid.
    #[error("this request can't be made: {0}")]
    Request(#[from] http::Error),
    /// No connection in time.
    #[error("the connection took too long")]
    ConnectTimeout,
    /// No address, or none that accepted the connection.
    #[error(transparent)]
    Connect(io::Error),
    /// The egress proxy could not be reached, or opened no tunnel.
    #[error("no way to `{host}` through the egress proxy {proxy}: {source}")]
    Tunnel {
        /// The host that the request was for.
        host: String,
        /// The proxy, without credentials.
        proxy: String,
        /// Why.
        source: TunnelError,
    },
    /// The certificate or the handshake was not acceptable.
    #[error(transparent)]
    Tls(io::Error),
    /// The server does not speak HTTP/2, which the settings demand.
    #[error("it does not offer HTTP/2 (ALPN `h2`), but the setting `http` demands it: set it to `auto` or `1`")]
    NoHttp2,
    /// No answer in time.
    #[error("the answer took too long")]
    Timeout,
    /// The connection broke, or the answer was not HTTP.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl HttpError {
    /// Whether something took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::Timeout)
    }

    /// Whether it failed before a byte of the request was sent.
    pub fn is_connect(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Broken(_))
    }

    /// Whether TLS is the cause.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_)) || self.tls_error().is_some()
    }

    /// The innermost error's text: the outer errors only say what was tried. It may quote the peer's certificate, so it
    /// is cut to a line of printable characters.
    pub fn reason(&self) -> String {
        if matches!(self, Self::Tunnel { .. }) {
            return self.to_string();
        }
        if self.tls_error().is_some_and(is_authority_as_server) {
            return AUTHORITY_AS_SERVER.to_owned();
        }
        if self.tls_error().is_some_and(is_of_make_ca) {
            return PROXY_NOT_ATLAS.to_owned();
        }
        // Clients are told of it, too.
        if self.tls_error().and_then(Untrusted::of_tls).is_some() {
            return UNKNOWN_ISSUER.to_owned();
        }
        let mut innermost: &dyn Error = self;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let text = innermost.to_string();
        // rustls ends some texts with a link to its manual.
        let text = text.split(": https://docs.rs/").next().unwrap_or_default();
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MOST_REASON)
            .collect()
    }

    /// `source` of an `io::Error` skips the error that it wraps, which may be the TLS error, or another `io::Error`
    /// around it.
    fn tls_error(&self) -> Option<&rustls::Error> {
        let mut next: Option<&(dyn Error + 'static)> = match self {
            Self::Tls(error) => Some(error),
            _ => self.source(),
        };
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(error);
            }
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }
}

/// An answer, whose body is still to be read. Dropping it ends its connection.
#[derive(Debug)]
pub struct HttpResponse {
    head: response::Parts,
    body: Incoming,
    deadline: Instant,
    _connection: AbortOnDropHandle<()>,
}

impl HttpResponse {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The body; if it is longer than `most` bytes, at most a chunk more than that.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn read(&mut self, most: usize) -> Result<Vec<u8>, HttpError> {
        let read = async {
            let mut body = Vec::new();
            while body.len() <= most {
                let Some(frame) = self.body.frame().await else { break };
                if let Ok(data) = frame?.into_data() {
                    body.extend_from_slice(&data);
                }
            }
            Ok(body)
        };
        timeout_at(self.deadline, read).await.unwrap_or(Err(HttpError::Timeout))
    }
}

impl HttpClient {
    /// A client that verifies with `tls` alone, follows no redirect (the credential must not go elsewhere), goes through `egress`
    /// or else directly, and keeps no connections.
    pub fn new(
        mut tls: rustls::ClientConfig,
        connect_timeout: Duration,
        egress: Option<EgressProxy>,
        version: HttpVersion,
    ) -> Self {
        // Independent of what the connections of clients' requests offer.
        tls.alpn_protocols = match version {
            HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersion::Http2 => vec![b"h2".to_vec()],
            // No version is preferred: the server chooses.
            HttpVersion::Auto => vec![b"http/1.1".to_vec(), b"h2".to_vec()],
        };
        Self {
            tls: Arc::new(tls),
            connect_timeout,
            egress,
            connect_to: None,
            version,
        }
    }

    /// A client for the proxy's own requests to an account's upstream.
    pub fn to(upstream: &UpstreamSettings, tls: rustls::ClientConfig) -> Self {
        let client = Self::new(
            tls,
            upstream.limits.connect_timeout,
            upstream.egress.clone(),
            upstream.http,
        );
        Self {
            connect_to: upstream.connect_to.clone(),
            ..client
        }
    }

    /// Where TLS connections go in place of what the URI names.
    pub fn connect_to(&self) -> Option<&ConnectTo> {
        self.connect_to.as_ref()
    }

    /// Sends one request to the absolute URI in `request`. `limit` bounds everything from the name look-up to the last
    /// byte of the answer.
    ///
    /// # Errors
    /// See [`HttpError`]. An answer with an error status is an answer.
    pub async fn send(
        &self,
        request: request::Builder,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<HttpResponse, HttpError> {
        let deadline = Instant::now() + limit;
        let mut request = request.body(Full::new(body.into()))?;
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        let Target { tls, name, port } = Target::of(request.uri())?;
        let bounded = self.connect_timeout.min(limit);
        let late = |_| HttpError::ConnectTimeout;
        if !tls {
            // Plain HTTP goes to this machine only, and so never through the egress proxy.
            let connect = timeout(bounded, connect_host(&name, port)).await.map_err(late)?;
            let h2 = self.version == HttpVersion::Http2;
            return ask(connect.map_err(HttpError::Connect)?, h2, request, deadline).await;
        }
        let (host, port) = match &self.connect_to {
            Some(to) => (to.host(), to.port()),
            None => (name.as_str(), port),
        };
        let connect = async {
            let stream = match &self.egress {
                None => connect_host(host, port).await.map_err(HttpError::Connect)?,
                Some(egress) => connect_through(egress, host, port)
                    .await
                    .map_err(|source| HttpError::Tunnel {
                        host: host.to_owned(),
                        proxy: egress.to_string(),
                        source,
                    })?,
            };
            let server = ServerName::try_from(name.clone())
                .map_err(|error| HttpError::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            connector.connect(server, stream).await.map_err(HttpError::Tls)
        };
        let stream = timeout(bounded, connect).await.map_err(late)??;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.version == HttpVersion::Http2 && !h2 {
            return Err(HttpError::NoHttp2);
        }
        ask(stream, h2, request, deadline).await
    }
}

/// Where a request goes.
struct Target {
    tls: bool,
    /// The host, without the brackets of an IPv6 address.
    name: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, HttpError> {
        let host = uri.host().unwrap_or_default();
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let name = name.unwrap_or(host).to_owned();
        if name.is_empty() {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "the URL names no host");
            return Err(HttpError::Connect(why));
        }
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, name, port })
    }
}

async fn ask<S>(
    stream: S,
    h2: bool,
    mut request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let asking = async {
        let (response, connection) = if h2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(MOST_HEAD as u32)
                .handshake(io)
                .await?;
            let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
            (sender.send_request(request).await?, connection)
        } else {
            let host = request.uri().authority().map(|authority| authority.as_str());
            let host = HeaderValue::from_str(host.unwrap_or_default()).map_err(http::Error::from)?;
            request.headers_mut().insert(header::HOST, host);
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
            let (mut sender, connection) = http1::Builder::new().max_buf_size(MOST_HEAD).handshake(io).await?;
            let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
            (sender.send_request(request).await?, connection)
        };
        let (head, body) = response.into_parts();
        Ok(HttpResponse {
            head,
            body,
            deadline,
            _connection: connection,
        })
    };
    timeout_at(deadline, asking).await.unwrap_or(Err(HttpError::Timeout))
}
