//! Answers in the shape of Atlas's recorded ones, of the same bytes each time.

#[allow(dead_code, reason = "not every benchmark has an upstream")]
pub(crate) mod tls;

use serde_json::{Value, json};

/// A page of projects with links to `base`, of exactly so many bytes: what no project fills is a description. For pages
/// with room for at least one.
pub(crate) fn page_of_projects(base: &str, bytes: usize) -> Vec<u8> {
    let empty = page(base, &[], "").len();
    let mut projects: Vec<Value> = Vec::new();
    let mut length = empty;
    loop {
        let next = project(base, projects.len());
        // A comma and the digits of a larger count, too.
        length += next.to_string().len() + 1;
        if length + 8 > bytes {
            break;
        }
        projects.push(next);
    }
    let missing = bytes - page(base, &projects, "").len();
    page(base, &projects, &"d".repeat(missing)).into_bytes()
}

fn page(base: &str, projects: &[Value], description: &str) -> String {
    let link = format!("{base}/api/atlas/v2/groups?includeCount=true&pageNum=1&itemsPerPage=100");
    json!({
        "description": description,
        "links": [{"href": link, "rel": "self"}],
        "results": projects,
        "totalCount": projects.len(),
    })
    .to_string()
}

fn project(base: &str, number: usize) -> Value {
    let id = format!("6a793f8a{number:016x}");
    let link = |path: &str, rel: &str| json!({"href": format!("{base}/api/atlas/v2/groups/{id}{path}"), "rel": rel});
    json!({
        "clusterCount": number % 5,
        "created": "2026-08-10T03:03:41Z",
        "id": id,
        "links": [
            link("", "self"),
            link("/clusters", "https://cloud.mongodb.com/clusters"),
            link("/databaseUsers", "https://cloud.mongodb.com/databaseUsers"),
            link("/containers", "https://cloud.mongodb.com/containers"),
        ],
        "name": format!("project-{number}"),
        "orgId": "5a0a1e7e0f2912c554080adc",
        "withDefaultAlertsSettings": true,
    })
}
