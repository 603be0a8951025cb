//! Documents with the members that recorded answers have.

use std::net::IpAddr;

use http::StatusCode;
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::generic::merge;
use super::store::Store;
use super::{Adds, Collection, Listing, Place, rules, segments, service_accounts};
use crate::emulator::settings::{EmulatorSettings, Realm};

/// The organisation that Atlas's own samples name.
const ORG: &str = "5a0a1e7e0f2912c554080adc";
/// Of every API key.
pub(in crate::emulator) const API_KEY_ID: &str = "5c47503320eef5699e1cce8d";
/// The first project.
const GROUP: &str = "6a793f8a2c88faeba59bc7c2";
const GROUP_2: &str = "b0123456789abcdef012345b";
/// A host of the first project's cluster.
const HOST: &str = "atlas-3mu7hn-shard-00-00.zsv9js.mongodb.net";
/// Of the cluster that every project has from the start.
const CLUSTER: &str = "cluster-634";
/// When everything was made that exists from the start.
const MADE: &str = "2026-08-10T03:03:41Z";

/// A project and a host that exist, for those who print samples.
pub(in crate::emulator) const SAMPLE: (&str, &str) = (GROUP, HOST);

/// What a segment of a path needs no escape for (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Place<'_> {
    /// The address of a member, by the segments that name it.
    fn href(&self, key: &[&str]) -> String {
        let mut href = format!("{}/api/atlas/v2", self.base);
        for segment in self.at.iter().map(String::as_str).chain(key.iter().copied()) {
            href.push('/');
            href.extend(utf8_percent_encode(segment, SEGMENT));
        }
        href
    }

    /// The `links` of a member.
    fn links(&self, key: &[&str]) -> Value {
        json!([{"href": self.href(key), "rel": "self"}])
    }
}

/// What exists from the start.
pub(super) fn seeded(settings: &EmulatorSettings, base: String) -> Store {
    let mut store = Store::new(base.clone());
    let mut add = |at: &[&str], make: &dyn Fn(&Place<'_>) -> Value| {
        let at: Vec<String> = at.iter().copied().map(str::to_owned).collect();
        let place = Place {
            base: &base,
            realm: settings.realm,
            at: &at,
            path: "",
            deletes: false,
        };
        let document = make(&place);
        store.add(&at, document, None);
    };
    add(&["orgs"], &|place| {
        json!({
            "id": ORG,
            "isDeleted": false,
            "links": place.links(&[ORG]),
            "name": "emulated",
            "skipDefaultAlertsSettings": false,
        })
    });
    let owner = json!({"username": "owner@example.com", "roles": {"orgRoles": ["ORG_OWNER"]}});
    add(&["orgs", ORG, "users"], &|place| {
        user(place, "5a0a1e7e0f2912c554080a01", &owner)
    });
    for (client, _) in &settings.service_accounts {
        add(&["orgs", ORG, "serviceAccounts"], &|_| service_accounts::first(client));
    }
    for (id, name) in [(GROUP, "payments"), (GROUP_2, "search-e2e-200")] {
        let restriction = match settings.realm {
            Realm::Government => json!("GOV_REGIONS_ONLY"),
            Realm::Commercial => Value::Null,
        };
        let given = json!({"name": name, "orgId": ORG, "regionUsageRestrictions": restriction});
        add(&["groups"], &|place| group(place, id, &given));
        for name in ["app", "user-253"] {
            add(&["groups", id, "databaseUsers"], &|place| {
                database_user(
                    place,
                    id,
                    &json!({"username": name, "roles": [{"databaseName": "admin", "roleName": "atlasAdmin"}]}),
                )
            });
        }
        add(&["groups", id, "clusters"], &|place| {
            cluster(place, "6a793f52c0eb9e7a177137b2", &json!({"name": CLUSTER}))
        });
    }
    store
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

/// The users of the organization or project.
pub(super) const USERS: Collection = Collection {
    member: &["/{userId}"],
    is: |user, key| key == [user["id"].as_str().unwrap_or_default()],
    list: Listing::Page,
    adds: Adds::One(StatusCode::CREATED),
    needs: &["username", "roles"],
    make: user,
    settle: |_, _, _, _| {},
    refuse: |_, _| None,
    holds: |_, _, _| None,
    unknown: rules::no_resource,
    taken: None,
    removed: StatusCode::NO_CONTENT,
    slow: false,
};

fn user(place: &Place<'_>, id: &str, given: &Value) -> Value {
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

pub(super) fn cluster(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let name = given["name"].as_str().unwrap_or_default();
    let mut cluster = json!({
        "backupEnabled": false,
        "biConnector": {"enabled": false, "readPreference": "secondary"},
        "clusterType": "REPLICASET",
        "configServerManagementMode": "ATLAS_MANAGED",
        "connectionStrings": {
            "standard": format!("mongodb://{}", hosts(name).map(|host| format!("{host}:27017")).join(",")),
            "standardSrv": format!("mongodb+srv://{name}.zsv9js.mongodb.net"),
        },
        "createDate": "2026-08-10T03:02:42Z",
        "diskWarmingMode": "FULLY_WARMED",
        "encryptionAtRestProvider": "NONE",
        "groupId": place.owner(),
        "id": id,
        "labels": [],
        "links": [
            {"href": place.href(&[name]), "rel": "self"},
            {"href": place.href(&[name, "backup", "restoreJobs"]), "rel": "https://cloud.mongodb.com/restoreJobs"},
            {"href": place.href(&[name, "backup", "snapshots"]), "rel": "https://cloud.mongodb.com/snapshots"},
        ],
        "mongoDBMajorVersion": "8.0",
        "mongoDBVersion": "8.0.29",
        "paused": false,
        "pitEnabled": false,
        "replicationSpecs": [{
            "id": "6a793f52c0eb9e7a177137a2",
            "regionConfigs": [{
                "electableSpecs": {"diskSizeGB": 30.0, "instanceSize": "M10", "nodeCount": 3},
                "priority": 7,
                "providerName": "AWS",
                "regionName": "US_EAST_1",
            }],
            "zoneName": "Zone 1",
        }],
        "rootCertType": "ISRGROOTX1",
        "stateName": "IDLE",
        "tags": [],
        "terminationProtectionEnabled": false,
        "versionReleaseSystem": "LTS",
    });
    merge(&mut cluster, given);
    cluster
}

/// The hosts of a cluster.
pub(super) fn hosts(cluster: &str) -> [String; 3] {
    let of = match cluster {
        CLUSTER => "atlas-3mu7hn",
        other => other,
    };
    [0, 1, 2].map(|n| format!("{of}-shard-00-0{n}.zsv9js.mongodb.net"))
}

pub(super) fn process_args(_: &Place<'_>) -> Value {
    json!({
        "defaultWriteConcern": null,
        "javascriptEnabled": true,
        "minimumEnabledTlsProtocol": "TLS1_2",
        "noTableScan": false,
        "oplogMinRetentionHours": null,
        "oplogSizeMB": null,
        "sampleRefreshIntervalBIConnector": null,
        "sampleSizeBIConnector": null,
        "tlsCipherConfigMode": "DEFAULT",
        "transactionLifetimeLimitSeconds": null,
    })
}

pub(super) fn flex_cluster(place: &Place<'_>, id: &str, given: &Value) -> Value {
    let name = given["name"].as_str().unwrap_or_default();
    let mut cluster = json!({
        "backupSettings": {"enabled": true},
        "clusterType": "REPLICASET",
        "connectionStrings": {
            "standard": format!("mongodb://{}", hosts(name).map(|host| format!("{host}:27017")).join(",")),
            "standardSrv": format!("mongodb+srv://{name}.zsv9js.mongodb.net"),
        },
        "createDate": MADE,
        "groupId": place.owner(),
        "id": id,
        "links": place.links(&[name]),
        "mongoDBVersion": "8.0.29",
        "stateName": "IDLE",
        "tags": [],
        "terminationProtectionEnabled": false,
        "versionReleaseSystem": "LTS",
    });
    merge(&mut cluster, given);
    cluster["providerSettings"]["diskSizeGB"] = 5.0.into();
    cluster["providerSettings"]["providerName"] = "FLEX".into();
    cluster
}

pub(super) fn access_role(place: &Place<'_>, id: &str, given: &Value) -> Value {
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
    // The path of one is `cloudProviderAccess/ROLE`.
    let _ = place;
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
