//! The rules of a configuration file as text, for the `rules` commands: no file that it names is read, no credential is needed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::caller::{self, FileCaller, FileCallerRule, FileIssuer};
use super::document::Document;
use super::file::FileConfig;
use super::inputs::{GivenList, Inputs};
use super::listener::{self, FileListener, FileRule};
use super::problem::Problems;
use super::source::{Given, Source};
use super::table::tables;
use super::{ConfigErrors, Sources, account, read_file, value};
use crate::catalogue::Catalogue;
use crate::proof::{BookText, CallerText, ListenerText, RuleText, request, with_life};

const DEFAULT_BIND: &str = "localhost:8080";

/// Reads the rules of the file that the sources name.
///
/// # Errors
/// When the file, or a rule in it, is wrong.
pub fn rule_book(sources: Sources<'_>, catalogue: &Arc<Catalogue>) -> Result<BookText, ConfigErrors> {
    let mut inputs = Inputs::new(sources);
    let file = read_file(&mut inputs);
    if !inputs.problems.is_empty() {
        return Err(inputs.problems.into_errors());
    }
    let named = caller::are_named(&file);
    let roster = account::Roster::of(
        &file.accounts,
        file.listeners
            .iter()
            .filter_map(|listener| Some(&listener.account.as_ref()?.value)),
    );
    let none = [FileListener::default()];
    let tables = if file.listeners.is_empty() {
        &none[..]
    } else {
        &file.listeners
    };
    let mut book = BookText::default();
    for table in tables {
        let account = listener::account(Some(table), &roster, &mut inputs.problems).unwrap_or_default();
        let mode = listener::callers_mode(Some(table), named, &mut inputs.problems).flatten();
        let policy = listener::policy(false, Some(table), &mut inputs.problems);
        book.listeners.push(ListenerText {
            name: [&table.name, &table.bind]
                .into_iter()
                .flatten()
                .map(|given| given.value.clone())
                .next()
                .unwrap_or_else(|| DEFAULT_BIND.to_owned()),
            anonymous: mode != Some(crate::proxy::CallersMode::Required),
            callers: mode.is_some(),
            client_ca: text(table.tls.as_ref().and_then(|tls| tls.client_ca.as_ref())),
            allow: table.allow.as_ref().map_or_else(|| from_where(table), values),
            proxy_protocol: table.proxy_protocol.as_ref().map(values).unwrap_or_default(),
            own: own(&file, &account),
            api_key_id: api_key_id(&file, &account),
            key_without_id: has_key_without_id(&file, &account),
            account,
            read_only: table.read_only.as_ref().is_some_and(|given| given.value),
            unmatched_passes: policy.is_none() || table.rules.is_empty() || is(table.unmatched.as_ref(), "allow"),
            rules: table.rules.iter().map(listener_rule).collect(),
        });
    }
    for table in &file.callers {
        caller::rules(table, catalogue, &mut inputs.problems);
        if table.name.is_none() {
            inputs.problems.add(&table.place, "the caller has no `name`");
        }
        book.callers.push(caller(table, &file));
    }
    if inputs.problems.is_empty() {
        Ok(book)
    } else {
        Err(inputs.problems.into_errors())
    }
}

/// Who may connect where `allow` is left out.
fn from_where(table: &FileListener) -> BTreeSet<String> {
    let asks = table.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let is_unix = table.bind.as_ref().is_some_and(|bind| bind.value.starts_with("unix:"));
    let all: &[&str] = match (asks, is_unix) {
        (true, _) => &["whoever has a certificate"],
        (false, true) => &["this machine"],
        (false, false) => &["127.0.0.0/8", "::1/128"],
    };
    all.iter().map(|text| (*text).to_owned()).collect()
}

fn own(file: &FileConfig, account: &str) -> Option<String> {
    let table = file.accounts.get(account)?;
    let given = table.client_id.as_ref().or(table.public_key.as_ref());
    given.map(|given| given.value.clone())
}

fn api_key_id(file: &FileConfig, account: &str) -> Option<String> {
    let given = file.accounts.get(account)?.api_key_id.as_ref();
    given.map(|given| given.value.clone())
}

fn has_key_without_id(file: &FileConfig, account: &str) -> bool {
    file.accounts.get(account).is_some_and(|table| {
        let has_key =
            table.public_key.is_some() || table.public_key_file.is_some() || table.public_key_command.is_some();
        has_key && table.api_key_id.is_none()
    })
}

fn values(list: &GivenList) -> BTreeSet<String> {
    list.value.iter().map(|given| given.value.clone()).collect()
}

fn is(given: Option<&Given<String>>, value: &str) -> bool {
    given.is_some_and(|given| given.value == value)
}

fn place(source: &Source) -> String {
    match source {
        Source::File(place) => format!("{}:{}", place.file.display(), place.line),
        _ => String::new(),
    }
}

fn listener_rule(table: &FileRule) -> RuleText {
    RuleText {
        methods: texts(table.methods.as_ref()),
        path: text(table.path.as_ref()),
        action: text(table.action.as_ref()).unwrap_or_default(),
        place: place(&table.place),
        ..RuleText::default()
    }
}

fn caller_rule(table: &FileCallerRule) -> RuleText {
    RuleText {
        operations: texts(table.operations.as_ref()),
        tags: texts(table.tags.as_ref()),
        methods: texts(table.methods.as_ref()),
        path: text(table.path.as_ref()),
        projects: texts(table.projects.as_ref()),
        organizations: texts(table.organizations.as_ref()),
        action: text(table.action.as_ref()).unwrap_or_default(),
        place: place(&table.place),
    }
}

fn text(given: Option<&Given<String>>) -> Option<String> {
    given.map(|given| given.value.clone())
}

fn texts(list: Option<&GivenList>) -> Option<Vec<String>> {
    list.map(|list| list.value.iter().map(|given| given.value.clone()).collect())
}

fn caller(table: &FileCaller, file: &FileConfig) -> CallerText {
    CallerText {
        name: text(table.name.as_ref()).unwrap_or_default(),
        listeners: texts(table.listeners.as_ref()),
        networks: table.networks.as_ref().map(values).unwrap_or_default(),
        certificate_names: table.certificate_names.as_ref().map(values).unwrap_or_default(),
        known_by: known_by(table, file),
        own_account: table.own_account.as_ref().is_some_and(|given| given.value),
        rules: table.rules.iter().map(caller_rule).collect(),
    }
}

/// What a caller is known by beside networks and certificates, in words. Whoever is in an issuer's place could be the caller, so it
/// stands there, too.
fn known_by(table: &FileCaller, file: &FileConfig) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.extend(table.uids.iter().flat_map(values).map(|uid| format!("user id {uid}")));
    for jwt in &table.jwt {
        let issuer = text(jwt.issuer.as_ref()).unwrap_or_default();
        let by = file.issuers.iter().find(|table| is(table.name.as_ref(), &issuer));
        let mut way = format!("token of {issuer} ({})", by.map(issuer_text).unwrap_or_default());
        if let Some(subject) = &jwt.subject {
            way.push_str(&format!(", subject {}", subject.value));
        }
        for (name, value) in &jwt.claims {
            way.push_str(&format!(", claim {name} {}", value.value));
        }
        let life = by.and_then(|table| value::wait(&table.max_life.as_ref()?.value).ok());
        all.insert(with_life(&way, life.unwrap_or(caller::DEFAULT_MAX_LIFE).as_secs()));
    }
    all.extend(
        table
            .secret_file
            .as_ref()
            .map(|given| format!("secret in {}", given.value)),
    );
    all.extend(table.secret_command.iter().map(|command| {
        let words: Vec<&str> = command.value.iter().map(|word| word.value.as_str()).collect();
        format!("secret of {}", words.join(" "))
    }));
    all
}

fn issuer_text(table: &FileIssuer) -> String {
    let keys = [
        ("issuer", &table.issuer),
        ("trust domain", &table.spiffe),
        ("audience", &table.audience),
        ("keys of", &table.jwks_url),
        ("keys in", &table.jwks_file),
        ("authority", &table.ca_file),
    ];
    let given = keys
        .into_iter()
        .filter_map(|(word, given)| Some(format!("{word} {}", given.as_ref()?.value)));
    given.collect::<Vec<_>>().join(", ")
}

tables! {
    /// A file of expectations.
    FileExpectations {
        /// One request, and what is expected of it.
        expect: tables of FileExpect,
    }

    /// One `[[expect]]`.
    FileExpect {
        /// The listener.
        listener: text,
        /// The caller.
        caller: text,
        /// The method.
        method: text,
        /// The path.
        path: text,
        /// What the rules say.
        expect: text,
    }
}

/// What somebody expects of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// At this listener; none: at each where the caller is.
    pub listener: Option<String>,
    /// The caller's name, or `anonymous`.
    pub caller: String,
    /// The method.
    pub method: http::Method,
    /// The path, without query.
    pub path: String,
    /// `allow`, `deny` or `warn`.
    pub expect: String,
    /// `FILE:LINE`
    pub place: String,
}

/// Reads a file of expectations.
///
/// # Errors
/// When it is wrong.
pub fn expectations(file: &Path, text: &str) -> Result<Vec<Expectation>, ConfigErrors> {
    let mut problems = Problems::default();
    let read: FileExpectations = Document::new(file, text).read(&mut problems).unwrap_or_default();
    let mut all = Vec::new();
    for table in &read.expect {
        let mut needed = |key: &str, given: &Option<Given<String>>| {
            if given.is_none() {
                problems.add(&table.place, format_args!("`{key}` is missing"));
            }
            given.clone()
        };
        let method = needed("method", &table.method);
        let path = needed("path", &table.path);
        let expect = needed("expect", &table.expect);
        let method = method.and_then(|given| problems.parse(given, request::method));
        let path = path.and_then(|given| problems.parse(given, |text| request::path(text).map(|()| text.to_owned())));
        let expect = expect.and_then(|given| {
            problems.parse(given, |text| match text {
                "allow" | "deny" | "warn" => Ok(text.to_owned()),
                _ => Err(value::one_of(text, &["allow", "deny", "warn"])),
            })
        });
        if let (Some(method), Some(path), Some(expect)) = (method, path, expect) {
            all.push(Expectation {
                listener: table.listener.as_ref().map(|given| given.value.clone()),
                caller: table
                    .caller
                    .as_ref()
                    .map_or_else(|| "anonymous".to_owned(), |given| given.value.clone()),
                method: method.value,
                path: path.value,
                expect: expect.value,
                place: place(&table.place),
            });
        }
    }
    if all.is_empty() && problems.is_empty() {
        problems.add(&Source::Nowhere, format_args!("{} has no `[[expect]]`", file.display()));
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(problems.into_errors())
    }
}
