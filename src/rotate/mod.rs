//! `rotate-secret`: a new client secret, made through the Admin API, verified, put where the proxy reads it, and the old
//! one deleted when that is asked for.
//!
//! The order is such that a working secret is in force after every step, whichever fails: the place is tried before
//! anything is made; what was made and can't be used is deleted again; the old one goes last.
//!
//! | file | has |
//! |---|---|
//! | `place.rs` | a file, or a key of a Kubernetes Secret: where the new one is put |
//! | `kubernetes.rs` | the cluster's API, as far as it is needed for that |
//! | `schedule.rs` | when the next rotation is due |

mod kubernetes;
mod place;
mod schedule;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::atlas_api::{AccountError, ApiClient, Home, ServiceAccount, ServiceSecret, Session, in_use};
use crate::credential::ServiceAccountKey;
use crate::credential::bearer::Outcome;
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::{UpstreamSettings, client_config};

pub use kubernetes::{Cluster, KubernetesSecret};
pub use place::Place;
pub use schedule::{Reported, Stop, Work, keep_rotating};

/// Atlas lets a service account have so many secrets.
const MOST_SECRETS: usize = 2;
/// The pauses before the tries to get a token with the new secret: Atlas may need a moment to know it everywhere.
const TRIES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What is to be done.
pub struct Order<'a> {
    /// What the service account asks for tokens with: the secret that is to be replaced.
    pub key: &'a ServiceAccountKey,
    /// Its upstream.
    pub upstream: &'a UpstreamSettings,
    /// What the service account belongs to; `None`: to be found out.
    pub home: Option<Home>,
    /// The life of the new secret, hours.
    pub hours: u32,
    /// The file that the current one comes from, if it does.
    pub current: Option<&'a Path>,
    /// Where the new one is put.
    pub place: &'a Place,
    /// After this time the old one is deleted; `None`: never.
    pub delete_old_after: Option<Duration>,
    /// Whether a secret that is not in use may be deleted to make room.
    pub delete_unused: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// The machine's clocks.
    pub clock: SharedClock,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// It would be done, were this no dry run.
    Would,
    /// It works, but not as asked.
    Warn,
    /// It failed.
    Fail,
}

impl Status {
    /// For people and machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Would => "would",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One step. Holds nothing secret.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which.
    pub step: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was done or found, and what to do.
    pub detail: String,
}

/// How a rotation ended.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Whether everything that was asked for was done.
    pub ok: bool,
    /// Which secret is in force now, and where it lies.
    pub in_force: String,
    /// The new one, if it is in force.
    pub new: Option<ServiceSecret>,
}

/// Why a step failed, as one sentence or two.
struct Failed(&'static str, String);

/// What was changed, if no step failed for certain.
enum Changed {
    /// Nothing: this was a dry run.
    Nothing,
    /// The new secret is in its place.
    Rotated(ServiceSecret, Secret),
    /// It may be, and may not be; why.
    Unsure(ServiceSecret, String),
}

/// What is known before anything is changed.
struct Opened {
    session: Session,
    found: Found,
}

/// The service account as it was found.
struct Found {
    client: ApiClient,
    account: ServiceAccount,
    secrets: Vec<ServiceSecret>,
    /// The one in use, if it can be told.
    old: Option<ServiceSecret>,
}

/// Rotates; says each step as it ends. `stop` ends the wait before the old secret is deleted; that one is kept then. What has
/// begun before is not broken off: a secret that nobody knows would be left.
pub async fn rotate(order: &Order<'_>, stop: &mut Stop, say: &mut dyn FnMut(Step)) -> Rotation {
    let opened = match begin(order, say).await {
        Ok(opened) => opened,
        Err(failed) => return order.not_rotated(failed, say),
    };
    let changed = change(order, &opened, say).await;
    // It would count against the limit of live tokens until it expires; and it can't be revoked any more with a secret that
    // is deleted.
    let _ = opened.session.close().await;
    let (made, value) = match changed {
        Ok(Changed::Rotated(made, value)) => (made, value),
        Ok(Changed::Nothing) => {
            return Rotation {
                ok: true,
                in_force: format!("{}: this was a dry run", order.old()),
                new: None,
            };
        }
        Ok(Changed::Unsure(made, why)) => {
            return Rotation {
                in_force: format!(
                    "{}, or the new secret {}, in {}: both work",
                    order.old(),
                    made.id,
                    order.place
                ),
                ..order.not_rotated(Failed("write", why), say)
            };
        }
        Err(failed) => return order.not_rotated(failed, say),
    };
    Rotation {
        ok: delete_old(order, &opened.found, &value, stop, say).await,
        in_force: format!("the new secret {}, in {}", made.id, order.place),
        new: Some(made),
    }
}

impl Order<'_> {
    /// The new secret of the same service account.
    fn key_of(&self, value: &Secret) -> ServiceAccountKey {
        ServiceAccountKey {
            client_id: self.key.client_id.clone(),
            secrets: value.clone().into(),
        }
    }

    /// The secret that was in use before, and where it lies.
    fn old(&self) -> String {
        let file = self.current.map(|file| format!(", in the file {}", file.display()));
        format!("the secret that was in use before{}", file.unwrap_or_default())
    }

    fn not_rotated(&self, Failed(step, detail): Failed, say: &mut dyn FnMut(Step)) -> Rotation {
        say(Step {
            step,
            status: Status::Fail,
            detail,
        });
        Rotation {
            ok: false,
            in_force: self.old(),
            new: None,
        }
    }
}

async fn begin(order: &Order<'_>, say: &mut dyn FnMut(Step)) -> Result<Opened, Failed> {
    order.place.check().await.map_err(|why| Failed("place", why))?;
    say(ok("place", format!("{} can be written", order.place)));
    open(order, say).await
}

/// When the secret in use was made, as far as Atlas tells.
///
/// # Errors
/// Why it could not be asked.
pub async fn made_at(order: &Order<'_>) -> Result<Option<SystemTime>, String> {
    let opened = open(order, &mut |_| {}).await.map_err(|Failed(_, why)| why)?;
    let _ = opened.session.close().await;
    Ok(opened.found.old.and_then(|old| old.created))
}

/// A token, the service account, its secrets.
async fn open(order: &Order<'_>, say: &mut dyn FnMut(Step)) -> Result<Opened, Failed> {
    let client_id = &order.key.client_id;
    let upstream = order.upstream;
    let tls = client_config(upstream.ca_file.as_deref()).map_err(|error| Failed("token", error.to_string()))?;
    let client = ApiClient::new(upstream, tls, Arc::clone(&order.clock));
    let session = Session::open(&client, order.key.clone())
        .await
        .map_err(|refusal| Failed("token", format!("{refusal}; `atlas-auth-proxy check` tells more")))?;
    say(ok("token", "granted for the secret in use".to_owned()));
    let account = match &order.home {
        Some(home) => Ok(ServiceAccount::at(home.clone(), client_id)),
        None => ServiceAccount::find(session.api(), client_id).await,
    };
    let found = match account {
        Ok(account) => account.secrets(session.api()).await.map(|secrets| (account, secrets)),
        Err(error) => Err(error),
    };
    let (account, known) = match found {
        Ok(found) => found,
        Err(error) => {
            let _ = session.close().await;
            return Err(Failed("account", hinted(&error, order.home.is_none())));
        }
    };
    let old = in_use(&known, session.secret()).cloned();
    let which = match &old {
        Some(old) => format!("; in use is {}{}", old.id, until(old)),
        None => "; which of them is in use can't be told".to_owned(),
    };
    let home = account.home();
    let count = known.len();
    let plural = if count == 1 { "" } else { "s" };
    say(ok("account", format!("in {home}, with {count} secret{plural}{which}")));
    let found = Found {
        client,
        account,
        secrets: known,
        old,
    };
    Ok(Opened { session, found })
}

/// Makes the new secret and puts it into its place.
async fn change(order: &Order<'_>, opened: &Opened, say: &mut dyn FnMut(Step)) -> Result<Changed, Failed> {
    make_room(order, opened, say).await?;
    if order.dry_run {
        for (step, detail) in plan(order, opened) {
            say(Step {
                step,
                status: Status::Would,
                detail,
            });
        }
        return Ok(Changed::Nothing);
    }
    let (made, value) = match opened.found.account.add_secret(opened.session.api(), order.hours).await {
        Ok(made) => made,
        Err(error) => return Err(Failed("make", not_made(opened, error).await)),
    };
    say(ok("make", format!("secret {}{}", made.id, until(&made))));
    if let Err(why) = verify(order, opened, &value).await {
        return Err(Failed("verify", take_back(opened, &made, why).await));
    }
    say(ok("verify", "a token was granted for it".to_owned()));
    match order.place.put(&value).await {
        Ok(()) => {}
        Err(error) if error.untouched => return Err(Failed("write", take_back(opened, &made, error.why).await)),
        Err(error) => {
            // It may be in force by now: deleting it could leave a dead one there.
            let why = format!(
                "{}. Whether {} has the new secret {} can't be told, so that it is kept, as is the old one: look there and delete in Atlas the one that is not, or rotate again with --delete-unused",
                error.why, order.place, made.id
            );
            return Ok(Changed::Unsure(made, why));
        }
    }
    say(ok("write", format!("it lies in {}", order.place)));
    Ok(Changed::Rotated(made, value))
}

/// What became of a secret that was asked for in vain.
async fn not_made(opened: &Opened, error: AccountError) -> String {
    let why = hinted(&error, false);
    match &error {
        AccountError::Unusable { made, .. } => return take_back(opened, made, why).await,
        AccountError::Answer { answer, .. } if answer.status.is_client_error() => return why,
        _ => {}
    }
    // It may have been made, with the answer lost. Whether one that is there now is ours can't be known.
    let Ok(now) = opened.found.account.secrets(opened.session.api()).await else {
        return format!("{why}; whether one was made isn't known: look in Atlas");
    };
    let is_new = |secret: &&ServiceSecret| opened.found.secrets.iter().all(|known| known.id != secret.id);
    let new: Vec<&str> = now.iter().filter(is_new).map(|secret| secret.id.as_str()).collect();
    if new.is_empty() {
        return why;
    }
    format!(
        "{why}; {} was not there before: if no other rotation made it, delete it in Atlas",
        new.join(", ")
    )
}

/// Sees to it that one more secret can be made.
async fn make_room(order: &Order<'_>, opened: &Opened, say: &mut dyn FnMut(Step)) -> Result<(), Failed> {
    if opened.found.secrets.len() < MOST_SECRETS {
        return Ok(());
    }
    let Some(old) = &opened.found.old else {
        let why = format!(
            "the service account has {MOST_SECRETS} secrets, as many as Atlas allows, and which of them is in use can't be told: delete the other one in Atlas"
        );
        return Err(Failed("room", why));
    };
    let unused: Vec<&ServiceSecret> = opened
        .found
        .secrets
        .iter()
        .filter(|secret| secret.id != old.id)
        .collect();
    let ids: Vec<&str> = unused.iter().map(|secret| secret.id.as_str()).collect();
    let ids = ids.join(", ");
    // Proxies step over to it when the current one is refused.
    let next = order.key.secrets.next.as_ref();
    if let Some(next) = next.and_then(|next| in_use(&opened.found.secrets, next))
        && next.id != old.id
    {
        let why = format!(
            "the service account has {MOST_SECRETS} secrets, as many as Atlas allows, and {} is the next secret that the settings name: make it the current one and empty that file, then rotate again",
            next.id
        );
        return Err(Failed("room", why));
    }
    if !order.delete_unused {
        let why = format!(
            "the service account has {MOST_SECRETS} secrets, as many as Atlas allows: if nothing uses {ids}, delete it in Atlas, or let this command do so with --delete-unused"
        );
        return Err(Failed("room", why));
    }
    if order.dry_run {
        say(Step {
            step: "room",
            status: Status::Would,
            detail: format!("delete {ids}, which is not in use here"),
        });
        return Ok(());
    }
    for secret in unused {
        let deleted = opened
            .found
            .account
            .delete_secret(opened.session.api(), &secret.id)
            .await;
        deleted.map_err(|error| Failed("room", hinted(&error, false)))?;
    }
    say(ok("room", format!("deleted {ids}, which was not in use here")));
    Ok(())
}

/// What a dry run would do.
fn plan(order: &Order<'_>, opened: &Opened) -> Vec<(&'static str, String)> {
    let mut plan = vec![
        ("make", format!("make a secret that lives for {} hours", order.hours)),
        ("verify", "ask for a token with it".to_owned()),
        ("write", format!("put it into {}", order.place)),
    ];
    if order.delete_old_after.is_some() {
        plan.push((
            "delete",
            match &opened.found.old {
                Some(old) => format!("delete {}", old.id),
                None => "keep the old one: which it is can't be told".to_owned(),
            },
        ));
    }
    plan
}

/// Whether the new secret is accepted.
async fn verify(order: &Order<'_>, opened: &Opened, value: &Secret) -> Result<(), String> {
    let mut last = String::new();
    for pause in TRIES {
        tokio::time::sleep(pause).await;
        match Session::open(&opened.found.client, order.key_of(value)).await {
            Ok(session) => {
                let _ = session.close().await;
                return Ok(());
            }
            Err(refusal) if refusal.outcome == Outcome::TokenLimit => {
                return Err(format!("it can't be verified: {refusal}"));
            }
            Err(refusal) => last = format!("no token was granted for it: {refusal}"),
        }
    }
    Err(last)
}

/// Deletes a secret that was made and can't be used; gives the whole story.
async fn take_back(opened: &Opened, made: &ServiceSecret, why: String) -> String {
    let shortened = "Atlas may have shortened the life of the one in use to 7 days: rotate soon";
    match opened.found.account.delete_secret(opened.session.api(), &made.id).await {
        Ok(()) => format!("{why}. The new secret {} was deleted again. {shortened}", made.id),
        Err(error) => format!(
            "{why}. The new secret {} is left over and unused: delete it in Atlas ({error}). {shortened}",
            made.id
        ),
    }
}

/// Whether what was asked for about the old one was done. `value` is the new one.
async fn delete_old(
    order: &Order<'_>,
    found: &Found,
    value: &Secret,
    stop: &mut Stop,
    say: &mut dyn FnMut(Step),
) -> bool {
    let Some(grace) = order.delete_old_after else {
        if let Some(old) = &found.old {
            say(ok(
                "delete",
                format!("kept: {} still works, for at most 7 days", old.id),
            ));
        }
        return true;
    };
    let Some(old) = &found.old else {
        say(Step {
            step: "delete",
            status: Status::Warn,
            detail: "the old one is kept, as which it is can't be told: delete it in Atlas".to_owned(),
        });
        return false;
    };
    let mut kept = |status, why: String| {
        say(Step {
            step: "delete",
            status,
            detail: format!("the old one, {}, is kept: {why}", old.id),
        });
        false
    };
    // Proxies look at their files each second, and verify what they find.
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        () = stop.requested() => {
            return kept(Status::Warn, "a signal ended the wait; delete it in Atlas, or next time with --delete-unused".to_owned());
        }
    }
    // The first token may have expired by now. And the old one goes only if the new one works at this very moment.
    let session = match Session::open(&found.client, order.key_of(value)).await {
        Ok(session) => session,
        Err(refusal) => return kept(Status::Fail, format!("no token was granted for the new one: {refusal}")),
    };
    let deleted = found.account.delete_secret(session.api(), &old.id).await;
    let _ = session.close().await;
    match deleted {
        Ok(()) => {
            say(ok("delete", format!("deleted the old one, {}", old.id)));
            true
        }
        Err(error) => kept(Status::Fail, hinted(&error, false)),
    }
}

fn ok(step: &'static str, detail: String) -> Step {
    Step {
        step,
        status: Status::Ok,
        detail,
    }
}

fn until(secret: &ServiceSecret) -> String {
    let expires = secret.expires.and_then(|at| jiff::Timestamp::try_from(at).ok());
    expires.map_or_else(String::new, |at| format!(", which expires at {at:.0}"))
}

/// With what to do.
fn hinted(error: &AccountError, searched: bool) -> String {
    let AccountError::Answer { answer, .. } = error else {
        return error.to_string();
    };
    let hint = match answer.error_code() {
        Some(code) if code.contains("ACCESS_LIST") => {
            "add this machine's address to the API access list of the service account"
        }
        Some(code) if code.contains("MAX_SECRETS") || code.contains("SECRETS_EXCEEDED") => {
            "the service account has as many secrets as Atlas allows: delete one that is not in use"
        }
        _ if matches!(answer.status.as_u16(), 401 | 403) => {
            "the service account must be Organization Owner (Project Owner for one of a project) to make secrets for itself"
        }
        _ if searched => "name what it belongs to with --org or --project",
        _ if answer.status.is_server_error() => "Atlas has a fault: try again later",
        _ => "look at what Atlas says",
    };
    format!("{error}; {hint}")
}
