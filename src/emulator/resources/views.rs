//! What follows from other resources, and is not kept for itself.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::clusters::hosts;
use super::documents::LIMITS;
use super::paging::{number, page};
use super::store::Store;
use super::{Place, rules, segments, service_accounts};
use crate::emulator::api::{Call, method_not_allowed};
use crate::emulator::logs;
use crate::emulator::respond::{self, Answer};
use crate::emulator::server::Shared;

fn last<'c>(place: &Place<'c>) -> &'c str {
    place.at.last().map_or("", String::as_str)
}

pub(super) fn empty_page(call: &Call, place: &Place<'_>, _: &Shared) -> Answer {
    page(call, place.base, &[])
}

pub(super) fn empty_array(call: &Call, _: &Place<'_>, _: &Shared) -> Answer {
    call.document(StatusCode::OK, json!([]))
}

pub(super) fn groups_of_organization(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let mut store = shared.store();
    let groups = store.members(&segments(["groups"])).into_iter();
    let groups: Vec<Value> = groups
        .filter(|group| group["orgId"] == place.owner())
        .cloned()
        .collect();
    page(call, place.base, &groups)
}

pub(super) fn group_by_name(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let name = last(place);
    let mut store = shared.store();
    match store.member(&segments(["groups"]), |group| group["name"] == name) {
        Some(group) => call.document(StatusCode::OK, group.clone()),
        None => {
            let detail = format!("The current user is not in the group, or the group does not exist: {name}.");
            respond::error(StatusCode::NOT_FOUND, "NOT_IN_GROUP", &detail, &[name])
        }
    }
}

pub(super) fn team_by_name(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let name = last(place);
    let mut store = shared.store();
    let teams = segments(["orgs", place.owner(), "teams"]);
    match store.member(&teams, |team| team["name"] == name) {
        Some(team) => call.document(StatusCode::OK, team.clone()),
        None => rules::no_resource(&mut store, place, &[name.to_owned()]),
    }
}

/// The limits of a project: what they are at first, and what they were changed to.
fn limit_of(store: &Store, at: &[String], (name, first, most): (&str, u64, u64)) -> Value {
    let value = store.changed(at).map_or(json!(first), Value::clone);
    json!({"currentUsage": 0, "defaultLimit": first, "maximumLimit": most, "name": name, "value": value})
}

pub(super) fn limits(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let store = shared.store();
    let at = |name: &str| [place.at, &[name.to_owned()]].concat();
    let limits = LIMITS.iter().map(|limit| limit_of(&store, &at(limit.0), *limit));
    call.document(StatusCode::OK, limits.collect())
}

pub(super) fn limit(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let name = last(place);
    let Some(limit) = LIMITS.iter().find(|limit| limit.0 == name) else {
        let detail = format!("There is no limit named {name}.");
        return respond::error(StatusCode::BAD_REQUEST, "INVALID_LIMIT_NAME", &detail, &[name]);
    };
    let mut store = shared.store();
    match call.method {
        Method::GET | Method::HEAD => {}
        Method::DELETE => {
            store.reset(place.at);
            return respond::no_content(call.version);
        }
        _ => match call.body["value"].as_u64() {
            Some(value) if value <= limit.2 => store.keep(place.at, value.into()),
            _ => {
                let detail = format!("The value of {name} must be a number up to {}.", limit.2);
                return respond::error(StatusCode::BAD_REQUEST, "INVALID_ATTRIBUTE", &detail, &["value"]);
            }
        },
    }
    call.document(StatusCode::OK, limit_of(&store, place.at, *limit))
}

/// The clusters of a project that have been made, but for flex clusters, whose hosts nobody sees.
fn clusters(store: &mut Store, place: &Place<'_>) -> Vec<String> {
    let clusters = store
        .members(&segments(["groups", place.owner(), "clusters"]))
        .into_iter();
    let made = clusters.filter(|cluster| cluster["stateName"] != "CREATING");
    made.filter_map(|cluster| cluster["name"].as_str().map(str::to_owned))
        .collect()
}

pub(super) fn ip_addresses(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let clusters = clusters(&mut shared.store(), place).into_iter().map(|name| {
        json!({"clusterName": name, "futureInbound": [], "futureOutbound": [], "inbound": ["203.0.113.7"], "outbound": ["203.0.113.8"]})
    });
    let clusters: Vec<Value> = clusters.collect();
    call.document(
        StatusCode::OK,
        json!({"groupId": place.owner(), "services": {"clusters": clusters}}),
    )
}

/// The networks of a project: those that clusters brought, of one provider if the query names it.
pub(super) fn containers(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let mut store = shared.store();
    let all = store
        .members(&segments(["groups", place.owner(), "containers"]))
        .into_iter();
    let asked = call.query.get("providerName").filter(|_| last(place) != "all");
    let of = all.filter(|container| asked.is_none_or(|provider| container["providerName"] == provider.as_str()));
    page(call, place.base, &of.cloned().collect::<Vec<_>>())
}

fn all_processes(place: &Place<'_>, shared: &Shared) -> Vec<Value> {
    let group = place.owner();
    let of = |name: String| {
        hosts(&name).into_iter().enumerate().map(move |(n, host)| {
            json!({
                "created": "2026-08-10T03:09:42Z",
                "groupId": group,
                "hostname": host,
                "id": format!("{host}:27017"),
                "lastPing": "2026-08-10T03:44:43Z",
                "links": [{"href": format!("{}/api/atlas/v2/groups/{group}/processes/{host}:27017", place.base), "rel": "self"}],
                "port": 27017,
                "replicaSetName": format!("{}-shard-0", host.split("-shard-").next().unwrap_or_default()),
                "typeName": if n == 0 { "REPLICA_PRIMARY" } else { "REPLICA_SECONDARY" },
                "userAlias": format!("{name}-shard-00-0{n}.zsv9js.mongodb.net"),
                "version": "8.0.29",
            })
        })
    };
    clusters(&mut shared.store(), place).into_iter().flat_map(of).collect()
}

pub(super) fn processes(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    page(call, place.base, &all_processes(place, shared))
}

pub(super) fn process(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let id = last(place);
    match all_processes(place, shared)
        .into_iter()
        .find(|process| process["id"] == id)
    {
        Some(process) => call.document(StatusCode::OK, process),
        None => {
            let detail = format!("No host {id} exists in group {}.", place.owner());
            respond::error(StatusCode::NOT_FOUND, "HOST_NOT_FOUND", &detail, &[id, place.owner()])
        }
    }
}

/// Whether Atlas says itself what a slow operation is: read by GET, and set by paths of their own.
pub(super) fn slow_operations(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let mut store = shared.store();
    let at = segments(["groups", place.owner(), "managedSlowMs"]);
    match call.method {
        Method::GET | Method::HEAD => {
            let managed = store.changed(&at).cloned().unwrap_or(true.into());
            call.document(StatusCode::OK, managed)
        }
        _ => {
            store.keep(&at, (last(place) == "enable").into());
            respond::no_content(call.version)
        }
    }
}

pub(super) fn service_accounts(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    match call.method {
        Method::GET | Method::HEAD => page(call, place.base, &service_accounts::all(place.at, shared)),
        Method::POST => service_accounts::make(call, place.at, shared),
        _ => method_not_allowed(),
    }
}

pub(super) fn service_account(call: &Call, place: &Place<'_>, shared: &Shared) -> Answer {
    let (at, rest) = place.at.split_at(3.min(place.at.len()));
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    service_accounts::one(call, at, &rest, shared)
}

/// A log of a host, which Atlas sends as a gzip file.
pub(super) fn log(call: &Call, place: &Place<'_>, _: &Shared) -> Answer {
    let host = place.at.get(3).map_or("", String::as_str);
    let mut answer = respond::no_content(call.version);
    *answer.status_mut() = StatusCode::OK;
    let media = format!("application/vnd.atlas.{}+gzip", call.version.unwrap_or("2023-02-01"));
    let disposition = format!("attachment; filename=\"{host}_2026-08-10T03:44:43_MONGODB.log.gz\"");
    for (field, value) in [
        (header::CONTENT_TYPE, media),
        (header::CONTENT_DISPOSITION, disposition),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(field, value);
        }
    }
    *answer.body_mut() = logs::log(number(&call.query, "bytes", 1 << 20));
    answer
}
