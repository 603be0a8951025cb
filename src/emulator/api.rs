//! The resources: projects, database users, clusters, cloud provider access, logs; and what helps tests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::respond::{self, Answer, Shape};
use super::seeds;
use super::server::Shared;
use super::service_accounts;
use super::settings::Realm;

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

/// What every resource is asked with.
pub(super) struct Call {
    pub(super) method: Method,
    query: HashMap<String, String>,
    shape: Shape,
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
    let shape = Shape {
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

fn groups(call: &Call, shared: &Shared) -> Answer {
    let mut state = shared.state();
    match call.method {
        Method::GET | Method::HEAD => page(call, &state.base, &state.groups),
        Method::POST => {
            let (Some(name), Some(org)) = (call.body["name"].as_str(), call.body["orgId"].as_str()) else {
                return respond::error(
                    StatusCode::BAD_REQUEST,
                    "MISSING_ATTRIBUTE",
                    "The required attributes name and orgId were not specified.",
                    &["name", "orgId"],
                );
            };
            let restriction = call.body["regionUsageRestrictions"].as_str();
            let fits = match restriction {
                None => true,
                Some(value) => shared.settings.realm == Realm::Government && value.ends_with("REGIONS_ONLY"),
            };
            if !fits {
                let detail = "The attribute regionUsageRestrictions is supported in Atlas for Government only.";
                return respond::error(
                    StatusCode::BAD_REQUEST,
                    "INVALID_ATTRIBUTE",
                    detail,
                    &["regionUsageRestrictions"],
                );
            }
            state.made += 1;
            let id = format!("6a79{:020x}", 0x3fd0_c0eb_9e7a_u64 + state.made as u64);
            let mut group = seeds::group(&state.base, &id, name, org);
            if let Some(restriction) = restriction {
                group["regionUsageRestrictions"] = restriction.into();
            }
            state.groups.push(group.clone());
            for collection in ["databaseUsers", "clusters", "cloudProviderAccess"] {
                state.members.insert((collection, id.clone()), Vec::new());
            }
            let mut answer = call.document(StatusCode::CREATED, group);
            // With the double slash that Atlas sends.
            if let Ok(location) = HeaderValue::from_str(&format!("{}//api/atlas/v1.0", state.base)) {
                answer.headers_mut().insert(header::LOCATION, location);
            }
            answer
        }
        _ => method_not_allowed(),
    }
}

fn one_group(call: &Call, id: &str, shared: &Shared) -> Answer {
    let mut state = shared.state();
    let Some(at) = state.groups.iter().position(|group| group["id"] == id) else {
        return no_group(id);
    };
    match call.method {
        Method::GET | Method::HEAD => call.document(StatusCode::OK, state.groups[at].clone()),
        Method::PATCH => {
            if let Some(name) = call.body["name"].as_str() {
                state.groups[at]["name"] = name.into();
            }
            call.document(StatusCode::OK, state.groups[at].clone())
        }
        Method::DELETE => {
            state.groups.remove(at);
            state.members.retain(|(_, group), _| group != id);
            respond::no_content(call.version.as_deref())
        }
        _ => method_not_allowed(),
    }
}

/// A collection of a project; `name`: one member of it.
fn members(call: &Call, group: &str, collection: &'static str, name: Option<&str>, shared: &Shared) -> Answer {
    let mut state = shared.state();
    if state.group(group).is_none() {
        return no_group(group);
    }
    let base = state.base.clone();
    state.made += 1;
    let number = state.made;
    let list = state.members.entry((collection, group.to_owned())).or_default();
    let Some(name) = name else {
        return match call.method {
            // This one is an object of lists, not a page.
            Method::GET | Method::HEAD if collection == "cloudProviderAccess" => {
                call.document(StatusCode::OK, json!({"awsIamRoles": list}))
            }
            Method::GET | Method::HEAD => page(call, &base, list),
            Method::POST => {
                let made = match (collection, call.body["username"].as_str(), call.body["name"].as_str()) {
                    ("databaseUsers", Some(name), _) => merged(seeds::user(&base, group, name), &call.body),
                    ("clusters", _, Some(name)) => merged(seeds::cluster(&base, group, name), &call.body),
                    ("cloudProviderAccess", ..) if call.body["providerName"] == "AWS" => seeds::access_role(number),
                    _ => {
                        let detail = "A required attribute was not specified.";
                        return respond::error(StatusCode::BAD_REQUEST, "MISSING_ATTRIBUTE", detail, &[]);
                    }
                };
                list.push(made.clone());
                call.document(
                    if call.shape.v1 {
                        StatusCode::OK
                    } else {
                        StatusCode::CREATED
                    },
                    made,
                )
            }
            _ => method_not_allowed(),
        };
    };
    let Some(at) = list
        .iter()
        .position(|one| one["username"] == name || one["name"] == name || one["roleId"] == name)
    else {
        let detail = format!("No resource named {name} exists in group {group}.");
        return respond::error(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", &detail, &[name, group]);
    };
    match call.method {
        Method::GET | Method::HEAD => call.document(StatusCode::OK, list[at].clone()),
        Method::PATCH => {
            list[at] = merged(list[at].clone(), &call.body);
            call.document(StatusCode::OK, list[at].clone())
        }
        Method::DELETE => {
            list.remove(at);
            respond::no_content(call.version.as_deref())
        }
        _ => method_not_allowed(),
    }
}

/// The document with the members that the client gave, but for secrets, which Atlas never shows again.
fn merged(mut document: Value, given: &Value) -> Value {
    if let (Some(document), Some(given)) = (document.as_object_mut(), given.as_object()) {
        for (key, value) in given
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "password" | "links" | "id"))
        {
            document.insert(key.clone(), value.clone());
        }
    }
    document
}

fn log(call: &Call, group: &str, host: &str, name: &str, shared: &Shared) -> Answer {
    if shared.state().group(group).is_none() {
        return no_group(group);
    }
    let mut answer = respond::no_content(call.version.as_deref());
    *answer.status_mut() = StatusCode::OK;
    let media = format!(
        "application/vnd.atlas.{}+gzip",
        call.version.as_deref().unwrap_or("2023-02-01")
    );
    let disposition = format!("attachment; filename=\"{host}_2026-08-10T03:44:43_MONGODB.log.gz\"");
    for (field, value) in [
        (header::CONTENT_TYPE, media),
        (header::CONTENT_DISPOSITION, disposition),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(field, value);
        }
    }
    tracing::debug!(name, "emulator: a log is streamed");
    *answer.body_mut() = super::logs::log(number(&call.query, "bytes", 1 << 20));
    answer
}

/// One page, with links to itself and its neighbours.
fn page(call: &Call, base: &str, items: &[Value]) -> Answer {
    let per_page = usize::try_from(number(&call.query, "itemsPerPage", 100))
        .unwrap_or(100)
        .clamp(1, 500);
    let this = usize::try_from(number(&call.query, "pageNum", 1)).unwrap_or(1).max(1);
    let from = (this - 1).saturating_mul(per_page).min(items.len());
    let to = from.saturating_add(per_page).min(items.len());
    let link = |page: usize, rel: &str| {
        let path = &call.path;
        json!({"href": format!("{base}{path}?includeCount=true&itemsPerPage={per_page}&pageNum={page}"), "rel": rel})
    };
    let mut links = vec![link(this, "self")];
    if to < items.len() {
        links.push(link(this + 1, "next"));
    }
    if this > 1 {
        links.push(link(this - 1, "previous"));
    }
    call.document(
        StatusCode::OK,
        json!({"links": links, "results": items[from..to], "totalCount": items.len()}),
    )
}

fn number(query: &HashMap<String, String>, name: &str, default: u64) -> u64 {
    query.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
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

/// What came in, for tests. Of the credential the scheme only.
async fn echo(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let secret = *name == header::AUTHORIZATION;
            let shown = if secret {
                text.split(' ').next().unwrap_or_default().to_owned()
            } else {
                text
            };
            (name.as_str().to_owned(), shown.into())
        })
        .collect();
    let (length, hash) = digest(body).await;
    respond::json(
        StatusCode::OK,
        &json!({
            "method": parts.method.as_str(),
            "target": parts.uri.path_and_query().map_or("", |target| target.as_str()),
            "headers": headers,
            "length": length,
            "sha256": hash,
        }),
    )
}

async fn sink(request: Request<Incoming>) -> Answer {
    let (length, hash) = digest(request.into_body()).await;
    respond::json(StatusCode::OK, &json!({"length": length, "sha256": hash}))
}

async fn digest(mut body: Incoming) -> (u64, String) {
    let (mut length, mut hash) = (0, Sha256::new());
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            hash.update(data);
        }
    }
    (length, format!("{:x}", hash.finalize()))
}

/// A project and a host that exist, for those who print samples.
pub(super) const SAMPLE: (&str, &str) = (seeds::GROUP, seeds::HOST);
