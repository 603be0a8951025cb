//! The new secret: made, verified and written to its destination, or deleted again.

use std::time::Duration;

use super::RotationSettings;
use super::make_room::make_room;
use super::open::Opened;
use super::words::{Failed, hinted, ok, running, until};
use crate::atlas_api::{AccountError, ServiceSecret, Session};
use crate::credential::bearer::Outcome;
use crate::report::{Status, Step};
use crate::secret::Secret;

/// The pauses before the tries to get a token with the new secret: Atlas may need a moment to know it everywhere.
const TRIES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What was changed, unless a step failed for certain.
pub(super) enum Changed {
    /// Nothing: this was a dry run.
    Nothing,
    /// The new secret is at its destination.
    Rotated(ServiceSecret, Secret),
    /// Whether the new secret is at its destination can't be told; why.
    Unsure(ServiceSecret, String),
}

/// Makes the new secret and writes it to its destination.
pub(super) async fn change(
    settings: &RotationSettings<'_>,
    opened: &Opened,
    say: &mut dyn FnMut(Step),
) -> Result<Changed, Failed> {
    make_room(settings, opened, say).await?;
    if settings.dry_run {
        for (step, detail) in plan(settings, opened) {
            say(Step::new(step, Status::Would, detail));
        }
        return Ok(Changed::Nothing);
    }
    say(running("make", "asking Atlas for a new secret"));
    let (made, value) = match opened
        .found
        .account
        .add_secret(opened.session.api(), settings.hours)
        .await
    {
        Ok(made) => made,
        Err(error) => return Err(Failed("make", not_made(opened, error).await)),
    };
    say(ok("make", format!("secret {}{}", made.id, until(&made))));
    say(running("verify", "asking for a token with it"));
    if let Err(why) = verify(settings, opened, &value).await {
        return Err(Failed("verify", take_back(opened, &made, why).await));
    }
    say(ok("verify", "a token was granted for it".to_owned()));
    say(running("write", format!("to {}", settings.destination)));
    match settings.destination.put(&value).await {
        Ok(()) => {}
        Err(error) if error.untouched => return Err(Failed("write", take_back(opened, &made, error.why).await)),
        Err(error) => {
            // The new secret may be in force by now: deleting it could leave a dead one there.
            let why = format!(
                "{}. Whether {} has the new secret {} can't be told, so that it is kept, as is the old one: look there and delete in Atlas the one that is not, or rotate again with --delete-unused",
                error.why, settings.destination, made.id
            );
            return Ok(Changed::Unsure(made, why));
        }
    }
    say(ok("write", format!("it lies in {}", settings.destination)));
    Ok(Changed::Rotated(made, value))
}

/// What became of a secret that Atlas did not give.
async fn not_made(opened: &Opened, error: AccountError) -> String {
    let why = hinted(&error, false);
    match &error {
        AccountError::Unusable { made, .. } => return take_back(opened, made, why).await,
        AccountError::Answer { answer, .. } if answer.status.is_client_error() => return why,
        _ => {}
    }
    // The secret may have been made, and the answer lost. Whether one that is there now is ours can't be known.
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

/// What a dry run would do.
fn plan(settings: &RotationSettings<'_>, opened: &Opened) -> Vec<(&'static str, String)> {
    let mut plan = vec![
        ("make", format!("make a secret that lives for {} hours", settings.hours)),
        ("verify", "ask for a token with it".to_owned()),
        ("write", format!("put it into {}", settings.destination)),
    ];
    if settings.delete_old_after.is_some() {
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
async fn verify(settings: &RotationSettings<'_>, opened: &Opened, value: &Secret) -> Result<(), String> {
    let mut last = String::new();
    for pause in TRIES {
        tokio::time::sleep(pause).await;
        match Session::open(&opened.found.client, settings.key_of(value)).await {
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

/// Deletes a secret that was made and can't be used; returns the whole message.
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
