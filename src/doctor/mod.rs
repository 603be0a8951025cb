//! `check`: what works on the way to Atlas and what doesn't, why, and what to do.
//!
//! The steps of an account stand on each other: what can't be tried because an earlier step failed is skipped, so that the
//! cause stands alone.

mod api;
mod certificate;
mod clock;
mod credential;
mod network;
mod ports;
mod report;

use crate::credential::CredentialSettings;
use crate::outbound::{HttpClient, http_client};
use crate::settings::{AccountSettings, Settings};
use crate::time::SharedClock;
use crate::upstream::{Origin, client_config};

pub use report::{Finding, Report, Status};

/// The variables that name proxies, in the order in which they count; `HTTP_PROXY` doesn't.
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

/// What the doctor looks at beside the settings.
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
    ports::examine(settings, report).await;
}

/// One account under examination.
struct Patient<'a> {
    name: &'a str,
    account: &'a AccountSettings,
    around: &'a Circumstances,
    report: &'a mut Report,
}

/// The checks of an account that stand on the network, in their order.
const BEHIND_NETWORK: [&str; 4] = ["clock", "credential", "api", "secret_expiry"];

impl<'a> Patient<'a> {
    async fn examine(name: &'a str, account: &'a AccountSettings, around: &'a Circumstances, report: &'a mut Report) {
        let mut patient = Patient {
            name,
            account,
            around,
            report,
        };
        patient.say_proxy();
        let tls = match client_config(account.upstream.ca_file.as_deref()) {
            Ok(tls) => tls,
            Err(error) => {
                patient.add("tls", Status::Fail, error.to_string(), None);
                return patient.skip(&BEHIND_NETWORK, "there are no trusted authorities");
            }
        };
        if let Err(why) = patient.network(&tls).await {
            return patient.skip(&BEHIND_NETWORK, why);
        }
        let http = match http_client(tls, account.upstream.connect_timeout, account.upstream.egress.as_ref()) {
            Ok(http) => http,
            Err(error) => {
                patient.add("api", Status::Fail, error.to_string(), None);
                return;
            }
        };
        patient.clock(&http).await;
        patient.credential_and_api(&http).await;
    }

    fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>, hint: Option<String>) {
        self.report.add(Finding {
            check,
            account: Some(self.name.to_owned()),
            status,
            found: found.into(),
            hint,
        });
    }

    fn skip(&mut self, checks: &[&'static str], why: &str) {
        for check in checks {
            self.add(check, Status::Skip, format!("not tried: {why}"), None);
        }
    }

    fn origin(&self) -> &'a Origin {
        &self.account.upstream.origin
    }

    /// `commercial (https://cloud.mongodb.com)`.
    fn realm(&self) -> String {
        let origin = self.origin();
        if *origin == Origin::commercial() {
            format!("commercial ({origin})")
        } else if *origin == Origin::government() {
            format!("government ({origin})")
        } else {
            format!("at {origin}")
        }
    }

    fn service_account(&self) -> Option<&'a str> {
        match &self.account.credential {
            CredentialSettings::ServiceAccount { client_id, .. } => Some(client_id),
            CredentialSettings::ApiKey { .. } => None,
        }
    }

    async fn credential_and_api(&mut self, http: &HttpClient) {
        if self.service_account().is_some() {
            self.with_service_account(http).await;
        } else {
            self.with_api_key(http).await;
        }
    }

    /// What a credential that Atlas refuses may be, the likeliest first.
    fn refused_hint(&self, what: &str) -> String {
        format!(
            "this asks Atlas {}: is the {what} of this realm? Commercial credentials are unknown to Atlas for Government, and the \
             reverse (`--environment`, MONGODB_ATLAS_SERVICE, `environment` in [account.{}]). Else the {what} is mistyped, or was deleted, or has expired",
            self.realm(),
            self.name
        )
    }
}
