//! Methods and paths, in every spelling.

use super::Random;
use super::model::Model;
use crate::support::proxy::CLIENT_ID;

/// Those that the rules speak of, and others.
const PROJECTS: [&str; 4] = [
    "5a0a1e7e0f2912c554080adc",
    "5A0A1E7E0F2912C554080ADC",
    "5a0a1e7e0f2912c554080add",
    "5a0a1e7e0f2912c554080aff",
];
const ORGANIZATIONS: [&str; 3] = [
    "5a0a1e7e0f2912c554080ade",
    "5a0a1e7e0f2912c554080adf",
    "5A0A1E7E0F2912C554080ADE",
];
const NAMES: [&str; 10] = [
    "c",
    "c0",
    "admin",
    "a%20b",
    "a%2Fb",
    "a%2fclusters",
    "x:pause",
    "c:restart",
    "%24external",
    "é",
];
/// Operations that rules name: asked for more often than others.
const OFTEN: [&str; 14] = [
    "listGroups",
    "getGroup",
    "listGroupClusters",
    "getGroupCluster",
    "deleteGroupCluster",
    "createGroupCluster",
    "getGroupDatabaseUser",
    "deleteGroupDatabaseUser",
    "createGroupDatabaseUser",
    "listOrgInvoices",
    "createOrgApiKey",
    "createOrgServiceAccountSecret",
    "createGroup",
    "getOrg",
];
/// What is in no catalogue.
const UNKNOWN: [&str; 8] = [
    "/",
    "/api/private/ipinfo",
    "/api/private/unauth/x",
    "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/nothing",
    "/api/atlas/v3/groups",
    "/api/public/v1.0/nothing/here",
    "/metrics",
    "/api/atlas/v1.0/nothing",
];
const ODD_METHODS: [&str; 8] = ["get", "Delete", "HEAD", "OPTIONS", "PROPFIND", "PUT", "PATCH", "POST"];

pub struct Requests<'m> {
    model: &'m Model,
    often: Vec<usize>,
}

impl<'m> Requests<'m> {
    pub fn new(model: &'m Model) -> Self {
        let at = |name: &&str| model.operations.iter().position(|operation| operation.name == **name);
        Self {
            model,
            often: OFTEN.iter().filter_map(at).collect(),
        }
    }

    /// A method, and a path as it is sent.
    pub fn next(&self, random: &mut Random) -> (String, String) {
        if random.chance(20) {
            let path = (*random.one(&UNKNOWN)).to_owned();
            let method = if random.chance(2) {
                "GET"
            } else {
                random.one(&ODD_METHODS)
            };
            return (method.to_owned(), path);
        }
        let operations = &self.model.operations;
        let operation = if random.chance(3) {
            random.one(operations)
        } else {
            &operations[*random.one(&self.often)]
        };
        let template = if random.chance(3) {
            random.one(&operation.paths)
        } else {
            &operation.paths[0]
        };
        let mut path = String::new();
        for part in template.split('/').skip(1) {
            path.push('/');
            match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some(("groupId", ending)) => path += &format!("{}{ending}", random.one(&PROJECTS)),
                Some(("orgId", ending)) => path += &format!("{}{ending}", random.one(&ORGANIZATIONS)),
                Some(("clientId", ending)) if random.chance(2) => path += &format!("{CLIENT_ID}{ending}"),
                Some((_, ending)) => path += &format!("{}{ending}", random.one(&NAMES[..9])),
                None => path += part,
            }
        }
        let method = if random.chance(12) {
            (*random.one(&ODD_METHODS)).to_owned()
        } else {
            operation.method.clone()
        };
        (method, spelled(path, random))
    }
}

/// Mostly as it is.
fn spelled(path: String, random: &mut Random) -> String {
    match random.below(24) {
        0 => path + "/",
        1 => path.replacen("/api/", "/api//", 1),
        2 => path.replacen("/v2/", "/v2/./", 1),
        3 => path.replacen("/groups/", "/orgs/../groups/", 1),
        4 => path.replacen("groups", "Groups", 1),
        5 => path.to_uppercase().replace("%2F", "%2f"),
        6 => path.replacen("groups", "%67roups", 1),
        7 => path.replacen("/groups/", "%2Fgroups%2F", 1),
        8 => path + ";x=1",
        9 => path.replacen("/v2/", "/v1.0/", 1),
        10 => path.replacen("/v2/", "/v1.5/", 1),
        11 => path.replacen("/api/atlas/v2/", "/api/public/v1.0/", 1),
        12 => path + "%00",
        13 => path.replacen("/clusters", "/%63lusters", 1),
        14 => path + "/%2e%2e",
        _ => path,
    }
}
