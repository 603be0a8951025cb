//! A Redis or Valkey server as a store: one connection, a second and a half for each step, and rest after a failure.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::TokenStoreSettings;
use super::fleet::Places;
use super::keys::{self, Keys, Subject};
use super::narrow::{Narrow, TooWide};
use super::scripts::{self, LOOK, MOST_VALUE_BYTES, PUT, RELEASE, TURN};
use super::seal::{Sealer, looks_sealed};
use super::store::{LOCK_LIFE, Put, SharedStore, StoreError, Stored, Turn};
use crate::credential::bearer::{BoxFuture, MOST_LIFE, unit_random};
use crate::metrics::TokenStoreUp;
use crate::upstream::{Origin, TlsError, Untrusted, client_config, connect_host};

/// The bound on DNS, TCP, TLS and AUTH together.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// The bound on one step.
const STEP_LIMIT: Duration = Duration::from_millis(1500);
/// How long a store is left in peace after a failure, and up to half of that again.
const REST: Duration = Duration::from_secs(4);
/// How often the store is probed, and up to half of that later. Shorter than middleboxes remember an idle connection.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Longer than any token lives, so that no token outlives the counter that gave its fence.
const FENCE_LIFE: Duration = Duration::from_secs(2 * MOST_LIFE.as_secs());
/// Beyond it Lua's numbers are not exact, and somebody has tampered with the counter.
const MOST_FENCE: u64 = 999_999_999_999_999;

/// A server. Shared by all accounts.
pub struct RedisStore {
    settings: TokenStoreSettings,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    info: RedisConnectionInfo,
    /// Held while connecting, so that there is one connection.
    live: tokio::sync::Mutex<Lives>,
    health: Mutex<Health>,
    up: TokenStoreUp,
    /// Where this process stands among the replicas of each service account.
    pub(super) places: Places,
    /// In `0.0..1.0`.
    random: fn() -> f64,
}

/// The connection, and how many there were before.
#[derive(Default)]
struct Lives {
    current: Option<Live>,
    number: u64,
}

/// A connection and the task that drives it.
struct Live {
    connection: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Health {
    /// How it failed, if it has not answered since.
    down: Option<String>,
    /// Whether it has ever answered or failed.
    tried: bool,
    rest_until: Option<Instant>,
}

/// The state of the store, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreState {
    /// Without user and password.
    pub address: String,
    /// Whether it answers; `None`: nobody has asked yet.
    pub up: Option<bool>,
    /// Why it doesn't. Holds no secret.
    pub cause: Option<String>,
}

/// What `check` finds of a store. No text of it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// Replicas can share.
    Good,
    /// It does not answer, or not as it should.
    Away(String),
    /// It is reachable, but refuses us or is not what it should be.
    Refused(String),
    /// A token is stored that was sealed with another key.
    AnotherKey,
    /// This key of the store holds something else.
    NoToken(String),
}

/// Why there can be no connection, whatever the server does.
#[derive(Debug, thiserror::Error)]
pub enum StoreSetupError {
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A certificate can't have this name.
    #[error("`{0}` is neither a host name nor an IP address, and so no name that a certificate could prove")]
    Name(String),
}

impl RedisStore {
    /// Connects when it is first asked, or watched.
    ///
    /// # Errors
    /// See [`StoreSetupError`].
    pub fn new(settings: TokenStoreSettings, up: TokenStoreUp) -> Result<Arc<Self>, StoreSetupError> {
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let name = ServerName::try_from(settings.host.clone())
                    .map_err(|_| StoreSetupError::Name(settings.host.clone()))?;
                let config: ClientConfig = client_config(tls.ca_file.as_deref())?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        let mut info = RedisConnectionInfo::default()
            .set_db(settings.database.into())
            .set_skip_set_lib_name();
        if let Some(username) = &settings.username {
            info = info.set_username(username);
        }
        if let Some(password) = &settings.password {
            info = info.set_password(password.expose());
        }
        Ok(Arc::new(Self {
            settings,
            tls,
            info,
            live: tokio::sync::Mutex::default(),
            health: Mutex::default(),
            up,
            places: Places::default(),
            random: unit_random,
        }))
    }

    /// Probes every 10 to 15 s whether the server answers and can be written to, until `stop` completes: an outage is
    /// noticed before a token is due, and so is its end. Says each time that this replica is there, and at the end that it
    /// leaves.
    pub async fn watch(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let watch = async {
            loop {
                let looked = match self.probe().await {
                    Ok(()) => self.report(false).await,
                    Err(error) => Err(error),
                };
                let pause = match looked {
                    Ok(()) => PROBE_EVERY,
                    Err(_) => REST,
                };
                tokio::time::sleep(pause.mul_f64(1.0 + 0.5 * (self.random)())).await;
            }
        };
        tokio::select! {
            () = stop => {}
            () = watch => {}
        }
        // If this fails, the others strike this replica off after a while.
        let _ = self.report(true).await;
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.step::<u64>(&probe_command()).await.map(drop)
    }

    /// The state as of the last step, or of the watch.
    pub fn state(&self) -> StoreState {
        let health = self.health.lock();
        StoreState {
            address: self.settings.to_string(),
            up: health.tried.then_some(health.down.is_none()),
            cause: health.down.clone(),
        }
    }

    /// Whether replicas with these settings could share the tokens of these service accounts, each an origin and a client
    /// id: tries what they do, but asks for no token and takes no lock.
    pub async fn examine(&self, accounts: &[(&Origin, &str)]) -> Examined {
        if let Err(trouble) = self.ask::<u64>(&probe_command()).await {
            return match trouble {
                Trouble { refused: true, why } => Examined::Refused(why),
                Trouble { refused: false, why } => Examined::Away(why),
            };
        }
        for (origin, client_id) in accounts {
            let subject = Subject {
                origin: origin.to_string(),
                client_id: (*client_id).to_owned(),
            };
            let keys = Keys::of(&subject);
            let lies_there = match self.look(&keys).await {
                Ok(stored) => stored,
                Err(error) => return Examined::Away(error.to_string()),
            };
            if let Some(stored) = lies_there
                && Sealer::new(self.settings.key.clone(), subject)
                    .open(&stored.value)
                    .is_none()
            {
                return if looks_sealed(&stored.value) {
                    Examined::AnotherKey
                } else {
                    Examined::NoToken(keys.token)
                };
            }
        }
        Examined::Good
    }

    /// One command: within its time, and not while the store is left in peace.
    pub(super) async fn step<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        if self.resting() {
            return Err(StoreError::Resting);
        }
        match self.ask(command).await {
            Ok(answer) => {
                self.answered();
                Ok(answer)
            }
            Err(trouble) => {
                self.failed(&trouble.why);
                Err(StoreError::Failed(trouble.why))
            }
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Trouble> {
        let (number, mut connection) = match timeout(CONNECT_LIMIT, self.connection()).await {
            Ok(connection) => connection?,
            Err(_) => {
                return Err(Trouble::away(format!(
                    "no connection within {} s",
                    CONNECT_LIMIT.as_secs_f32()
                )));
            }
        };
        let answer = match timeout(STEP_LIMIT, command.query_async::<T>(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| reason(&error)),
            Err(_) => Err(Trouble::away(format!(
                "no answer within {} s",
                STEP_LIMIT.as_secs_f32()
            ))),
        };
        if answer.is_err() {
            self.give_up(number).await;
        }
        answer
    }

    /// The next step begins with a new connection: perhaps to another server of that name.
    async fn give_up(&self, number: u64) {
        let mut lives = self.live.lock().await;
        // Unless somebody else has made a new one in the meantime.
        if lives.number == number {
            lives.current = None;
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), Trouble> {
        let mut lives = self.live.lock().await;
        if let Some(live) = &lives.current
            && !live.driver.is_finished()
        {
            return Ok((lives.number, live.connection.clone()));
        }
        lives.current = None;
        let made = self.connect().await?;
        let connection = made.connection.clone();
        lives.current = Some(made);
        lives.number += 1;
        Ok((lives.number, connection))
    }

    async fn connect(&self) -> Result<Live, Trouble> {
        let TokenStoreSettings { host, port, .. } = &self.settings;
        let tcp = connect_host(host, *port)
            .await
            .map_err(|error| Trouble::away(format!("it can't be reached: {error}")))?;
        // Small steps must not wait for the acknowledgement of earlier segments.
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            None => self.speak(tcp).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await.map_err(|error| Trouble {
                    // A server that fails verification: waiting does not help.
                    refused: error
                        .get_ref()
                        .is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>),
                    why: format!(
                        "no TLS connection: {}; is `ca_file` right?",
                        Untrusted::of(&error).map_or_else(|| error.to_string(), ToString::to_string)
                    ),
                })?;
                self.speak(stream).await
            }
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<Live, Trouble>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // The time is bounded here, for connecting and each step.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = Narrow::new(stream);
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.info, stream, config)
            .await
            .map_err(|error| reason(&error))?;
        Ok(Live {
            connection,
            driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        })
    }

    fn resting(&self) -> bool {
        let health = self.health.lock();
        health.rest_until.is_some_and(|until| Instant::now() < until)
    }

    fn answered(&self) {
        let was_down = {
            let mut health = self.health.lock();
            health.rest_until = None;
            health.tried = true;
            health.down.take().is_some()
        };
        self.up.set(true);
        if was_down {
            tracing::info!(store = %self.settings, "the shared token store answers again");
        }
    }

    fn failed(&self, why: &str) {
        let rest = REST.mul_f64(1.0 + 0.5 * (self.random)());
        let was_down = {
            let mut health = self.health.lock();
            health.rest_until = Some(Instant::now() + rest);
            health.tried = true;
            health.down.replace(why.to_owned()).is_some()
        };
        self.up.set(false);
        if was_down {
            tracing::debug!(store = %self.settings, cause = why, "the shared token store still fails");
        } else {
            tracing::warn!(
                store = %self.settings,
                cause = why,
                "the shared token store fails: until it answers, replicas go on with the shared token, and then up to 45 ask for tokens of their own"
            );
        }
    }
}

/// Why a step failed.
struct Trouble {
    /// The server is reachable and refuses us: that ends only when somebody changes something.
    refused: bool,
    /// Ours, without a secret.
    why: String,
}

impl Trouble {
    fn away(why: String) -> Self {
        Self { refused: false, why }
    }
}

/// What went wrong.
fn reason(error: &RedisError) -> Trouble {
    let refused = matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
        || error.kind() == ErrorKind::AuthenticationFailed;
    Trouble {
        refused,
        why: in_words(error),
    }
}

/// Leaves out the server's own text: it may quote a command, and so the password.
fn in_words(error: &RedisError) -> String {
    if let Some(code) = error.code() {
        let hint = match code {
            "WRONGPASS" | "NOAUTH" => ": set `username` and `password_file` of [token_store]",
            "NOPERM" => ": the user needs +eval, +select and what the scripts use, for the keys atlas-auth-proxy:v1:*",
            "READONLY" => ": it is a replica, and can't be written to",
            "OOM" => ": it is out of memory",
            _ => "",
        };
        let known = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
        return format!("it answered {}{hint}", if known { code } else { "an error" });
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            "it refuses user name and password: set `username` and `password_file` of [token_store]".to_owned()
        }
        ErrorKind::Io => too_wide(error).map_or_else(|| "the connection broke".to_owned(), |why| why.to_string()),
        kind => format!("it gave no answer that can be read ({kind:?})"),
    }
}

/// Whether the connection ended because the server sent more than it may.
fn too_wide(error: &RedisError) -> Option<&TooWide> {
    let cause = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

impl SharedStore for RedisStore {
    fn look<'a>(&'a self, keys: &'a Keys) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async {
            let mut command = eval(LOOK, &[&keys.token]);
            command.arg(MOST_VALUE_BYTES - 1);
            let (value, left) = self.step(&command).await?;
            Ok(stored(value, left))
        })
    }

    fn lock<'a>(
        &'a self,
        keys: &'a Keys,
        holder: &'a str,
        above: u64,
    ) -> BoxFuture<'a, Result<Option<Turn>, StoreError>> {
        Box::pin(self.turn(keys, holder, above))
    }

    fn fence<'a>(&'a self, keys: &'a Keys, above: u64) -> BoxFuture<'a, Result<Turn, StoreError>> {
        Box::pin(async move {
            let turn = self.turn(keys, "", above).await?;
            turn.ok_or_else(|| self.odd_answer())
        })
    }

    fn put<'a>(&'a self, keys: &'a Keys, put: Put<'a>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut command = eval(PUT, &[&keys.token]);
            command
                .arg(put.fence)
                .arg(put.value)
                .arg(millis(put.life).max(1))
                .arg(put.gives_way.unwrap_or_default())
                .arg(MOST_VALUE_BYTES - 1);
            Ok(self.step::<u64>(&command).await? == 1)
        })
    }

    fn release<'a>(
        &'a self,
        keys: &'a Keys,
        holder: &'a str,
        pause: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut command = eval(RELEASE, &[&keys.lock]);
            command.arg(holder).arg(millis(pause));
            self.step::<u64>(&command).await.map(drop)
        })
    }
}

impl RedisStore {
    async fn turn(&self, keys: &Keys, holder: &str, above: u64) -> Result<Option<Turn>, StoreError> {
        let mut command = eval(TURN, &[&keys.lock, &keys.fence, &keys.token]);
        command
            .arg(holder)
            .arg(millis(LOCK_LIFE))
            .arg(above.min(MOST_FENCE))
            .arg(millis(FENCE_LIFE))
            .arg(MOST_FENCE)
            .arg(MOST_VALUE_BYTES - 1);
        match self.step::<TurnAnswer>(&command).await? {
            TurnAnswer::Another => Ok(None),
            // A server that answers otherwise does not run our script.
            TurnAnswer::Ours { fence, .. } if !(1..=MOST_FENCE).contains(&fence) => Err(self.odd_answer()),
            TurnAnswer::Ours {
                fence,
                odd,
                value,
                left,
            } => Ok(Some(Turn {
                fence,
                stored: stored(value, left),
                odd: odd != 0,
            })),
        }
    }

    /// The error for a server that speaks the protocol, but does not do what was asked.
    pub(super) fn odd_answer(&self) -> StoreError {
        let why = "it gave an answer that the script can't give".to_owned();
        self.failed(&why);
        StoreError::Failed(why)
    }
}

/// What the script of a turn answers.
enum TurnAnswer {
    Another,
    Ours {
        fence: u64,
        odd: u8,
        value: Vec<u8>,
        left: i64,
    },
}

impl FromRedisValue for TurnAnswer {
    fn from_redis_value(answer: redis::Value) -> Result<Self, redis::ParsingError> {
        if answer == redis::Value::Array(vec![redis::Value::Int(0)]) {
            return Ok(Self::Another);
        }
        let (fence, odd, value, left) = redis::from_redis_value(answer)?;
        Ok(Self::Ours {
            fence,
            odd,
            value,
            left,
        })
    }
}

/// A value and its time to live as `PTTL` tells it: -2: there is none; -1: no expiry.
fn stored(value: Vec<u8>, left: i64) -> Option<Stored> {
    (left != -2).then(|| Stored {
        value,
        left: u64::try_from(left).ok().map(Duration::from_millis),
    })
}

fn probe_command() -> Cmd {
    let mut command = eval(scripts::PROBE, &[keys::PROBE]);
    command.arg(millis(2 * PROBE_EVERY));
    command
}

pub(super) fn eval(script: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    command
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(super) mod tests;
