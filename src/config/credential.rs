//! Which credential an account has, from the variables, the file and systemd's credentials. Exactly one kind, and both
//! parts of it.

use std::io;

use zeroize::Zeroizing;

use super::account::FileAccount;
use super::inputs::{GivenList, Inputs, unreadable};
use super::secret_place::SecretPlace;
use super::secret_value::{self, Field};
use super::source::{Given, Source};
use super::value;
use super::variable;
use crate::credential::{ApiKeyPair, ClientSecrets, CredentialSettings, ServiceAccountKey};
use crate::secret::Secret;

/// The names under which a field is looked for.
struct Names {
    /// Plain variables, each beside its `_FILE` twin; the first one is the one that messages recommend.
    variables: &'static [(&'static str, &'static str)],
    /// The key of the file that has the value itself; a secret has none.
    key: &'static str,
    /// The key of the file that names a file.
    file_key: &'static str,
    /// The key of the file that names a command.
    command_key: &'static str,
    /// Files of `$CREDENTIALS_DIRECTORY`.
    credentials: &'static [&'static str],
}

fn names(field: Field) -> Names {
    match field {
        Field::ClientId => Names {
            variables: &[(variable::CLIENT_ID, variable::CLIENT_ID_FILE)],
            key: "client_id",
            file_key: "client_id_file",
            command_key: "client_id_command",
            credentials: &["client-id", "mongodb_atlas_client_id", variable::CLIENT_ID],
        },
        Field::ClientSecret => Names {
            variables: &[(variable::CLIENT_SECRET, variable::CLIENT_SECRET_FILE)],
            key: "",
            file_key: "client_secret_file",
            command_key: "client_secret_command",
            credentials: &["client-secret", "mongodb_atlas_client_secret", variable::CLIENT_SECRET],
        },
        Field::PublicKey => Names {
            variables: &[
                (variable::PUBLIC_API_KEY, variable::PUBLIC_API_KEY_FILE),
                (variable::PUBLIC_KEY, variable::PUBLIC_KEY_FILE),
            ],
            key: "public_key",
            file_key: "public_key_file",
            command_key: "public_key_command",
            credentials: &["public-key", "mongodb_atlas_public_api_key", variable::PUBLIC_API_KEY],
        },
        Field::PrivateKey => Names {
            variables: &[
                (variable::PRIVATE_API_KEY, variable::PRIVATE_API_KEY_FILE),
                (variable::PRIVATE_KEY, variable::PRIVATE_KEY_FILE),
            ],
            key: "",
            file_key: "private_key_file",
            command_key: "private_key_command",
            credentials: &[
                "private-key",
                "mongodb_atlas_private_api_key",
                variable::PRIVATE_API_KEY,
            ],
        },
    }
}

const FIELDS: [Field; 4] = [
    Field::ClientId,
    Field::ClientSecret,
    Field::PublicKey,
    Field::PrivateKey,
];

fn variables(field: Field) -> impl Iterator<Item = &'static str> {
    names(field).variables.iter().flat_map(|(plain, file)| [*plain, *file])
}

/// Every variable that carries a credential or names the file of one.
pub(crate) fn all_variables() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().flat_map(variables)
}

/// What the table of an account says of a field: the value, the name of its file, the command that prints it.
type Written<'t> = (
    Option<&'t Given<String>>,
    Option<&'t Given<String>>,
    Option<&'t GivenList>,
);

fn written(table: &FileAccount, field: Field) -> Written<'_> {
    let (inline, file, command) = match field {
        Field::ClientId => (
            table.client_id.as_ref(),
            &table.client_id_file,
            &table.client_id_command,
        ),
        Field::ClientSecret => (None, &table.client_secret_file, &table.client_secret_command),
        Field::PublicKey => (
            table.public_key.as_ref(),
            &table.public_key_file,
            &table.public_key_command,
        ),
        Field::PrivateKey => (None, &table.private_key_file, &table.private_key_command),
    };
    (inline, file.as_ref(), command.as_ref())
}

/// Forgets the commands of fields that variables give, in the table of the account that those are about: nobody asks for them.
pub(crate) fn drop_overridden(table: &FileAccount, inputs: &mut Inputs<'_>) {
    for field in FIELDS {
        if let (_, _, Some(command)) = written(table, field)
            && variables(field).any(|name| inputs.secret_variable(name).is_some())
        {
            inputs.commands.remove(&command.source);
        }
    }
}

/// What variables and systemd say of a credential, for people.
pub(crate) enum Elsewhere {
    /// As this key of the account's table would: the value, and where it stands.
    As(&'static str, Given<String>),
    /// Something that is not shown.
    Hidden(&'static str, Source),
}

/// What is said of the credential of the account that variables are about; and the keys of its table that don't count therefore.
pub(crate) fn elsewhere(inputs: &mut Inputs<'_>, table: Option<&FileAccount>) -> (Vec<Elsewhere>, Vec<&'static str>) {
    let (mut found, mut overridden) = (Vec::new(), Vec::new());
    for field in FIELDS {
        let names = names(field);
        let before = found.len();
        for (plain, file) in names.variables {
            match inputs.secret_variable(plain) {
                Some(_) if field.is_secret() => found.push(Elsewhere::Hidden(field.title(), Source::Variable(plain))),
                Some(_) => found.extend(inputs.variable(plain).map(|given| Elsewhere::As(names.key, given))),
                None => {}
            }
            found.extend(inputs.variable(file).map(|given| Elsewhere::As(names.file_key, given)));
        }
        if found.len() > before {
            overridden.extend([names.key, names.file_key, names.command_key]);
            continue;
        }
        let in_table = table.is_some_and(|table| !matches!(written(table, field), (None, None, None)));
        if let (false, Some(directory)) = (in_table, inputs.credentials_directory()) {
            let there = |name: &&&str| {
                inputs
                    .sources
                    .files
                    .read(&directory.join(name), secret_value::LARGEST)
                    .is_ok()
            };
            let name = names.credentials.iter().find(there);
            found.extend(name.map(|name| Elsewhere::Hidden(field.title(), Source::CredentialsDirectory(name))));
        }
    }
    (found, overridden)
}

/// One field of a credential, found somewhere.
struct Part {
    source: Source,
    /// `None`: it was given, but can't be used; that has been noted.
    value: Option<Zeroizing<String>>,
}

/// The places to look in for one account.
pub(crate) struct Account<'f> {
    pub(crate) name: &'f str,
    /// Its table in the file.
    pub(crate) table: Option<&'f FileAccount>,
    /// Whether the variables and systemd's credentials apply to this account.
    pub(crate) takes_environment: bool,
}

/// Where anything is given that belongs to a credential of Atlas.
pub(crate) fn everything_of(account: &Account<'_>, inputs: &Inputs<'_>) -> Vec<Source> {
    let mut found = Vec::new();
    if account.takes_environment {
        let all = all_variables().chain([variable::CLIENT_SECRET_NEXT_FILE]);
        found.extend(
            all.filter(|name| inputs.secret_variable(name).is_some())
                .map(Source::Variable),
        );
    }
    let Some(table) = account.table else { return found };
    let texts = [
        &table.client_id,
        &table.client_id_file,
        &table.client_secret_file,
        &table.client_secret_next_file,
        &table.public_key,
        &table.public_key_file,
        &table.private_key_file,
        &table.api_key_id,
        &table.digest_max_concurrent,
    ];
    let commands = [
        &table.client_id_command,
        &table.client_secret_command,
        &table.client_secret_next_command,
        &table.public_key_command,
        &table.private_key_command,
    ];
    let texts = texts.into_iter().flatten().map(|given| given.source.clone());
    let commands = commands.into_iter().flatten().map(|given| given.source.clone());
    found.extend(texts.chain(commands));
    found
}

/// Finds the credential of an account; notes what is missing or contradictory.
pub(crate) fn find(account: &Account<'_>, inputs: &mut Inputs<'_>) -> Option<CredentialSettings> {
    let mut parts = FIELDS.map(|field| given(account, field, inputs).map(|part| (field, part)));
    if account.takes_environment {
        fill_from_credentials_directory(&mut parts, inputs);
    }
    let [id, secret, public, private] = parts;
    match ((id, secret), (public, private)) {
        ((None, None), (None, None)) => {
            report_nothing(account, inputs);
            None
        }
        ((id, secret), (None, None)) => {
            let (id, secret) = both(account, id, secret, [Field::ClientId, Field::ClientSecret], inputs)?;
            no_digest_limit(account, inputs);
            Some(CredentialSettings::ServiceAccount(ServiceAccountKey {
                client_id: id.to_string(),
                secrets: ClientSecrets {
                    current: Secret::new(secret.as_str()),
                    next: next_secret(account, inputs),
                },
            }))
        }
        ((None, None), (public, private)) => {
            let max_concurrent = account
                .table
                .and_then(|table| table.digest_max_concurrent.clone())
                .and_then(|given| inputs.problems.parse(given, at_least_one))
                .map(|given| given.value);
            no_next_secret(account, inputs);
            let (public, private) = both(account, public, private, [Field::PublicKey, Field::PrivateKey], inputs)?;
            Some(CredentialSettings::ApiKey(ApiKeyPair {
                public_key: public.to_string(),
                private_key: Secret::new(private.as_str()),
                max_concurrent,
            }))
        }
        ((id, secret), (public, private)) => {
            let service_account = list_of_found([id, secret]);
            let api_key = list_of_found([public, private]);
            inputs.problems.add(
                &Source::Nowhere,
                format_args!(
                    "account `{}` has parts of two kinds of credential, and there can be only one: a service account \
                     ({service_account}) and an API key ({api_key}). Remove the one that is not meant",
                    account.name
                ),
            );
            None
        }
    }
}

/// The secret that will follow the current one. Its file may be empty or missing: that is the usual state.
fn next_secret(account: &Account<'_>, inputs: &mut Inputs<'_>) -> Option<Secret> {
    let named = match account.takes_environment {
        true => inputs.variable(variable::CLIENT_SECRET_NEXT_FILE),
        false => None,
    };
    let named = named.or_else(|| account.table?.client_secret_next_file.clone());
    if let Some(command) = account
        .table
        .and_then(|table| table.client_secret_next_command.as_ref())
    {
        if named.is_some() {
            inputs.both_given(&command.source);
            return None;
        }
        return next_of_command(command, inputs);
    }
    let (path, source) = match named {
        Some(named) => (inputs.credential_path(&named), named.source),
        None if account.takes_environment => {
            let path = inputs.credentials_directory()?.join(NEXT_SECRET_CREDENTIAL);
            (path, Source::CredentialsDirectory(NEXT_SECRET_CREDENTIAL))
        }
        None => return None,
    };
    let contents = match inputs.sources.files.read(&path, secret_value::LARGEST) {
        Ok(contents) if contents.bytes.trim_ascii().is_empty() => return None,
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            inputs.problems.add(&source, unreadable(&path, &error));
            return None;
        }
    };
    let bytes = inputs.guarded(&path, contents, &source)?;
    let prefix = format!("{}: ", super::problem::shown(&path.display().to_string()));
    let part = cleaned(Field::ClientSecret, &bytes, source, &prefix, inputs);
    part.value.map(|value| Secret::new(value.as_str()))
}

fn next_of_command(command: &GivenList, inputs: &mut Inputs<'_>) -> Option<Secret> {
    let is_none = |bytes: &[u8]| bytes.trim_ascii().is_empty();
    let good = |bytes: &[u8]| match is_none(bytes) {
        true => Ok(None),
        false => secret_value::clean(Field::ClientSecret, bytes).map(|_| None),
    };
    let bytes = inputs.printed(command, &good)?;
    if is_none(&bytes) {
        return None;
    }
    let part = cleaned(Field::ClientSecret, &bytes, command.source.clone(), "", inputs);
    part.value.map(|value| Secret::new(value.as_str()))
}

/// The file of `$CREDENTIALS_DIRECTORY` with the next client secret.
const NEXT_SECRET_CREDENTIAL: &str = "client-secret-next";

fn at_least_one(text: &str) -> Result<std::num::NonZeroUsize, String> {
    std::num::NonZeroUsize::new(value::count(text)?).ok_or_else(|| "this must be at least 1".to_owned())
}

fn no_digest_limit(account: &Account<'_>, inputs: &mut Inputs<'_>) {
    if let Some(given) = account.table.and_then(|table| table.digest_max_concurrent.as_ref()) {
        inputs.problems.add(
            &given.source,
            "this is for API keys only, and the account has a service account: remove it",
        );
    }
}

fn no_next_secret(account: &Account<'_>, inputs: &mut Inputs<'_>) {
    let next = account.table.map(|table| SecretPlace {
        file: table.client_secret_next_file.as_ref(),
        command: table.client_secret_next_command.as_ref(),
    });
    if let Some(source) = next.as_ref().and_then(SecretPlace::source) {
        inputs.problems.add(
            source,
            "this is for service accounts only, and the account has an API key: remove it",
        );
    }
}

/// The value of a field in variables and file; a variable wins.
fn given(account: &Account<'_>, field: Field, inputs: &mut Inputs<'_>) -> Option<Part> {
    let names = names(field);
    let mut found = Vec::new();
    if account.takes_environment {
        for (plain, file) in names.variables {
            if let Some(bytes) = inputs.secret_variable(plain) {
                found.push(cleaned(field, &bytes, Source::Variable(plain), "", inputs));
            }
            if let Some(path) = inputs.variable(file) {
                remember(account, field, &path, inputs);
                found.push(from_file(field, &path, inputs));
            }
        }
    }
    if found.is_empty()
        && let Some(table) = account.table
    {
        let (inline, file, command) = written(table, field);
        if let Some(command) = command {
            let alone = inline.is_none() && file.is_none();
            found.push(from_command(field, command, alone, inputs));
        }
        if let Some(inline) = inline {
            found.push(cleaned(
                field,
                inline.value.as_bytes(),
                inline.source.clone(),
                "",
                inputs,
            ));
        }
        if let Some(path) = file {
            remember(account, field, path, inputs);
            found.push(from_file(field, path, inputs));
        }
    }
    agreed(field, found, inputs)
}

/// Remembers the file of a client secret: a rotation writes the next secret there.
fn remember(account: &Account<'_>, field: Field, named: &Given<String>, inputs: &mut Inputs<'_>) {
    if field == Field::ClientSecret {
        let path = inputs.credential_path(named);
        inputs.secret_files.insert(account.name.to_owned(), path);
    }
}

fn from_file(field: Field, named: &Given<String>, inputs: &mut Inputs<'_>) -> Part {
    let path = inputs.credential_path(named);
    let read = if field.is_secret() {
        inputs.read_secret(&path, secret_value::LARGEST, &named.source)
    } else {
        inputs.read(&path, secret_value::LARGEST, &named.source)
    };
    match read {
        Some(bytes) => {
            let of_file = format!("{}: ", super::problem::shown(&path.display().to_string()));
            note_line_end(field, &bytes, &of_file, inputs);
            cleaned(field, &bytes, named.source.clone(), &of_file, inputs)
        }
        None => Part {
            source: named.source.clone(),
            value: None,
        },
    }
}

/// `alone`: the field is given in no other way.
fn from_command(field: Field, command: &GivenList, alone: bool, inputs: &mut Inputs<'_>) -> Part {
    let source = command.source.clone();
    if !alone {
        inputs.both_given(&source);
        return Part { source, value: None };
    }
    let good = |bytes: &[u8]| secret_value::clean(field, bytes).map(|_| None);
    match inputs.printed(command, &good) {
        Some(bytes) => cleaned(field, &bytes, source, "", inputs),
        None => Part { source, value: None },
    }
}

fn note_line_end(field: Field, bytes: &[u8], of_file: &str, inputs: &mut Inputs<'_>) {
    let end = match bytes {
        [.., b'\r', b'\n'] => "a Windows line break (CR LF)",
        [.., b'\n'] => "a line break",
        [.., b'\r'] => "a carriage return",
        _ => return,
    };
    inputs.problems.note(format_args!(
        "{of_file}{end} at the end of the {} is ignored",
        field.title()
    ));
}

fn cleaned(field: Field, bytes: &[u8], source: Source, prefix: &str, inputs: &mut Inputs<'_>) -> Part {
    let value = match secret_value::clean(field, bytes) {
        Ok(value) => Some(value),
        Err(text) => {
            inputs.problems.add(&source, format_args!("{prefix}{text}"));
            None
        }
    };
    Part { source, value }
}

/// A field may be given in several ways at once, if they say the same.
fn agreed(field: Field, found: Vec<Part>, inputs: &mut Inputs<'_>) -> Option<Part> {
    let mut found = found.into_iter();
    let first = found.next()?;
    for other in found {
        if let (Some(a), Some(b)) = (&first.value, &other.value)
            && **a != **b
        {
            inputs.problems.add(
                &first.source,
                format_args!(
                    "{} names another {}: remove one of the two",
                    other.source,
                    field.title()
                ),
            );
        }
    }
    Some(first)
}

/// Looks for missing fields among systemd's credentials: those of the kind that is given in part, or of both kinds when
/// no field is given.
fn fill_from_credentials_directory(parts: &mut [Option<(Field, Part)>; 4], inputs: &mut Inputs<'_>) {
    let Some(directory) = inputs.credentials_directory() else {
        return;
    };
    let service_account = parts[0].is_some() || parts[1].is_some();
    let api_key = parts[2].is_some() || parts[3].is_some();
    for (slot, field) in parts.iter_mut().zip(FIELDS) {
        let other_kind_was_begun = match field {
            Field::ClientId | Field::ClientSecret => api_key,
            Field::PublicKey | Field::PrivateKey => service_account,
        };
        if slot.is_some() || other_kind_was_begun {
            continue;
        }
        let mut found = Vec::new();
        for name in names(field).credentials {
            let source = Source::CredentialsDirectory(name);
            let path = directory.join(name);
            match inputs.sources.files.read(&path, secret_value::LARGEST) {
                Ok(contents) => found.push(match inputs.guarded(&path, contents, &source) {
                    Some(bytes) => cleaned(field, &bytes, source, "", inputs),
                    None => Part { source, value: None },
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    inputs.problems.add(&source, unreadable(&path, &error));
                    found.push(Part { source, value: None });
                }
            }
        }
        *slot = agreed(field, found, inputs).map(|part| (field, part));
    }
}

type Found = Option<(Field, Part)>;

/// Both parts of one kind, or a note on the one that is missing.
fn both(
    account: &Account<'_>,
    first: Found,
    second: Found,
    fields: [Field; 2],
    inputs: &mut Inputs<'_>,
) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    match (first, second) {
        (Some((_, first)), Some((_, second))) => Some((first.value?, second.value?)),
        (Some((_, there)), None) => {
            report_half(account, &there.source, fields, inputs);
            None
        }
        (None, Some((_, there))) => {
            report_half(account, &there.source, [fields[1], fields[0]], inputs);
            None
        }
        (None, None) => None,
    }
}

fn report_half(account: &Account<'_>, there: &Source, [has, lacks]: [Field; 2], inputs: &mut Inputs<'_>) {
    let names = names(lacks);
    let variables = match names.variables.first() {
        Some((plain, file)) if account.takes_environment => format!("{plain} or {file}, or "),
        _ => String::new(),
    };
    inputs.problems.add(
        there,
        format_args!(
            "account `{}` has this {}, but no {}: set {variables}`{}` in the file's [account.{}]",
            account.name,
            has.title(),
            lacks.title(),
            names.file_key,
            account.name,
        ),
    );
}

fn report_nothing(account: &Account<'_>, inputs: &mut Inputs<'_>) {
    let name = account.name;
    let in_file = format!(
        "`client_id` and `client_secret_file`, or `public_key` and `private_key_file`, in the file's [account.{name}]"
    );
    let source = account.table.map_or(Source::Nowhere, |table| table.place.clone());
    let text = if account.takes_environment {
        format!(
            "no credential for account `{name}`. For a service account set MONGODB_ATLAS_CLIENT_ID and \
             MONGODB_ATLAS_CLIENT_SECRET; for an API key set MONGODB_ATLAS_PUBLIC_API_KEY and \
             MONGODB_ATLAS_PRIVATE_API_KEY. Each of them with `_FILE` at its end names a file instead. Before a gateway of this \
             program set ATLAS_PROXY_GATEWAY and what it is shown (ATLAS_PROXY_IDENTITY_TOKEN_FILE). Or set {in_file}"
        )
    } else {
        format!("no credential for account `{name}`: set {in_file}")
    };
    inputs.problems.add(&source, text);
}

fn list_of_found(parts: [Found; 2]) -> String {
    let found: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|(field, part)| format!("{} from {}", field.title(), part.source))
        .collect();
    found.join(", ")
}
