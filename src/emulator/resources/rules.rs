//! What Atlas refuses, in its words where they are known.

use std::net::IpAddr;

use http::StatusCode;
use serde_json::Value;

use super::store::Store;
use super::{Place, segments};
use crate::emulator::respond::{self, Answer};
use crate::emulator::settings::Realm;

fn not_found(code: &'static str, detail: &str, parameters: &[&str]) -> Answer {
    respond::error(StatusCode::NOT_FOUND, code, detail, parameters)
}

fn invalid(attribute: &str, why: &str) -> Answer {
    let detail = format!("The attribute {attribute} {why}");
    respond::error(StatusCode::BAD_REQUEST, "INVALID_ATTRIBUTE", &detail, &[attribute])
}

fn last(key: &[String]) -> &str {
    key.last().map_or("", String::as_str)
}

pub(super) fn no_resource(_: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let name = last(key);
    let detail = format!("Cannot find resource {}.", place.path);
    not_found("RESOURCE_NOT_FOUND", &detail, &[name])
}

pub(super) fn no_organization(_: &mut Store, _: &Place<'_>, key: &[String]) -> Answer {
    let id = last(key);
    not_found("ORG_NOT_FOUND", &format!("No organization with ID {id} exists."), &[id])
}

pub(super) fn organization_in_use() -> Answer {
    let detail = "The organization has projects, and so cannot be deleted.";
    respond::error(StatusCode::CONFLICT, "CANNOT_DELETE_ORG_ACTIVE_GROUPS", detail, &[])
}

pub(super) fn no_group(_: &mut Store, _: &Place<'_>, key: &[String]) -> Answer {
    let id = last(key);
    not_found("GROUP_NOT_FOUND", &format!("No group with ID {id} exists."), &[id])
}

/// Regions are restricted in government only; `NONE` or an empty value restricts nothing.
pub(super) fn region_restriction(place: &Place<'_>, given: &Value) -> Option<Answer> {
    const ATTRIBUTE: &str = "regionUsageRestrictions";
    let fits = match given.get(ATTRIBUTE) {
        None | Some(Value::Null) => true,
        Some(Value::String(value)) => match value.as_str() {
            "" | "NONE" => true,
            "GOV_REGIONS_ONLY" | "COMMERCIAL_FEDRAMP_REGIONS_ONLY" => place.realm == Realm::Government,
            _ => false,
        },
        Some(_) => false,
    };
    (!fits).then(|| invalid(ATTRIBUTE, "is supported in Atlas for Government only."))
}

pub(super) fn has_clusters(store: &mut Store, _: &Place<'_>, group: &Value) -> Option<Answer> {
    let id = group["id"].as_str().unwrap_or_default();
    let clusters = ["clusters", "flexClusters"]
        .into_iter()
        .any(|kind| !store.members(&segments(["groups", id, kind])).is_empty());
    let detail = "There are active Atlas clusters in this group. Terminate these clusters before closing the group.";
    let code = "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS";
    clusters.then(|| respond::error(StatusCode::CONFLICT, code, detail, &[]))
}

/// An entry is an address, a network or a security group.
pub(super) fn access_list_entry(_: &Place<'_>, given: &Value) -> Option<Answer> {
    let text = |name: &str| given[name].as_str();
    let good = match (text("ipAddress"), text("cidrBlock"), text("awsSecurityGroup")) {
        (Some(address), ..) => address.parse::<IpAddr>().is_ok(),
        (_, Some(network), _) => network.parse::<ipnet::IpNet>().is_ok(),
        (.., Some(group)) => group.starts_with("sg-"),
        _ => false,
    };
    (!good).then(|| {
        invalid(
            "ipAddress",
            "or cidrBlock or awsSecurityGroup must be specified, and valid.",
        )
    })
}

/// An entry is known by its network, its address or its security group.
pub(super) fn is_entry(entry: &Value, key: &[String]) -> bool {
    ["cidrBlock", "ipAddress", "awsSecurityGroup"]
        .into_iter()
        .any(|name| entry[name].as_str().is_some_and(|value| value == last(key)))
}

pub(super) fn no_entry(_: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let (entry, group) = (last(key), place.owner());
    let detail = format!("IP Address {entry} not on Atlas access list for group {group}.");
    not_found("ATLAS_NETWORK_PERMISSION_ENTRY_NOT_FOUND", &detail, &[entry, group])
}

/// The databases that users can be of: their passwords are in one, the other stands for those who are known elsewhere.
const DATABASES: [&str; 2] = ["admin", "$external"];

/// A user is known by its database and its name. A database that there never is, is none: tests put a mark there.
pub(super) fn is_user(user: &Value, key: &[String]) -> bool {
    let [database, name] = key else { return false };
    let of_database = user["databaseName"] == database.as_str() || !DATABASES.contains(&database.as_str());
    user["username"] == name.as_str() && of_database
}

/// Atlas has two codes for it, and clients tell by them whether they may go on.
pub(super) fn no_user(_: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let name = last(key);
    if place.deletes {
        let detail = format!("Cannot find user {name}.");
        return not_found("USER_NOT_FOUND", &detail, &[name]);
    }
    let detail = format!("No user with username {name} exists.");
    not_found("USERNAME_NOT_FOUND", &detail, &[name])
}

pub(super) fn user_exists(_: &Place<'_>, given: &Value) -> Answer {
    let name = given["username"].as_str().unwrap_or_default();
    let detail = format!("The specified user {name} already exists.");
    respond::error(StatusCode::CONFLICT, "USER_ALREADY_EXISTS", &detail, &[name])
}

pub(super) fn has_id(document: &Value, key: &[String]) -> bool {
    document["id"].as_str().is_some_and(|id| id == last(key))
}

pub(super) fn is_named(document: &Value, key: &[String]) -> bool {
    document["name"].as_str().is_some_and(|name| name == last(key))
}

pub(super) fn no_cluster(store: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let (name, group) = (last(key), place.owner());
    let flex = segments(["groups", group, "flexClusters"]);
    if store.member(&flex, |cluster| is_named(cluster, key)).is_some() {
        let detail = format!("Flex cluster {name} cannot be used in the Cluster API.");
        return respond::error(
            StatusCode::BAD_REQUEST,
            "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API",
            &detail,
            &[name],
        );
    }
    let detail = format!("No cluster named {name} exists in group {group}.");
    not_found("CLUSTER_NOT_FOUND", &detail, &[name, group])
}

pub(super) fn no_flex_cluster(store: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let (name, group) = (last(key), place.owner());
    let others = segments(["groups", group, "clusters"]);
    if store.member(&others, |cluster| is_named(cluster, key)).is_some() {
        let detail = format!("Cannot use non-flex cluster {name} in the flex API.");
        return respond::error(
            StatusCode::BAD_REQUEST,
            "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API",
            &detail,
            &[name],
        );
    }
    let detail = format!("No cluster named {name} exists in group {group}.");
    not_found("CLUSTER_NOT_FOUND", &detail, &[name, group])
}

/// What a flex cluster is made with, or changed to.
pub(super) fn provider_settings(_: &Place<'_>, given: &Value) -> Option<Answer> {
    let settings = &given["providerSettings"];
    let fits = settings.is_null() || settings.is_object();
    (!fits).then(|| invalid("providerSettings", "must be an object."))
}

pub(super) fn cluster_exists(place: &Place<'_>, given: &Value) -> Answer {
    let name = given["name"].as_str().unwrap_or_default();
    let detail = format!("A cluster named {name} is already present in group {}.", place.owner());
    respond::error(
        StatusCode::BAD_REQUEST,
        "DUPLICATE_CLUSTER_NAME",
        &detail,
        &[name, place.owner()],
    )
}

pub(super) fn is_protected(_: &mut Store, _: &Place<'_>, cluster: &Value) -> Option<Answer> {
    let code = "CANNOT_TERMINATE_CLUSTER_WHEN_TERMINATION_PROTECTION_ENABLED";
    let detail = "Cannot terminate a cluster when termination protection is enabled. Disable termination protection and try again.";
    let protected = cluster["terminationProtectionEnabled"] == true;
    protected.then(|| respond::error(StatusCode::BAD_REQUEST, code, detail, &[detail]))
}

pub(super) fn access_role(_: &Place<'_>, given: &Value) -> Option<Answer> {
    let known = matches!(given["providerName"].as_str(), Some("AWS" | "AZURE" | "GCP"));
    (!known).then(|| invalid("providerName", "must be AWS, AZURE or GCP."))
}

pub(super) fn no_role(_: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let (role, group) = (last(key), place.owner());
    let detail = format!("The cloud provider access role {role} does not exist in group {group}.");
    not_found("CLOUD_PROVIDER_ACCESS_ROLE_NOT_FOUND", &detail, &[role, group])
}

pub(super) fn no_database_role(_: &mut Store, place: &Place<'_>, key: &[String]) -> Answer {
    let (role, group) = (last(key), place.owner());
    let detail = format!("A custom role named {role} does not exist in group {group}.");
    not_found("ATLAS_CUSTOM_ROLE_NOT_FOUND", &detail, &[role, group])
}
