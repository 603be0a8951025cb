//! Answers in the shape of Atlas's recorded ones, of the same bytes each time.

use serde_json::{Value, json};

/// A page of projects with links to `base`, of at least `bytes` bytes and at most one project more.
pub(crate) fn page_of_projects(base: &str, bytes: usize) -> Vec<u8> {
    let links = json!([{"href": format!("{base}/api/atlas/v2/groups?includeCount=true&pageNum=1&itemsPerPage=100"), "rel": "self"}]);
    let mut projects: Vec<Value> = Vec::new();
    loop {
        let page = json!({"links": links, "results": projects, "totalCount": projects.len()}).to_string();
        if page.len() >= bytes {
            return page.into_bytes();
        }
        // Close to the end, so that a large page does not take a million steps.
        let missing = (bytes - page.len()).div_ceil(project(base, 0).to_string().len()).max(1);
        let next = projects.len();
        projects.extend((next..next + missing).map(|number| project(base, number)));
    }
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
