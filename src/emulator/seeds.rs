//! Documents with the members that recorded answers have.

use serde_json::{Value, json};

use super::settings::Realm;

/// The organisation that Atlas's own samples name.
pub(super) const ORG: &str = "5a0a1e7e0f2912c554080adc";
/// Of every API key.
pub(super) const API_KEY_ID: &str = "5c47503320eef5699e1cce8d";
/// The first project.
pub(super) const GROUP: &str = "6a793f8a2c88faeba59bc7c2";
const GROUP_2: &str = "b0123456789abcdef012345b";
/// A host of the first project's cluster.
pub(super) const HOST: &str = "atlas-3mu7hn-shard-00-00.zsv9js.mongodb.net";

pub(super) fn groups(base: &str, realm: Realm) -> Vec<Value> {
    let mut groups = vec![
        group(base, GROUP, "payments", ORG),
        group(base, GROUP_2, "search-e2e-200", ORG),
    ];
    if realm == Realm::Government {
        for group in &mut groups {
            group["regionUsageRestrictions"] = "GOV_REGIONS_ONLY".into();
        }
    }
    groups
}

pub(super) fn group(base: &str, id: &str, name: &str, org: &str) -> Value {
    let link = |path: &str, rel: &str| json!({"href": format!("{base}/api/atlas/v2/groups/{id}{path}"), "rel": rel});
    let mut links = vec![link("", "self")];
    for part in [
        "containers",
        "clusters",
        "databaseUsers",
        "peers",
        "processes",
        "whitelist",
    ] {
        links.push(link(&format!("/{part}"), &format!("https://cloud.mongodb.com/{part}")));
    }
    json!({
        "clusterCount": 0,
        "created": "2026-08-10T03:03:41Z",
        "id": id,
        "links": links,
        "name": name,
        "orgId": org,
        "withDefaultAlertsSettings": true,
    })
}

pub(super) fn user(base: &str, group: &str, name: &str) -> Value {
    json!({
        "awsIAMType": "NONE",
        "databaseName": "admin",
        "groupId": group,
        "labels": [],
        "ldapAuthType": "NONE",
        "links": [{"href": format!("{base}/api/atlas/v2/groups/{group}/databaseUsers/admin/{name}"), "rel": "self"}],
        "oidcAuthType": "NONE",
        "roles": [{"databaseName": "admin", "roleName": "atlasAdmin"}],
        "scopes": [],
        "username": name,
        "x509Type": "NONE",
    })
}

pub(super) fn cluster(base: &str, group: &str, name: &str) -> Value {
    let path = format!("{base}/api/atlas/v2/groups/{group}/clusters/{name}");
    json!({
        "backupEnabled": false,
        "biConnector": {"enabled": false, "readPreference": "secondary"},
        "clusterType": "REPLICASET",
        "connectionStrings": {"standardSrv": format!("mongodb+srv://{name}.zsv9js.mongodb.net")},
        "createDate": "2026-08-10T03:02:42Z",
        "diskWarmingMode": "FULLY_WARMED",
        "encryptionAtRestProvider": "NONE",
        "groupId": group,
        "id": "6a793f52c0eb9e7a177137b2",
        "labels": [],
        "links": [
            {"href": path, "rel": "self"},
            {"href": format!("{path}/backup/restoreJobs"), "rel": "https://cloud.mongodb.com/restoreJobs"},
            {"href": format!("{path}/backup/snapshots"), "rel": "https://cloud.mongodb.com/snapshots"},
        ],
        "mongoDBMajorVersion": "8.0",
        "mongoDBVersion": "8.0.29",
        "name": name,
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
        "terminationProtectionEnabled": false,
    })
}

/// What Atlas answers to a new cloud provider access role.
pub(super) fn access_role(number: usize) -> Value {
    json!({
        "atlasAWSAccountArn": "arn:aws:iam::123456789012:root",
        "atlasAssumedRoleExternalId": format!("3192be49-6e76-4b7d-a7b8-{number:012x}"),
        "authorizedDate": null,
        "createdDate": "2026-08-10T03:05:52Z",
        "featureUsages": [],
        "iamAssumedRoleArn": null,
        "providerName": "AWS",
        "roleId": format!("{number:024x}"),
    })
}
