//! Documents with the members that recorded answers have.

use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::generic::merge;
use super::seeds::{MADE, ORG};
use super::store::Store;
use super::{Place, segments};

/// What a segment of a path needs no escape for (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Place<'_> {
    /// The address of a member, by the segments that name it.
    pub(super) fn href(&self, key: &[&str]) -> String {
        let mut href = format!("{}/api/atlas/v2", self.base);
        for segment in self.at.iter().map(String::as_str).chain(key.iter().copied()) {
            href.push('/');
            href.extend(utf8_percent_encode(segment, SEGMENT));
        }
        href
    }

    /// The `links` of a member.
    pub(super) fn links(&self, key: &[&str]) -> Value {
        json!([{"href": self.href(key), "rel": "self"}])
    }
}

/// The members that were given, and an id.
pub(super) fn plain(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let mut document = json!({"id": id, "links": place.links(&[id])});
    merge(&mut document, given);
    if let Some(given) = given["id"].as_str() {
        document["id"] = given.into();
        document["links"] = place.links(&[given]);
    }
    document
}

pub(super) fn group(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let mut links = vec![json!({"href": place.href(&[id]), "rel": "self"})];
    for part in [
        "containers",
        "clusters",
        "databaseUsers",
        "peers",
        "processes",
        "whitelist",
    ] {
        links.push(json!({"href": place.href(&[id, part]), "rel": format!("https://cloud.mongodb.com/{part}")}));
    }
    let mut group = json!({
        "clusterCount": 0,
        "created": MADE,
        "id": id,
        "links": links,
        "tags": [],
        "withDefaultAlertsSettings": true,
    });
    merge(&mut group, given);
    group
}

pub(super) fn group_settings(_: &Place<'_>) -> Value {
    json!({
        "isAtlasHomePageAiAssistantEnabled": true,
        "isClusterAiAssistantEnabled": true,
        "isCollectDatabaseSpecificsStatisticsEnabled": true,
        "isDataExplorerEnabled": true,
        "isDataExplorerGenAIFeaturesEnabled": true,
        "isDataExplorerGenAISampleDocumentPassingEnabled": false,
        "isDataValidationEnabled": true,
        "isExtendedStorageSizesEnabled": false,
        "isNativeRerankingEnabled": false,
        "isPerformanceAdvisorEnabled": true,
        "isRealtimePerformancePanelEnabled": true,
        "isSchemaAdvisorEnabled": true,
    })
}

/// Name, what it is at first, and the most that it can be, of the limits of a project.
pub(super) const LIMITS: &[(&str, u64, u64)] = &[
    ("atlas.project.deployment.clusters", 25, 100),
    ("atlas.project.deployment.nodesPerPrivateLinkRegion", 50, 90),
    (
        "atlas.project.deployment.privateServiceConnectionsPerRegionGroup",
        50,
        100,
    ),
    ("atlas.project.security.databaseAccess.customRoles", 100, 1400),
    ("atlas.project.security.databaseAccess.users", 100, 900),
    ("atlas.project.security.networkAccess.crossRegionEntries", 40, 220),
    ("atlas.project.security.networkAccess.entries", 200, 800),
];

pub(super) fn organization_settings(_: &Place<'_>) -> Value {
    json!({
        "apiAccessListRequired": false,
        "genAIFeaturesEnabled": true,
        "maxServiceAccountSecretValidityInHours": 8760,
        "multiFactorAuthRequired": false,
        "restrictEmployeeAccess": false,
        "securityContact": null,
    })
}

pub(super) fn user(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let mut user = json!({
        "createdAt": MADE,
        "id": id,
        "links": place.links(&[id]),
        "orgMembershipStatus": "ACTIVE",
        "teamIds": [],
    });
    merge(&mut user, given);
    user
}

/// Before this version users had an address, and a list of all their roles.
const USERS_HAVE_KINDS_OF_ROLES: &str = "2025-02-19";

/// A user as a version of the API shows it.
pub(super) fn user_of_version(mut user: Value, version: Option<&str>) -> Value {
    if version.is_some_and(|version| version >= USERS_HAVE_KINDS_OF_ROLES) {
        return user;
    }
    user["emailAddress"] = user["username"].clone();
    user["roles"] = match &user["roles"] {
        Value::Object(kinds) => {
            let names = kinds.get("orgRoles").and_then(Value::as_array).into_iter().flatten();
            names.map(|name| json!({"orgId": ORG, "roleName": name})).collect()
        }
        of_project => of_project.clone(),
    };
    if let Some(user) = user.as_object_mut() {
        user.remove("orgMembershipStatus");
    }
    user
}

pub(super) fn team(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let mut team = json!({"id": id, "links": place.links(&[id])});
    merge(&mut team, given);
    team
}

/// The users that a new team comes with.
pub(super) fn add_team_members(store: &mut Store, place: &Place<'_>, given: &Value, team: &mut Value) {
    let named = given["usernames"].as_array().cloned().unwrap_or_default();
    let id = team["id"].as_str().unwrap_or_default().to_owned();
    let organization = segments(["orgs", place.owner(), "users"]);
    for name in named {
        let known = store.member(&organization, |user| user["username"] == name).cloned();
        if let Some(user) = known {
            store.add(&segments(["orgs", place.owner(), "teams", &id, "users"]), user, None);
        }
    }
}

/// A member of a team is a user of its organization.
pub(super) fn as_in_organization(store: &mut Store, place: &Place<'_>, _: &Value, member: &mut Value) {
    let users = segments(["orgs", place.owner(), "users"]);
    if let Some(user) = store.member(&users, |user| user["id"] == member["id"]) {
        *member = user.clone();
    }
}

pub(super) fn team_role(place: &Place<'_>, _: &str, given: &Value) -> Value {
    let id = given["teamId"].as_str().unwrap_or_default();
    json!({"links": place.links(&[id]), "roleNames": given["roleNames"], "teamId": id})
}

pub(super) fn access_list_entry(place: &Place<'_>, _: &str, given: &Value) -> Value {
    let address = given["ipAddress"].as_str().and_then(|text| text.parse().ok());
    let network = given["cidrBlock"].as_str().and_then(|text| text.parse().ok());
    let network = address.map(|address: IpAddr| IpNet::from(address)).or(network);
    let mut entry = json!({"groupId": place.owner()});
    for name in ["comment", "deleteAfterDate", "awsSecurityGroup"] {
        if let Some(value) = given[name].as_str() {
            entry[name] = value.into();
        }
    }
    let name = match network {
        Some(network) => {
            let text = network.to_string();
            if network.prefix_len() == network.max_prefix_len() {
                entry["ipAddress"] = network.addr().to_string().into();
            }
            entry["cidrBlock"] = text.as_str().into();
            text
        }
        None => entry["awsSecurityGroup"].as_str().unwrap_or_default().to_owned(),
    };
    entry["links"] = place.links(&[&name]);
    entry
}

pub(super) fn database_user(place: &Place<'_>, _: &str, given: &Value) -> Value {
    let mut user = json!({
        "awsIAMType": "NONE",
        "databaseName": "admin",
        "groupId": place.owner(),
        "labels": [],
        "ldapAuthType": "NONE",
        "oidcAuthType": "NONE",
        "roles": [],
        "scopes": [],
        "x509Type": "NONE",
    });
    merge(&mut user, given);
    let [database, name] = ["databaseName", "username"].map(|one| user[one].as_str().unwrap_or_default());
    user["links"] = place.links(&[database, name]);
    user
}

pub(super) fn access_role(_: &Place<'_>, id: &str, given: &Value) -> Value {
    let mut role = match given["providerName"].as_str() {
        Some("AWS") => json!({
            "atlasAWSAccountArn": "arn:aws:iam::123456789012:root",
            "atlasAssumedRoleExternalId": format!("3192be49-6e76-4b7d-a7b8-{}", id.get(12..).unwrap_or_default()),
            "authorizedDate": null,
            "createdDate": MADE,
            "featureUsages": [],
            "iamAssumedRoleArn": null,
            "roleId": id,
        }),
        Some("AZURE") => json!({
            "_id": id,
            "createdDate": MADE,
            "featureUsages": [],
            "lastUpdatedDate": MADE,
            "roleId": id,
        }),
        _ => json!({
            "createdDate": MADE,
            "featureUsages": [],
            "gcpServiceAccountForAtlas": format!("mongodb-atlas-{}@emulated.iam.gserviceaccount.com", id.get(12..).unwrap_or_default()),
            "roleId": id,
            "status": "COMPLETE",
        }),
    };
    merge(&mut role, given);
    role
}

/// A role that is given what it may assume, is authorized.
pub(super) fn authorize(_: &mut Store, _: &Place<'_>, given: &Value, role: &mut Value) {
    if given["iamAssumedRoleArn"].is_string() {
        role["authorizedDate"] = MADE.into();
    }
}

/// Roles are not listed in pages, but by their provider.
pub(super) fn roles_by_provider(roles: Vec<Value>) -> Value {
    let of = |provider: &str| -> Vec<&Value> { roles.iter().filter(|role| role["providerName"] == provider).collect() };
    json!({
        "awsIamRoles": of("AWS"),
        "azureServicePrincipals": of("AZURE"),
        "gcpServiceAccounts": of("GCP"),
    })
}

pub(super) fn database_role(_: &Place<'_>, _: &str, given: &Value) -> Value {
    let mut role = json!({"actions": [], "inheritedRoles": []});
    merge(&mut role, given);
    role
}

pub(super) fn maintenance_window(_: &Place<'_>) -> Value {
    json!({"autoDeferOnceEnabled": false, "dayOfWeek": 0, "hourOfDay": 0, "numberOfDeferrals": 0, "startASAP": false})
}

pub(super) fn encryption_at_rest(_: &Place<'_>) -> Value {
    json!({
        "awsKms": {"enabled": false, "valid": false},
        "azureKeyVault": {"enabled": false, "valid": false},
        "enabledForSearchNodes": false,
        "googleCloudKms": {"enabled": false, "valid": false},
    })
}

pub(super) fn audit_log(_: &Place<'_>) -> Value {
    json!({"auditAuthorizationSuccess": false, "auditFilter": "{}", "configurationType": "NONE", "enabled": false})
}

pub(super) fn user_security(place: &Place<'_>) -> Value {
    json!({
        "customerX509": {"cas": ""},
        "ldap": {"authenticationEnabled": false, "authorizationEnabled": false},
        "links": place.links(&[]),
    })
}
