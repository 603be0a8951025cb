//! The configuration that is in force, as a file that could be used in place of flags, variables and file, with where each
//! value comes from. No secret is shown, and no command is run.

mod toml;

use super::account::{FileAccount, Roster};
use super::credential::{self, Elsewhere};
use super::file::FileConfig;
use super::inputs::Inputs;
use super::listener::{Entry, FileListener, entries};
use super::shape::{Key, Kind, Said, Written};
use super::source::{Given, Source, Sources};
use super::{ConfigErrors, log, process, read_file, variable};
use crate::log::LogFormat;
use toml::{key_name, printable, text, value_of, values_of};

/// Keys that have a flag or variables beside them: the first that is set counts. `--listen` and credentials are read apart.
const OVER: &[(&str, &str, &[&str])] = &[
    ("listener.allow", "--allow", &[variable::ALLOW]),
    ("listener.hosts", "--host", &[variable::HOSTS]),
    (
        "listener.required_header",
        "--required-header",
        &[variable::REQUIRED_HEADER],
    ),
    ("listener.read_only", "--read-only", &[variable::READ_ONLY]),
    (
        "listener.insecure_plaintext",
        "--insecure-plaintext",
        &[variable::INSECURE_PLAINTEXT],
    ),
    ("listener.rewrite_links", "--rewrite-links", &[variable::REWRITE_LINKS]),
    ("account.environment", "--environment", &[variable::SERVICE]),
    (
        "account.base_url",
        "--base-url",
        &[variable::BASE_URL, variable::ATLAS_BASE_URL, variable::OPS_MANAGER_URL],
    ),
    ("account.ca_file", "--upstream-ca", &[variable::UPSTREAM_CA]),
    ("account.http", "--upstream-http", &[variable::UPSTREAM_HTTP]),
    ("account.gateway", "", &[variable::GATEWAY]),
    ("account.identity_token_file", "", &[variable::IDENTITY_TOKEN_FILE]),
    ("account.client_certificate", "", &[variable::CLIENT_CERTIFICATE]),
    ("account.client_key", "", &[variable::CLIENT_KEY]),
    (
        "account.client_secret_next_file",
        "",
        &[variable::CLIENT_SECRET_NEXT_FILE],
    ),
    ("admin.bind", "--admin-listen", &[variable::ADMIN_LISTEN]),
    ("admin.quit", "--admin-quit", &[variable::ADMIN_QUIT]),
    ("workers", "--workers", &[variable::WORKERS]),
    ("drain_timeout", "--drain-timeout", &[variable::DRAIN_TIMEOUT]),
    ("drain_delay", "--drain-delay", &[variable::DRAIN_DELAY]),
    ("log.level", "--log-level", &[variable::LOG_LEVEL]),
    ("log.format", "--log-format", &[variable::LOG_FORMAT]),
];

/// Where the value of a key comes from that is said nowhere.
const DEFAULT: &str = "default";

/// Lines up to this many characters have their origins below each other.
const WIDEST: usize = 60;

const HEAD: &str = "\
# What is in force: a flag wins over its variable, that over the file, that over the default. Secrets are not shown.
";

/// Prints the configuration of these sources. It is not examined beyond what reading the file takes.
///
/// # Errors
/// When the file can't be read, or is not what a configuration file may be.
pub fn effective(sources: Sources<'_>) -> Result<String, ConfigErrors> {
    let mut inputs = Inputs::new(sources);
    let file = read_file(&mut inputs);
    if !inputs.problems.is_empty() {
        return Err(inputs.problems.into_errors());
    }
    let named = file
        .listeners
        .iter()
        .filter_map(|listener| Some(&listener.account.as_ref()?.value));
    let roster = Roster::of(&file.accounts, named);
    let mut page = Page {
        inputs,
        text: HEAD.to_owned(),
    };
    if let Some(folder) = &page.inputs.folder {
        let folder = folder.join("").display().to_string();
        page.text += &format!("# Relative paths start at {}.\n", printable(&folder));
    }
    page.variables_without_keys();
    page.text.push('\n');
    let whole = Around {
        apart: &["listener", "account"],
        ..Around::default()
    };
    let below = page.lines("", "", &file, &whole);
    page.listeners(&file.listeners, &roster);
    page.accounts(&file, &roster);
    page.below("", below);
    Ok(page.text)
}

struct Page<'s> {
    inputs: Inputs<'s>,
    text: String,
}

/// What else is known of a table.
struct Around<'a> {
    /// Flags and variables are about it.
    over: bool,
    /// Lines that stand before those of its keys.
    first: Vec<Line>,
    /// Keys that don't count, or are told in `first`.
    apart: &'a [&'a str],
    /// Keys whose default doesn't hold.
    no_default: &'a [&'a str],
    /// The line for `account` where nothing is said.
    account: Option<Line>,
}

impl Default for Around<'_> {
    fn default() -> Self {
        Self {
            over: true,
            first: Vec::new(),
            apart: &[],
            no_default: &[],
            account: None,
        }
    }
}

/// A table that stands at a key of another one.
struct Below<'t> {
    key: &'static Key,
    /// Of the key, without names.
    path: String,
    name: Option<&'t str>,
    table: &'t dyn Written,
}

/// `key = value`, or what stands in its place, and where it comes from.
#[derive(Clone)]
struct Line {
    text: String,
    from: String,
}

impl Line {
    fn new(key: &str, value: &str, from: impl ToString) -> Self {
        Self {
            text: format!("{key} = {value}"),
            from: from.to_string(),
        }
    }
}

impl Page<'_> {
    /// Variables that count and have no key of the file, by their names: their values may be secrets.
    fn variables_without_keys(&mut self) {
        let environment = self.inputs.sources.environment;
        let is_set = |name: &&str| environment.var(name).is_some_and(|value| !value.is_empty());
        let ours = |name: &&str| name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("OTEL_");
        let set: Vec<&str> = variable::ALL
            .iter()
            .chain(variable::PAIRS.as_flattened())
            .copied()
            .filter(ours)
            .filter(is_set)
            .collect();
        if !set.is_empty() {
            self.text += &format!("# Also in force, from the environment alone: {}.\n", set.join(", "));
        }
    }

    fn listeners(&mut self, tables: &[FileListener], roster: &Roster) {
        let none = FileListener::default();
        for Entry {
            bind,
            table,
            keeps_name,
        } in entries(tables, &mut self.inputs)
        {
            let bound = value_of("bind", Kind::Text, &bind.value);
            let only = roster.names.first().filter(|_| roster.names.len() == 1);
            let account = only.map(|name| Line::new("account", &text(name), "the only account"));
            let is_unix = bind.value.trim().starts_with("unix:");
            // With authorities of clients, every address may connect.
            let open = table.and_then(|table| table.tls.as_ref()?.client_ca.as_ref()).is_some();
            self.table(
                "listener",
                "[[listener]]",
                table.unwrap_or(&none),
                &Around {
                    first: vec![Line::new("bind", &bound, origin(&bind.source))],
                    apart: if keeps_name { &["bind"] } else { &["bind", "name"] },
                    no_default: if is_unix || open { &["allow"] } else { &[] },
                    account,
                    ..Around::default()
                },
            );
        }
    }

    fn accounts(&mut self, file: &FileConfig, roster: &Roster) {
        let none = FileAccount::default();
        for name in &roster.names {
            let table = file.accounts.get(name);
            let over = roster.target.as_ref() == Some(name);
            let (found, apart) = match over {
                true => credential::elsewhere(&mut self.inputs, table),
                false => (Vec::new(), Vec::new()),
            };
            let first = found.into_iter().map(|found| match found {
                Elsewhere::As(key, Given { value, source }) => {
                    Line::new(key, &value_of(key, Kind::Text, &value), source)
                }
                Elsewhere::Hidden(what, source) => Line {
                    text: format!("# {what}: set, not shown"),
                    from: source.to_string(),
                },
            });
            let table = table.unwrap_or(&none);
            let mut elsewhere = |key: &str| over && self.over(&format!("account.{key}")).is_some();
            let led =
                table.base_url.is_some() || table.gateway.is_some() || elsewhere("base_url") || elsewhere("gateway");
            let first = first.collect();
            self.table(
                "account",
                &format!("[account.{}]", key_name(name)),
                table,
                &Around {
                    over,
                    first,
                    apart: &apart,
                    no_default: if led { &["environment"] } else { &[] },
                    ..Around::default()
                },
            );
        }
    }

    /// A table and those below it. `path`: of its keys, without names; `header`: as it is written.
    fn table(&mut self, path: &str, header: &str, table: &dyn Written, around: &Around<'_>) {
        let below = self.lines(path, header, table, around);
        self.below(header, below);
    }

    fn below(&mut self, header: &str, below: Vec<Below<'_>>) {
        for Below { key, path, name, table } in below {
            let Some((header, _)) = key.below(header) else {
                continue;
            };
            let header = name.map_or_else(|| header.clone(), |name| header.replace("NAME", &key_name(name)));
            self.table(&path, &header, table, &Around::default());
        }
    }

    /// The keys of a table that are no tables; gives those that are.
    fn lines<'t>(&mut self, path: &str, header: &str, table: &'t dyn Written, around: &Around<'_>) -> Vec<Below<'t>> {
        let mut lines: Vec<Line> = around.first.clone();
        let mut below = Vec::new();
        for (key, said) in table.said() {
            if around.apart.contains(&key.name) {
                continue;
            }
            let full = format!("{path}.{}", key.name);
            let full = full.trim_start_matches('.');
            if let Said::Tables(tables) = said {
                below.extend(tables.into_iter().map(|(name, table)| Below {
                    key,
                    path: full.to_owned(),
                    name,
                    table,
                }));
                continue;
            }
            let over = if around.over { self.over(full) } else { None };
            let over = over.map(|(values, from)| Line::new(key.name, &values_of(key, &values), from));
            lines.extend(over.or_else(|| said_line(key, &said)).or_else(|| {
                if key.name == "account" {
                    return around.account.clone();
                }
                let holds = !around.no_default.contains(&key.name);
                let default = self.default_of(full, key).filter(|_| holds)?;
                Some(Line::new(key.name, &default, DEFAULT))
            }));
        }
        if !header.is_empty() && (!lines.is_empty() || below.is_empty()) {
            self.text += &format!("{header}\n");
        }
        let lengths = lines.iter().map(|line| line.text.chars().count());
        let width = lengths.filter(|length| *length < WIDEST).max().unwrap_or(0);
        for Line { text, from } in &lines {
            self.text += &format!("{text:<width$}  # {}\n", printable(from));
        }
        if !lines.is_empty() {
            self.text.push('\n');
        }
        below
    }

    /// What a flag or a variable says of a key.
    fn over(&mut self, path: &str) -> Option<(Vec<String>, String)> {
        let (_, flag, variables) = OVER.iter().find(|(key, ..)| *key == path)?;
        let typed = self.inputs.sources.flags.typed(flag);
        if !typed.is_empty() {
            return Some((typed.to_vec(), (*flag).to_owned()));
        }
        let given = variables.iter().find_map(|name| self.inputs.variable(name))?;
        let values = match (path, given.value.trim()) {
            ("listener.allow" | "listener.hosts", list) => list
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .map(str::to_owned)
                .collect(),
            // Atlas's own tools read this variable, too, and have their words.
            ("account.environment", "cloud") => vec!["commercial".to_owned()],
            ("account.environment", "cloudgov") => vec!["gov".to_owned()],
            (_, value) => vec![value.to_owned()],
        };
        Some((values, given.source.to_string()))
    }

    fn default_of(&self, path: &str, key: &Key) -> Option<String> {
        let machine = &self.inputs.sources.machine;
        match path {
            "workers" => Some(process::default_workers(machine).to_string()),
            "log.format" => Some(text(match log::default_format(machine) {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            })),
            _ => key.default.map(str::to_owned),
        }
    }
}

fn origin(source: &Source) -> String {
    match source {
        Source::Nowhere => DEFAULT.to_owned(),
        // The key stands beside it.
        Source::File(place) => format!("{}:{}", place.file.display(), place.line),
        source => source.to_string(),
    }
}

fn said_line(key: &Key, said: &Said<'_>) -> Option<Line> {
    match said {
        Said::Text(given) => {
            let given = given.as_ref()?;
            Some(Line::new(
                key.name,
                &value_of(key.name, key.kind, &given.value),
                origin(&given.source),
            ))
        }
        Said::Boolean(given) => given.map(|given| Line::new(key.name, &given.value.to_string(), origin(&given.source))),
        Said::List(list) => {
            let list = list.as_ref()?;
            let values: Vec<String> = list.value.iter().map(|given| given.value.clone()).collect();
            Some(Line::new(key.name, &values_of(key, &values), origin(&list.source)))
        }
        Said::ByName(all) => {
            let (_, first) = all.first_key_value()?;
            let pairs = all
                .iter()
                .map(|(name, given)| format!("{} = {}", key_name(name), value_of(name, Kind::Text, &given.value)));
            Some(Line::new(
                key.name,
                &format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")),
                origin(&first.source),
            ))
        }
        Said::Tables(_) => None,
    }
}
