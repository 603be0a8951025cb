//! Makes room for one more secret under Atlas's limit.

use super::RotationSettings;
use super::open::Opened;
use super::words::{Failed, hinted, ok};
use crate::atlas_api::{ServiceSecret, in_use};
use crate::report::{Status, Step};

/// Atlas lets a service account have this many secrets.
const MOST_SECRETS: usize = 2;

pub(super) async fn make_room(
    settings: &RotationSettings<'_>,
    opened: &Opened,
    say: &mut dyn FnMut(Step),
) -> Result<(), Failed> {
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
    // Proxies change to the next secret when the current one is refused.
    let next = settings.key.secrets.next.as_ref();
    if let Some(next) = next.and_then(|next| in_use(&opened.found.secrets, next))
        && next.id != old.id
    {
        let why = format!(
            "the service account has {MOST_SECRETS} secrets, as many as Atlas allows, and {} is the next secret that the settings name: make it the current one and empty that file, then rotate again",
            next.id
        );
        return Err(Failed("room", why));
    }
    if !settings.delete_unused {
        let why = format!(
            "the service account has {MOST_SECRETS} secrets, as many as Atlas allows: if nothing uses {ids}, delete it in Atlas, or let this command do so with --delete-unused"
        );
        return Err(Failed("room", why));
    }
    if settings.dry_run {
        say(Step::new(
            "room",
            Status::Would,
            format!("delete {ids}, which is not in use here"),
        ));
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
