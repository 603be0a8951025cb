//! `rotate-secret`: where the new secret is written, how each step is reported, and when to rotate again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;
use tokio::runtime::Builder;

use super::args::RunArgs;
use super::run::Signals;
use super::{complain, exit};
use crate::atlas_api::Home;
use crate::config::{self, Environment, Flags, Sources};
use crate::credential::{CredentialSettings, ServiceAccountKey};
use crate::crypto;
use crate::rotate::{self, Cluster, KubernetesSecret, Order, Place, Reported, Rotation, Status, Step, Stop, Work};
use crate::time::{SharedClock, SystemClock};
use crate::units::parse_duration;
use crate::upstream::UpstreamSettings;

/// Lives of secrets that Atlas allows, hours.
const LIFE_HOURS: std::ops::RangeInclusive<i64> = 8..=8760;
/// The shortest period: Atlas limits how often secrets are made, and each needs time to reach everybody.
const SHORTEST_PERIOD: Duration = Duration::from_secs(3600);
/// Where Kubernetes mounts a pod's service account token.
const POD_CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

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

    #[command(flatten)]
    run: RunArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// The part of the command line that is this command's own.
pub(crate) struct Wishes {
    account: Option<String>,
    home: Option<Home>,
    hours: u32,
    out: Option<PathBuf>,
    kubernetes: Option<KubernetesSecret>,
    delete_old_after: Option<Duration>,
    delete_unused: bool,
    dry_run: bool,
    every: Option<Duration>,
    json: bool,
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
        };
        (self.run.into(), wishes)
    }
}

/// Rotates once, or from time to time until a signal ends it.
pub(super) fn rotate_secret(sources: Sources<'_>, environment: &dyn Environment, wishes: &Wishes) -> ExitCode {
    if let Err(why) = wishes.check() {
        complain(&why);
        return exit::misused();
    }
    if let Err(error) = crypto::self_check() {
        complain(&error.to_string());
        return exit::failed();
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return exit::failed();
        }
    };
    let command = Command {
        sources,
        environment,
        wishes,
        clock: Arc::new(SystemClock),
    };
    let code = runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                complain(&format!("cannot start: {error}"));
                return exit::failed();
            }
        };
        let (request, mut stop) = Stop::new();
        let work = async {
            match wishes.every {
                None => command.once(&mut stop).await,
                Some(every) => command.repeatedly(every, &mut stop).await,
            }
        };
        // A signal ends waits only: a step that has begun must not leave a secret that nobody knows.
        let pass_on = async {
            loop {
                signals.next().await;
                request.send_replace(true);
            }
        };
        tokio::select! {
            code = work => code,
            code = pass_on => code,
        }
    });
    // A name look-up that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

impl Wishes {
    fn check(&self) -> Result<(), String> {
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

/// Why nothing was begun: the settings or the command line.
struct Unprepared(Vec<String>);

impl Unprepared {
    fn say(&self) {
        self.0.iter().for_each(|line| complain(line));
    }
}

struct Command<'a> {
    sources: Sources<'a>,
    environment: &'a dyn Environment,
    wishes: &'a Wishes,
    clock: SharedClock,
}

/// What a rotation needs to know, read anew for each.
struct Prepared {
    key: ServiceAccountKey,
    upstream: UpstreamSettings,
    /// The file that the secret in use comes from, if it comes from one.
    current: Option<PathBuf>,
    place: Place,
}

impl Command<'_> {
    async fn once(&self, stop: &mut Stop) -> ExitCode {
        match self.prepare() {
            Ok(prepared) if self.rotate(&prepared, stop).await.ok => exit::CLEAN,
            Ok(_) => exit::failed(),
            Err(unprepared) => {
                unprepared.say();
                exit::misused()
            }
        }
    }

    async fn repeatedly(&self, every: Duration, stop: &mut Stop) -> ExitCode {
        if let Err(unprepared) = self.prepare() {
            unprepared.say();
            return exit::misused();
        }
        let mut work = Repeated {
            command: self,
            stop: stop.clone(),
        };
        rotate::keep_rotating(every, &*self.clock, &mut work, stop).await;
        exit::CLEAN
    }

    fn prepare(&self) -> Result<Prepared, Unprepared> {
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
        let CredentialSettings::ServiceAccount(key) = &account.credential else {
            return Err(one(format!(
                "account `{name}` is an API key, which has no client secret to rotate: make a new key in Atlas, or use a service account"
            )));
        };
        let current = loaded.secret_files.get(name);
        let place = self.place(name, current).map_err(one)?;
        if self.wishes.every.is_some() && current.is_none() {
            return Err(one(format!(
                "--every needs the client secret of account `{name}` in a file: what comes from the environment stays the old one"
            )));
        }
        Ok(Prepared {
            key: key.clone(),
            upstream: account.upstream.clone(),
            current: current.cloned(),
            place,
        })
    }

    fn place(&self, account: &str, current: Option<&PathBuf>) -> Result<Place, String> {
        match (&self.wishes.kubernetes, &self.wishes.out) {
            (Some(secret), None) => match self.cluster() {
                Some(cluster) => Ok(Place::Kubernetes(Box::new(cluster), secret.clone())),
                None => Err(
                    "this does not run in a Kubernetes cluster: with --out FILE beside --kubernetes-secret the new secret is written to that file, and the kubectl command that takes it from there is printed".to_owned(),
                ),
            },
            (_, Some(file)) => Ok(Place::File(file.clone())),
            (None, None) => match current {
                Some(file) => Ok(Place::File(file.clone())),
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

    fn order<'a>(&'a self, prepared: &'a Prepared) -> Order<'a> {
        let wishes = self.wishes;
        Order {
            key: &prepared.key,
            upstream: &prepared.upstream,
            home: wishes.home.clone(),
            hours: wishes.hours,
            current: prepared.current.as_deref(),
            place: &prepared.place,
            delete_old_after: wishes.delete_old_after,
            delete_unused: wishes.delete_unused,
            dry_run: wishes.dry_run,
            clock: Arc::clone(&self.clock),
        }
    }

    async fn rotate(&self, prepared: &Prepared, stop: &mut Stop) -> Rotation {
        let mut steps = Vec::new();
        let mut say = |step: Step| {
            if self.wishes.json {
                steps.push(step);
            } else {
                print(&line(&step));
            }
        };
        let rotation = rotate::rotate(&self.order(prepared), stop, &mut say).await;
        if let (Some(secret), Some(file), Some(_)) = (&self.wishes.kubernetes, &self.wishes.out, &rotation.new) {
            let command = secret.kubectl(file);
            say(Step {
                step: "kubectl",
                status: Status::Would,
                detail: format!("to take it to the cluster; then remove the file: {command}"),
            });
        }
        if self.wishes.json {
            print(&as_json(&steps, &rotation));
        } else {
            print(&format!("in force: {}", rotation.in_force));
        }
        rotation
    }
}

/// [`Command::rotate`] from time to time.
struct Repeated<'a> {
    command: &'a Command<'a>,
    stop: Stop,
}

impl Repeated<'_> {
    fn prepare(&self) -> Result<Prepared, Reported> {
        self.command.prepare().map_err(|unprepared| {
            unprepared.say();
            Reported
        })
    }
}

impl Work for Repeated<'_> {
    async fn made_at(&mut self) -> Result<Option<SystemTime>, Reported> {
        let prepared = self.prepare()?;
        let made = rotate::made_at(&self.command.order(&prepared)).await;
        made.map_err(|why| {
            complain(&why);
            Reported
        })
    }

    async fn rotate(&mut self) -> Result<(), Reported> {
        let prepared = self.prepare()?;
        // If only the old secret could not be deleted, making yet another would not help.
        match self.command.rotate(&prepared, &mut self.stop).await.new {
            Some(_) => Ok(()),
            None => Err(Reported),
        }
    }

    fn next_in(&mut self, left: Duration) {
        if !self.command.wishes.json {
            let minutes = left.as_secs().div_ceil(60);
            let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
            print(&format!("the next rotation is due in {days} d {hours} h {minutes} min"));
        }
    }
}

fn line(step: &Step) -> String {
    format!("{:<5} {:<8} {}", step.status.as_str(), step.step, step.detail)
}

fn as_json(steps: &[Step], rotation: &Rotation) -> String {
    let new = rotation.new.as_ref();
    let expires = new.and_then(|new| jiff::Timestamp::try_from(new.expires?).ok());
    json!({
        "ok": rotation.ok,
        "steps": steps.iter().map(|step| json!({
            "step": step.step,
            "status": match step.status { Status::Fail => "fail", other => other.as_str() },
            "detail": step.detail,
        })).collect::<Vec<_>>(),
        "in_force": rotation.in_force,
        "secret_id": new.map(|new| &new.id),
        "expires": expires.map(|at| format!("{at:.0}")),
    })
    .to_string()
}

fn print(line: &str) {
    // An error means that the reader has closed the output, and does not want it.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
