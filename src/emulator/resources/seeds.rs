//! What exists from the start.

use serde_json::{Value, json};

use super::clusters::{CLUSTER, cluster};
use super::documents::{database_user, group, user};
use super::store::Store;
use super::{Place, service_accounts};
use crate::emulator::settings::{EmulatorSettings, Realm};

/// The organisation that Atlas's own samples name.
pub(super) const ORG: &str = "5a0a1e7e0f2912c554080adc";
/// Of every API key.
pub(in crate::emulator) const API_KEY_ID: &str = "5c47503320eef5699e1cce8d";
/// The first project.
const GROUP: &str = "6a793f8a2c88faeba59bc7c2";
const GROUP_2: &str = "b0123456789abcdef012345b";
/// A host of the first project's cluster.
const HOST: &str = "atlas-3mu7hn-shard-00-00.zsv9js.mongodb.net";
/// When everything was made that exists from the start.
pub(super) const MADE: &str = "2026-08-10T03:03:41Z";

/// A project and a host that exist, for those who print samples.
pub(in crate::emulator) const SAMPLE: (&str, &str) = (GROUP, HOST);

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
