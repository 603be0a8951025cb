//! The request that shows whether a credential is accepted.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::accepted;
use super::prober::Finding;
use crate::credential::digest::{BodyForDigest, Digest, GiveUp, Verdict};
use crate::metrics::AttemptCause;
use crate::proxy::{Account, AccountSlot, RequestBody};
use crate::upstream::{Head, UpstreamRequest};

/// Every credential may make this call, and its answer is short.
pub(super) const PATH: &str = "/api/atlas/v2/groups?itemsPerPage=1";
/// The same for a key that was refused on [`PATH`]: one path must not speak for the key.
const OTHER_PATH: &str = "/api/atlas/v2/orgs?itemsPerPage=1";
const VERSION: HeaderValue = HeaderValue::from_static("application/vnd.atlas.2023-01-01+json");

/// A path other than the one that a key was refused on.
pub(super) fn path_beside(refused_on: &PathAndQuery) -> &'static str {
    if PATH.starts_with(refused_on.path()) {
        OTHER_PATH
    } else {
        PATH
    }
}

/// Asks with a token.
pub(super) async fn with_token(slot: &AccountSlot, account: &Account, authorization: &HeaderValue) -> Finding {
    match send(slot, account, PATH, Some(authorization.clone())).await {
        Some((status, _)) => Finding::of(status),
        None => Finding::Unknown,
    }
}

/// Asks with a key, and with a nonce of its own, so that nothing but the key can be refused.
pub(super) async fn with_key(slot: &AccountSlot, account: &Account, digest: &Digest, path: &'static str) -> Finding {
    let mut turn = digest.turn_alone();
    match send(slot, account, path, None).await {
        Some((StatusCode::UNAUTHORIZED, headers)) => match turn.primed(&headers) {
            Verdict::Retry => {}
            // Without a challenge no key can be accepted.
            Verdict::GiveUp(GiveUp::NoChallenge) => return Finding::Refused,
            Verdict::GiveUp(_) => return Finding::Unknown,
        },
        _ => return Finding::Unknown,
    }
    for stale in [true, false] {
        let Some(authorized) = turn.authorize(&Method::GET, path, BodyForDigest::Bytes(b"")) else {
            return Finding::Unknown;
        };
        let Some((status, headers)) = send(slot, account, path, Some(authorized.header.clone())).await else {
            return Finding::Unknown;
        };
        let finding = Finding::of(status);
        match finding {
            Finding::Accepted => accepted(slot, &mut turn, &headers, &authorized),
            Finding::Refused if stale && turn.is_only_stale(&headers) => {
                turn.primed(&headers);
                continue;
            }
            Finding::Refused | Finding::Unknown => {}
        }
        return finding;
    }
    Finding::Unknown
}

/// `None`: no answer.
async fn send(
    slot: &AccountSlot,
    account: &Account,
    path: &'static str,
    authorization: Option<HeaderValue>,
) -> Option<(StatusCode, HeaderMap)> {
    slot.metrics.upstream_attempt(AttemptCause::Probe);
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, VERSION);
    let request = UpstreamRequest {
        head: Head {
            method: &Method::GET,
            path: &PathAndQuery::from_static(path),
            headers: Cow::Owned(headers),
            authorization: authorization.as_ref(),
        },
        body: RequestBody::empty(),
        progress: None,
        once: false,
        part: &account.prober.part,
    };
    let response = account.upstream.send(request).await.ok()?;
    let (parts, body) = response.into_parts();
    body.discard().await;
    Some((parts.status, parts.headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_asked_about_on_another_path() {
        assert_eq!(
            path_beside(&PathAndQuery::from_static("/api/atlas/v2/groups")),
            OTHER_PATH
        );
        assert_eq!(
            path_beside(&PathAndQuery::from_static("/api/atlas/v2/groups?pretty=true")),
            OTHER_PATH
        );
        assert_eq!(path_beside(&PathAndQuery::from_static("/api/atlas/v2/groups/1")), PATH);
    }
}
