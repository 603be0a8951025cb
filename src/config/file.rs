//! The configuration file, from one table: which tables and keys there are, and how each is read. What the values mean is
//! decided elsewhere, together with flags and environment. A new key is one line here, and the code that uses its field.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{Document, Reader, Shape, Table};
use super::inputs::GivenList;
use super::problem::Problems;
use super::source::{Given, Source};

/// What a field holds, by the method of [`Reader`] that reads its key.
macro_rules! held {
    (text) => { Option<Given<String>> };
    (integer) => { Option<Given<String>> };
    (text_or_integer) => { Option<Given<String>> };
    (name) => { Option<Given<String>> };
    (boolean) => { Option<Given<bool>> };
    (texts) => { Option<GivenList> };
    (integers) => { Option<GivenList> };
    (table $table:ident) => { Option<$table> };
    (section $table:ident) => { $table };
    (tables $table:ident) => { Vec<$table> };
    (named $table:ident) => { BTreeMap<String, $table> };
}

/// A key is called like its field, unless it is given another name.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// `field: how to read its key`, or `field = "key": how to read it`, where the last says which [`Reader`] method; then the
/// keys that are recognised and refused, each with its reason.
macro_rules! tables {
    ($($(#[$attribute:meta])* $table:ident {
        $($field:ident $(= $key:literal)?: $kind:ident $(of $inner:ident)?,)*
        $($refused:literal => $why:literal,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Default)]
        pub(crate) struct $table {
            #[allow(dead_code, reason = "not of every table is something said as a whole")]
            pub(crate) place: Source,
            $(pub(crate) $field: held!($kind $($inner)?),)*
        }

        impl Table for $table {
            const SHAPE: &'static Shape = &Shape {
                keys: &[$(key!($field $($key)?)),*],
                refused: &[$(($refused, $why)),*],
            };

            fn read(reader: &Reader<'_>, problems: &mut Problems) -> Self {
                Self {
                    place: reader.place().clone(),
                    $($field: reader.$kind(key!($field $($key)?), problems),)*
                }
            }

            #[cfg(test)]
            fn keys(header: &str, all: &mut Vec<(String, &'static str)>) {$(
                let key = key!($field $($key)?);
                all.push((header.to_owned(), key));
                $($inner::keys(&super::document::header(stringify!($kind), header, key), all);)?
            )*}
        }
    )*};
}

tables! {
    /// The whole file. Without one: nothing.
    FileConfig {
        listeners = "listener": tables of FileListener,
        accounts = "account": named of FileAccount,
        admin: section of FileAdmin,
        limits: section of FileLimits,
        log: section of FileLog,
        token_store: table of FileTokenStore,
        workers: integer,
        drain_timeout: text,
        drain_delay: text,
        "listeners" => "there is no such key; write `[[listener]]`, once for each",
        "accounts" => "there is no such key; write `[account.NAME]`, once for each",
    }

    /// One `[[listener]]`.
    FileListener {
        name: name,
        bind: text,
        account: name,
        allow: texts,
        hosts: texts,
        read_only: boolean,
        insecure_plaintext: boolean,
        rewrite_links: boolean,
        max_requests_per_minute: integer,
        max_concurrent_requests: integer,
        retry_429: text,
        required_header: text,
        unmatched: text,
        rules = "rule": tables of FileRule,
        mode: text_or_integer,
        uids: integers,
        tls: table of FileTls,
        "rules" => "there is no such key; write `[[listener.rule]]`, once for each",
    }

    /// One `[[listener.rule]]`.
    FileRule {
        methods: texts,
        path: text,
        action: text,
    }

    /// One `[listener.tls]`.
    FileTls {
        certificate: text,
        key: text,
        client_ca: text,
        client_names: texts,
        client_crl: text,
        "certificate_file" => "there is no such key; write `certificate`",
        "key_file" => "there is no such key; write `key`",
        "client_ca_file" => "there is no such key; write `client_ca`",
        "client_crl_file" => "there is no such key; write `client_crl`",
    }

    /// One `[account.NAME]`.
    FileAccount {
        environment: text,
        base_url: text,
        ca_file: text,
        http: text_or_integer,
        client_id: text,
        client_id_file: text,
        client_secret_file: text,
        client_secret_next_file: text,
        public_key: text,
        public_key_file: text,
        private_key_file: text,
        digest_max_concurrent: integer,
        proxy: text,
        proxy_credentials_file: text,
        "client_secret" => "no secret in this file: put it into a file of its own and name that with `client_secret_file`",
        "private_key" => "no secret in this file: put it into a file of its own and name that with `private_key_file`",
    }

    /// `[admin]`.
    FileAdmin {
        bind: text,
        mode: text_or_integer,
        uids: integers,
        quit: boolean,
    }

    /// `[limits]`.
    FileLimits {
        max_connections: integer,
        max_connections_per_peer: integer,
        max_connection_age: text,
        header_read_timeout: text,
        max_header_bytes: text_or_integer,
        max_headers: integer,
        request_body_idle_timeout: text,
        request_body_min_rate: text,
        connect_timeout: text,
        response_head_timeout: text,
        response_body_idle_timeout: text,
        upstream_connection_max_age: text,
        replay_limit: text_or_integer,
        replay_budget: text_or_integer,
    }

    /// `[log]`.
    FileLog {
        level: text,
        format: text,
    }

    /// `[token_store]`.
    #[cfg_attr(
        not(feature = "token-store"),
        allow(dead_code, reason = "read all the same, for the keys to be checked")
    )]
    FileTokenStore {
        url: text,
        key_file: text,
        username: text,
        password_file: text,
        ca_file: text,
        "key" => "no secret in this file: put it into a file of its own and name that with `key_file`",
        "password" => "no secret in this file: put it into a file of its own and name that with `password_file`",
    }
}

impl FileConfig {
    /// Reads the text of a file; what is wrong with its syntax, keys and types is noted.
    pub(crate) fn parse(path: &Path, text: &str, problems: &mut Problems) -> Self {
        Document::new(path, text).read(problems).unwrap_or_default()
    }
}
