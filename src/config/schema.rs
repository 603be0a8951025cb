//! The JSON Schema of the configuration file, made from the tables as they are read. It is of draft 7, which every editor
//! knows. What depends on several keys at once stays with [`load`](super::load).

use serde_json::{Map, Value, json};

use super::document::Table;
use super::file::FileConfig;
use super::shape::{Form, Key, Kind, Shape};

/// Names of listeners and accounts.
const NAME: &str = "^[A-Za-z0-9._-]{1,64}$";

/// The schema of the whole file.
pub fn schema() -> Value {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration file of atlas-auth-proxy",
    });
    merge(&mut schema, table(FileConfig::SHAPE));
    schema
}

fn table(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let mut table = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let required: Vec<&str> = shape
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    if !required.is_empty() {
        merge(&mut table, json!({ "required": required }));
    }
    table
}

fn property(key: &Key) -> Value {
    let mut property = json!({ "description": key.about.trim() });
    merge(
        &mut property,
        match key.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Name => json!({ "type": "string", "pattern": NAME }),
            Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
            Kind::TextOrInteger => json!({ "type": ["string", "integer"], "minimum": 0 }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Texts | Kind::Variables => list(json!({ "type": "string" })),
            Kind::Command => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
            Kind::Integers => list(json!({ "type": "integer", "minimum": 0 })),
            Kind::TextsByName => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Kind::Table(shape) => table(shape),
            Kind::Tables(shape) => list(table(shape)),
            Kind::Named(shape) => json!({
                "type": "object", "propertyNames": { "pattern": NAME }, "additionalProperties": table(shape),
            }),
        },
    );
    merge(&mut property, form(key));
    if let Some(default) = key.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        merge(&mut property, json!({ "default": default }));
    }
    property
}

fn form(key: &Key) -> Value {
    match key.form {
        Form::Any => json!({}),
        Form::OneOf(words) => {
            let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            if matches!(key.kind, Kind::TextOrInteger) {
                all.extend(words.iter().filter_map(|word| Some(json!(word.parse::<u64>().ok()?))));
            }
            json!({ "enum": all })
        }
        Form::Range(least, most) => json!({ "minimum": least, "maximum": most }),
        Form::Duration => json!({ "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        Form::Size => json!({ "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|kB|KB|MB|GB)?$" }),
        Form::Mode => json!({ "pattern": "^(0o)?[0-7]{1,4}$" }),
        Form::Date => json!({ "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }),
        Form::Id => json!({ "pattern": "^[0-9a-fA-F]{24}$" }),
    }
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
