//! What a 401 is about: the credential, or the path.
//!
//! Atlas answers 401 to a dead credential, and at times to a request that the credential's role does not allow. The proxy
//! tells them apart with a request of its own that every credential may make. One at a time, one a second at most, and its
//! finding holds for every request that was sent before it began.
//!
//! | the probe is answered | finding | so |
//! |---|---|---|
//! | 401 | refused | a token is replaced; a key counts as refused |
//! | another status below 500, but 429 | accepted | the 401 was about the path: it passes, nothing is spent |
//! | 429, 5xx, not at all | unknown | the 401 passes |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::{Account, AccountSlot, Authorizer, RequestBody};
use crate::credential::bearer::{Bearer, Token};
use crate::credential::digest::{Authorized, BodyForDigest, Digest, GiveUp, Turn, Verdict};
use crate::fair::{Part, Places};
use crate::metrics::AttemptCause;
use crate::upstream::UpstreamRequest;

/// Every credential may make this call, and its answer is short.
const PATH: &str = "/api/atlas/v2/groups?itemsPerPage=1";
/// The same for a key that was refused on that path: one path must not speak for the key.
const OTHER_PATH: &str = "/api/atlas/v2/orgs?itemsPerPage=1";
const VERSION: HeaderValue = HeaderValue::from_static("application/vnd.atlas.2023-01-01+json");
/// From one probe's begin to the next one's.
const PAUSE: Duration = Duration::from_secs(1);
/// For the whole of a probe; a request whose 401 is in doubt waits for it.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks whether a refused credential is accepted again: doubles from the first to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The credential is refused where nothing but the credential can be the reason.
    Refused,
    /// It is accepted.
    Accepted,
    /// Nobody knows.
    Unknown,
}

impl Finding {
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Refused,
            StatusCode::TOO_MANY_REQUESTS => Self::Unknown,
            status if status.is_server_error() => Self::Unknown,
            _ => Self::Accepted,
        }
    }
}

/// The probes of one account.
#[derive(Debug)]
pub struct Prober {
    /// Beside the places of clients' requests: those may all be taken by requests that wait for a finding.
    part: Arc<Part>,
    /// Held while a probe is under way.
    last: tokio::sync::Mutex<Last>,
    /// A task of our own waits for a finding: another would learn nothing more.
    in_background: AtomicBool,
    /// A task looks whether a refused credential is accepted again.
    looking_again: AtomicBool,
    /// The last thing that was said about 401s, so that it is said once.
    said: parking_lot::Mutex<Option<Finding>>,
}

#[derive(Debug, Default)]
struct Last {
    began: Option<Instant>,
    /// When its probe began, which token it was about (0 for a key), and what it was.
    finding: Option<(Instant, u64, Finding)>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            part: Places::new(1).part(),
            last: Default::default(),
            in_background: Default::default(),
            looking_again: Default::default(),
            said: Default::default(),
        }
    }
}

impl Prober {
    /// The finding for a request that was sent at `sent` with the token of this generation (0: with a key). `news` is told what a
    /// probe found, once for each. A probe with an older token, which was revoked as usual, says nothing about its successor.
    async fn ask<F>(
        &self,
        sent: Instant,
        generation: u64,
        probe: impl FnOnce() -> F,
        news: impl FnOnce(Finding),
    ) -> Finding
    where
        F: Future<Output = Finding>,
    {
        let mut last = self.last.lock().await;
        if let Some((began, about, finding)) = last.finding
            && began >= sent
            && about == generation
        {
            return finding;
        }
        if let Some(began) = last.began {
            tokio::time::sleep_until(began + PAUSE).await;
        }
        let began = Instant::now();
        // Noted before: whoever asked may go away meanwhile, and the next must not ask at once.
        last.began = Some(began);
        let finding = tokio::time::timeout(LIMIT, probe()).await.unwrap_or(Finding::Unknown);
        last.finding = Some((began, generation, finding));
        news(finding);
        finding
    }

    /// Says once what 401s are about, until it is something else.
    fn say(&self, account: &str, finding: Finding) {
        let mut said = self.said.lock();
        if said.replace(finding) == Some(finding) {
            return;
        }
        match finding {
            Finding::Refused => {
                tracing::warn!(
                    account,
                    "Atlas answered 401, and refuses the credential on a request of the proxy's own, too"
                );
            }
            Finding::Accepted => tracing::warn!(
                account,
                "Atlas answered 401 to a request, but accepts the credential: most likely its role does not allow the request"
            ),
            Finding::Unknown => tracing::warn!(
                account,
                "Atlas answered 401 to a request, and whether it accepts the credential cannot be told at the moment"
            ),
        }
    }
}

/// A token that may be sent in place of `used`, to which Atlas answered 401. `None`: the 401 stands. `says_so`: the answer
/// itself names the token as its reason.
pub(super) async fn replacement(
    slot: &Arc<AccountSlot>,
    account: &Arc<Account>,
    bearer: &Bearer,
    used: &Token,
    sent: Instant,
    says_so: bool,
) -> Option<Token> {
    if let Some(newer) = bearer.newer_than(used) {
        return Some(newer);
    }
    if says_so && bearer.takes_its_word(used) {
        tracing::info!(account = %slot.name, "Atlas says that the access token is not valid any more: replacing it");
    } else if !bearer.has_expired(used) {
        let probe = || with_token(slot, account, used.header());
        let news = |finding| {
            account.prober.say(&slot.name, finding);
            match finding {
                Finding::Refused => {
                    if bearer.refusal_confirmed() {
                        look_again(slot, account);
                    }
                }
                Finding::Accepted => bearer.accepted(),
                Finding::Unknown => {}
            }
        };
        if account.prober.ask(sent, used.generation(), probe, news).await != Finding::Refused {
            return None;
        }
    }
    bearer.replace(used).await
}

/// Finds out about a 401 to a request that can't be sent again: for those that come after it.
pub(super) fn replace_in_background(
    slot: &Arc<AccountSlot>,
    account: &Arc<Account>,
    bearer: &Arc<Bearer>,
    used: Token,
    sent: Instant,
    says_so: bool,
) {
    let (slot, account, bearer) = (Arc::clone(slot), Arc::clone(account), Arc::clone(bearer));
    in_background(&Arc::clone(&account), async move {
        let _ = replacement(&slot, &account, &bearer, &used, sent, says_so).await;
    });
}

/// Finds out whether a key that looks refused is refused on another path, too.
pub(super) fn suspect_in_background(
    slot: &Arc<AccountSlot>,
    account: &Arc<Account>,
    digest: &Arc<Digest>,
    refused_on: &PathAndQuery,
) {
    let (slot, account, digest) = (Arc::clone(slot), Arc::clone(account), Arc::clone(digest));
    let path = path_beside(refused_on);
    in_background(&Arc::clone(&account), async move {
        let news = |finding| {
            account.prober.say(&slot.name, finding);
            if finding == Finding::Refused && digest.refusal_confirmed() {
                tracing::warn!(
                    account = %slot.name,
                    "Atlas refuses the API key on fresh nonces, or offers no Digest challenge that can be answered, on more than \
                     one path: clients get 401. Check public and private key, that the key exists, and that nothing between here \
                     and Atlas answers in its place; `atlas-auth-proxy check` tells more"
                );
                look_again(&slot, &account);
            }
        };
        let probe = || with_key(&slot, &account, &digest, path);
        account.prober.ask(Instant::now(), 0, probe, news).await;
    });
}

fn in_background(account: &Arc<Account>, task: impl Future<Output = ()> + Send + 'static) {
    if account.prober.in_background.swap(true, Ordering::AcqRel) {
        return;
    }
    let one = OneInBackground(Arc::clone(account));
    tokio::spawn(async move {
        let _one = one;
        task.await;
    });
}

/// However the task ends, another may begin.
struct OneInBackground(Arc<Account>);

impl Drop for OneInBackground {
    fn drop(&mut self) {
        self.0.prober.in_background.store(false, Ordering::Release);
    }
}

/// Asks from time to time whether a refused credential is accepted again: nobody else may, where no requests come while it
/// is not ready.
fn look_again(slot: &Arc<AccountSlot>, account: &Arc<Account>) {
    if !account.prober.looking_again.swap(true, Ordering::AcqRel) {
        let looking = Looking(Arc::clone(&account.prober));
        tokio::spawn(look_until_accepted(Arc::downgrade(slot), looking));
    }
}

/// However it ends, another may begin.
struct Looking(Arc<Prober>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking_again.store(false, Ordering::Release);
    }
}

/// Ends with the account, and when the credential in force is not refused any more, whichever that is by then.
async fn look_until_accepted(slot: Weak<AccountSlot>, _looking: Looking) {
    let mut pause = LOOK_AGAIN.0;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN.1);
        let Some(slot) = slot.upgrade() else { return };
        let account = slot.current();
        let over = match &account.authorizer {
            Authorizer::Bearer(bearer) => !bearer.is_refused() || token_is_accepted(&slot, &account, bearer).await,
            Authorizer::Digest(digest) => !digest.is_refused() || key_is_accepted(&slot, &account, digest).await,
        };
        if over {
            return;
        }
    }
}

async fn token_is_accepted(slot: &AccountSlot, account: &Arc<Account>, bearer: &Bearer) -> bool {
    let Ok(token) = bearer.authorization().await else {
        return false;
    };
    let probe = || with_token(slot, account, token.header());
    let finding = account
        .prober
        .ask(Instant::now(), token.generation(), probe, |_| {})
        .await;
    if finding == Finding::Accepted {
        bearer.accepted();
    } else if finding == Finding::Refused {
        let _ = bearer.replace(&token).await;
    }
    finding == Finding::Accepted
}

async fn key_is_accepted(slot: &AccountSlot, account: &Arc<Account>, digest: &Digest) -> bool {
    let probe = || with_key(slot, account, digest, PATH);
    account.prober.ask(Instant::now(), 0, probe, |_| {}).await == Finding::Accepted
}

fn path_beside(refused_on: &PathAndQuery) -> &'static str {
    if PATH.starts_with(refused_on.path()) {
        OTHER_PATH
    } else {
        PATH
    }
}

async fn with_token(slot: &AccountSlot, account: &Account, authorization: &HeaderValue) -> Finding {
    match send(slot, account, PATH, Some(authorization.clone())).await {
        Some((status, _)) => Finding::of(status),
        None => Finding::Unknown,
    }
}

/// With a nonce of its own, so that nothing but the key can be refused.
async fn with_key(slot: &AccountSlot, account: &Account, digest: &Digest, path: &'static str) -> Finding {
    let mut turn = digest.turn_alone();
    match send(slot, account, path, None).await {
        Some((StatusCode::UNAUTHORIZED, headers)) => match turn.primed(&headers) {
            Verdict::Retry => {}
            // Nobody can be authorized.
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

/// Takes in an answer that shows that the key passed, and says so where it was refused before.
pub(super) fn accepted(slot: &AccountSlot, turn: &mut Turn<'_>, headers: &HeaderMap, authorized: &Authorized) {
    if turn.accepted(headers, authorized) {
        tracing::info!(account = %slot.name, "Atlas accepts the API key again");
    }
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
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    let request = UpstreamRequest {
        method: Method::GET,
        path: PathAndQuery::from_static(path),
        headers,
        body: RequestBody::empty(),
        progress: None,
        once: false,
        part: Arc::clone(&account.prober.part),
    };
    let response = account.upstream.send(request).await.ok()?;
    let (parts, body) = response.into_parts();
    body.discard().await;
    Some((parts.status, parts.headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn what_an_answer_tells() {
        for (status, finding) in [
            (200, Finding::Accepted),
            (401, Finding::Refused),
            (403, Finding::Accepted),
            (404, Finding::Accepted),
            (429, Finding::Unknown),
            (500, Finding::Unknown),
            (503, Finding::Unknown),
        ] {
            assert_eq!(
                Finding::of(StatusCode::from_u16(status).unwrap_or_default()),
                finding,
                "{status}"
            );
        }
    }

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

    #[tokio::test(start_paused = true)]
    async fn one_probe_answers_all_who_were_sent_before_it() {
        let prober = Prober::default();
        let asked = AtomicUsize::new(0);
        let probe = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            Finding::Refused
        };
        let sent = Instant::now();
        for _ in 0..10 {
            assert_eq!(prober.ask(sent, 1, probe, |_| {}).await, Finding::Refused);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(sent.elapsed(), Duration::ZERO, "the first waits for nothing");
        tokio::time::advance(Duration::from_millis(10)).await;
        prober.ask(Instant::now(), 1, probe, |_| {}).await;
        assert_eq!(
            asked.load(Ordering::Relaxed),
            2,
            "what was sent later is asked about anew"
        );
        assert_eq!(sent.elapsed(), PAUSE, "a second after the first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_about_one_token_is_not_said_of_another() {
        let prober = Prober::default();
        let sent = Instant::now();
        let refused = prober.ask(sent, 1, || async { Finding::Refused }, |_| {}).await;
        let accepted = prober.ask(sent, 2, || async { Finding::Accepted }, |_| {}).await;
        assert_eq!((refused, accepted), (Finding::Refused, Finding::Accepted));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_pause_and_no_finding() {
        let prober = Prober::default();
        let sent = Instant::now();
        let never = || std::future::pending::<Finding>();
        assert!(
            tokio::time::timeout(Duration::from_millis(100), prober.ask(sent, 1, never, |_| {}))
                .await
                .is_err()
        );
        let finding = prober.ask(sent, 1, || async { Finding::Accepted }, |_| {}).await;
        assert_eq!(finding, Finding::Accepted);
        assert_eq!(sent.elapsed(), PAUSE);
    }
}
