//! Reads a key set where the settings say that it is, and nowhere else: no redirect is followed, and no URL of a token.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use zeroize::Zeroizing;

use super::{IssuerToken, JwksSource, JwksUrl};
use crate::blocking;
use crate::own_http::HttpClient;
use crate::upstream::{EgressProxy, HttpVersion, client_config};

/// The largest key set.
const LARGEST: usize = 256 << 10;
/// The largest token of ours that is sent for one.
const LARGEST_TOKEN: usize = 16 << 10;
const CONNECT: Duration = Duration::from_secs(5);
/// From the name look-up to the last byte.
const WHOLE: Duration = Duration::from_secs(10);

/// RFC 7517 section 8.5.2. Kubernetes answers 406 to whoever accepts the second alone, and others call their keys so.
const MEDIA_TYPES: &str = "application/jwk-set+json, application/json";

/// The body, or why there is none.
pub(super) async fn fetch(source: &JwksSource) -> Result<Vec<u8>, String> {
    match source {
        JwksSource::File(path) => read(path.clone(), LARGEST).await.map(|bytes| bytes.to_vec()),
        JwksSource::Open { url, ca_file, egress } => ask(url, ca_file.clone(), egress.clone(), None).await,
        JwksSource::WithToken { url, ca_file, token } => {
            let token = match token {
                IssuerToken::File(path) => IssuerToken::bearer(&read(path.clone(), LARGEST_TOKEN).await?)?,
                IssuerToken::Value(token) => IssuerToken::bearer(token.expose().as_bytes())?,
            };
            ask(url, Some(ca_file.clone()), None, Some(token)).await
        }
    }
}

async fn ask(
    url: &JwksUrl,
    ca_file: Option<PathBuf>,
    egress: Option<EgressProxy>,
    token: Option<HeaderValue>,
) -> Result<Vec<u8>, String> {
    let tls = blocking::run(move || client_config(ca_file.as_deref())).await;
    let tls = tls
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let client = HttpClient::new(tls, CONNECT, egress, HttpVersion::Auto);
    let mut request = Request::get(url.uri()).header(header::ACCEPT, MEDIA_TYPES);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token);
    }
    let mut answer = client.send(request, "", WHOLE).await.map_err(|error| error.reason())?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!(
            "it answers {status}: no redirect is followed, name the URL where the keys are"
        ));
    }
    if status != StatusCode::OK {
        return Err(format!("it answers {status}"));
    }
    let body = answer.read(LARGEST).await.map_err(|error| error.reason())?;
    if body.len() > LARGEST {
        return Err("its answer is larger than 256 KiB".to_owned());
    }
    Ok(body)
}

/// A file of at most `most` bytes.
async fn read(path: PathBuf, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = blocking::run(move || {
        let result = blocking::read_file(&path, most);
        result
            .map(|file| file.bytes)
            .map_err(|error| format!("{}: {error}", path.display()))
    });
    read.await.map_err(|error| error.to_string())?
}
