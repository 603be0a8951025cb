//! `[[listener]]`: where listeners bind, which clients and requests they let through, and which account they use.

mod address;
mod callers;
mod exposure;
mod policy;

use std::time::Duration;

use ipnet::IpNet;

use super::account::Roster;
use super::inputs::{GivenList, Inputs};
use super::problem::{Problems, shown};
use super::source::{Given, Source};
use super::table::tables;
use super::tls::FileTls;
use super::{caller, tls, value, variable};
use crate::guard::{Allowlist, HostName, HostNames, RequiredHeader};
use crate::proxy::{DefaultAccept, FairnessLimits, RequestRules};
use crate::server::{Bind, ListenerSettings};

use address::with_unix_settings;
pub(crate) use callers::mode as callers_mode;
use exposure::{Tls, check_exposure, check_names};
pub(crate) use policy::policy;

pub(crate) use address::{Entry, entries, first};
pub(crate) use exposure::is_loopback;

tables! {
    /// One `[[listener]]`.
    FileListener {
        /// Label in logs and metrics: letters, digits, `.`, `_`, `-`. Left out: the bound address.
        name: name,
        /// Where to listen: `IP:port`, `[IPv6]:port`, `localhost:port`, `unix:/path`, or `systemd:NAME` for a socket that systemd hands over.
        bind: text default "localhost:8080",
        /// Whose credential it adds. Left out: the only account's.
        account: name,
        /// Networks or single addresses that may connect.
        allow: texts default ["127.0.0.0/8", "::1/128"],
        /// Networks of load balancers that are trusted to say who their client is, by version 2 of the PROXY protocol.
        proxy_protocol: texts,
        /// Names by which clients call the proxy, with any port; `localhost`, `127.0.0.1`, `[::1]` and the bound address always count.
        hosts: texts,
        /// Let only GET, HEAD and OPTIONS through.
        read_only: boolean default false,
        /// Without TLS: permit a bind beyond loopback (together with `allow`), and a host name beyond loopback.
        insecure_plaintext: boolean default false,
        /// Turn links to the upstream in answers into links to the proxy.
        rewrite_links: boolean default true,
        /// Requests of this listener that are forwarded in any 60 s; beyond: 429. Left out: no limit.
        max_requests_per_minute: integer as Range(1, 4294967295),
        /// Requests of this listener at once, each to the end of its answer; beyond: 429. Left out: no limit.
        max_concurrent_requests: integer as Range(1, 4294967295),
        /// How long GET, HEAD, OPTIONS, PUT and DELETE may wait for another try when Atlas answers 429, at most `5m`. Left out: not.
        retry_429: text as Duration,
        /// Version of the API for requests under `/api/atlas/v2` whose `Accept` names none, such as `2025-03-12`.
        default_accept: text as Date,
        /// Who is served: `required`, only callers (the default as soon as callers are named); `optional`, whoever shows nothing may do what the rules allow.
        callers: text as OneOf("required", "optional"),
        /// Whether a write without the content that it needs gets a Digest challenge, as `curl --digest` expects.
        digest_compatible: boolean default true,
        /// Whether MD5 is offered, after SHA-256, where clients are asked for Digest. Left out: true, in a FIPS build false.
        digest_md5: boolean,
        /// Header that a request must carry once, with a value; others are refused.
        required_header: text,
        /// What happens to a request that no rule matches. Left out: `deny` where there are rules.
        unmatched: text as OneOf("deny", "allow"),
        /// What passes: the first match decides. Without rules everything but TRACE and CONNECT does.
        rules = "rule": tables of FileRule,
        /// Permission bits of a unix socket, in octal. Left out: `0600`.
        mode: text_or_integer as Mode,
        /// User ids that may connect to a unix socket. Left out: whoever the mode lets in.
        uids: integers,
        /// TLS 1.2 and later, with HTTP/2 and HTTP/1.1.
        tls: table of FileTls,
        "rules" => "there is no such key; write `[[listener.rule]]`, once for each",
    }

    /// One `[[listener.rule]]`.
    FileRule {
        /// Names of methods, in capitals. Left out: any.
        methods: texts,
        /// Pattern of the path: `{name}` and `*` are one segment, `**` at the end any number, also none.
        path: text default required,
        /// What happens to what matches.
        action: text as OneOf("allow", "deny") default required,
    }
}

const MOST_RETRY_429: Duration = Duration::from_secs(300);

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

/// Builds every listener; its source is where its address was given. `callers_named`: whether the file says anything of callers.
pub(crate) fn build(
    tables: &[FileListener],
    roster: &Roster,
    callers_named: bool,
    inputs: &mut Inputs<'_>,
) -> Vec<Given<ListenerSettings>> {
    let overrides = Overrides::read(inputs);
    let mut built = Vec::new();
    for entry in entries(tables, inputs) {
        built.extend(listener(entry, &overrides, roster, callers_named, inputs));
    }
    built
}

fn listener(
    entry: Entry<'_>,
    overrides: &Overrides,
    roster: &Roster,
    callers_named: bool,
    inputs: &mut Inputs<'_>,
) -> Option<Given<ListenerSettings>> {
    let Entry {
        bind,
        table,
        keeps_name,
    } = entry;
    let source = bind.source.clone();
    let bind = inputs.bind(bind);
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
        // Client certificates decide who may connect.
        None if remote && tls.asks_for_certificates() => Some(Allowlist::everybody()),
        None => Some(Allowlist::loopback()),
    };
    let balancers = table.and_then(|table| table.proxy_protocol.as_ref());
    let proxy_protocol = match balancers {
        Some(list) => balancers_of(list, &mut inputs.problems).map(Some),
        None => Some(None),
    };
    if let (Some(list), Some(Bind::Unix { .. })) = (balancers, &bind) {
        inputs.problems.add(
            &list.source,
            "a unix socket has no peer addresses: remove this; who connects there is told by the kernel",
        );
    } else if let (Some(list), true) = (balancers, allow == Some(Allowlist::loopback())) {
        inputs.problems.warn(format_args!(
            "{}: clients behind a load balancer are never loopback, so nobody is let in through it: name their networks with `allow`",
            list.source
        ));
    }
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
    let mut share = |given| caller::share(given, &mut inputs.problems);
    let fairness = FairnessLimits {
        per_minute: share(table.and_then(|table| table.max_requests_per_minute.as_ref())),
        at_once: share(table.and_then(|table| table.max_concurrent_requests.as_ref())),
    };
    let callers = callers::mode(table, callers_named, &mut inputs.problems);
    let digest_md5 = callers::digest_md5(table, &mut inputs.problems);
    let retry_429 = table
        .and_then(|table| table.retry_429.clone())
        .and_then(|given| inputs.problems.parse(given, retry_limit))
        .map(|given| given.value);
    let default_accept = table
        .and_then(|table| table.default_accept.clone())
        .and_then(|given| inputs.problems.parse(given, version))
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
    Some(Given {
        value: ListenerSettings {
            name: name.map(|given| given.value),
            bind: bind?,
            account: account?,
            tls: tls.ready()?,
            allow: allow?,
            proxy_protocol: proxy_protocol?,
            rules: RequestRules {
                hosts: HostNames::new(hosts),
                required_header,
                policy: policy?,
                rewrite_links,
                fairness,
                callers: callers?,
                digest_compatible: table
                    .and_then(|table| table.digest_compatible.as_ref())
                    .is_none_or(|given| given.value),
                digest_md5: digest_md5?,
                retry_429,
                default_accept,
            },
        },
        source,
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

fn version(text: &str) -> Result<DefaultAccept, String> {
    DefaultAccept::parse(text).map_err(|why| format!("{} {why}", shown(text)))
}

pub(crate) fn account(table: Option<&FileListener>, roster: &Roster, problems: &mut Problems) -> Option<String> {
    match table.and_then(|table| table.account.as_ref()) {
        Some(given) if roster.names.contains(&given.value) => Some(given.value.clone()),
        Some(given) => {
            problems.add(
                &given.source,
                format_args!(
                    "there is no account {}; there is: {}",
                    shown(&given.value),
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
    networks(list, problems)
}

/// The load balancers that are believed.
fn balancers_of(list: &GivenList, problems: &mut Problems) -> Option<Allowlist> {
    if list.value.is_empty() {
        problems.add(
            &list.source,
            "an empty list trusts no load balancer: name their addresses, such as `10.0.0.1/32`, or remove the key",
        );
        return None;
    }
    let balancers = networks(list, problems)?;
    for network in balancers
        .networks()
        .filter(|network| network.prefix_len() < widest(network))
    {
        problems.warn(format_args!(
            "{}: whoever has an address in `{network}` may say which client it is: name the load balancers' own addresses",
            list.source
        ));
    }
    Some(balancers)
}

/// The shortest prefix that load balancers may share without a warning: a private network, an allocation of one operator.
fn widest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 32,
    }
}

fn networks(list: &GivenList, problems: &mut Problems) -> Option<Allowlist> {
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
