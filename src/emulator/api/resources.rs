//! Projects and what is in them.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::paging::{number, page};
use super::{Call, method_not_allowed, no_group};
use crate::emulator::respond::{self, Answer};
use crate::emulator::server::Shared;
use crate::emulator::settings::Realm;
use crate::emulator::{logs, seeds};

pub(super) fn groups(call: &Call, shared: &Shared) -> Answer {
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

pub(super) fn one_group(call: &Call, id: &str, shared: &Shared) -> Answer {
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
pub(super) fn members(
    call: &Call,
    group: &str,
    collection: &'static str,
    name: Option<&str>,
    shared: &Shared,
) -> Answer {
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

pub(super) fn log(call: &Call, group: &str, host: &str, name: &str, shared: &Shared) -> Answer {
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
    *answer.body_mut() = logs::log(number(&call.query, "bytes", 1 << 20));
    answer
}
