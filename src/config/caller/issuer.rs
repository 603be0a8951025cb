//! `[[issuer]]`: whose JSON Web Tokens say who a caller is.

use std::time::Duration;

use crate::caller::{IssuerKind, IssuerSettings, IssuerToken, JwksSource, JwksUrl};
use crate::config::inputs::Inputs;
use crate::config::problem::shown;
use crate::config::secret_place::SecretPlace;
use crate::config::source::Given;
use crate::config::table::tables;
use crate::config::value;
use crate::secret::Secret;

tables! {
    /// One `[[issuer]]`.
    FileIssuer {
        /// What `jwt` of callers calls it.
        name: text default required,
        /// What its tokens have in `iss`, byte for byte.
        issuer: text,
        /// What its tokens must have in `aud`: the gateway's own name.
        audience: text default required,
        /// Where its keys are (`jwks_uri` of its discovery document): `https://`, or `http://` to this machine.
        jwks_url: text,
        /// File with its keys.
        jwks_file: text,
        /// PEM file of the authorities to trust at `jwks_url`. Left out: the system's.
        ca_file: text,
        /// File with a token that is sent to `jwks_url` as Bearer, read anew each time; needs `ca_file`.
        token_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        token_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        /// Longest life of a token, `exp` less `iat`.
        max_life: text as Duration default "24h",
        /// How long keys are used without an answer of the issuer.
        keep: text as Duration default "1h",
        /// In place of `issuer`: a SPIFFE trust domain. `iss` is ignored, the trust domain of `sub` decides.
        spiffe: text,
    }
}

pub(crate) const DEFAULT_MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_KEEP: Duration = Duration::from_secs(3600);

pub(super) fn build(table: &FileIssuer, inputs: &mut Inputs<'_>) -> Option<IssuerSettings> {
    for (key, given, what) in [
        ("name", &table.name, "what `jwt` of callers calls it"),
        (
            "audience",
            &table.audience,
            "this proxy's own name, which a token must have in `aud`",
        ),
    ] {
        if given.is_none() {
            inputs
                .problems
                .add(&table.place, format_args!("`{key}` is missing: {what}"));
        }
    }
    let name = table
        .name
        .clone()
        .and_then(|given| inputs.problems.parse(given, value::name));
    let kind = kind(table, inputs);
    let keys = keys(table, inputs);
    let mut time = |given: &Option<Given<String>>, default| match given.clone() {
        Some(given) => inputs.problems.parse(given, value::wait).map(|given| given.value),
        None => Some(default),
    };
    let (max_life, keep) = (time(&table.max_life, DEFAULT_MAX_LIFE), time(&table.keep, DEFAULT_KEEP));
    let audience = table.audience.as_ref().filter(|given| !given.value.is_empty());
    if let (Some(given), None) = (&table.audience, audience) {
        inputs.problems.add(
            &given.source,
            "this is empty: write this proxy's own name, such as its URL",
        );
    }
    Some(IssuerSettings {
        name: name?.value,
        kind: kind?,
        audience: audience?.value.clone(),
        keys: keys?,
        max_life: max_life?,
        keep: keep?,
    })
}

fn kind(table: &FileIssuer, inputs: &mut Inputs<'_>) -> Option<IssuerKind> {
    match (&table.issuer, &table.spiffe) {
        (Some(given), None) if !given.value.is_empty() => Some(IssuerKind::Issuer(given.value.clone())),
        (None, Some(given)) => {
            let parsed = inputs.problems.parse(given.clone(), trust_domain);
            parsed.map(|given| IssuerKind::Spiffe {
                trust_domain: given.value,
            })
        }
        (Some(_), Some(spiffe)) => {
            inputs.problems.add(
                &spiffe.source,
                "`issuer` stands beside this: of SPIFFE tokens `iss` is ignored; remove one of the two",
            );
            None
        }
        (Some(given), None) => {
            inputs
                .problems
                .add(&given.source, "this is empty: write what the tokens have in `iss`");
            None
        }
        (None, None) => {
            inputs.problems.add(
                &table.place,
                "`issuer` is missing: write what the tokens have in `iss` (or `spiffe`, a trust domain)",
            );
            None
        }
    }
}

/// SPIFFE ID section 2.1.
fn trust_domain(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("spiffe://").unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
        return Err(format!(
            "{} is no trust domain: write it like `example.org`",
            shown(text)
        ));
    }
    Ok(text.to_owned())
}

fn keys(table: &FileIssuer, inputs: &mut Inputs<'_>) -> Option<JwksSource> {
    let path = |given: &Option<Given<String>>, inputs: &Inputs<'_>| given.as_ref().map(|given| inputs.path(given));
    let token = SecretPlace {
        file: table.token_file.as_ref(),
        command: table.token_command.as_ref(),
    };
    match (&table.jwks_url, &table.jwks_file) {
        (Some(url), None) => {
            if let (Some(token), None) = (token.source(), &table.ca_file) {
                inputs.problems.add(
                    token,
                    "the token goes to whoever answers at `jwks_url`: name its authority with `ca_file`",
                );
                return None;
            }
            let ca_file = path(&table.ca_file, inputs);
            let token = match (token.source(), &table.token_file, &table.token_command) {
                (None, ..) => None,
                // It may not be there yet.
                (_, Some(file), None) => Some(IssuerToken::File(inputs.path(file))),
                _ => Some(inputs.secret(token, |bytes| {
                    IssuerToken::bearer(bytes)?;
                    let text = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| "this is no text")?;
                    if text.is_empty() {
                        return Err("this is empty: it must hold the token".to_owned());
                    }
                    Ok(IssuerToken::Value(Secret::new(text)))
                })?),
            };
            let parsed = inputs.problems.parse(url.clone(), |text| {
                JwksUrl::parse(text).map_err(|error| error.to_string())
            });
            let url = parsed?.value;
            Some(match (token, ca_file) {
                (Some(token), Some(ca_file)) => JwksSource::WithToken { url, ca_file, token },
                (_, ca_file) => JwksSource::Open {
                    url,
                    ca_file,
                    egress: None,
                },
            })
        }
        (None, Some(file)) => {
            let ca_file = table.ca_file.as_ref().map(|given| &given.source);
            for source in [ca_file, token.source()].into_iter().flatten() {
                inputs
                    .problems
                    .add(source, "this belongs to `jwks_url`: a file needs neither; remove it");
            }
            Some(JwksSource::File(inputs.path(file)))
        }
        (Some(_), Some(file)) => {
            inputs
                .problems
                .add(&file.source, "`jwks_url` stands beside this: remove one of the two");
            None
        }
        (None, None) => {
            inputs.problems.add(
                &table.place,
                "where are the issuer's keys? write `jwks_url` (the `jwks_uri` of its discovery document) or `jwks_file`",
            );
            None
        }
    }
}
