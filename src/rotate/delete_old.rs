//! Deletes the old secret, after time for running proxies to take the new one.

use tokio_util::sync::CancellationToken;

use super::RotationSettings;
use super::open::Found;
use super::words::{hinted, ok, running};
use crate::atlas_api::Session;
use crate::report::{Status, Step};
use crate::secret::Secret;

/// Deletes the old secret if that was asked for; false: it was, and failed. `value` is the new one.
pub(super) async fn delete_old(
    settings: &RotationSettings<'_>,
    found: &Found,
    value: &Secret,
    stop: &CancellationToken,
    say: &mut dyn FnMut(Step),
) -> bool {
    let Some(grace) = settings.delete_old_after else {
        if let Some(old) = &found.old {
            say(ok(
                "delete",
                format!("kept: {} still works, for at most 7 days", old.id),
            ));
        }
        return true;
    };
    let Some(old) = &found.old else {
        say(Step::new(
            "delete",
            Status::Warn,
            "the old one is kept, as which it is can't be told: delete it in Atlas",
        ));
        return false;
    };
    let wait = format!(
        "in {} s: until then every proxy has taken the new one (--grace)",
        grace.as_secs()
    );
    say(running("delete", wait));
    let mut kept = |status, why: String| {
        say(Step::new(
            "delete",
            status,
            format!("the old one, {}, is kept: {why}", old.id),
        ));
        false
    };
    // Proxies check their files every second, and verify what they find.
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        () = stop.cancelled() => {
            return kept(Status::Warn, "a signal ended the wait; delete it in Atlas, or next time with --delete-unused".to_owned());
        }
    }
    // The first token may have expired by now. And the old secret is deleted only if the new one works at this moment.
    let session = match Session::open(&found.client, settings.key_of(value)).await {
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
