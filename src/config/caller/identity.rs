//! What a caller is known by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::rule::FileCallerRule;
use crate::caller::{CallerIdentity, CallerName, JwtMatch, LocalSecrets, Pattern, local_secret};
use crate::config::inputs::{GivenList, Inputs};
use crate::config::problem::{Problems, shown};
use crate::config::secret_place::SecretPlace;
use crate::config::source::Given;
use crate::config::table::tables;
use crate::config::{unix, value};

tables! {
    /// One `[[caller]]`.
    FileCaller {
        /// In logs and metrics, and the user name, client id or public key that goes with its secret: 1 to 63 of `a-z 0-9 . _ -`.
        name: text default required,
        /// Names of the listeners where it exists. Left out: all.
        listeners: texts,
        /// Networks that it calls from; counts only for requests that show nothing else; the longest prefix wins.
        networks: texts,
        /// User ids at the other end of a unix socket.
        uids: integers,
        /// DNS names and URIs in the certificates of `client_ca`; `*` is one whole part, `**` at the end any number.
        certificate_names: texts,
        /// Whose tokens show that it is this caller.
        jwt: tables of FileJwt,
        /// File with its local secret (`atlas-auth-proxy make-secret`); a second line is the next one.
        secret_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        secret_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        /// Its share, in this process: beyond it 429. Left out: no limit.
        max_requests_per_minute: integer as Range(1, 4294967295),
        /// Its share, in this process: beyond it 429. Left out: no limit.
        max_concurrent_requests: integer as Range(1, 4294967295),
        /// Whether it may name a client id or public key of this proxy's accounts in a path.
        own_account: boolean default false,
        /// Whether what it says of its own callers is recorded; it decides nothing.
        delegates: boolean default false,
        /// There is nothing else: what no rule allows is denied.
        unmatched: text as OneOf("deny") default "deny",
        /// What it may do: the first match decides.
        rules = "rule": tables of FileCallerRule,
        "rules" => "there is no such key; write `[[caller.rule]]`, once for each",
        "secret" => "no secret in this file: put it into a file of its own and name that with `secret_file`",
        "listener" => "there is no such key; write `listeners`, a list",
        "read_only" => "there is no such key; write a rule with `methods = [\"GET\"]`",
    }

    /// One of `jwt`.
    FileJwt {
        /// The `name` of an issuer.
        issuer: text default required,
        /// Pattern of `sub`, with `*` and `**`.
        subject: text,
        /// Patterns of other claims; each must be there and match.
        claims: texts_by_name,
    }
}

/// The identity that a table describes; what is wrong with it is noted.
pub(super) fn build(
    table: &FileCaller,
    listeners: &BTreeSet<&str>,
    issuers: &BTreeSet<&str>,
    inputs: &mut Inputs<'_>,
) -> Option<CallerIdentity> {
    if table.name.is_none() {
        inputs.problems.add(&table.place, "the caller has no `name`");
    }
    let name = table
        .name
        .clone()
        .and_then(|given| inputs.problems.parse(given, parsed(CallerName::parse)));
    let own_listeners = table
        .listeners
        .as_ref()
        .map(|list| known_listeners(list, listeners, &mut inputs.problems));
    let networks = each(table.networks.as_ref(), &mut inputs.problems, value::network);
    let uids = each(table.uids.as_ref(), &mut inputs.problems, unix::user_id);
    let certificate_names = each(
        table.certificate_names.as_ref(),
        &mut inputs.problems,
        parsed(Pattern::parse_certificate_name),
    );
    let jwt = table
        .jwt
        .iter()
        .filter_map(|one| jwt(one, issuers, &mut inputs.problems))
        .collect();
    let place = SecretPlace {
        file: table.secret_file.as_ref(),
        command: table.secret_command.as_ref(),
    };
    let secrets = match place.source() {
        Some(_) => inputs.secret(place, secrets),
        None => Some(LocalSecrets::default()),
    };
    Some(CallerIdentity {
        name: name?.value,
        listeners: own_listeners,
        networks,
        uids,
        certificate_names,
        jwt,
        secrets: secrets?,
    })
}

fn parsed<T, E: Display>(parse: impl Fn(&str) -> Result<T, E>) -> impl Fn(&str) -> Result<T, String> {
    move |text| parse(text).map_err(|error| error.to_string())
}

fn each<T>(list: Option<&GivenList>, problems: &mut Problems, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
    if let Some(list) = list.filter(|list| list.value.is_empty()) {
        problems.add(&list.source, "an empty list names nobody: name one, or remove the key");
    }
    list.iter()
        .flat_map(|list| &list.value)
        .filter_map(|given| problems.parse(given.clone(), &parse))
        .map(|given| given.value)
        .collect()
}

fn known_listeners(list: &GivenList, listeners: &BTreeSet<&str>, problems: &mut Problems) -> Vec<String> {
    each(Some(list), problems, |text| {
        if listeners.contains(text) {
            return Ok(text.to_owned());
        }
        let known: Vec<&str> = listeners.iter().copied().collect();
        Err(match known.as_slice() {
            [] => format!(
                "there is no listener named {}: give the `[[listener]]` a `name`",
                shown(text)
            ),
            known => format!(
                "there is no listener named {}; there is: {}",
                shown(text),
                known.join(", ")
            ),
        })
    })
}

fn jwt(table: &FileJwt, issuers: &BTreeSet<&str>, problems: &mut Problems) -> Option<JwtMatch> {
    let issuer = match &table.issuer {
        Some(given) if issuers.contains(given.value.as_str()) => Some(given.value.clone()),
        Some(given) => {
            let known: Vec<&str> = issuers.iter().copied().collect();
            problems.add(
                &given.source,
                format_args!(
                    "there is no `[[issuer]]` named {}{}",
                    shown(&given.value),
                    if known.is_empty() {
                        String::new()
                    } else {
                        format!("; there is: {}", known.join(", "))
                    }
                ),
            );
            None
        }
        None => {
            problems.add(&table.place, "`issuer` is missing: the name of an `[[issuer]]`");
            None
        }
    };
    let mut pattern = |given: &Given<String>| {
        problems
            .parse(given.clone(), parsed(Pattern::parse))
            .map(|given| given.value)
    };
    let subject = table.subject.as_ref().map(&mut pattern);
    let claims: Option<BTreeMap<_, _>> = table
        .claims
        .iter()
        .map(|(name, given)| Some((name.clone(), pattern(given)?)))
        .collect();
    let subject = subject.map_or(Some(None), |subject| subject.map(Some))?;
    match JwtMatch::new(issuer?, subject, claims?) {
        Ok(wanted) => Some(wanted),
        Err(error) => {
            problems.add(&table.place, error);
            None
        }
    }
}

/// The first line is the secret in use, the second the next one.
fn secrets(bytes: &[u8]) -> Result<LocalSecrets, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "this is not UTF-8 text")?;
    let mut secrets = LocalSecrets::default();
    for (at, line) in text.lines().map(str::trim_end).enumerate() {
        let place = match at {
            0 => &mut secrets.current,
            1 => &mut secrets.next,
            _ if line.is_empty() => continue,
            _ => {
                return Err(
                    "it has more than two secrets: the first line is the one in use, the second the next one"
                        .to_owned(),
                );
            }
        };
        if line.is_empty() && at > 0 {
            continue;
        }
        let secret = local_secret(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        *place = Some(secret);
    }
    if secrets.current.is_none() {
        return Err("it is empty: make a secret with `atlas-auth-proxy make-secret`".to_owned());
    }
    Ok(secrets)
}
