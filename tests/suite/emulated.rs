//! The emulator answers as Atlas does, for all its resources: what clients that know Atlas rely on.

use std::process::Stdio;

use atlas_auth_proxy::credential::{CredentialSettings, ServiceAccountKey};
use atlas_auth_proxy::emulator::{EmulatorSettings, Realm, SAMPLE};
use atlas_auth_proxy::secret::Secret;
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::atlas::{Atlas, GROUPS};
use crate::support::client::{client, get};
use crate::support::program::PROGRAM;
use crate::support::proxy::{Proxy, bearer};
use crate::support::until;

const ORG: &str = "5a0a1e7e0f2912c554080adc";
const GROUP: &str = SAMPLE.0;
const VERSION: &str = "application/vnd.atlas.2025-03-12+json";

struct Emulated {
    atlas: Atlas,
    proxy: Proxy,
}

impl Emulated {
    async fn start(change: impl FnOnce(&mut EmulatorSettings)) -> Self {
        let atlas = Atlas::start_with(change).await;
        let proxy = atlas.proxy(bearer()).start().await;
        Self { atlas, proxy }
    }

    async fn ask(&self, method: Method, path: &str, accept: &str, body: Option<Value>) -> reqwest::Response {
        let mut request = client().request(method, self.proxy.url(path)).header("Accept", accept);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// Status and document of a request for what lies below `/api/atlas/v2/`.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let answer = self
            .ask(
                method,
                &format!("/api/atlas/v2/{path}"),
                "application/vnd.atlas.2025-03-12+json",
                body,
            )
            .await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, document) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {document}");
        document
    }

    /// Makes something, and returns what it became.
    async fn make(&self, path: &str, body: Value) -> Value {
        let (status, document) = self.call(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {document}");
        document
    }

    /// The code of an error.
    async fn code(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, document) = self.call(method, path, body).await;
        let code = document["errorCode"].as_str().unwrap_or_default().to_owned();
        assert_eq!(document["error"], status.as_u16(), "{path}: {document}");
        (status.as_u16(), code)
    }
}

fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_database_user_may_have_any_legal_name() {
    let emulated = Emulated::start(|_| ()).await;
    let names = [
        ("plain", "plain"),
        ("with/slash", "with%2Fslash"),
        ("tf user/ü", "tf%20user%2F%C3%BC"),
        ("100%", "100%25"),
        ("a+b@c.d", "a+b@c.d"),
        ("CN=app one,OU=x", "CN=app%20one%2COU=x"),
        ("arn:aws:iam::123456789012:role/x", "arn:aws:iam::123456789012:role%2Fx"),
        ("?#&", "%3F%23%26"),
    ];
    let users = format!("groups/{GROUP}/databaseUsers");
    for (name, segment) in names {
        let body = json!({"username": name, "databaseName": "admin", "password": "only-for-tests"});
        let made = emulated.make(&users, body.clone()).await;
        assert_eq!(made["username"], name);
        assert!(made.get("password").is_none());
        let path = format!("{users}/admin/{segment}");
        assert_eq!(emulated.get(&path).await, made);
        // Its own link leads to it.
        let link = made["links"][0]["href"].as_str().unwrap().to_owned();
        let followed = client().get(&link).header("Accept", VERSION);
        assert_eq!(
            followed.send().await.unwrap().json::<Value>().await.unwrap(),
            made,
            "{link}"
        );
        assert_eq!(
            emulated.code(Method::POST, &users, Some(body)).await,
            error(409, "USER_ALREADY_EXISTS")
        );
        let roles = json!({"roles": [{"databaseName": "app", "roleName": "read"}]});
        let (_, changed) = emulated.call(Method::PATCH, &path, Some(roles)).await;
        assert_eq!(changed["roles"][0]["roleName"], "read");
        assert_eq!(emulated.call(Method::DELETE, &path, None).await.0, 204);
        assert_eq!(
            emulated.code(Method::GET, &path, None).await,
            error(404, "USERNAME_NOT_FOUND"),
            "{path}"
        );
        assert_eq!(
            emulated.code(Method::DELETE, &path, None).await,
            error(404, "USER_NOT_FOUND")
        );
    }
}

#[tokio::test]
async fn a_project_is_made_with_all_that_belongs_to_it_and_deleted_again() {
    let emulated = Emulated::start(|_| ()).await;
    let tags = json!([{"key": "env", "value": "test"}]);
    let made = emulated
        .make("groups", json!({"name": "new", "orgId": ORG, "tags": tags}))
        .await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["tags"], tags);
    assert_eq!(emulated.get("groups/byName/new").await["id"], id);
    let of_org = emulated.get(&format!("orgs/{ORG}/groups")).await;
    assert_eq!(of_org["totalCount"], 3);

    let settings = format!("groups/{id}/settings");
    assert_eq!(emulated.get(&settings).await["isPerformanceAdvisorEnabled"], true);
    let change = Some(json!({"isPerformanceAdvisorEnabled": false}));
    emulated.call(Method::PATCH, &settings, change).await;
    assert_eq!(emulated.get(&settings).await["isPerformanceAdvisorEnabled"], false);

    let limit = format!("groups/{id}/limits/atlas.project.deployment.clusters");
    assert_eq!(emulated.get(&limit).await["value"], 25);
    let (_, changed) = emulated.call(Method::PATCH, &limit, Some(json!({"value": 30}))).await;
    assert_eq!((&changed["value"], &changed["defaultLimit"]), (&json!(30), &json!(25)));
    emulated.call(Method::DELETE, &limit, None).await;
    assert_eq!(emulated.get(&limit).await["value"], 25);
    assert_eq!(
        emulated
            .code(Method::GET, &format!("groups/{id}/limits/nonsense"), None)
            .await
            .0,
        400
    );

    let team = emulated
        .make(
            &format!("orgs/{ORG}/teams"),
            json!({"name": "t", "usernames": ["owner@example.com"]}),
        )
        .await;
    let team = team["id"].as_str().unwrap();
    assert_eq!(emulated.get(&format!("orgs/{ORG}/teams/byName/t")).await["id"], team);
    let members = emulated.get(&format!("orgs/{ORG}/teams/{team}/users")).await;
    assert_eq!(members["results"][0]["username"], "owner@example.com");
    let role = json!([{"teamId": team, "roleNames": ["GROUP_OWNER"]}]);
    let roles = emulated.make(&format!("groups/{id}/teams"), role).await;
    assert_eq!(roles["results"][0]["teamId"], team);
    assert_eq!(emulated.get(&format!("groups/{id}/ipAddresses")).await["groupId"], id);

    assert_eq!(
        emulated.call(Method::DELETE, &format!("groups/{id}"), None).await.0,
        204
    );
    for gone in ["", "/settings", "/teams", "/databaseUsers/admin/app"] {
        let gone = format!("groups/{id}{gone}");
        assert_eq!(
            emulated.code(Method::GET, &gone, None).await,
            error(404, "GROUP_NOT_FOUND")
        );
    }
    // One that has clusters stays.
    assert_eq!(
        emulated.code(Method::DELETE, &format!("groups/{GROUP}"), None).await,
        error(409, "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS")
    );
}

#[tokio::test]
async fn users_are_shown_as_the_version_of_the_request_knows_them() {
    let emulated = Emulated::start(|_| ()).await;
    let users = format!("/api/atlas/v2/orgs/{ORG}/users");
    for (version, roles, address) in [
        (
            "2023-01-01",
            json!([{"orgId": ORG, "roleName": "ORG_OWNER"}]),
            json!("owner@example.com"),
        ),
        ("2025-02-19", json!({"orgRoles": ["ORG_OWNER"]}), Value::Null),
    ] {
        let accept = format!("application/vnd.atlas.{version}+json");
        let answer = emulated.ask(Method::GET, &users, &accept, None).await;
        let user = answer.json::<Value>().await.unwrap()["results"][0].clone();
        assert_eq!((&user["roles"], &user["emailAddress"]), (&roles, &address), "{version}");
    }
}

#[tokio::test]
async fn a_cluster_brings_a_network_to_its_region() {
    let emulated = Emulated::start(|_| ()).await;
    let containers = format!("groups/{GROUP}/containers");
    let region = json!({"providerName": "AWS", "regionName": "EU_WEST_1", "priority": 7});
    for name in ["a", "b"] {
        let spec = json!({"name": name, "replicationSpecs": [{"regionConfigs": [region]}]});
        emulated.make(&format!("groups/{GROUP}/clusters"), spec).await;
    }
    let found = emulated.get(&format!("{containers}?providerName=AWS")).await;
    assert_eq!(found["totalCount"], 1);
    assert_eq!(found["results"][0]["regionName"], "EU_WEST_1");
    assert_eq!(
        emulated.get(&format!("{containers}?providerName=GCP")).await["totalCount"],
        0
    );
    assert_eq!(emulated.get(&format!("{containers}/all")).await["totalCount"], 1);
}

#[tokio::test]
async fn regions_are_restricted_in_government_only_and_none_is_no_restriction() {
    let with = |restriction: Value| json!({"name": "r", "orgId": ORG, "regionUsageRestrictions": restriction});
    for (realm, restriction, good) in [
        (Realm::Commercial, json!("NONE"), true),
        (Realm::Commercial, json!(""), true),
        (Realm::Commercial, Value::Null, true),
        (Realm::Commercial, json!("GOV_REGIONS_ONLY"), false),
        (Realm::Government, json!("GOV_REGIONS_ONLY"), true),
        (Realm::Government, json!("COMMERCIAL_FEDRAMP_REGIONS_ONLY"), true),
        (Realm::Government, json!("MOON"), false),
    ] {
        let emulated = Emulated::start(|settings| settings.realm = realm).await;
        let (status, document) = emulated
            .call(Method::POST, "groups", Some(with(restriction.clone())))
            .await;
        assert_eq!(status == 201, good, "{realm:?} {restriction}: {document}");
    }
}

#[tokio::test]
async fn access_list_entries_are_known_by_address_and_network() {
    let emulated = Emulated::start(|_| ()).await;
    let list = format!("groups/{GROUP}/accessList");
    let given = json!([{"ipAddress": "203.0.113.5"}, {"cidrBlock": "198.51.100.0/24", "comment": "office"}]);
    let made = emulated.make(&list, given.clone()).await;
    assert_eq!(made["totalCount"], 2);
    assert_eq!(made["results"][0]["cidrBlock"], "203.0.113.5/32");
    // The same again is no second entry.
    assert_eq!(emulated.make(&list, given).await["totalCount"], 2);
    for known in ["203.0.113.5", "203.0.113.5%2F32", "198.51.100.0%2F24"] {
        emulated.get(&format!("{list}/{known}")).await;
        let status = emulated.get(&format!("{list}/{known}/status")).await;
        assert_eq!(status["STATUS"], "ACTIVE");
    }
    let gone = format!("{list}/198.51.100.0%2F24");
    assert_eq!(emulated.call(Method::DELETE, &gone, None).await.0, 204);
    for path in [gone.clone(), format!("{gone}/status")] {
        let code = emulated.code(Method::GET, &path, None).await;
        assert_eq!(code, error(404, "ATLAS_NETWORK_PERMISSION_ENTRY_NOT_FOUND"));
    }
    for bad in [
        json!([{"ipAddress": "no"}]),
        json!([{}]),
        json!([1]),
        json!({}),
        json!(null),
    ] {
        assert_eq!(
            emulated.code(Method::POST, &list, Some(bad.clone())).await.0,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_flex_cluster_is_made_in_time_and_takes_its_time_to_go() {
    let emulated = Emulated::start(|_| ()).await;
    let flex = format!("groups/{GROUP}/flexClusters");
    let provider = json!({"backingProviderName": "AWS", "regionName": "US_EAST_1"});
    let body = json!({"name": "flex0", "providerSettings": provider});
    let made = emulated.make(&flex, body.clone()).await;
    assert_eq!(made["stateName"], "CREATING");
    assert_eq!(
        emulated.code(Method::POST, &flex, Some(body)).await,
        error(400, "DUPLICATE_CLUSTER_NAME")
    );
    for senseless in [json!("text"), json!([1]), json!(1)] {
        let body = Some(json!({"name": "flex1", "providerSettings": senseless}));
        assert_eq!(
            emulated.code(Method::POST, &flex, body).await,
            error(400, "INVALID_ATTRIBUTE")
        );
    }
    let one = format!("{flex}/flex0");
    until("it is made", || async {
        emulated.get(&one).await["stateName"] == "IDLE"
    })
    .await;
    let other = format!("groups/{GROUP}/clusters/flex0");
    let code = emulated.code(Method::GET, &other, None).await;
    assert_eq!(code, error(400, "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API"));
    let code = emulated.code(Method::GET, &format!("{flex}/cluster-634"), None).await;
    assert_eq!(code, error(400, "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API"));

    let protection = |on: bool| Some(json!({"terminationProtectionEnabled": on}));
    emulated.call(Method::PATCH, &one, protection(true)).await;
    let code = emulated.code(Method::DELETE, &one, None).await;
    assert_eq!(
        code,
        error(400, "CANNOT_TERMINATE_CLUSTER_WHEN_TERMINATION_PROTECTION_ENABLED")
    );
    emulated.call(Method::PATCH, &one, protection(false)).await;
    assert_eq!(emulated.call(Method::DELETE, &one, None).await.0, 204);
    assert_eq!(emulated.get(&one).await["stateName"], "DELETING");
    until("it is gone", || async {
        emulated.call(Method::GET, &one, None).await.0 == 404
    })
    .await;
    assert_eq!(
        emulated.code(Method::GET, &one, None).await,
        error(404, "CLUSTER_NOT_FOUND")
    );
}

#[tokio::test]
async fn hosts_belong_to_clusters_and_roles_are_authorized() {
    let emulated = Emulated::start(|_| ()).await;
    let processes = emulated.get(&format!("groups/{GROUP}/processes")).await;
    assert_eq!(processes["totalCount"], 3);
    let host = format!("{}:27017", SAMPLE.1);
    assert_eq!(processes["results"][0]["id"], host);
    let process = emulated.get(&format!("groups/{GROUP}/processes/{host}")).await;
    assert_eq!(process, processes["results"][0]);

    let roles = format!("groups/{GROUP}/cloudProviderAccess");
    let role = emulated.make(&roles, json!({"providerName": "AWS"})).await;
    let id = role["roleId"].as_str().unwrap();
    assert!(role["authorizedDate"].is_null());
    let authorize = json!({"providerName": "AWS", "iamAssumedRoleArn": "arn:aws:iam::123456789012:role/x"});
    emulated
        .call(Method::PATCH, &format!("{roles}/{id}"), Some(authorize))
        .await;
    assert!(emulated.get(&format!("{roles}/{id}")).await["authorizedDate"].is_string());
    assert_eq!(emulated.get(&roles).await["awsIamRoles"][0]["roleId"], id);
    assert_eq!(
        emulated
            .call(Method::DELETE, &format!("{roles}/AWS/{id}"), None)
            .await
            .0,
        204
    );
    let code = emulated.code(Method::GET, &format!("{roles}/{id}"), None).await;
    assert_eq!(code, error(404, "CLOUD_PROVIDER_ACCESS_ROLE_NOT_FOUND"));
}

#[tokio::test]
async fn a_service_account_that_is_made_gets_tokens_until_it_is_deleted() {
    let emulated = Emulated::start(|_| ()).await;
    let accounts = format!("orgs/{ORG}/serviceAccounts");
    let given = json!({"name": "ci", "description": "d", "roles": ["ORG_MEMBER"], "secretExpiresAfterHours": 8});
    let made = emulated.make(&accounts, given).await;
    let id = made["clientId"].as_str().unwrap();
    let secret = made["secrets"][0]["secret"].as_str().unwrap();
    assert_eq!(emulated.get(&accounts).await["totalCount"], 2);
    let read = emulated.get(&format!("{accounts}/{id}")).await;
    assert!(read["secrets"][0].get("secret").is_none(), "it is shown once");

    // A proxy that has it: is it served?
    let served = async || {
        let credential = CredentialSettings::ServiceAccount(ServiceAccountKey {
            client_id: id.to_owned(),
            secrets: Secret::new(secret).into(),
        });
        let proxy = emulated.atlas.proxy(credential).start().await;
        let answer = client().get(proxy.url(GROUPS)).header("Accept", VERSION).send();
        answer.await.unwrap().status()
    };
    assert_eq!(served().await, 200);
    let rename = Some(json!({"name": "cd"}));
    let (_, renamed) = emulated.call(Method::PATCH, &format!("{accounts}/{id}"), rename).await;
    assert_eq!(renamed["name"], "cd");
    assert_eq!(
        emulated.call(Method::DELETE, &format!("{accounts}/{id}"), None).await.0,
        204
    );
    assert_eq!(served().await, 502);
    assert_eq!(
        emulated.call(Method::GET, &format!("{accounts}/{id}"), None).await.0,
        404
    );
}

#[tokio::test]
async fn lists_come_in_pages_in_an_envelope_and_pretty() {
    let emulated = Emulated::start(|_| ()).await;
    let users = format!("groups/{GROUP}/databaseUsers");
    let page = emulated.get(&format!("{users}?itemsPerPage=1&pageNum=2")).await;
    assert_eq!(page["results"][0]["username"], "user-253");
    assert_eq!(page["totalCount"], 2);
    let rels: Vec<_> = page["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["rel"].clone())
        .collect();
    assert_eq!(rels, ["self", "previous"]);
    let uncounted = emulated.get(&format!("{users}?includeCount=false")).await;
    assert!(uncounted.get("totalCount").is_none());
    let enveloped = emulated.get(&format!("orgs/{ORG}/settings?envelope=true")).await;
    assert_eq!(enveloped["status"], 200);
    assert_eq!(enveloped["content"]["multiFactorAuthRequired"], false);
    let pretty = emulated
        .ask(
            Method::GET,
            &format!("/api/atlas/v2/groups/{GROUP}/settings?pretty=true"),
            "application/vnd.atlas.2023-01-01+json",
            None,
        )
        .await;
    assert!(pretty.text().await.unwrap().starts_with("{\n  \"is"));
}

#[tokio::test]
async fn versions_end_as_the_description_says() {
    let emulated = Emulated::start(|settings| settings.strict_versions = true).await;
    let cluster = format!("/api/atlas/v2/groups/{GROUP}/clusters/cluster-634");
    let ask = |accept: &'static str| emulated.ask(Method::GET, &cluster, accept, None);
    let old = ask("application/vnd.atlas.2023-06-30+json").await;
    assert_eq!(
        old.headers()["content-type"],
        "application/vnd.atlas.2023-02-01+json;charset=utf-8"
    );
    assert_eq!(old.headers()["sunset"], "Thu, 1 Jul 2027 00:00:00 GMT");
    assert_eq!(old.headers()["deprecation"], "Mon, 5 Aug 2024 00:00:00 GMT");
    let new = ask("application/vnd.atlas.2025-03-12+json").await;
    assert_eq!(
        new.headers()["content-type"],
        "application/vnd.atlas.2024-08-05+json;charset=utf-8"
    );
    assert!(new.headers().get("sunset").is_none());
    for senseless in [
        "application/json",
        "application/vnd.atlas.2022-01-01+json",
        "application/vnd.atlas.2024-08-05+csv",
    ] {
        let refused = ask(senseless).await;
        assert_eq!(refused.status(), 406, "{senseless}");
        assert_eq!(refused.headers()["x-error-code"], "INVALID_VERSION_DATE");
    }

    let later = Emulated::start(|settings| settings.today = "2027-07-01").await;
    let gone = later
        .ask(Method::GET, &cluster, "application/vnd.atlas.2023-01-01+json", None)
        .await;
    assert_eq!(gone.status(), 410);
    assert_eq!(gone.headers()["x-error-code"], "VERSION_GONE");
}

#[tokio::test]
async fn what_the_emulator_lacks_is_said_once_by_the_demo() {
    let mut demo = Command::new(PROGRAM)
        .args(["demo", "--strict"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut url = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("commercial, service account (Bearer)") {
            let from = line.find("http://").unwrap();
            line[from..].split(' ').next().unwrap().clone_into(&mut url);
        }
        if line == "ready" {
            break;
        }
    }
    let lacked = format!("{url}/api/atlas/v2/groups/{GROUP}/clusters/cluster-634/backup/schedule");
    for _ in 0..2 {
        let answer = client().get(&lacked).header("Accept", VERSION).send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        assert_eq!(answer["errorCode"], "RESOURCE_NOT_FOUND");
        assert!(
            answer["detail"].as_str().unwrap().contains("the emulator lacks it"),
            "{answer}"
        );
    }
    let unnamed: Value = serde_json::from_str(&get(&format!("{url}/api/atlas/v2/groups")).await).unwrap();
    assert_eq!(unnamed["errorCode"], "INVALID_VERSION_DATE");
    // What Atlas lacks as well is not worth a word.
    get(&format!("{url}/api/atlas/v2/nonsense")).await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(demo.id().unwrap().cast_signed()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    let output = demo.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("the emulator lacks").count(), 1, "{said}");
    assert!(said.contains("getGroupClusterBackupSchedule"), "{said}");
}
