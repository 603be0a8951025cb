//! The shape of the configuration file: which tables and keys there are, and of which TOML type. What the values mean is
//! decided elsewhere, together with flags and environment.

use std::path::Path;

use super::document::{Document, Reader, Shape};
use super::problem::Problems;
use super::source::{Given, Source};
use super::value;

pub(crate) const TOP: Shape = Shape {
    keys: &[
        "listener",
        "account",
        "admin",
        "limits",
        "log",
        "token_store",
        "workers",
        "drain_timeout",
        "drain_delay",
    ],
    refused: &[
        ("listeners", "there is no such key; write `[[listener]]`, once for each"),
        (
            "accounts",
            "there is no such key; write `[account.NAME]`, once for each",
        ),
    ],
};

pub(crate) const LISTENER: Shape = Shape {
    keys: &[
        "name",
        "bind",
        "account",
        "allow",
        "hosts",
        "read_only",
        "insecure_plaintext",
        "rewrite_links",
        "max_requests_per_minute",
        "max_concurrent_requests",
        "retry_429",
        "required_header",
        "unmatched",
        "rule",
        "mode",
        "uids",
        "tls",
    ],
    refused: &[(
        "rules",
        "there is no such key; write `[[listener.rule]]`, once for each",
    )],
};

pub(crate) const RULE: Shape = Shape {
    keys: &["methods", "path", "action"],
    refused: &[],
};

pub(crate) const ACCOUNT: Shape = Shape {
    keys: &[
        "environment",
        "base_url",
        "ca_file",
        "http",
        "client_id",
        "client_id_file",
        "client_secret_file",
        "client_secret_next_file",
        "public_key",
        "public_key_file",
        "private_key_file",
        "digest_max_concurrent",
        "proxy",
        "proxy_credentials_file",
    ],
    refused: &[
        (
            "client_secret",
            "no secret in this file: put it into a file of its own and name that with `client_secret_file`",
        ),
        (
            "private_key",
            "no secret in this file: put it into a file of its own and name that with `private_key_file`",
        ),
    ],
};

pub(crate) const ADMIN: Shape = Shape {
    keys: &["bind", "mode", "uids", "quit"],
    refused: &[],
};

pub(crate) const LIMITS: Shape = Shape {
    keys: &[
        "max_connections",
        "max_connections_per_peer",
        "max_connection_age",
        "header_read_timeout",
        "max_header_bytes",
        "max_headers",
        "request_body_idle_timeout",
        "request_body_min_rate",
        "connect_timeout",
        "response_head_timeout",
        "response_body_idle_timeout",
        "upstream_connection_max_age",
        "replay_limit",
        "replay_budget",
    ],
    refused: &[],
};

pub(crate) const LOG: Shape = Shape {
    keys: &["level", "format"],
    refused: &[],
};

pub(crate) const TOKEN_STORE: Shape = Shape {
    keys: &["url", "key_file", "username", "password_file", "ca_file"],
    refused: &[
        (
            "key",
            "no secret in this file: put it into a file of its own and name that with `key_file`",
        ),
        (
            "password",
            "no secret in this file: put it into a file of its own and name that with `password_file`",
        ),
    ],
};

pub(crate) const TLS: Shape = Shape {
    keys: &["certificate", "key", "client_ca", "client_names", "client_crl"],
    refused: &[
        ("certificate_file", "there is no such key; write `certificate`"),
        ("key_file", "there is no such key; write `key`"),
        ("client_ca_file", "there is no such key; write `client_ca`"),
        ("client_crl_file", "there is no such key; write `client_crl`"),
    ],
};

/// One `[[listener]]`.
#[derive(Debug)]
pub(crate) struct FileListener {
    pub(crate) place: Source,
    pub(crate) name: Option<Given<String>>,
    pub(crate) bind: Option<Given<String>>,
    pub(crate) account: Option<Given<String>>,
    pub(crate) allow: Option<Given<Vec<Given<String>>>>,
    pub(crate) hosts: Option<Given<Vec<Given<String>>>>,
    pub(crate) read_only: Option<Given<bool>>,
    pub(crate) insecure_plaintext: Option<Given<bool>>,
    pub(crate) rewrite_links: Option<Given<bool>>,
    pub(crate) max_requests_per_minute: Option<Given<String>>,
    pub(crate) max_concurrent_requests: Option<Given<String>>,
    pub(crate) retry_429: Option<Given<String>>,
    pub(crate) required_header: Option<Given<String>>,
    pub(crate) unmatched: Option<Given<String>>,
    pub(crate) rules: Vec<FileRule>,
    pub(crate) mode: Option<Given<String>>,
    pub(crate) uids: Option<Given<Vec<Given<String>>>>,
    pub(crate) tls: Option<FileTls>,
}

/// One `[listener.tls]`.
#[derive(Debug)]
pub(crate) struct FileTls {
    pub(crate) place: Source,
    pub(crate) certificate: Option<Given<String>>,
    pub(crate) key: Option<Given<String>>,
    pub(crate) client_ca: Option<Given<String>>,
    pub(crate) client_names: Option<Given<Vec<Given<String>>>>,
    pub(crate) client_crl: Option<Given<String>>,
}

/// One `[[listener.rule]]`.
#[derive(Debug)]
pub(crate) struct FileRule {
    pub(crate) place: Source,
    pub(crate) methods: Option<Given<Vec<Given<String>>>>,
    pub(crate) path: Option<Given<String>>,
    pub(crate) action: Option<Given<String>>,
}

/// `[admin]`.
#[derive(Debug)]
pub(crate) struct FileAdmin {
    pub(crate) place: Source,
    pub(crate) bind: Option<Given<String>>,
    pub(crate) mode: Option<Given<String>>,
    pub(crate) uids: Option<Given<Vec<Given<String>>>>,
    pub(crate) quit: Option<Given<bool>>,
}

impl Default for FileAdmin {
    fn default() -> Self {
        Self {
            place: Source::Nowhere,
            bind: None,
            mode: None,
            uids: None,
            quit: None,
        }
    }
}

/// One `[account.NAME]`.
#[derive(Debug)]
pub(crate) struct FileAccount {
    pub(crate) name: Given<String>,
    pub(crate) environment: Option<Given<String>>,
    pub(crate) base_url: Option<Given<String>>,
    pub(crate) ca_file: Option<Given<String>>,
    pub(crate) http: Option<Given<String>>,
    pub(crate) client_id: Option<Given<String>>,
    pub(crate) client_id_file: Option<Given<String>>,
    pub(crate) client_secret_file: Option<Given<String>>,
    pub(crate) client_secret_next_file: Option<Given<String>>,
    pub(crate) public_key: Option<Given<String>>,
    pub(crate) public_key_file: Option<Given<String>>,
    pub(crate) private_key_file: Option<Given<String>>,
    pub(crate) digest_max_concurrent: Option<Given<String>>,
    pub(crate) proxy: Option<Given<String>>,
    pub(crate) proxy_credentials_file: Option<Given<String>>,
}

/// `[token_store]`.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "token-store"),
    allow(dead_code, reason = "read all the same, for the keys to be checked")
)]
pub(crate) struct FileTokenStore {
    pub(crate) place: Source,
    pub(crate) url: Option<Given<String>>,
    pub(crate) key_file: Option<Given<String>>,
    pub(crate) username: Option<Given<String>>,
    pub(crate) password_file: Option<Given<String>>,
    pub(crate) ca_file: Option<Given<String>>,
}

/// `[limits]`, as text: [`LIMITS`] in its order.
#[derive(Debug, Default)]
pub(crate) struct FileLimits {
    pub(crate) max_connections: Option<Given<String>>,
    pub(crate) max_connections_per_peer: Option<Given<String>>,
    pub(crate) max_connection_age: Option<Given<String>>,
    pub(crate) header_read_timeout: Option<Given<String>>,
    pub(crate) max_header_bytes: Option<Given<String>>,
    pub(crate) max_headers: Option<Given<String>>,
    pub(crate) request_body_idle_timeout: Option<Given<String>>,
    pub(crate) request_body_min_rate: Option<Given<String>>,
    pub(crate) connect_timeout: Option<Given<String>>,
    pub(crate) response_head_timeout: Option<Given<String>>,
    pub(crate) response_body_idle_timeout: Option<Given<String>>,
    pub(crate) upstream_connection_max_age: Option<Given<String>>,
    pub(crate) replay_limit: Option<Given<String>>,
    pub(crate) replay_budget: Option<Given<String>>,
}

/// The file. Without one: nothing.
#[derive(Debug, Default)]
pub(crate) struct FileConfig {
    pub(crate) listeners: Vec<FileListener>,
    pub(crate) accounts: Vec<FileAccount>,
    pub(crate) admin: FileAdmin,
    pub(crate) limits: FileLimits,
    pub(crate) token_store: Option<FileTokenStore>,
    pub(crate) workers: Option<Given<String>>,
    pub(crate) drain_timeout: Option<Given<String>>,
    pub(crate) drain_delay: Option<Given<String>>,
    pub(crate) log_level: Option<Given<String>>,
    pub(crate) log_format: Option<Given<String>>,
}

impl FileConfig {
    /// Reads the text of a file; what is wrong with its syntax, keys and types is noted.
    pub(crate) fn parse(path: &Path, text: &str, problems: &mut Problems) -> Self {
        let document = Document::new(path, text);
        let Some(table) = document.parse(problems) else {
            return Self::default();
        };
        let top = Reader::of(&document, &table, &TOP, problems);
        let mut config = Self {
            listeners: listeners(&top, problems),
            accounts: accounts(&top, problems),
            workers: top.integer("workers", problems),
            drain_timeout: top.text("drain_timeout", problems),
            drain_delay: top.text("drain_delay", problems),
            ..Self::default()
        };
        if let Some(admin) = top.table("admin", &ADMIN, problems) {
            config.admin = FileAdmin {
                place: admin.place().clone(),
                bind: admin.text("bind", problems),
                mode: admin.text_or_integer("mode", problems),
                uids: admin.integers("uids", problems),
                quit: admin.boolean("quit", problems),
            };
        }
        if let Some(log) = top.table("log", &LOG, problems) {
            config.log_level = log.text("level", problems);
            config.log_format = log.text("format", problems);
        }
        if let Some(table) = top.table("limits", &LIMITS, problems) {
            config.limits = limits(&table, problems);
        }
        config.token_store = token_store(&top, problems);
        config
    }
}

fn listeners(top: &Reader<'_>, problems: &mut Problems) -> Vec<FileListener> {
    let mut listeners = Vec::new();
    for table in top.tables("listener", &LISTENER, problems) {
        listeners.push(FileListener {
            place: table.place().clone(),
            name: name(table.text("name", problems), problems),
            bind: table.text("bind", problems),
            account: name(table.text("account", problems), problems),
            allow: table.texts("allow", problems),
            hosts: table.texts("hosts", problems),
            read_only: table.boolean("read_only", problems),
            insecure_plaintext: table.boolean("insecure_plaintext", problems),
            rewrite_links: table.boolean("rewrite_links", problems),
            max_requests_per_minute: table.integer("max_requests_per_minute", problems),
            max_concurrent_requests: table.integer("max_concurrent_requests", problems),
            retry_429: table.text("retry_429", problems),
            required_header: table.text("required_header", problems),
            unmatched: table.text("unmatched", problems),
            rules: rules(&table, problems),
            mode: table.text_or_integer("mode", problems),
            uids: table.integers("uids", problems),
            tls: tls(&table, problems),
        });
    }
    listeners
}

fn tls(listener: &Reader<'_>, problems: &mut Problems) -> Option<FileTls> {
    let table = listener.table("tls", &TLS, problems)?;
    Some(FileTls {
        place: table.place().clone(),
        certificate: table.text("certificate", problems),
        key: table.text("key", problems),
        client_ca: table.text("client_ca", problems),
        client_names: table.texts("client_names", problems),
        client_crl: table.text("client_crl", problems),
    })
}

fn token_store(top: &Reader<'_>, problems: &mut Problems) -> Option<FileTokenStore> {
    let table = top.table("token_store", &TOKEN_STORE, problems)?;
    Some(FileTokenStore {
        place: table.place().clone(),
        url: table.text("url", problems),
        key_file: table.text("key_file", problems),
        username: table.text("username", problems),
        password_file: table.text("password_file", problems),
        ca_file: table.text("ca_file", problems),
    })
}

fn rules(listener: &Reader<'_>, problems: &mut Problems) -> Vec<FileRule> {
    let mut rules = Vec::new();
    for table in listener.tables("rule", &RULE, problems) {
        rules.push(FileRule {
            place: table.place().clone(),
            methods: table.texts("methods", problems),
            path: table.text("path", problems),
            action: table.text("action", problems),
        });
    }
    rules
}

fn accounts(top: &Reader<'_>, problems: &mut Problems) -> Vec<FileAccount> {
    let mut accounts = Vec::new();
    for (given, table) in top.named("account", &ACCOUNT, problems) {
        let Some(name) = name(Some(given), problems) else {
            continue;
        };
        accounts.push(FileAccount {
            name,
            environment: table.text("environment", problems),
            base_url: table.text("base_url", problems),
            ca_file: table.text("ca_file", problems),
            http: table.text_or_integer("http", problems),
            client_id: table.text("client_id", problems),
            client_id_file: table.text("client_id_file", problems),
            client_secret_file: table.text("client_secret_file", problems),
            client_secret_next_file: table.text("client_secret_next_file", problems),
            public_key: table.text("public_key", problems),
            public_key_file: table.text("public_key_file", problems),
            private_key_file: table.text("private_key_file", problems),
            digest_max_concurrent: table.integer("digest_max_concurrent", problems),
            proxy: table.text("proxy", problems),
            proxy_credentials_file: table.text("proxy_credentials_file", problems),
        });
    }
    accounts
}

/// Names are checked here: everything that is said later of a listener or an account repeats them.
fn name(given: Option<Given<String>>, problems: &mut Problems) -> Option<Given<String>> {
    problems.parse(given?, value::name)
}

fn limits(table: &Reader<'_>, problems: &mut Problems) -> FileLimits {
    FileLimits {
        max_connections: table.integer("max_connections", problems),
        max_connections_per_peer: table.integer("max_connections_per_peer", problems),
        max_connection_age: table.text("max_connection_age", problems),
        header_read_timeout: table.text("header_read_timeout", problems),
        max_header_bytes: table.text_or_integer("max_header_bytes", problems),
        max_headers: table.integer("max_headers", problems),
        request_body_idle_timeout: table.text("request_body_idle_timeout", problems),
        request_body_min_rate: table.text("request_body_min_rate", problems),
        connect_timeout: table.text("connect_timeout", problems),
        response_head_timeout: table.text("response_head_timeout", problems),
        response_body_idle_timeout: table.text("response_body_idle_timeout", problems),
        upstream_connection_max_age: table.text("upstream_connection_max_age", problems),
        replay_limit: table.text_or_integer("replay_limit", problems),
        replay_budget: table.text_or_integer("replay_budget", problems),
    }
}
