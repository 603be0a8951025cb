//! `check`: what works on the way to Atlas and what doesn't, why, and what to do.
//!
//! The steps of an account depend on each other: what can't be tried because an earlier step failed is skipped, so that
//! the report shows the cause alone.

mod api;
mod audit;
mod callers;
mod clock;
mod credential;
mod gateway;
mod listeners;
mod network;
mod ports;
mod report;
#[cfg(feature = "token-store")]
mod store;

use std::sync::Arc;

use crate::atlas_api::ApiClient;
use crate::credential::{ApiKeyPair, CredentialSettings, ServiceAccountKey};
use crate::report::{Status, Step};
use crate::settings::{AccountSettings, Settings};
use crate::time::SharedClock;
use crate::upstream::{Origin, client_config};

pub use report::{Report, Watcher};

/// The variables that name proxies, in order of precedence; `HTTP_PROXY` is not among them.
pub const PROXY_VARIABLES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// What the doctor examines besides the settings.
pub struct Circumstances {
    /// Which of [`PROXY_VARIABLES`] are set.
    pub proxy_variables: Vec<&'static str>,
    /// The machine's clocks.
    pub clock: SharedClock,
}

/// Examines one account, or all.
pub async fn examine(settings: &Settings, only: Option<&str>, around: &Circumstances, report: &mut Report) {
    for (name, account) in &settings.accounts {
        if only.is_none_or(|only| only == name) {
            Patient::examine(name, account, around, report).await;
        }
    }
    #[cfg(feature = "token-store")]
    store::examine(settings, only, report).await;
    if only.is_none() {
        callers::examine(settings, around, report).await;
    }
    audit::examine(settings, report).await;
    listeners::examine(settings, around.clock.wall(), report);
    ports::examine(settings, report).await;
}

/// One account under examination.
struct Patient<'a> {
    name: &'a str,
    account: &'a AccountSettings,
    around: &'a Circumstances,
    report: &'a mut Report,
}

/// The checks of an account that need the network, in their order.
const BEHIND_NETWORK: [&str; 4] = ["clock", "credential", "api", "secret_expiry"];

/// The same where the upstream is a gateway.
const BEFORE_GATEWAY: [&str; 3] = ["clock", "caller", "api"];

impl<'a> Patient<'a> {
    async fn examine(name: &'a str, account: &'a AccountSettings, around: &'a Circumstances, report: &'a mut Report) {
        let mut patient = Patient {
            name,
            account,
            around,
            report,
        };
        patient.say_account();
        let identity = match &account.credential {
            CredentialSettings::Identity(settings) => {
                let good = patient.say_identity(settings);
                Some((patient.identity(settings), good))
            }
            _ => None,
        };
        let behind_network = match identity {
            Some(_) => &BEFORE_GATEWAY[..],
            None => &BEHIND_NETWORK,
        };
        patient.say_proxy();
        let tls = match client_config(account.upstream.ca_file.as_deref()) {
            Ok(tls) => tls,
            Err(error) => {
                let hint = "name a readable PEM file of certificates with `ca_file` (--upstream-ca), or none to trust the system's authorities";
                patient.add("tls", Status::Fail, error.to_string(), Some(hint.to_owned()));
                return patient.skip(behind_network, "there are no trusted authorities");
            }
        };
        let shown = identity
            .as_ref()
            .map_or_else(|| tls.clone(), |(identity, _)| identity.shown_by(tls.clone()));
        if let Err(why) = patient.network(&shown).await {
            return patient.skip(behind_network, why);
        }
        if let Some((identity, good)) = &identity {
            return patient.with_identity(identity, *good, tls).await;
        }
        let client = ApiClient::new(&account.upstream, tls, Arc::clone(&around.clock));
        patient.clock(client.http()).await;
        match &account.credential {
            CredentialSettings::ServiceAccount(key) => patient.with_service_account(key, &client).await,
            CredentialSettings::ApiKey(key) => patient.with_api_key(key, &client).await,
            // Examined above.
            CredentialSettings::Identity(_) => {}
        }
    }

    fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>, hint: Option<String>) {
        self.report.add(Step {
            account: Some(self.name.to_owned()),
            hint,
            ..Step::new(check, status, found)
        });
    }

    /// Says that a check has begun that may take some time.
    fn begin(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, Status::Running, what, None);
    }

    fn skip(&mut self, checks: &[&'static str], why: &str) {
        for check in checks {
            self.add(check, Status::Skip, format!("not tried: {why}"), None);
        }
    }

    fn before_gateway(&self) -> bool {
        matches!(self.account.credential, CredentialSettings::Identity(_))
    }

    /// What says where the upstream is.
    fn address_setting(&self) -> &'static str {
        if self.before_gateway() {
            "`gateway` (ATLAS_PROXY_GATEWAY)"
        } else {
            "the base URL"
        }
    }

    /// What says where connections go.
    fn target_setting(&self) -> &'static str {
        if self.account.upstream.connect_to.is_some() {
            "`connect_to`"
        } else {
            self.address_setting()
        }
    }

    fn origin(&self) -> &'a Origin {
        &self.account.upstream.origin
    }

    /// Reports which credential goes to which upstream: this shows most mistakes.
    fn say_account(&mut self) {
        let (what, id, made_by_atlas) = match &self.account.credential {
            CredentialSettings::ServiceAccount(ServiceAccountKey { client_id, secrets }) => {
                let id = client_id.starts_with("mdb_sa_id_");
                let secret = secrets.current.expose().starts_with("mdb_sa_sk_");
                let odd = match (id, secret) {
                    (true, true) => None,
                    (false, _) => Some("the client id does not begin with mdb_sa_id_"),
                    (true, false) => Some("the client secret does not begin with mdb_sa_sk_"),
                };
                ("service account", id.then_some(client_id), odd)
            }
            CredentialSettings::ApiKey(ApiKeyPair { public_key, .. }) => {
                let usual = public_key.len() == 8 && public_key.bytes().all(|b| b.is_ascii_lowercase());
                ("API key", usual.then_some(public_key), None)
            }
            CredentialSettings::Identity(_) => ("gateway", None, None),
        };
        // A text that does not look like an id may be a secret in the wrong place.
        let id = id.map_or_else(String::new, |id| format!(" {id}"));
        let to = self.account.upstream.connect_to.as_ref();
        let to = to.map_or_else(String::new, |to| format!(", reached at {to}"));
        let found = format!("{what}{id} for {}{to}", self.realm());
        match made_by_atlas {
            None => self.add("account", Status::Ok, found, None),
            Some(odd) => {
                let hint = "Atlas's do: is it whole, and is it the value of this field?".to_owned();
                self.add("account", Status::Warn, format!("{found}; {odd}"), Some(hint));
            }
        }
    }

    /// `commercial Atlas (https://cloud.mongodb.com)`.
    fn realm(&self) -> String {
        let origin = self.origin();
        if *origin == Origin::commercial() {
            format!("commercial Atlas ({origin})")
        } else if *origin == Origin::government() {
            format!("Atlas for Government ({origin})")
        } else {
            origin.to_string()
        }
    }

    /// Why Atlas may refuse a credential, the likeliest reason first.
    fn refused_hint(&self, what: &str) -> String {
        let (origin, name) = (self.origin(), self.name);
        let realm = if *origin == Origin::commercial() {
            format!(
                "commercial Atlas was asked: if the {what} is of Atlas for Government, set MONGODB_ATLAS_SERVICE=cloudgov \
                 (--environment gov, `environment = \"gov\"` in [account.{name}])"
            )
        } else if *origin == Origin::government() {
            format!(
                "Atlas for Government was asked: if the {what} is of commercial Atlas, unset MONGODB_ATLAS_SERVICE \
                 (--environment commercial, no `environment` in [account.{name}])"
            )
        } else {
            format!(
                "{origin} was asked: is the {what} of that server? What one of commercial Atlas and Atlas for Government has made, the \
                 other does not know (base URL, MONGODB_ATLAS_SERVICE)"
            )
        };
        format!(
            "{realm}. Else it is mistyped, was deleted, or has expired: compare it in Atlas (Organization, Access Manager)"
        )
    }
}

/// A duration in words.
fn span(time: std::time::Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / (24 * 3600)),
    }
}
