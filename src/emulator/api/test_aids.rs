//! Paths that Atlas does not have: they tell a test what arrived.

use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::emulator::respond::{self, Answer};

/// The request that arrived; of its credential only the scheme.
pub(super) async fn echo(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let secret = *name == header::AUTHORIZATION;
            let shown = if secret {
                text.split(' ').next().unwrap_or_default().to_owned()
            } else {
                text
            };
            (name.as_str().to_owned(), shown.into())
        })
        .collect();
    let (length, hash) = digest(body).await;
    respond::json(
        StatusCode::OK,
        &json!({
            "method": parts.method.as_str(),
            "target": parts.uri.path_and_query().map_or("", |target| target.as_str()),
            "headers": headers,
            "length": length,
            "sha256": hash,
        }),
    )
}

/// How much arrived.
pub(super) async fn sink(request: Request<Incoming>) -> Answer {
    let (length, hash) = digest(request.into_body()).await;
    respond::json(StatusCode::OK, &json!({"length": length, "sha256": hash}))
}

async fn digest(mut body: Incoming) -> (u64, String) {
    let (mut length, mut hash) = (0, Sha256::new());
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            hash.update(data);
        }
    }
    (length, format!("{:x}", hash.finalize()))
}
