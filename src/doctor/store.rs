//! Whether the shared token store answers, accepts our login, and holds values that our key opens.

use super::Report;
use crate::credential::CredentialSettings;
use crate::report::{Status, Step};
use crate::settings::Settings;
use crate::token_store::{self, Examined, TokenStoreSettings};

const CHECK: &str = "token_store";
/// What a store that doesn't do its part means for replicas.
const MEANWHILE: &str = "replicas go on with the shared token, and in its last minutes up to 45 take tokens of their own; one that \
                         has never reached the store takes its own at once";

pub(super) async fn examine(settings: &Settings, only: Option<&str>, report: &mut Report) {
    let Some(store) = &settings.token_store else { return };
    let accounts: Vec<_> = settings
        .accounts
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .filter_map(|(_, account)| match &account.credential {
            CredentialSettings::ServiceAccount(key) => Some((&account.upstream.origin, key.client_id.as_str())),
            CredentialSettings::ApiKey(_) | CredentialSettings::Identity(_) => None,
        })
        .collect();
    report.begin(CHECK, format!("asking {store}"));
    report.add(match token_store::examine(store, &accounts).await {
        Ok(found) => step(store, found),
        Err(error) => Step {
            hint: Some("correct `url` or `ca_file` of [token_store]".to_owned()),
            ..Step::new(CHECK, Status::Fail, error.to_string())
        },
    });
}

fn step(store: &TokenStoreSettings, found: Examined) -> Step {
    let (status, found, hint) = match found {
        Examined::Good => (Status::Ok, format!("{store} answers and can be written to"), None),
        Examined::Away(why) => (
            Status::Warn,
            format!("{store}: {why}"),
            Some(format!("is it there, and may this machine connect to it? Until it answers, {MEANWHILE}")),
        ),
        Examined::Refused(why) => (
            Status::Fail,
            format!("{store}: {why}"),
            Some(format!("until that is mended, {MEANWHILE}")),
        ),
        Examined::AnotherKey => (
            Status::Fail,
            format!("{store} holds a token that was closed with another key"),
            Some(
                "give all replicas the same `key_file` of [token_store]; if the key was changed on purpose, it is right from the next renewal on"
                    .to_owned(),
            ),
        ),
        Examined::NoToken(key) => (
            Status::Warn,
            format!("{store} holds something that is no token under the key {key}"),
            Some("does another program write there? The next renewal replaces it".to_owned()),
        ),
    };
    Step {
        hint,
        ..Step::new(CHECK, status, found)
    }
}
