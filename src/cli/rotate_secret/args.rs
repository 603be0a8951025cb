//! The command line of `rotate-secret`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::atlas_api::Home;
use crate::cli::args::RunArgs;
use crate::config::Flags;
use crate::rotate::KubernetesSecret;
use crate::units::parse_duration;

/// Lives of secrets that Atlas allows, hours.
const LIFE_HOURS: std::ops::RangeInclusive<i64> = 8..=8760;
/// The shortest period: Atlas limits how often secrets are made, and each needs time to reach everybody.
const SHORTEST_PERIOD: Duration = Duration::from_secs(3600);

/// Beside the flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Rotate the secret of this account; may be left out when there is one.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,

    /// Organization that the service account belongs to [default: found out].
    #[arg(long, value_name = "ID", conflicts_with = "project")]
    org: Option<String>,

    /// Project that the service account belongs to.
    #[arg(long, value_name = "ID")]
    project: Option<String>,

    /// Life of the new secret.
    #[arg(long, value_name = "HOURS", default_value_t = 2160, value_parser = clap::value_parser!(u32).range(LIFE_HOURS))]
    expires_after_hours: u32,

    /// Write the new secret to this file [default: the file that the current one comes from].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Put the new secret into a Kubernetes Secret: through the API of the cluster that this runs in, or, with --out, by a
    /// kubectl command that is printed.
    #[arg(long, value_name = "NAMESPACE/NAME:KEY")]
    kubernetes_secret: Option<KubernetesSecret>,

    /// Delete the old secret once the new one is in place, after --grace.
    #[arg(long)]
    delete_old: bool,

    /// Time for running proxies to take the new secret, before the old one is deleted.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    grace: Duration,

    /// Delete a secret that is not in use here, when Atlas's limit of two leaves no room.
    #[arg(long)]
    delete_unused: bool,

    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Stay, and rotate whenever the secret in use is as old as this, such as `30d`.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "dry_run")]
    every: Option<Duration>,

    /// Answer with one JSON object for each rotation: `ok`, `steps`, `in_force`, `secret_id`, `expires`.
    #[arg(long)]
    json: bool,

    /// Print failures alone.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    #[command(flatten)]
    run: RunArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// The part of the command line that is this command's own.
pub(crate) struct Wishes {
    pub(super) account: Option<String>,
    pub(super) home: Option<Home>,
    pub(super) hours: u32,
    pub(super) out: Option<PathBuf>,
    pub(super) kubernetes: Option<KubernetesSecret>,
    pub(super) delete_old_after: Option<Duration>,
    pub(super) delete_unused: bool,
    pub(super) dry_run: bool,
    pub(super) every: Option<Duration>,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl RotateArgs {
    pub(crate) fn parts(self) -> (Flags, Wishes) {
        let home = match (self.org, self.project) {
            (Some(id), _) => Some(Home::Organization(id)),
            (None, Some(id)) => Some(Home::Project(id)),
            (None, None) => None,
        };
        let wishes = Wishes {
            account: self.account,
            home,
            hours: self.expires_after_hours,
            out: self.out,
            kubernetes: self.kubernetes_secret,
            delete_old_after: self.delete_old.then_some(self.grace),
            delete_unused: self.delete_unused,
            dry_run: self.dry_run,
            every: self.every,
            json: self.json,
            quiet: self.quiet,
        };
        (self.run.into(), wishes)
    }
}

impl Wishes {
    /// Checks the values, also against each other.
    ///
    /// # Errors
    /// Why they are refused.
    pub(super) fn check(&self) -> Result<(), String> {
        let id = match &self.home {
            Some(Home::Organization(id) | Home::Project(id)) => Some(id),
            None => None,
        };
        if id.is_some_and(|id| id.len() != 24 || !id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err("--org and --project take an id of 24 hexadecimal digits".to_owned());
        }
        // A secret that is put in place by hand, or where nothing here reads it, is not in force yet.
        let by_hand = self.kubernetes.is_some() && self.out.is_some();
        if by_hand && self.delete_old_after.is_some() {
            return Err("--delete-old can't be used with --out beside --kubernetes-secret: until the printed command has run, the old secret is the one in force".to_owned());
        }
        if self.every.is_some() && self.out.is_some() {
            return Err("--every can't be used with --out: the next rotation begins with the secret that the configuration names, and that would stay the old one".to_owned());
        }
        match self.every {
            Some(every) if every < SHORTEST_PERIOD => Err("--every must be at least 1h".to_owned()),
            Some(every) if every.as_secs() >= u64::from(self.hours) * 3600 => Err(format!(
                "--every must be shorter than the life of the secret, {} hours (--expires-after-hours)",
                self.hours
            )),
            _ => Ok(()),
        }
    }
}
