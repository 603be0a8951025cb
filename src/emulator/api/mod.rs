//! The API: how a request is read, which operation and version it is for, and what Atlas answers to any.

mod test_aids;
mod versions;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::resources::{self, number};
use super::respond::{self, Answer, Format};
use super::server::Shared;
use crate::catalogue::{Found, OperationId};

use test_aids::{echo, sink};

/// A document that is larger is refused.
const MAX_DOCUMENT: usize = 1 << 20;

/// Stands for a slash within a segment while the operation of a path is looked for: no path has it.
const SLASH: char = '\0';

/// A request, as every resource gets it.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) query: HashMap<String, String>,
    shape: Format,
    /// The version that it gets; `None` below `/api/atlas/v1.0`, which has none.
    pub(super) version: Option<&'static str>,
    /// The path as it was sent, for `links`.
    pub(super) path: String,
    pub(super) body: Value,
}

impl Call {
    pub(super) fn document(&self, status: StatusCode, value: Value) -> Answer {
        respond::document(status, value, self.shape, self.version)
    }
}

pub(super) async fn answer(request: Request<Incoming>, peer: SocketAddr, shared: &Arc<Shared>) -> Answer {
    let path = request.uri().path().to_owned();
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    match path.as_str() {
        "/api/private/ipinfo" => return respond::json(StatusCode::OK, &json!({"currentIpv4Address": peer.ip()})),
        "/api/atlas/v2" => return system_status(&request, shared),
        "/api/atlas/v2/emulator/echo" => return echo(request).await,
        "/api/atlas/v2/emulator/sink" => return sink(request).await,
        "/api/atlas/v2/emulator/bytes" => {
            let mut answer = super::server::bare(StatusCode::OK);
            answer.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            );
            *answer.body_mut() = super::logs::octets(number(&query, "n", 0));
            return answer;
        }
        _ => {}
    }
    let decoded = decoded(&path);
    let Some(found) = shared.catalogue.find(request.method(), &decoded) else {
        return unknown(&path, &decoded, shared);
    };
    let operation = shared.catalogue.get(found.operation);
    let v1 = !path.starts_with("/api/atlas/v2/");
    let strict = shared.settings.strict_versions;
    let version = match versions::chosen(operation, request.headers(), strict, shared.settings.today) {
        _ if v1 => None,
        Ok(version) => Some(version),
        Err(refused) => return refused,
    };
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true");
    let gzip = request
        .headers()
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("gzip"));
    let shape = Format {
        pretty: flag("pretty"),
        envelope: flag("envelope"),
        gzip,
        v1,
    };
    let method = request.method().clone();
    let body = match body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let call = Call {
        method,
        query,
        shape,
        version: version.map(|version| version.date),
        path,
        body,
    };
    let at = segments(&found, &decoded, shared);
    let Some(mut answer) = resources::answer(&call, operation.path, &at, shared) else {
        return lacking(found.operation, &call, shared);
    };
    if let Some(version) = version {
        versions::announce(operation, version, answer.headers_mut());
    }
    answer
}

/// The content of a request: nothing, or JSON.
async fn body(request: Request<Incoming>) -> Result<Value, Answer> {
    let Ok(body) = Limited::new(request.into_body(), MAX_DOCUMENT).collect().await else {
        return Err(respond::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            "The body is too large.",
            &[],
        ));
    };
    let body = body.to_bytes();
    match serde_json::from_slice(&body) {
        Ok(value) => Ok(value),
        Err(_) if body.is_empty() => Ok(Value::Null),
        Err(_) => Err(respond::error(
            StatusCode::BAD_REQUEST,
            "MALFORMED_JSON",
            "Received JSON is malformed.",
            &[],
        )),
    }
}

/// A path with each segment percent-decoded: a slash within one becomes [`SLASH`].
fn decoded(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        percent_decode_str(segment)
            .decode_utf8_lossy()
            .replace('/', &SLASH.to_string())
    });
    segments.collect::<Vec<_>>().join("/")
}

/// What stands at a path below `/api/atlas/v2`, whichever version of the API it is a path of.
fn segments(found: &Found<'_>, decoded: &str, shared: &Shared) -> Vec<String> {
    let own = shared.catalogue.get(found.operation).path;
    let plain = |segment: &str| segment.replace(SLASH, "/");
    if found.template == own {
        let path = decoded.strip_suffix('/').unwrap_or(decoded);
        return path.split('/').skip(4).map(plain).collect();
    }
    let mut twins = shared.catalogue.twins(found.operation, found.template, decoded);
    // The operation's own path is the first of them.
    let twin = twins.next().into_iter().flatten();
    twin.skip(3).map(|segment| plain(&segment)).collect()
}

/// What Atlas has, and the emulator lacks: said once for each operation, so that nobody takes it for an answer of Atlas.
fn lacking(operation: OperationId, call: &Call, shared: &Shared) -> Answer {
    let lacked = shared.catalogue.get(operation);
    if shared.lacking.lock().insert(operation) {
        let (method, path, name) = (&lacked.method, lacked.path, lacked.name);
        tracing::warn!("the emulator lacks {name} ({method} {path}), which Atlas has: it answers 404");
    }
    let path = &call.path;
    let detail = format!(
        "Cannot find resource {path}: the emulator lacks it, Atlas has it ({}).",
        lacked.name
    );
    respond::error(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", &detail, &[path])
}

/// A path that Atlas does not have with this method, or at all.
fn unknown(path: &str, decoded: &str, shared: &Shared) -> Answer {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if methods
        .iter()
        .any(|method| shared.catalogue.find(method, decoded).is_some())
    {
        return method_not_allowed();
    }
    respond::error(
        StatusCode::NOT_FOUND,
        "RESOURCE_NOT_FOUND",
        &format!("Cannot find resource {path}."),
        &[path],
    )
}

/// Tells an API key its id.
fn system_status<B>(request: &Request<B>, shared: &Shared) -> Answer {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let shown = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = shared.settings.api_keys.iter().find(|(public_key, _)| {
        let user = format!("username=\"{public_key}\"");
        shown.contains(&user)
    });
    let mut status = json!({"appName": "MongoDB Atlas", "build": "0".repeat(40), "throttling": false});
    if let Some((public_key, _)) = key {
        status["apiKey"] = json!({"id": resources::API_KEY_ID, "publicKey": public_key});
    }
    respond::json(StatusCode::OK, &status)
}

pub(super) fn method_not_allowed() -> Answer {
    respond::error(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "The method is not allowed for this resource.",
        &[],
    )
}
