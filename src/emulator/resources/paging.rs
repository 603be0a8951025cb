//! Pages of collections.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::emulator::api::Call;
use crate::emulator::respond::Answer;

/// One page, with links to itself and its neighbours.
pub(super) fn page(call: &Call, base: &str, items: &[Value]) -> Answer {
    let per_page = usize::try_from(number(&call.query, "itemsPerPage", 100))
        .unwrap_or(100)
        .clamp(1, 500);
    let this = usize::try_from(number(&call.query, "pageNum", 1)).unwrap_or(1).max(1);
    let from = (this - 1).saturating_mul(per_page).min(items.len());
    let to = from.saturating_add(per_page).min(items.len());
    let counted = call.query.get("includeCount").is_none_or(|value| value != "false");
    let link = |page: usize, rel: &str| {
        let path = &call.path;
        json!({"href": format!("{base}{path}?includeCount={counted}&itemsPerPage={per_page}&pageNum={page}"), "rel": rel})
    };
    let mut links = vec![link(this, "self")];
    if to < items.len() {
        links.push(link(this + 1, "next"));
    }
    if this > 1 {
        links.push(link(this - 1, "previous"));
    }
    let mut page = json!({"links": links, "results": items[from..to]});
    if counted {
        page["totalCount"] = items.len().into();
    }
    call.document(StatusCode::OK, page)
}

/// A number of the query.
pub(in crate::emulator) fn number(query: &HashMap<String, String>, name: &str, default: u64) -> u64 {
    query.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}
