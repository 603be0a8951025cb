//! Listeners: where they bind, whom they let in, and which account they add.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;

use super::account::Roster;
use super::file::{FileConfig, FileListener, FileRule};
use super::inputs::{GivenList, Inputs};
use super::problem::{Problems, shown};
use super::source::{Given, Source};
use super::{tls, value, variable};
use crate::guard::{Action, Allowlist, HostName, HostNames, PathPattern, Policy, RequiredHeader, Rule};
use crate::proxy::{FairnessLimits, RequestRules};
use crate::server::{Bind, ListenerSettings, ListenerTls};

const DEFAULT_BIND: &str = "localhost:8080";
/// More than any Atlas limit. The time of each request of a minute is kept.
const MOST_REQUESTS: usize = 1_000_000;
const MOST_RETRY_429: Duration = Duration::from_secs(300);

/// A listener, and where its address was given.
pub(crate) struct Built {
    pub(crate) settings: ListenerSettings,
    pub(crate) bind: Source,
}

/// What flags and variables say: it holds for every listener.
struct Overrides {
    allow: Option<GivenList>,
    hosts: Option<GivenList>,
    required_header: Option<Given<String>>,
    read_only: Option<Given<String>>,
    insecure_plaintext: Option<Given<String>>,
    rewrite_links: Option<Given<String>>,
}

impl Overrides {
    fn read(inputs: &mut Inputs<'_>) -> Self {
        let flags = inputs.sources.flags;
        Self {
            allow: inputs.list("--allow", &flags.allow, variable::ALLOW),
            hosts: inputs.list("--host", &flags.host, variable::HOSTS),
            required_header: inputs.setting(
                "--required-header",
                flags.required_header.as_ref(),
                variable::REQUIRED_HEADER,
            ),
            read_only: inputs.setting("--read-only", flags.read_only.as_ref(), variable::READ_ONLY),
            insecure_plaintext: inputs.setting(
                "--insecure-plaintext",
                flags.insecure_plaintext.as_ref(),
                variable::INSECURE_PLAINTEXT,
            ),
            rewrite_links: inputs.setting("--rewrite-links", flags.rewrite_links.as_ref(), variable::REWRITE_LINKS),
        }
    }
}

/// Builds every listener.
pub(crate) fn build(file: &FileConfig, roster: &Roster, inputs: &mut Inputs<'_>) -> Vec<Built> {
    let overrides = Overrides::read(inputs);
    let mut built = Vec::new();
    for slot in slots(file, inputs) {
        built.extend(listener(slot, &overrides, roster, inputs));
    }
    built
}

/// An address, and the table of the file that describes its listener.
struct Slot<'f> {
    bind: Given<String>,
    table: Option<&'f FileListener>,
    /// Several addresses in place of one can't share its name: the bound address tells them apart.
    keeps_name: bool,
}

/// Which addresses there are.
fn slots<'f>(file: &'f FileConfig, inputs: &mut Inputs<'_>) -> Vec<Slot<'f>> {
    let slot = |bind, table, keeps_name| Slot {
        bind,
        table,
        keeps_name,
    };
    let default = || Given {
        value: DEFAULT_BIND.to_owned(),
        source: Source::Nowhere,
    };
    let listen = inputs.list("--listen", &inputs.sources.flags.listen, variable::LISTEN);
    match (listen, file.listeners.as_slice()) {
        (None, []) => vec![slot(default(), None, true)],
        (None, tables) => tables
            .iter()
            .map(|table| slot(table.bind.clone().unwrap_or_else(default), Some(table), true))
            .collect(),
        (Some(listen), _) if listen.value.is_empty() => {
            inputs.problems.add(&listen.source, "this list names no address");
            Vec::new()
        }
        (Some(listen), [] | [_]) => {
            let single = listen.value.len() == 1;
            let binds = listen.value.into_iter();
            binds.map(|bind| slot(bind, file.listeners.first(), single)).collect()
        }
        (Some(listen), several) => {
            inputs.problems.add(
                &listen.source,
                format_args!(
                    "the file has {} listeners, and this can't tell which one it is about: unset it, and change `bind` \
                     in the file",
                    several.len()
                ),
            );
            Vec::new()
        }
    }
}

fn listener(slot: Slot<'_>, overrides: &Overrides, roster: &Roster, inputs: &mut Inputs<'_>) -> Option<Built> {
    let Slot {
        bind,
        table,
        keeps_name,
    } = slot;
    let source = bind.source.clone();
    let bind = inputs.problems.parse(bind, value::bind);
    let bind = bind.map(|bind| with_unix_settings(bind.value, table, &mut inputs.problems));
    let account = account(table, roster, &mut inputs.problems);
    let name = table.filter(|_| keeps_name).and_then(|table| table.name.clone());
    let allow_given = overrides.allow.as_ref().or_else(|| table?.allow.as_ref());
    let tls = match table.and_then(|table| table.tls.as_ref()) {
        Some(given) => Tls::of(tls::build(given, inputs)),
        None => Tls::None,
    };
    let remote = matches!(&bind, Some(Bind::Tcp(address)) if !is_loopback(address.ip()));
    let allow = match allow_given {
        Some(list) => allowlist(list, &mut inputs.problems),
        // Certificates say who may come in.
        None if remote && tls.demands_certificates() => Some(Allowlist::everybody()),
        None => Some(Allowlist::loopback()),
    };
    let hosts = overrides.hosts.as_ref().or_else(|| table?.hosts.as_ref());
    let hosts_source = hosts.map_or(&source, |list| &list.source);
    let hosts = hosts.map_or_else(Vec::new, |list| host_names(list, &mut inputs.problems));
    let required_header = overrides
        .required_header
        .clone()
        .or_else(|| table?.required_header.clone());
    let has_required_header = required_header.is_some();
    let required_header = required_header
        .and_then(|given| inputs.problems.parse(given, value::header_name))
        .map(|given| RequiredHeader::new(given.value));
    let mut switch = |over: &Option<Given<String>>, file: Option<&Given<bool>>, default| {
        inputs.choose_bool(over.clone(), file).unwrap_or(default)
    };
    let read_only = switch(&overrides.read_only, table.and_then(|t| t.read_only.as_ref()), false);
    let rewrite_links = switch(
        &overrides.rewrite_links,
        table.and_then(|t| t.rewrite_links.as_ref()),
        true,
    );
    let plaintext = table.and_then(|t| t.insecure_plaintext.as_ref());
    let plaintext = switch(&overrides.insecure_plaintext, plaintext, false);
    let policy = policy(read_only, table, &mut inputs.problems);
    let mut bound = |given: Option<&Given<String>>| {
        let within = |text: &str| match value::count(text)? {
            count @ 1..=MOST_REQUESTS => Ok(NonZeroUsize::new(count)),
            _ => Err(format!("{} is not within 1 and {MOST_REQUESTS}", shown(text))),
        };
        inputs.problems.parse(given?.clone(), within)?.value
    };
    let fairness = FairnessLimits {
        per_minute: bound(table.and_then(|table| table.max_requests_per_minute.as_ref())),
        at_once: bound(table.and_then(|table| table.max_concurrent_requests.as_ref())),
    };
    let retry_429 = table
        .and_then(|table| table.retry_429.clone())
        .and_then(|given| inputs.problems.parse(given, retry_limit))
        .map(|given| given.value);
    if let Some(Bind::Tcp(address)) = &bind {
        check_exposure(
            *address,
            &tls,
            plaintext,
            allow_given.is_some(),
            &source,
            &mut inputs.problems,
        );
    }
    let is_tcp = matches!(&bind, Some(Bind::Tcp(_) | Bind::Localhost { .. }));
    if is_tcp && matches!(tls, Tls::None) && !plaintext && !has_required_header {
        check_names(&hosts, hosts_source, &mut inputs.problems);
    }
    if let (Some(Bind::Unix { .. }), Some(given)) = (&bind, table.and_then(|table| table.tls.as_ref())) {
        inputs.problems.add(
            &given.place,
            "a unix socket never leaves the machine, and speaks no TLS: remove this table",
        );
    }
    Some(Built {
        settings: ListenerSettings {
            name: name.map(|given| given.value),
            bind: bind?,
            account: account?,
            tls: tls.ready()?,
            allow: allow?,
            rules: RequestRules {
                hosts: HostNames::new(hosts),
                required_header,
                policy: policy?,
                rewrite_links,
                fairness,
                retry_429,
            },
        },
        bind: source,
    })
}

/// How long a client may be kept waiting while Atlas says 429.
fn retry_limit(text: &str) -> Result<Duration, String> {
    let limit = value::wait(text)?;
    if limit > MOST_RETRY_429 {
        return Err(format!(
            "{} is more than five minutes: no client waits so long",
            shown(text)
        ));
    }
    Ok(limit)
}

/// What became of `[listener.tls]`.
enum Tls {
    /// There is none.
    None,
    Ready(ListenerTls),
    /// What is wrong with it was noted.
    Wrong,
}

impl Tls {
    fn of(built: Option<ListenerTls>) -> Self {
        built.map_or(Self::Wrong, Self::Ready)
    }

    fn demands_certificates(&self) -> bool {
        matches!(self, Self::Ready(tls) if tls.demands_certificates())
    }

    fn ready(self) -> Option<Option<ListenerTls>> {
        match self {
            Self::None => Some(None),
            Self::Ready(tls) => Some(Some(tls)),
            Self::Wrong => None,
        }
    }
}

/// A port that other machines reach hands them the credential: who may come in must have been said.
fn check_exposure(
    address: SocketAddr,
    tls: &Tls,
    plaintext: bool,
    explicit_allow: bool,
    source: &Source,
    problems: &mut Problems,
) {
    if is_loopback(address.ip()) {
        return;
    }
    let missing = match (tls, plaintext, explicit_allow) {
        (Tls::Wrong, ..) => return,
        (Tls::Ready(tls), ..) if explicit_allow || tls.demands_certificates() => return,
        (Tls::Ready(_), ..) => {
            "name the authorities of the clients' certificates with `client_ca` in [listener.tls], or the networks that \
             may connect with `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
        (Tls::None, true, true) => return,
        (Tls::None, true, false) => {
            "insecure_plaintext is set, but there is no allowlist: name the networks that may connect with \
                          `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
        (Tls::None, false, _) => {
            "bind a loopback address such as 127.0.0.1; or use TLS with certificates for clients ([listener.tls] in the \
             file); or, if the network itself is protected, set `insecure_plaintext` (--insecure-plaintext, ATLAS_PROXY_INSECURE_PLAINTEXT) and name the \
                       networks that may connect with `allow` (--allow, ATLAS_PROXY_ALLOW)"
        }
    };
    problems.add(
        source,
        format_args!(
            "`{address}` is reachable from other machines, and whoever reaches it acts with the account's credential: \
             {missing}"
        ),
    );
}

/// Browsers tell what a request is for (`Sec-Fetch-*`) to this machine's own names and over TLS. Under another name a plain
/// listener can't tell the `<img>` of a page from a program's request, and the page's host may point its own name here.
fn check_names(hosts: &[HostName], source: &Source, problems: &mut Problems) {
    let Some(name) = hosts.iter().find(|name| !name.is_loopback()) else {
        return;
    };
    problems.add(
        source,
        format_args!(
            "clients call this plain listener `{name}`, and under such a name browsers don't say which requests are a web \
             page's: name a header that every request must carry with `required_header` (--required-header, \
             ATLAS_PROXY_REQUIRED_HEADER); or use TLS ([listener.tls] in the file); or, if no browser can reach it, set \
             `insecure_plaintext` (--insecure-plaintext, ATLAS_PROXY_INSECURE_PLAINTEXT)"
        ),
    );
}

pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The keys that belong to a unix socket, of a listener or of the admin port.
pub(crate) struct UnixKeys<'f> {
    pub(crate) place: &'f Source,
    pub(crate) mode: Option<&'f Given<String>>,
    pub(crate) uids: Option<&'f GivenList>,
}

/// `mode` and `uids` belong to a unix socket, `allow` does not.
fn with_unix_settings(bind: Bind, table: Option<&FileListener>, problems: &mut Problems) -> Bind {
    let Some(table) = table else { return bind };
    if let (Bind::Unix { .. }, Some(given)) = (&bind, &table.allow) {
        problems.add(
            &given.source,
            "a unix socket has no peer addresses: remove this; `mode` and `uids` say who may connect",
        );
    }
    let keys = UnixKeys {
        place: &table.place,
        mode: table.mode.as_ref(),
        uids: table.uids.as_ref(),
    };
    with_unix_keys(bind, &keys, problems)
}

/// A bind with its `mode` and `uids`; they are refused where it is no unix socket.
pub(crate) fn with_unix_keys(mut bind: Bind, keys: &UnixKeys<'_>, problems: &mut Problems) -> Bind {
    let Bind::Unix { mode, uids, .. } = &mut bind else {
        refuse_unix_keys(keys, problems);
        return bind;
    };
    if let Some(given) = keys.mode.cloned().and_then(|given| problems.parse(given, value::mode)) {
        *mode = given.value;
    }
    for uid in keys.uids.iter().flat_map(|list| &list.value) {
        uids.extend(problems.parse(uid.clone(), user_id).map(|given| given.value));
    }
    if let Some(list) = keys.uids.filter(|list| list.value.is_empty()) {
        problems.add(
            &list.source,
            "an empty list would let nobody connect: name a user id, or remove the key",
        );
    }
    if *mode & 0o002 != 0 && uids.is_empty() {
        problems.warn(format_args!(
            "{}: every user of this machine may connect (mode {mode:04o}, no `uids`)",
            keys.place
        ));
    }
    bind
}

/// Says that the keys are for unix sockets only.
pub(crate) fn refuse_unix_keys(keys: &UnixKeys<'_>, problems: &mut Problems) {
    let sources = [
        keys.mode.map(|given| &given.source),
        keys.uids.map(|given| &given.source),
    ];
    for source in sources.into_iter().flatten() {
        problems.add(
            source,
            "this is for unix sockets only (`bind = \"unix:/path\"`): remove it",
        );
    }
}

/// Where the first listener is bound, and whether it speaks TLS.
pub(crate) fn first(file: &FileConfig, inputs: &mut Inputs<'_>) -> Option<(Bind, bool)> {
    let slot = slots(file, inputs).into_iter().next()?;
    let tls = slot.table.is_some_and(|table| table.tls.is_some());
    let bind = inputs.problems.parse(slot.bind, value::bind)?;
    Some((bind.value, tls))
}

fn user_id(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not a user id: a whole number from 0 to {}",
            super::problem::shown(text),
            u32::MAX
        )
    })
}

fn account(table: Option<&FileListener>, roster: &Roster, problems: &mut Problems) -> Option<String> {
    match table.and_then(|table| table.account.as_ref()) {
        Some(given) if roster.names.contains(&given.value) => Some(given.value.clone()),
        Some(given) => {
            problems.add(
                &given.source,
                format_args!(
                    "there is no account {}; there is: {}",
                    super::problem::shown(&given.value),
                    roster.list()
                ),
            );
            None
        }
        None if roster.names.len() == 1 => roster.names.first().cloned(),
        None => {
            problems.add(
                table.map_or(&Source::Nowhere, |table| &table.place),
                format_args!(
                    "there are several accounts, so each listener needs `account`: one of {}",
                    roster.list()
                ),
            );
            None
        }
    }
}

fn allowlist(list: &GivenList, problems: &mut Problems) -> Option<Allowlist> {
    if list.value.is_empty() {
        problems.add(
            &list.source,
            "an empty allowlist would let nobody connect: name a network such as `127.0.0.0/8`, or leave it out",
        );
        return None;
    }
    let networks: Vec<IpNet> = list
        .value
        .iter()
        .filter_map(|given| problems.parse(given.clone(), value::network))
        .map(|given| given.value)
        .collect();
    // Empty now only when every entry was refused, which has been noted.
    Allowlist::new(networks).ok()
}

fn host_names(list: &GivenList, problems: &mut Problems) -> Vec<HostName> {
    list.value
        .iter()
        .filter_map(|given| {
            problems.parse(given.clone(), |text| {
                HostName::parse(text.trim()).map_err(|_| {
                    format!(
                        "{} is not a host name: write a DNS name or an IP address without scheme, port or wildcard",
                        shown(text)
                    )
                })
            })
        })
        .map(|given| given.value)
        .collect()
}

fn policy(read_only: bool, table: Option<&FileListener>, problems: &mut Problems) -> Option<Policy> {
    let rules = table.map_or(&[][..], |table| &table.rules);
    let unmatched = table.and_then(|table| table.unmatched.clone());
    let unmatched_source = unmatched.as_ref().map(|given| given.source.clone());
    let unmatched = match unmatched {
        Some(given) => problems.parse(given, action)?.value,
        None if rules.is_empty() => Action::Allow,
        None => Action::Deny,
    };
    if let (Some(source), Action::Deny, []) = (&unmatched_source, unmatched, rules) {
        problems.add(
            source,
            "there is no rule, so this would refuse every request: add a `[[listener.rule]]`",
        );
        return None;
    }
    // All of them, before the first failure ends it: every problem is to be reported at once.
    let rules: Vec<Option<Rule>> = rules.iter().map(|table| rule(table, problems)).collect();
    Some(Policy::new(
        read_only,
        rules.into_iter().collect::<Option<_>>()?,
        unmatched,
    ))
}

fn rule(table: &FileRule, problems: &mut Problems) -> Option<Rule> {
    let mut methods = Vec::new();
    for given in table.methods.iter().flat_map(|list| &list.value) {
        methods.extend(problems.parse(given.clone(), value::method).map(|given| given.value));
    }
    if let Some(list) = table.methods.as_ref().filter(|list| list.value.is_empty()) {
        problems.add(
            &list.source,
            "an empty list matches no request: name a method, or leave `methods` out for any",
        );
    }
    let path = required(table.path.as_ref(), "path", &table.place, problems)
        .and_then(|given| problems.parse(given, |text| PathPattern::parse(text).map_err(|e| e.to_string())));
    let action = required(table.action.as_ref(), "action", &table.place, problems)
        .and_then(|given| problems.parse(given, action));
    Some(Rule::new(methods, path?.value, action?.value))
}

fn required(
    given: Option<&Given<String>>,
    key: &str,
    place: &Source,
    problems: &mut Problems,
) -> Option<Given<String>> {
    if given.is_none() {
        problems.add(place, format_args!("the rule has no `{key}`"));
    }
    given.cloned()
}

fn action(text: &str) -> Result<Action, String> {
    match text {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        _ => Err(value::one_of(text, &["allow", "deny"])),
    }
}
