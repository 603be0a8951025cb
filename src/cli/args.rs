//! The command line. Values stay text here: `config` reads them, so that a flag and its variable mean the same.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::audit::AuditArgs;
use super::check::Answer;
use super::make_ca::MakeCaArgs;
use super::rotate_secret::RotateArgs;
use super::rules::RulesArgs;
use crate::build;
use crate::config::Flags;

/// Adds MongoDB Atlas Administration API credentials to the requests of programs that hold none.
///
/// Without a command it runs the proxy. Credentials come from the environment or from files, never by flag:
/// MONGODB_ATLAS_CLIENT_ID and MONGODB_ATLAS_CLIENT_SECRET for a service account, MONGODB_ATLAS_PUBLIC_API_KEY and
/// MONGODB_ATLAS_PRIVATE_API_KEY for an API key; each with _FILE at its end names a file instead. Before a gateway of this
/// program, ATLAS_PROXY_GATEWAY and what it is shown.
#[derive(Debug, Parser)]
#[command(name = "atlas-auth-proxy", version, long_version = build::described(), args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy until SIGTERM or SIGINT (the default).
    ///
    /// A flag wins over its environment variable, that over the configuration file, that over the default. Credentials
    /// come from the environment or from files, never by flag: MONGODB_ATLAS_CLIENT_ID and MONGODB_ATLAS_CLIENT_SECRET
    /// for a service account, MONGODB_ATLAS_PUBLIC_API_KEY and MONGODB_ATLAS_PRIVATE_API_KEY for an API key; each with
    /// _FILE at its end names a file instead. Before a gateway of this program, ATLAS_PROXY_GATEWAY and what it is shown.
    Run(Box<RunArgs>),
    /// Start a built-in Atlas emulator and proxies before it, and print what to try; needs no configuration.
    #[cfg(feature = "emulator")]
    Demo(DemoArgs),
    /// Examine the configuration, the way to Atlas and the credential, and say what is wrong and what to do.
    ///
    /// Takes the flags of `run`. Exits with 0 when everything works, with 1 when something does not.
    Check(Box<CheckArgs>),
    /// Make a new client secret of a service account through the Admin API, verify it, and put it where the proxy reads it.
    ///
    /// Takes the flags of `run`. A working secret is in force after every step, whichever fails. Exits with 0 when
    /// everything that was asked for was done, with 1 when not, with 2 on wrong settings or usage.
    RotateSecret(Box<RotateArgs>),
    /// Exit with 0 when a running proxy says at its admin port that it is ready, else with 1.
    Healthcheck(HealthcheckArgs),
    /// Show what the rules of a configuration allow, before anything happens.
    ///
    /// Needs no credential and no network, and reads no file that the configuration names. Exits with 2 on wrong settings or
    /// usage.
    Rules(RulesArgs),
    /// Examine the audit log.
    Audit(AuditArgs),
    /// Make a private certificate authority and a server certificate, for clients whose base URL is always Atlas's own.
    ///
    /// A listener with this certificate is Atlas to clients that trust the authority; prints what to put where. Exits with 1 when
    /// nothing was made, with 2 on wrong usage.
    MakeCa(MakeCaArgs),
    /// Print a new local secret for a caller: 43 characters with 256 random bits.
    ///
    /// Put it into a file that only the proxy and the caller can read, and name that file with `secret_file` of a `[[caller]]`.
    MakeSecret,
    /// Print a script that completes this program's commands and flags in a shell.
    Completions(CompletionsArgs),
    /// Print a manual page, as roff: `man <(atlas-auth-proxy man)`.
    Man(ManArgs),
    /// Print the JSON Schema of the configuration file, for editors and checkers.
    ConfigSchema,
    /// Print the configuration that is in force, as a file that could be used, with where each value comes from.
    ///
    /// Takes the flags of `run`. Shows no secret and runs no command. What is wrong goes to standard error; the exit code is 2 then.
    PrintConfig(Box<RunArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command whose page is wanted, such as `check` or `audit verify`; left out: the page of the program.
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Words that a shell offers. Any text is taken: `config` says what is wrong with it, as it does for a variable.
#[derive(Debug, Clone, Copy)]
struct Offered(&'static [&'static str]);

impl clap::builder::TypedValueParser for Offered {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

const BOOLEAN: Offered = Offered(&["true", "false"]);

#[derive(Debug, Args, Default)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML).
    ///
    /// [env: ATLAS_PROXY_CONFIG] [default: none, a sidecar needs no file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,

    /// Address to listen on, or `unix:/path`; may be repeated.
    ///
    /// Takes the place of the `bind` of the file's only listener.
    ///
    /// [env: ATLAS_PROXY_LISTEN, a list with commas] [default: localhost:8080, which is 127.0.0.1 and, where there is one, ::1]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// Network that may connect; may be repeated.
    ///
    /// [env: ATLAS_PROXY_ALLOW, a list with commas] [default: 127.0.0.0/8 and ::1/128]
    #[arg(long, value_name = "CIDR")]
    allow: Vec<String>,

    /// Host name under which clients call the proxy, beside `localhost`, `127.0.0.1`, `[::1]` and the bound address; may
    /// be repeated.
    ///
    /// [env: ATLAS_PROXY_HOSTS, a list with commas] [default: none]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// Header that every request must carry, with any value.
    ///
    /// A plain listener that clients call by a host name beyond loopback needs it.
    ///
    /// [env: ATLAS_PROXY_REQUIRED_HEADER] [default: none]
    #[arg(long, value_name = "NAME")]
    required_header: Option<String>,

    /// Let only reading methods through (GET, HEAD, OPTIONS).
    ///
    /// [env: ATLAS_PROXY_READ_ONLY] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BOOLEAN, hide_possible_values = true)]
    read_only: Option<String>,

    /// Allow a bind beyond loopback without TLS (needs --allow too), or a host name beyond loopback without a required header.
    ///
    /// [env: ATLAS_PROXY_INSECURE_PLAINTEXT] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BOOLEAN, hide_possible_values = true)]
    insecure_plaintext: Option<String>,

    /// Atlas realm: `commercial` (cloud.mongodb.com) or `gov` (cloud.mongodbgov.com).
    ///
    /// [env: MONGODB_ATLAS_SERVICE, with the words `cloud` and `cloudgov`] [default: commercial]
    #[arg(long, value_name = "REALM", value_parser = Offered(&["commercial", "gov"]), hide_possible_values = true)]
    environment: Option<String>,

    /// Upstream to call instead of the environment's: `https://host[:port]`, or `http://` to this machine.
    ///
    /// [env: ATLAS_PROXY_BASE_URL, else MONGODB_ATLAS_BASE_URL, else MONGODB_ATLAS_OPS_MANAGER_URL]
    /// [default: of the environment]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    base_url: Option<String>,

    /// PEM file of the certificate authorities to trust upstream, in place of the system's.
    ///
    /// [env: ATLAS_PROXY_UPSTREAM_CA] [default: the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    upstream_ca: Option<String>,

    /// HTTP version to speak upstream: `auto`, `1` or `2`.
    ///
    /// [env: ATLAS_PROXY_UPSTREAM_HTTP] [default: auto]
    #[arg(long, value_name = "VERSION", value_parser = Offered(&["auto", "1", "2"]), hide_possible_values = true)]
    upstream_http: Option<String>,

    /// Address of the admin port: metrics and health; `unix:/path`, or `off`.
    ///
    /// [env: ATLAS_PROXY_ADMIN_LISTEN] [default: 127.0.0.1:9091]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,

    /// Let programs on this machine end the proxy with `POST /quitquitquit` at the admin port.
    ///
    /// [env: ATLAS_PROXY_ADMIN_QUIT] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BOOLEAN, hide_possible_values = true)]
    admin_quit: Option<String>,

    /// Whether links to the upstream in answers become links to the proxy: `true` or `false`.
    ///
    /// [env: ATLAS_PROXY_REWRITE_LINKS] [default: true]
    #[arg(long, value_name = "BOOL", value_parser = BOOLEAN, hide_possible_values = true)]
    rewrite_links: Option<String>,

    /// Worker threads.
    ///
    /// [env: ATLAS_PROXY_WORKERS] [default: the available cores, at most 4]
    #[arg(long, value_name = "N")]
    workers: Option<String>,

    /// How long requests in flight may go on after SIGTERM, such as `30s` or `1m`.
    ///
    /// [env: ATLAS_PROXY_DRAIN_TIMEOUT] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,

    /// How long to serve on after SIGTERM, unready, before the drain begins: until load balancers have noticed.
    ///
    /// [env: ATLAS_PROXY_DRAIN_DELAY] [default: 0s]
    #[arg(long, value_name = "DURATION")]
    drain_delay: Option<String>,

    /// Least severe level to log: `error`, `warn`, `info`, `debug` or `trace`.
    ///
    /// [env: ATLAS_PROXY_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = Offered(&["error", "warn", "info", "debug", "trace"]), hide_possible_values = true)]
    log_level: Option<String>,

    /// Shape of a log line: `text` or `json`.
    ///
    /// [env: ATLAS_PROXY_LOG_FORMAT] [default: text on a terminal, else json]
    #[arg(long, value_name = "FORMAT", value_parser = Offered(&["text", "json"]), hide_possible_values = true)]
    log_format: Option<String>,
}

impl From<RunArgs> for Flags {
    fn from(args: RunArgs) -> Self {
        Self {
            config: args.config,
            listen: args.listen,
            allow: args.allow,
            host: args.host,
            required_header: args.required_header,
            read_only: args.read_only,
            insecure_plaintext: args.insecure_plaintext,
            environment: args.environment,
            base_url: args.base_url,
            upstream_ca: args.upstream_ca,
            upstream_http: args.upstream_http,
            admin_listen: args.admin_listen,
            admin_quit: args.admin_quit,
            rewrite_links: args.rewrite_links,
            workers: args.workers,
            drain_timeout: args.drain_timeout,
            drain_delay: args.drain_delay,
            log_level: args.log_level,
            log_format: args.log_format,
        }
    }
}

/// What `run` takes, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Examine this account alone.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,

    /// Answer with one JSON object: `ok`, and a list of `checks`.
    #[arg(long)]
    json: bool,

    /// Print failures alone.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    #[command(flatten)]
    run: RunArgs,
}

impl CheckArgs {
    /// The flags of `run`, the account, how to answer.
    pub(crate) fn parts(self) -> (Flags, Option<String>, Answer) {
        let answer = match (self.json, self.quiet) {
            (true, _) => Answer::Json,
            (false, true) => Answer::Failures,
            (false, false) => Answer::Steps,
        };
        (self.run.into(), self.account, answer)
    }
}

/// `demo` takes no settings.
#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Let in only callers that the proxies know by name, and print how each shows who it is.
    #[arg(long)]
    pub(crate) callers: bool,

    /// Answer requests under `/api/atlas/v2` whose `Accept` names no version 406, as Atlas does; without this they get the
    /// newest.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Finds the admin port as `run` does.
#[derive(Debug, Args)]
pub(crate) struct HealthcheckArgs {
    /// Configuration file of the running proxy.
    ///
    /// [env: ATLAS_PROXY_CONFIG]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Address of the running proxy's admin port; with `off` its first listener is asked whether it answers.
    ///
    /// [env: ATLAS_PROXY_ADMIN_LISTEN] [default: 127.0.0.1:9091]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,

    /// Addresses of its listeners.
    ///
    /// [env: ATLAS_PROXY_LISTEN, a list with commas] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
}

impl From<HealthcheckArgs> for Flags {
    fn from(args: HealthcheckArgs) -> Self {
        Self {
            config: args.config,
            admin_listen: args.admin_listen,
            listen: args.listen,
            ..Self::default()
        }
    }
}
