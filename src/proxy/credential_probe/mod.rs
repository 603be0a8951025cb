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

mod ask;
mod prober;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::{Account, AccountSlot, Authorizer};
use crate::credential::bearer::{Bearer, Token, TokenUnavailable};
use crate::credential::digest::{Authorized, Digest, Turn};

use ask::{PATH, path_beside, with_key, with_token};
use prober::Finding;
pub use prober::Prober;

/// The pause between two probes whether a refused credential is accepted again: doubles from the first to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// A token that may be sent in place of `used`, to which Atlas answered 401. `None`: the 401 stands. `says_so`: the answer
/// itself names the token as its reason.
///
/// # Errors
/// When the token is dead, and the token endpoint gives no other one since it does not accept the credential.
pub(super) async fn replacement(
    slot: &Arc<AccountSlot>,
    account: &Arc<Account>,
    bearer: &Bearer,
    used: &Token,
    sent: Instant,
    says_so: bool,
) -> Result<Option<Token>, TokenUnavailable> {
    if let Some(newer) = bearer.newer_than(used) {
        return Ok(Some(newer));
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
            return Ok(None);
        }
    }
    match bearer.replace(used).await {
        Some(renewed) => Ok(Some(renewed)),
        None => bearer.rejection().map_or(Ok(None), Err),
    }
}

/// Finds out about a 401 to a request that can't be sent again, for the requests that come after it.
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

/// Lets another task begin, however this one ends.
struct OneInBackground(Arc<Account>);

impl Drop for OneInBackground {
    fn drop(&mut self) {
        self.0.prober.in_background.store(false, Ordering::Release);
    }
}

/// Probes from time to time whether a refused credential is accepted again. Clients' requests can't show it: none may
/// come while the proxy is not ready.
fn look_again(slot: &Arc<AccountSlot>, account: &Arc<Account>) {
    if !account.prober.looking_again.swap(true, Ordering::AcqRel) {
        let looking = Looking(Arc::clone(&account.prober));
        tokio::spawn(look_until_accepted(Arc::downgrade(slot), looking));
    }
}

/// Lets another task begin, however this one ends.
struct Looking(Arc<Prober>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking_again.store(false, Ordering::Release);
    }
}

/// Ends with the account, or when the credential that is in force by then is not refused any more.
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
            // A gateway is not probed.
            Authorizer::Identity(_) => true,
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

/// Notes that an answer shows that the key was accepted, and logs that if it was refused before.
pub(super) fn accepted(slot: &AccountSlot, turn: &mut Turn<'_>, headers: &HeaderMap, authorized: &Authorized) {
    if turn.accepted(headers, authorized) {
        tracing::info!(account = %slot.name, "Atlas accepts the API key again");
    }
}
