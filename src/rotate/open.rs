//! What is known before anything is changed: the service account, its secrets, and which of them is in use.

use std::sync::Arc;
use std::time::SystemTime;

use super::RotationSettings;
use super::words::{Failed, hinted, ok, running, until};
use crate::atlas_api::{ApiClient, ServiceAccount, ServiceSecret, Session, in_use};
use crate::report::Step;
use crate::upstream::client_config;

/// What is known before anything is changed.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) found: Found,
}

/// The service account as it was found.
pub(super) struct Found {
    pub(super) client: ApiClient,
    pub(super) account: ServiceAccount,
    pub(super) secrets: Vec<ServiceSecret>,
    /// The secret in use, if it can be told which that is.
    pub(super) old: Option<ServiceSecret>,
}

/// When the secret in use was made, if Atlas tells.
///
/// # Errors
/// Why Atlas could not be asked.
pub async fn made_at(settings: &RotationSettings<'_>) -> Result<Option<SystemTime>, String> {
    let opened = open(settings, &mut |_| {}).await.map_err(|Failed(_, why)| why)?;
    let _ = opened.session.close().await;
    Ok(opened.found.old.and_then(|old| old.created))
}

/// Gets a token, the service account and its secrets.
pub(super) async fn open(settings: &RotationSettings<'_>, say: &mut dyn FnMut(Step)) -> Result<Opened, Failed> {
    let client_id = &settings.key.client_id;
    let upstream = settings.upstream;
    let tls = client_config(upstream.ca_file.as_deref()).map_err(|error| Failed("token", error.to_string()))?;
    let client = ApiClient::new(upstream, tls, Arc::clone(&settings.clock));
    say(running("token", "asking for one with the secret in use"));
    let session = Session::open(&client, settings.key.clone())
        .await
        .map_err(|refusal| Failed("token", format!("{refusal}; `atlas-auth-proxy check` tells more")))?;
    say(ok("token", "granted for the secret in use".to_owned()));
    say(running("account", "looking for the service account"));
    let account = match &settings.home {
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
            return Err(Failed("account", hinted(&error, settings.home.is_none())));
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
