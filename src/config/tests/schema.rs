//! `config/schema.json` is what `config-schema` prints, and the examples name it.

use super::examples::{example, folder};
use crate::config::schema;

/// `BLESS=1 cargo test schema` writes the file anew.
#[test]
fn the_file_for_editors_is_the_schema() {
    let file = folder().join("schema.json");
    let now = format!("{:#}\n", schema());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        now,
        "run: BLESS=1 cargo test schema"
    );
}

#[test]
fn the_examples_name_the_schema() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // Expectations of the rules are another kind of file.
        if name.ends_with(".toml") && !name.ends_with(".test.toml") {
            assert!(example(&name).starts_with("#:schema ./schema.json\n"), "{name}");
        }
    }
}

#[test]
fn what_a_key_may_be_is_in_the_schema() {
    let schema = schema();
    let limits = &schema["properties"]["limits"]["properties"];
    assert_eq!(limits["max_headers"]["maximum"], 4096);
    assert_eq!(limits["max_headers"]["default"], 100);
    let listener = &schema["properties"]["listener"]["items"];
    assert_eq!(listener["additionalProperties"], false);
    assert_eq!(
        listener["properties"]["callers"]["enum"],
        serde_json::json!(["required", "optional"])
    );
    assert_eq!(
        listener["properties"]["tls"]["required"],
        serde_json::json!(["certificate", "key"])
    );
    let account = &schema["properties"]["account"]["additionalProperties"]["properties"];
    assert_eq!(account["http"]["enum"], serde_json::json!(["auto", "1", "2", 1, 2]));
}
