//! The resources: projects, database users, clusters, cloud provider access, logs; and what helps tests.

mod paging;
mod resources;
mod test_aids;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::respond::{self, Answer, Format};
use super::seeds;
use super::server::Shared;
use super::service_accounts;
use super::settings::Realm;

use paging::{number, page};
use resources::{groups, log, members, one_group};
use test_aids::{echo, sink};

/// A document that is larger is refused.
const MAX_DOCUMENT: usize = 1 << 20;

/// What exists.
#[derive(Debug)]
pub(super) struct State {
    base: String,
    groups: Vec<Value>,
    /// By collection (`databaseUsers`, `clusters`, `cloudProviderAccess`) and project.
    members: HashMap<(&'static str, String), Vec<Value>>,
    made: usize,
}

impl State {
    pub(super) fn seeded(realm: Realm, base: String) -> Self {
        let groups = seeds::groups(&base, realm);
        let mut members = HashMap::new();
        for group in &groups {
            let id = id_of(group);
            members.insert(
                ("databaseUsers", id.clone()),
                vec![seeds::user(&base, &id, "app"), seeds::user(&base, &id, "user-253")],
            );
            members.insert(
                ("clusters", id.clone()),
                vec![seeds::cluster(&base, &id, "cluster-634")],
            );
            members.insert(("cloudProviderAccess", id), Vec::new());
        }
        Self {
            base,
            groups,
            members,
            made: 0,
        }
    }

    fn group(&self, id: &str) -> Option<&Value> {
        self.groups.iter().find(|group| group["id"] == id)
    }
}

fn id_of(group: &Value) -> String {
    group["id"].as_str().unwrap_or_default().to_owned()
}

/// A request, as every resource gets it.
pub(super) struct Call {
    pub(super) method: Method,
    query: HashMap<String, String>,
    shape: Format,
    pub(super) version: Option<String>,
    /// The path, for `links`.
    path: String,
    pub(super) body: Value,
}

impl Call {
    pub(super) fn document(&self, status: StatusCode, value: Value) -> Answer {
        respond::document(status, value, self.shape, self.version.as_deref())
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
    let v1 = path.starts_with("/api/atlas/v1.0/") || path.starts_with("/api/atlas/v1.5/");
    let Some(rest) = path
        .strip_prefix("/api/atlas/v")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, rest)| rest)
    else {
        return not_found(&path);
    };
    let version = match respond::version(request.headers()) {
        _ if v1 => None,
        Ok(None) if shared.settings.strict_versions => {
            let detail = "Invalid accept header or version date.";
            return respond::error(StatusCode::NOT_ACCEPTABLE, "INVALID_VERSION_DATE", detail, &[]);
        }
        Ok(version) => version,
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
    let body = match Limited::new(request.into_body(), MAX_DOCUMENT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return respond::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "PAYLOAD_TOO_LARGE",
                "The body is too large.",
                &[],
            );
        }
    };
    let body = match serde_json::from_slice(&body) {
        Ok(value) => value,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => {
            return respond::error(
                StatusCode::BAD_REQUEST,
                "MALFORMED_JSON",
                "Received JSON is malformed.",
                &[],
            );
        }
    };
    let call = Call {
        method,
        query,
        shape,
        version,
        path: path.clone(),
        body,
    };
    let segments: Vec<&str> = rest.split('/').collect();
    match segments[..] {
        ["orgs"] => {
            let base = &shared.state().base;
            let link = json!({"href": format!("{base}/api/atlas/v2/orgs/{}", seeds::ORG), "rel": "self"});
            let org = json!({"id": seeds::ORG, "isDeleted": false, "links": [link], "name": "emulated"});
            page(&call, base, &[org])
        }
        ["orgs", seeds::ORG, "serviceAccounts", ref rest @ ..] => service_accounts::answer(&call, rest, shared),
        ["groups", id, "serviceAccounts", ref rest @ ..] => {
            let known = shared.state().group(id).is_some();
            if known {
                service_accounts::answer(&call, rest, shared)
            } else {
                no_group(id)
            }
        }
        ["groups"] => groups(&call, shared),
        ["groups", id] => one_group(&call, id, shared),
        ["groups", id, "clusters", host, "logs", name] if name.ends_with(".gz") => log(&call, id, host, name, shared),
        ["groups", id, collection, ..] => {
            let Some(collection) = ["databaseUsers", "clusters", "cloudProviderAccess"]
                .into_iter()
                .find(|known| *known == collection)
            else {
                return not_found(&path);
            };
            members(
                &call,
                id,
                collection,
                segments.last().copied().filter(|_| segments.len() > 3),
                shared,
            )
        }
        _ => not_found(&path),
    }
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
        status["apiKey"] = json!({"id": seeds::API_KEY_ID, "publicKey": public_key});
    }
    respond::json(StatusCode::OK, &status)
}

fn no_group(id: &str) -> Answer {
    respond::error(
        StatusCode::NOT_FOUND,
        "GROUP_NOT_FOUND",
        &format!("No group with ID {id} exists."),
        &[id],
    )
}

fn not_found(path: &str) -> Answer {
    respond::error(
        StatusCode::NOT_FOUND,
        "RESOURCE_NOT_FOUND",
        &format!("Cannot find resource {path}."),
        &[path],
    )
}

pub(super) fn method_not_allowed() -> Answer {
    respond::error(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "The method is not allowed for this resource.",
        &[],
    )
}

/// A project and a host that exist, for those who print samples.
pub(super) const SAMPLE: (&str, &str) = (seeds::GROUP, seeds::HOST);
