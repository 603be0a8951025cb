//! `[token_store]`: the store that replicas share tokens in.

use super::inputs::Inputs;
use super::table::tables;

tables! {
    /// `[token_store]`.
    FileTokenStore {
        /// Redis or Valkey: `redis://[user@]host[:6379][/db]`, or `rediss://…` for TLS; no password.
        url: text default required,
        /// File with the key that closes what is stored, 64 hexadecimal digits; the same for all replicas.
        key_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        key_command: command,
        /// Whom to be there. Left out: the default user.
        username: text,
        /// File with the password.
        password_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        password_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        /// With `rediss://`: PEM file of the authorities to trust. Left out: the system's.
        ca_file: text,
        "key" => "no secret in this file: put it into a file of its own and name that with `key_file`",
        "password" => "no secret in this file: put it into a file of its own and name that with `password_file`",
    }
}

#[cfg(feature = "token-store")]
pub(crate) use shared::build;

/// A build without the feature refuses the table: whoever wrote it relies on it.
#[cfg(not(feature = "token-store"))]
pub(crate) fn refuse(table: Option<&FileTokenStore>, inputs: &mut Inputs<'_>) {
    if let Some(table) = table {
        inputs.problems.add(
            &table.place,
            "this build can't share tokens: it was made without the cargo feature `token-store`",
        );
    }
}

#[cfg(feature = "token-store")]
mod shared {
    use percent_encoding::percent_decode_str;
    use url::{Host, Url};

    use super::super::account;
    use super::super::problem::shown;
    use super::super::secret_place::{SecretPlace, parsed};
    use super::super::secret_value;
    use super::{FileTokenStore, Inputs};
    use crate::secret::Secret;
    use crate::token_store::{DEFAULT_PORT, SealKey, StoreTls, TokenStoreSettings};

    /// A Redis server has 16 databases unless it is told otherwise.
    const MOST_DATABASE: u32 = 9999;

    /// What the URL says.
    struct Address {
        host: String,
        port: u16,
        database: u32,
        username: Option<String>,
        tls: bool,
    }

    /// Reads the table, if there is one.
    pub(crate) fn build(table: Option<&FileTokenStore>, inputs: &mut Inputs<'_>) -> Option<TokenStoreSettings> {
        let table = table?;
        let key = SecretPlace {
            file: table.key_file.as_ref(),
            command: table.key_command.as_ref(),
        };
        let password = SecretPlace {
            file: table.password_file.as_ref(),
            command: table.password_command.as_ref(),
        };
        for (key, is_given, what) in [
            (
                "url",
                table.url.is_some(),
                "write `redis://host:6379`, or `rediss://…` for TLS",
            ),
            (
                "key_file",
                key.source().is_some(),
                "name a file with a key, made with `openssl rand -hex 32`, the same for all replicas",
            ),
        ] {
            if !is_given {
                let text = format!("`{key}` is missing: {what}");
                inputs.problems.add(&table.place, text);
            }
        }
        let address = table
            .url
            .clone()
            .and_then(|given| inputs.problems.parse(given, address))
            .map(|given| given.value);
        let key = inputs.secret(key, parsed(SealKey::parse));
        // A password that can't be read has been noted as a problem.
        let password = inputs.secret(password, |bytes| {
            let line = secret_value::line(bytes, "password")?;
            Ok(Secret::new(line.as_str()))
        });
        let (address, key) = (address?, key?);
        Some(TokenStoreSettings {
            tls: tls(table, &address, inputs),
            username: username(table, address.username, inputs),
            host: address.host,
            port: address.port,
            database: address.database,
            password,
            key,
        })
    }

    /// No message shows what stands before an `@`.
    fn address(text: &str) -> Result<Address, String> {
        const LIKE: &str = "write it like `redis://host:6379`, `redis://host:6379/1` or `rediss://…` for TLS";
        let url = Url::parse(text.trim()).map_err(|error| format!("this is not a URL ({error}): {LIKE}"))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            other => return Err(format!("the scheme {} is not one of a store: {LIKE}", shown(other))),
        };
        // Also after the host: a password that is not percent-encoded may have a slash.
        let behind_host = &url[url::Position::AfterPort..];
        if url.password().is_some() || behind_host.contains('@') {
            return Err(
                "this holds a password, and no secret stands in this file: put it into a file of its own and name that \
                 with `password_file`"
                    .to_owned(),
            );
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_ascii_lowercase(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(Host::Domain(_)) | None => return Err(format!("this has no host: {LIKE}")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "this has a query or a fragment, which says nothing here: {LIKE}"
            ));
        }
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number
                .parse()
                .ok()
                .filter(|number| *number <= MOST_DATABASE)
                .ok_or_else(|| format!("the path {} is not the number of a database: {LIKE}", shown(url.path())))?,
        };
        let username = percent_decode_str(url.username())
            .decode_utf8()
            .map_err(|_| "the user name is not UTF-8 text".to_owned())?;
        Ok(Address {
            host,
            port: url.port().unwrap_or(DEFAULT_PORT),
            database,
            username: (!username.is_empty()).then(|| username.into_owned()),
            tls,
        })
    }

    fn username(table: &FileTokenStore, of_url: Option<String>, inputs: &mut Inputs<'_>) -> Option<String> {
        let given = table.username.as_ref();
        if let (Some(given), Some(of_url)) = (given, &of_url)
            && given.value != *of_url
        {
            inputs
                .problems
                .add(&given.source, "`url` names another user: remove one of the two");
        }
        let username = given.map(|given| given.value.clone()).or(of_url);
        if username.is_some() && table.password_file.is_none() && table.password_command.is_none() {
            let source = given.map_or(&table.place, |given| &given.source);
            inputs
                .problems
                .add(source, "a user needs a password: name its file with `password_file`");
        }
        username
    }

    fn tls(table: &FileTokenStore, address: &Address, inputs: &mut Inputs<'_>) -> Option<StoreTls> {
        match (&table.ca_file, address.tls) {
            (Some(given), false) => {
                inputs.problems.add(
                    &given.source,
                    "authorities are for TLS, and `url` begins with `redis://`: write `rediss://`, or remove this",
                );
                None
            }
            (given, true) => Some(StoreTls {
                ca_file: given.as_ref().and_then(|given| account::ca_file(given, inputs)),
            }),
            (None, false) => None,
        }
    }
}
