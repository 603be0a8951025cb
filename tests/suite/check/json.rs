//! `--json`: one object for machines.

use serde_json::{Value, json};

use crate::support::atlas::Atlas;
use crate::support::check::{OTHER_SECRET, Setup};

#[tokio::test]
async fn json_for_machines() {
    let atlas = Atlas::start().await;
    let check = async |setup: Setup| {
        let said = atlas.before(setup.args(&["--json"])).check().await;
        let value: Value = serde_json::from_str(&said.text).unwrap();
        assert_eq!(said.text.lines().count(), 1);
        let mut members: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(members, ["checks", "ok"]);
        for check in value["checks"].as_array().unwrap() {
            let mut members: Vec<_> = check.as_object().unwrap().keys().cloned().collect();
            members.sort();
            assert_eq!(members, ["account", "check", "found", "hint", "status"]);
            assert!(check["check"].is_string() && check["found"].is_string(), "{check}");
            assert!(check["account"].is_string() || check["account"].is_null(), "{check}");
            assert!(check["hint"].is_string() || check["hint"].is_null(), "{check}");
            let status = check["status"].as_str().unwrap();
            assert!(["ok", "warn", "fail", "skip"].contains(&status), "{check}");
        }
        (said.code, value)
    };
    let of = |value: &Value, name: &str| {
        let all = value["checks"].as_array().unwrap();
        all.iter().find(|check| check["check"] == name).unwrap().clone()
    };
    let (code, value) = check(Setup::bearer()).await;
    assert_eq!((code, &value["ok"]), (Some(0), &json!(true)));
    assert_eq!(of(&value, "secret_expiry")["status"], "ok");
    assert_eq!(of(&value, "api")["account"], "default");
    assert_eq!(of(&value, "configuration")["account"], Value::Null);

    let (code, value) = check(Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET)).await;
    assert_eq!((code, &value["ok"]), (Some(1), &json!(false)));
    let credential = of(&value, "credential");
    assert_eq!(credential["status"], "fail");
    assert!(credential["found"].as_str().unwrap().contains("invalid_client"));
    assert!(credential["hint"].as_str().unwrap().contains("mistyped"));
    assert_eq!(of(&value, "api")["status"], "skip");

    let (code, value) = check(Setup::default()).await;
    assert_eq!((code, &value["ok"]), (Some(1), &json!(false)));
    assert_eq!(of(&value, "configuration")["status"], "fail");
}
