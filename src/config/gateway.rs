//! Accounts whose upstream is a gateway of this program: where it is, and what it is shown. No credential of Atlas stands
//! beside that.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::credential::{self, Account};
use super::inputs::{GivenList, Inputs};
use super::problem::shown;
use super::source::{Given, Source};
use super::variable;
use crate::credential::identity::{IdentityError, IdentityFiles, IdentitySettings, LARGEST_IDENTITY_FILE, Shown};
use crate::upstream::Origin;

/// What is said of a gateway, wherever it stands.
pub(crate) struct Gateway {
    url: Given<String>,
    token: Option<Given<String>>,
    command: Option<GivenList>,
    certificate: Option<Given<String>>,
    key: Option<Given<String>>,
}

impl Gateway {
    /// `None`: the account's upstream is no gateway.
    pub(crate) fn given(account: &Account<'_>, inputs: &mut Inputs<'_>) -> Option<Self> {
        let table = account.table;
        let mut find = |name, key: Option<&Given<String>>| {
            let of_environment = account.takes_environment.then(|| inputs.variable(name)).flatten();
            of_environment.or_else(|| key.cloned())
        };
        let url = find(variable::GATEWAY, table.and_then(|table| table.gateway.as_ref()));
        let token = find(
            variable::IDENTITY_TOKEN_FILE,
            table.and_then(|table| table.identity_token_file.as_ref()),
        );
        let certificate = find(
            variable::CLIENT_CERTIFICATE,
            table.and_then(|table| table.client_certificate.as_ref()),
        );
        let key = find(variable::CLIENT_KEY, table.and_then(|table| table.client_key.as_ref()));
        let command = table.and_then(|table| table.identity_token_command.clone());
        let Some(url) = url else {
            let texts = [token, certificate, key]
                .into_iter()
                .flatten()
                .map(|given| given.source);
            for source in texts.chain(command.map(|given| given.source)) {
                inputs.problems.add(
                    &source,
                    format_args!(
                        "this shows a gateway who it is, and account `{}` has none: set `gateway` in the file's [account.{}], or {}",
                        account.name, account.name, variable::GATEWAY
                    ),
                );
            }
            return None;
        };
        Some(Self {
            url,
            token,
            command,
            certificate,
            key,
        })
    }

    /// Where it is.
    pub(crate) fn origin(&self, inputs: &mut Inputs<'_>) -> Option<Given<Origin>> {
        inputs.problems.parse(self.url.clone(), |text| {
            let origin = Origin::parse(text).map_err(|error| error.to_string())?;
            if origin == Origin::commercial() || origin == Origin::government() {
                return Err("this is Atlas itself; a gateway is another proxy of this program".to_owned());
            }
            Ok(origin)
        })
    }

    /// What it is shown. Notes what contradicts a gateway, too.
    pub(crate) fn identity(
        &self,
        account: &Account<'_>,
        base_url: Option<&Source>,
        inputs: &mut Inputs<'_>,
    ) -> Option<IdentitySettings> {
        let before = inputs.problems.count();
        self.refuse_others(account, base_url, inputs);
        let identity = match (&self.token, &self.certificate, &self.key) {
            (None, None, None) if let Some(command) = &self.command => self.token_by(command, inputs),
            _ if let Some(command) = &self.command => {
                inputs.problems.add(
                    &command.source,
                    "a gateway is shown one thing: remove this, or `identity_token_file`, `client_certificate` and `client_key`",
                );
                None
            }
            (Some(token), None, None) => token_of(token, inputs),
            (None, Some(certificate), Some(key)) => {
                if Origin::parse(&self.url.value).is_ok_and(|origin| !origin.is_tls()) {
                    inputs.problems.add(
                        &certificate.source,
                        "a certificate is shown in a TLS handshake, and the gateway is reached by plain `http://`: use `https://`, or \
                         `identity_token_file`",
                    );
                }
                pair_of(certificate, key, inputs)
            }
            (None, None, None) => {
                inputs.problems.add(
                    &self.url.source,
                    format_args!(
                        "account `{}` shows its gateway nothing: set `identity_token_file` ({}), `identity_token_command`, or \
                         `client_certificate` and `client_key` ({}, {})",
                        account.name,
                        variable::IDENTITY_TOKEN_FILE,
                        variable::CLIENT_CERTIFICATE,
                        variable::CLIENT_KEY
                    ),
                );
                None
            }
            (Some(token), _, _) => {
                inputs.problems.add(
                    &token.source,
                    "a gateway is shown a token or a certificate, not both: remove `identity_token_file`, or \
                     `client_certificate` and `client_key`",
                );
                None
            }
            (None, Some(there), None) => lacks(there, "client_key", inputs),
            (None, None, Some(there)) => lacks(there, "client_certificate", inputs),
        };
        identity.filter(|_| inputs.problems.count() == before)
    }

    fn token_by(&self, command: &GivenList, inputs: &mut Inputs<'_>) -> Option<IdentitySettings> {
        let (printer, token) = inputs.printed_by(command, &Shown::until_of_token)?;
        // It was good for the same check.
        let first = Arc::new(Shown::token(&token).ok()?);
        let files = IdentityFiles::Command(printer);
        Some(IdentitySettings { files, first })
    }

    /// A base URL and credentials of Atlas: one of the two is not meant.
    fn refuse_others(&self, account: &Account<'_>, base_url: Option<&Source>, inputs: &mut Inputs<'_>) {
        if let Some(base_url) = base_url {
            inputs.problems.add(
                base_url,
                format_args!(
                    "account `{}` has a gateway ({}) in place of a base URL: unset one of the two",
                    account.name, self.url.source
                ),
            );
        }
        for source in credential::everything_of(account, inputs) {
            inputs.problems.add(
                &source,
                format_args!(
                    "this belongs to a credential of Atlas, which the gateway (account `{}`, {}) has: unset one of the two",
                    account.name, self.url.source
                ),
            );
        }
    }
}

fn lacks(there: &Given<String>, other: &str, inputs: &mut Inputs<'_>) -> Option<IdentitySettings> {
    inputs.problems.add(
        &there.source,
        format_args!("a certificate and its private key go together: set `{other}`, too"),
    );
    None
}

fn token_of(named: &Given<String>, inputs: &mut Inputs<'_>) -> Option<IdentitySettings> {
    let (path, bytes) = secret(named, inputs)?;
    settings(
        IdentityFiles::Token(path.clone()),
        Shown::token(&bytes),
        &path,
        named,
        inputs,
    )
}

fn pair_of(certificate: &Given<String>, key: &Given<String>, inputs: &mut Inputs<'_>) -> Option<IdentitySettings> {
    let path = inputs.credential_path(certificate);
    let chain = inputs.read(&path, LARGEST_IDENTITY_FILE, &certificate.source);
    let read_key = secret(key, inputs);
    let (chain, (key_path, key_bytes)) = (chain?, read_key?);
    let pair = Shown::certificate(&chain, &key_bytes);
    let (at, file) = match &pair {
        Err(IdentityError::Key) => (key, &key_path),
        _ => (certificate, &path),
    };
    let files = IdentityFiles::Certificate {
        certificate: path.clone(),
        key: key_path.clone(),
    };
    settings(files, pair, file, at, inputs)
}

fn secret(named: &Given<String>, inputs: &mut Inputs<'_>) -> Option<(PathBuf, Zeroizing<Vec<u8>>)> {
    let path = inputs.credential_path(named);
    let bytes = inputs.read_secret(&path, LARGEST_IDENTITY_FILE, &named.source)?;
    Some((path, bytes))
}

fn settings(
    files: IdentityFiles,
    first: Result<Shown, IdentityError>,
    file: &std::path::Path,
    named: &Given<String>,
    inputs: &mut Inputs<'_>,
) -> Option<IdentitySettings> {
    match first {
        Ok(first) => Some(IdentitySettings {
            files,
            first: Arc::new(first),
        }),
        Err(error) => {
            let file = file.display().to_string();
            inputs
                .problems
                .add(&named.source, format_args!("{}: {error}", shown(&file)));
            None
        }
    }
}
