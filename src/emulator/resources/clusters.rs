//! Clusters, the flexible ones too, and their hosts.

use serde_json::{Value, json};

use super::generic::merge;
use super::seeds::MADE;
use super::store::Store;
use super::{Place, segments};

/// Of the cluster that every project has from the start.
pub(super) const CLUSTER: &str = "cluster-634";
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

/// A cluster brings a network to each region of a provider where the project has none yet.
pub(super) fn add_containers(store: &mut Store, place: &Place<'_>, _: &Value, cluster: &mut Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let at = segments(["groups", place.owner(), "containers"]);
    for region in list(&cluster["replicationSpecs"])
        .iter()
        .flat_map(|spec| list(&spec["regionConfigs"]))
    {
        let provider = &region["providerName"];
        // Each provider has its own name for where it is; one network of Google's has all regions.
        let (key, place) = match provider.as_str() {
            Some("AWS") => ("regionName", region["regionName"].clone()),
            Some("AZURE") => ("region", region["regionName"].clone()),
            Some("GCP") => ("regions", json!([])),
            _ => continue,
        };
        let same = |known: &Value| known["providerName"] == *provider && known[key] == place;
        if store.member(&at, same).is_none() {
            let id = store.id();
            let container = json!({
                "atlasCidrBlock": "192.168.248.0/21",
                "id": id,
                key: place,
                "providerName": provider,
                "provisioned": true,
            });
            store.add(&at, container, None);
        }
    }
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
