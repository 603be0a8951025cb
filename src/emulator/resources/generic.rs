//! How a resource is listed, made, read, changed and removed: the same for all of them.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use super::paging::page;
use super::store::{Segments, Store};
use super::table::TABLE;
use super::{Adds, Collection, Kind, Listing, Place, Resource};
use crate::emulator::api::{Call, method_not_allowed};
use crate::emulator::respond::{self, Answer};
use crate::emulator::server::Shared;

/// Answers a request. `template`: the path of its operation, as the API's description writes it; `at`: what stands there, as
/// segments. `None`: there is no such resource here.
pub(in crate::emulator) fn answer(call: &Call, template: &str, at: &[String], shared: &Shared) -> Option<Answer> {
    let template = template.strip_prefix("/api/atlas/v2/")?;
    let (resource, key) = find(template)?;
    let mut store = shared.store();
    let base = store.base.clone();
    let place = |at| Place {
        base: &base,
        realm: shared.settings.realm,
        at,
        path: &call.path,
        deletes: call.method == Method::DELETE,
    };
    if let Some(refused) = missing_parent(template, at, &mut store, &place) {
        return Some(refused);
    }
    let being_made = |collection: &Collection| collection.slow.then_some(shared.settings.cluster_time);
    Some(match &resource.kind {
        Kind::View(view) => {
            drop(store);
            view(call, &place(at), shared)
        }
        Kind::Document(fresh) => document(call, &place(at), &mut store, *fresh),
        Kind::Collection(collection) if key == 0 => match call.method {
            Method::GET | Method::HEAD => list(call, collection, &place(at), &mut store),
            Method::POST => add(call, collection, &place(at), &mut store, being_made(collection)),
            _ => method_not_allowed(),
        },
        Kind::Collection(collection) => {
            let (at, key) = at.split_at(at.len().saturating_sub(key));
            member(call, collection, &place(at), key, &mut store, being_made(collection))
        }
    })
}

/// The resource of a path, and how many segments name a member of it.
fn find(template: &str) -> Option<(&'static Resource, usize)> {
    TABLE.iter().find_map(|resource| {
        let rest = template.strip_prefix(resource.path)?;
        match &resource.kind {
            _ if rest.is_empty() => Some((resource, 0)),
            Kind::Collection(collection) if collection.member.contains(&rest) => {
                Some((resource, rest.matches('/').count()))
            }
            _ => None,
        }
    })
}

/// Whether that in which a resource stands exists: its project, its cluster.
fn missing_parent<'c>(
    template: &str,
    at: &'c [String],
    store: &mut Store,
    place: &impl Fn(&'c [String]) -> Place<'c>,
) -> Option<Answer> {
    for resource in TABLE {
        let (Kind::Collection(collection), Some(rest)) = (&resource.kind, template.strip_prefix(resource.path)) else {
            continue;
        };
        for member in collection.member {
            if !rest.strip_prefix(member).is_some_and(|below| below.starts_with('/')) {
                continue;
            }
            let from = resource.path.split('/').count();
            let (Some(parent), Some(key)) = (at.get(..from), at.get(from..from + member.matches('/').count())) else {
                continue;
            };
            if store.member(parent, |one| (collection.is)(one, key)).is_none() {
                return Some((collection.unknown)(store, &place(parent), key));
            }
        }
    }
    None
}

fn list(call: &Call, collection: &Collection, place: &Place<'_>, store: &mut Store) -> Answer {
    let members = store.members(place.at).into_iter().cloned();
    let members: Vec<Value> = members.map(|member| (collection.shown)(member, call.version)).collect();
    match collection.list {
        Listing::Page => page(call, place.base, &members),
        Listing::Array => call.document(StatusCode::OK, members.into()),
        Listing::Object(object) => call.document(StatusCode::OK, object(members)),
    }
}

fn add(
    call: &Call,
    collection: &Collection,
    place: &Place<'_>,
    store: &mut Store,
    being_made: Option<Duration>,
) -> Answer {
    let one;
    let given = match (&collection.adds, &call.body) {
        (Adds::Several(_), Value::Array(several)) => several.as_slice(),
        (Adds::Several(_), _) => return malformed("an array of objects"),
        (Adds::One(_), body) => {
            one = [body.clone()];
            &one
        }
    };
    for given in given {
        if !given.is_object() {
            return malformed("an object");
        }
        if let Some(missing) = collection.needs.iter().find(|name| given[**name].is_null()) {
            let detail = format!("The required attribute {missing} was not specified.");
            return respond::error(StatusCode::BAD_REQUEST, "MISSING_ATTRIBUTE", &detail, &[missing]);
        }
        if let Some(refused) = (collection.refuse)(place, given) {
            return refused;
        }
    }
    let mut added = Vec::new();
    for given in given {
        let id = store.id();
        let mut made = (collection.make)(place, &id, given);
        (collection.settle)(store, place, given, &mut made);
        let same = store.member(place.at, |known| same(collection, known, &made));
        if same.is_some() {
            match collection.taken {
                Some(taken) => return taken(place, given),
                // One of several that is there already stays as it is.
                None if matches!(collection.adds, Adds::Several(_)) => continue,
                None => {}
            }
        }
        added.push(store.add(place.at, made, being_made).clone());
    }
    match collection.adds {
        Adds::One(status) => shown(call, collection, status, added.pop().unwrap_or_default()),
        Adds::Several(status) => {
            let mut answer = list(call, collection, place, store);
            *answer.status_mut() = status;
            answer
        }
    }
}

/// One member, as the version that the request gets shows it.
fn shown(call: &Call, collection: &Collection, status: StatusCode, member: Value) -> Answer {
    call.document(status, (collection.shown)(member, call.version))
}

/// Whether two documents are of the same name: both have the self link of one.
fn same(collection: &Collection, known: &Value, made: &Value) -> bool {
    let self_link = |document: &Value| document["links"][0]["href"].clone();
    match collection.adds {
        Adds::One(_) if collection.taken.is_none() => false,
        _ => self_link(known) == self_link(made) && !self_link(made).is_null(),
    }
}

fn member(
    call: &Call,
    collection: &Collection,
    place: &Place<'_>,
    key: &[String],
    store: &mut Store,
    being_removed: Option<Duration>,
) -> Answer {
    let is = |one: &Value| (collection.is)(one, key);
    let Some(mut document) = store.member(place.at, is).cloned() else {
        return (collection.unknown)(store, place, key);
    };
    match call.method {
        Method::GET | Method::HEAD => shown(call, collection, StatusCode::OK, document),
        Method::PATCH | Method::PUT => {
            if !call.body.is_object() {
                return malformed("an object");
            }
            if let Some(refused) = (collection.refuse)(place, &call.body) {
                return refused;
            }
            merge(&mut document, &call.body);
            (collection.settle)(store, place, &call.body, &mut document);
            store.replace(place.at, is, document.clone());
            match collection.adds {
                Adds::One(_) => shown(call, collection, StatusCode::OK, document),
                Adds::Several(_) => list(call, collection, place, store),
            }
        }
        Method::DELETE => {
            if let Some(refused) = (collection.holds)(store, place, &document) {
                return refused;
            }
            store.remove(place.at, is, being_removed);
            let below: Segments = place.at.iter().chain(key).cloned().collect();
            store.remove_below(&below);
            let mut answer = respond::no_content(call.version);
            *answer.status_mut() = collection.removed;
            answer
        }
        _ => method_not_allowed(),
    }
}

fn document(call: &Call, place: &Place<'_>, store: &mut Store, fresh: fn(&Place<'_>) -> Value) -> Answer {
    let mut document = match store.changed(place.at) {
        Some(changed) => changed.clone(),
        None => fresh(place),
    };
    match call.method {
        Method::GET | Method::HEAD => call.document(StatusCode::OK, document),
        Method::PATCH | Method::PUT => {
            if !call.body.is_object() {
                return malformed("an object");
            }
            merge(&mut document, &call.body);
            store.keep(place.at, document.clone());
            call.document(StatusCode::OK, document)
        }
        Method::DELETE => {
            store.reset(place.at);
            respond::no_content(call.version)
        }
        _ => method_not_allowed(),
    }
}

/// Gives a document the members that a client sent, but for secrets, which Atlas never shows again, and what only Atlas makes.
pub(super) fn merge(document: &mut Value, given: &Value) {
    let (Some(document), Some(given)) = (document.as_object_mut(), given.as_object()) else {
        return;
    };
    for (name, value) in given {
        match name.as_str() {
            "password" | "links" | "id" | "stateName" => {}
            // An empty one is as good as none.
            "regionUsageRestrictions" if value.as_str().is_none_or(|value| matches!(value, "" | "NONE")) => {}
            _ => {
                document.insert(name.clone(), value.clone());
            }
        }
    }
}

fn malformed(expected: &str) -> Answer {
    let detail = format!("Received JSON is malformed: it is not {expected}.");
    respond::error(StatusCode::BAD_REQUEST, "MALFORMED_JSON", &detail, &[])
}
