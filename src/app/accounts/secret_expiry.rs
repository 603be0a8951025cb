//! Finds out when the client secret of an account expires, if the account may read itself: for the metric, and a
//! warning in time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::atlas_api::{AccountError, ApiClient, CallError, ServiceAccount, in_use};
use crate::credential::bearer::{Bearer, unit_random};
use crate::proxy::AccountSlot;
use crate::secret::Secret;
use crate::time::SharedClock;

/// The first look comes this long after the start, and up to two thirds later: replicas are often started together.
const FIRST_LOOK: Duration = Duration::from_secs(12);
/// Between two looks: a secret's expiry hardly ever changes. Up to a tenth more keeps replicas apart.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// The pause after a look that got no answer.
const TRY_AGAIN: Duration = Duration::from_secs(15 * 60);
/// The pause after a look that Atlas refused: the reason may pass, such as an access list without this machine.
const REFUSED_AGAIN: Duration = Duration::from_secs(3600);
/// How often to check whether a look is due: also when the machine has slept, or another secret is in force.
const TICK: Duration = Duration::from_secs(5);
/// How long before a secret expires the warnings begin, one a day.
const WARN_FROM: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The service account that is in force.
pub(super) struct InForce {
    pub(super) client_id: String,
    pub(super) bearer: Arc<Bearer>,
    pub(super) client: ApiClient,
}

/// Looks from time to time, as long as it is polled. `service_account` gives what is in force; `None`: it is an API key.
pub(super) async fn watch(slot: Arc<AccountSlot>, service_account: impl Fn() -> Option<InForce>, clock: SharedClock) {
    let mut next_look = clock.boot() + FIRST_LOOK.mul_f64(1.0 + unit_random() * 2.0 / 3.0);
    let mut watched = KnownExpiry::default();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(in_force) = service_account() else {
            watched.forget(&slot);
            continue;
        };
        let secret = in_force.bearer.secret_in_force();
        let another = watched.secret.is_some() && watched.secret != secret;
        if another {
            watched.forget(&slot);
        }
        if (another || clock.boot() >= next_look)
            && let Some(secret) = secret
        {
            let pause = match look(&in_force, &secret).await {
                Ok(expiry) => {
                    watched.found(&slot, secret, expiry);
                    LOOK_AGAIN
                }
                Err(Unknown::NotPermitted(why)) => {
                    watched.not_permitted(&slot, secret, &why);
                    REFUSED_AGAIN
                }
                Err(Unknown::NotNow(why)) => {
                    tracing::debug!(
                        account = slot.name,
                        why,
                        "it could not be asked when the client secret expires"
                    );
                    TRY_AGAIN
                }
            };
            next_look = clock.boot() + pause.mul_f64(1.0 + unit_random() / 10.0);
        }
        watched.warn(&slot, clock.wall());
    }
}

/// What is known of the secret in force.
#[derive(Default)]
struct KnownExpiry {
    secret: Option<Secret>,
    expiry: Option<SystemTime>,
    warned: Option<SystemTime>,
    told_not_permitted: bool,
}

impl KnownExpiry {
    fn forget(&mut self, slot: &AccountSlot) {
        if self.secret.is_some() {
            *self = Self::default();
            slot.metrics.secret_expiry(None);
        }
    }

    fn found(&mut self, slot: &AccountSlot, secret: Secret, expiry: Option<SystemTime>) {
        if self.learn(secret, expiry) {
            slot.metrics.secret_expiry(self.expiry);
        }
    }

    /// Returns whether something is known now that was not. What was once known of a secret stays known: an answer
    /// without it tells of the moment, such as of a role or an access list, and not of the secret.
    fn learn(&mut self, secret: Secret, expiry: Option<SystemTime>) -> bool {
        let same = self.secret.as_ref() == Some(&secret);
        self.secret = Some(secret);
        if expiry.is_some() {
            self.told_not_permitted = false;
        }
        if self.expiry == expiry || (same && expiry.is_none()) {
            return false;
        }
        self.expiry = expiry;
        self.warned = None;
        true
    }

    fn not_permitted(&mut self, slot: &AccountSlot, secret: Secret, why: &str) {
        self.found(slot, secret, None);
        if !std::mem::replace(&mut self.told_not_permitted, true) {
            tracing::info!(
                account = slot.name,
                why,
                "when the client secret expires is not known: the service account may not read itself (Organization Read Only would do); \
                 Atlas warns of it by its own alert"
            );
        }
    }

    /// Warns, at most once a day, when there is reason to.
    fn warn(&mut self, slot: &AccountSlot, now: SystemTime) {
        let Some(left) = self.to_warn_of(now) else { return };
        self.warned = Some(now);
        let account = &slot.name;
        if left.is_zero() {
            tracing::error!(
                account,
                "the client secret has expired: make a new one (`atlas-auth-proxy rotate-secret`, or in Atlas)"
            );
        } else {
            tracing::warn!(
                account,
                days_left = left.as_secs() / DAY.as_secs(),
                "the client secret expires soon: make a new one (`atlas-auth-proxy rotate-secret`, or in Atlas)"
            );
        }
    }

    /// What is left of the secret's life, if a warning is due now.
    fn to_warn_of(&self, now: SystemTime) -> Option<Duration> {
        let left = self.expiry?.duration_since(now).unwrap_or_default();
        let said = self
            .warned
            .is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < DAY));
        (left < WARN_FROM && !said).then_some(left)
    }
}

/// Why the expiry isn't known.
enum Unknown {
    /// Atlas does not say, and will not the next time.
    NotPermitted(String),
    /// Atlas may say it the next time.
    NotNow(String),
}

/// `None`: Atlas shows secrets, but which of them is in force can't be told.
async fn look(in_force: &InForce, secret: &Secret) -> Result<Option<SystemTime>, Unknown> {
    let InForce {
        client_id,
        bearer,
        client,
    } = in_force;
    let token = bearer
        .authorization()
        .await
        .map_err(|error| Unknown::NotNow(error.to_string()))?;
    let api = client.with_token(&token);
    // A replaced token is revoked only when nobody holds it.
    drop(token);
    let secrets = match ServiceAccount::find(&api, client_id).await {
        Ok(account) => account.secrets(&api).await,
        Err(error) => Err(error),
    };
    match secrets {
        Ok(secrets) => Ok(in_use(&secrets, secret).and_then(|secret| secret.expires)),
        Err(error) => Err(unknown(&error)),
    }
}

fn unknown(error: &AccountError) -> Unknown {
    let why = error.to_string();
    match error {
        AccountError::Call(CallError::NoAnswer { .. } | CallError::Token(_)) => Unknown::NotNow(why),
        // 401: the token was replaced or revoked meanwhile.
        AccountError::Answer { answer, .. }
            if answer.status.is_server_error() || answer.status == 429 || answer.status == 401 =>
        {
            Unknown::NotNow(why)
        }
        // Also an answer that can't be Atlas's: the upstream is another server.
        _ => Unknown::NotPermitted(why),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 24 * 3600)
    }

    #[test]
    fn what_is_known_of_a_secret_outlives_an_answer_without_it() {
        let (at, later) = (
            SystemTime::UNIX_EPOCH + days(20_000),
            SystemTime::UNIX_EPOCH + days(20_001),
        );
        let mut watched = KnownExpiry::default();
        let (one, two) = (|| Secret::new("one"), || Secret::new("two"));
        assert!(!watched.learn(one(), None), "not known yet");
        assert!(watched.learn(one(), Some(at)));
        assert!(!watched.learn(one(), None));
        assert_eq!(watched.expiry, Some(at));
        assert!(watched.learn(one(), Some(later)));
        assert!(watched.learn(two(), None), "of another secret nothing is known");
        assert_eq!(watched.expiry, None);
    }

    #[test]
    fn is_warned_of_from_seven_days_before_once_a_day() {
        let now = SystemTime::UNIX_EPOCH + days(20_000);
        let mut watched = KnownExpiry {
            expiry: Some(now + days(8)),
            ..KnownExpiry::default()
        };
        assert_eq!(watched.to_warn_of(now), None, "eight days are time enough");
        let later = now + days(2);
        assert_eq!(watched.to_warn_of(later), Some(days(6)));
        watched.warned = Some(later);
        assert_eq!(watched.to_warn_of(later + days(1) / 2), None, "said this day");
        assert_eq!(watched.to_warn_of(later + days(1)), Some(days(5)));
        assert_eq!(
            watched.to_warn_of(now + days(9)),
            Some(Duration::ZERO),
            "it has expired"
        );
        assert_eq!(KnownExpiry::default().to_warn_of(now), None, "nothing is known");
    }
}
