//! A whole rotation, from the first request to the deletion of the old secret.

use tokio_util::sync::CancellationToken;

use super::RotationSettings;
use super::delete_old::delete_old;
use super::make::{Changed, change};
use super::open::{Opened, open};
use super::words::{Failed, ok};
use crate::atlas_api::ServiceSecret;
use crate::report::{Status, Step};

/// How a rotation ended.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Whether everything that was asked for was done.
    pub ok: bool,
    /// Which secret is in force now, and where it is stored.
    pub in_force: String,
    /// The new one, if it is in force.
    pub new: Option<ServiceSecret>,
}

/// Rotates; reports each step when it ends. `stop` ends the wait before the old secret is deleted, which is kept then.
/// Earlier steps are not interrupted: a secret that nobody knows would be left.
pub async fn rotate(settings: &RotationSettings<'_>, stop: &CancellationToken, say: &mut dyn FnMut(Step)) -> Rotation {
    let opened = match begin(settings, say).await {
        Ok(opened) => opened,
        Err(failed) => return not_rotated(settings, failed, say),
    };
    let changed = change(settings, &opened, say).await;
    // An open session's token would count against the limit of live tokens until it expires, and it can't be revoked
    // with a secret that is deleted.
    let _ = opened.session.close().await;
    let (made, value) = match changed {
        Ok(Changed::Rotated(made, value)) => (made, value),
        Ok(Changed::Nothing) => {
            return Rotation {
                ok: true,
                in_force: format!("{}: this was a dry run", settings.old()),
                new: None,
            };
        }
        Ok(Changed::Unsure(made, why)) => {
            return Rotation {
                in_force: format!(
                    "{}, or the new secret {}, in {}: both work",
                    settings.old(),
                    made.id,
                    settings.destination
                ),
                ..not_rotated(settings, Failed("write", why), say)
            };
        }
        Err(failed) => return not_rotated(settings, failed, say),
    };
    Rotation {
        ok: delete_old(settings, &opened.found, &value, stop, say).await,
        in_force: format!("the new secret {}, in {}", made.id, settings.destination),
        new: Some(made),
    }
}

async fn begin(settings: &RotationSettings<'_>, say: &mut dyn FnMut(Step)) -> Result<Opened, Failed> {
    settings.destination.check().await.map_err(|why| Failed("place", why))?;
    say(ok("place", format!("{} can be written", settings.destination)));
    open(settings, say).await
}

fn not_rotated(settings: &RotationSettings<'_>, Failed(step, detail): Failed, say: &mut dyn FnMut(Step)) -> Rotation {
    say(Step::new(step, Status::Fail, detail));
    Rotation {
        ok: false,
        in_force: settings.old(),
        new: None,
    }
}
