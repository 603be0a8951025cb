//! What a rotation needs to know, from the settings, the environment and the command line.

use std::path::PathBuf;
use std::sync::Arc;

use super::command::Command;
use crate::cli::print_error;
use crate::config;
use crate::credential::{CredentialSettings, ServiceAccountKey};
use crate::rotate::{Cluster, Destination, RotationSettings};
use crate::upstream::UpstreamSettings;

/// Where Kubernetes mounts a pod's service account token.
const POD_CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why nothing was begun: the settings or the command line.
pub(super) struct Unprepared(Vec<String>);

impl Unprepared {
    pub(super) fn say(&self) {
        self.0.iter().for_each(|line| print_error(line));
    }
}

/// What a rotation needs to know, read anew for each.
pub(super) struct Prepared {
    key: ServiceAccountKey,
    upstream: UpstreamSettings,
    /// The file that the secret in use comes from, if it comes from one.
    current: Option<PathBuf>,
    destination: Destination,
}

impl Command<'_> {
    pub(super) fn prepare(&self) -> Result<Prepared, Unprepared> {
        let loaded = config::load(self.sources).map_err(|errors| Unprepared(errors.lines().collect()))?;
        let one = |line: String| Unprepared(vec![line]);
        let accounts = &loaded.settings.accounts;
        let names = || accounts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut of_name = accounts
            .iter()
            .filter(|(name, _)| self.wishes.account.as_ref().is_none_or(|wish| wish == *name));
        let (name, account) = match (of_name.next(), of_name.next()) {
            (Some(account), None) => account,
            (None, _) => return Err(one(format!("--account names no account: there is {}", names()))),
            (Some(_), Some(_)) => return Err(one(format!("name one of the accounts with --account: {}", names()))),
        };
        let key = match &account.credential {
            CredentialSettings::ServiceAccount(key) => key,
            CredentialSettings::ApiKey(_) => {
                return Err(one(format!(
                    "account `{name}` is an API key, which has no client secret to rotate: make a new key in Atlas, or use a service account"
                )));
            }
            CredentialSettings::Identity(_) => {
                return Err(one(format!(
                    "account `{name}` leads to the gateway {}, which has the credential of Atlas: rotate its secret there",
                    account.upstream.origin
                )));
            }
        };
        let current = loaded.secret_files.get(name);
        let destination = self.destination(name, current).map_err(one)?;
        if self.wishes.every.is_some() && current.is_none() {
            return Err(one(format!(
                "--every needs the client secret of account `{name}` in a file: what comes from the environment stays the old one"
            )));
        }
        Ok(Prepared {
            key: key.clone(),
            upstream: account.upstream.clone(),
            current: current.cloned(),
            destination,
        })
    }

    fn destination(&self, account: &str, current: Option<&PathBuf>) -> Result<Destination, String> {
        match (&self.wishes.kubernetes, &self.wishes.out) {
            (Some(secret), None) => match self.cluster() {
                Some(cluster) => Ok(Destination::Kubernetes(Box::new(cluster), secret.clone())),
                None => Err(
                    "this does not run in a Kubernetes cluster: with --out FILE beside --kubernetes-secret the new secret is written to that file, and the kubectl command that takes it from there is printed".to_owned(),
                ),
            },
            (_, Some(file)) => Ok(Destination::File(file.clone())),
            (None, None) => match current {
                Some(file) => Ok(Destination::File(file.clone())),
                None => Err(format!(
                    "the client secret of account `{account}` does not come from a file, so that there is no place for a new one: use MONGODB_ATLAS_CLIENT_SECRET_FILE or `client_secret_file`, or name a place with --out or --kubernetes-secret"
                )),
            },
        }
    }

    fn cluster(&self) -> Option<Cluster> {
        let var = |name: &str| self.environment.var(name)?.into_string().ok();
        let host = var("KUBERNETES_SERVICE_HOST")?;
        let port = var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let folder = var("ATLAS_PROXY_POD_CREDENTIALS").unwrap_or_else(|| POD_CREDENTIALS.to_owned());
        Some(Cluster::new(&host, &port, folder.into()))
    }

    pub(super) fn settings<'a>(&'a self, prepared: &'a Prepared) -> RotationSettings<'a> {
        let wishes = self.wishes;
        RotationSettings {
            key: &prepared.key,
            upstream: &prepared.upstream,
            home: wishes.home.clone(),
            hours: wishes.hours,
            current: prepared.current.as_deref(),
            destination: &prepared.destination,
            delete_old_after: wishes.delete_old_after,
            delete_unused: wishes.delete_unused,
            dry_run: wishes.dry_run,
            clock: Arc::clone(&self.clock),
        }
    }
}
