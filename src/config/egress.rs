//! The proxy on the way to an upstream: the account's own, or the one that the machine's variables name.

use hyper_util::client::proxy::matcher::Matcher;
use zeroize::Zeroizing;

use super::file::FileAccount;
use super::inputs::Inputs;
use super::secret_value;
use super::source::{Given, Source};
use super::variable;
use crate::outbound::EgressProxy;
use crate::upstream::Origin;

/// What `proxy` says to go directly, whatever the variables say.
const NONE: &str = "none";

/// The proxy for an account's traffic, if there is one.
pub(crate) fn choose(table: Option<&FileAccount>, origin: &Origin, inputs: &mut Inputs<'_>) -> Option<EgressProxy> {
    let credentials_file = table.and_then(|table| table.proxy_credentials_file.as_ref());
    match table.and_then(|table| table.proxy.as_ref()) {
        Some(given) => own(given, credentials_file, origin, inputs),
        None => {
            if let Some(given) = credentials_file {
                inputs
                    .problems
                    .add(&given.source, "this is for `proxy`, which is not set");
            }
            of_machine(origin, inputs)
        }
    }
}

fn own(
    given: &Given<String>,
    credentials_file: Option<&Given<String>>,
    origin: &Origin,
    inputs: &mut Inputs<'_>,
) -> Option<EgressProxy> {
    if given.value.trim() == NONE {
        return None;
    }
    if !origin.is_tls() {
        inputs.problems.add(
            &given.source,
            format_args!("the upstream {origin} is this machine, by plain HTTP: a credential does not go through a proxy in clear text. Remove this"),
        );
        return None;
    }
    let proxy = parse(given, inputs)?;
    if proxy.has_credentials() {
        inputs.problems.warn(format_args!(
            "{}: the configuration file holds the password of the proxy: put `user:password` into a file of its own and name that with `proxy_credentials_file`",
            given.source
        ));
    }
    let Some(named) = credentials_file else {
        return Some(proxy);
    };
    let path = inputs.credential_path(named);
    let bytes = inputs.read_secret(&path, secret_value::LARGEST, &named.source)?;
    let text = std::str::from_utf8(bytes.trim_ascii_end()).map(|text| Zeroizing::new(text.to_owned()));
    let with = text.ok().and_then(|text| proxy.with_credentials(&text).ok());
    if with.is_none() {
        inputs
            .problems
            .add(&named.source, "this file must hold `user:password` in one line");
    }
    with
}

/// `HTTPS_PROXY`, else `ALL_PROXY`, unless `NO_PROXY` names the upstream; capitals win. Plain HTTP goes to this machine only.
fn of_machine(origin: &Origin, inputs: &mut Inputs<'_>) -> Option<EgressProxy> {
    if !origin.is_tls() {
        return None;
    }
    let first =
        |names: [&'static str; 2], inputs: &mut Inputs<'_>| names.into_iter().find_map(|name| inputs.variable(name));
    let given = first([variable::HTTPS_PROXY, variable::HTTPS_PROXY_SMALL], inputs)
        .or_else(|| first([variable::ALL_PROXY, variable::ALL_PROXY_SMALL], inputs))?;
    let no = first([variable::NO_PROXY, variable::NO_PROXY_SMALL], inputs);
    let matcher = Matcher::builder()
        // Only whether there is a match is asked for, not where it leads.
        .https("http://proxy.invalid")
        .no(no.map(|given| given.value).unwrap_or_default())
        .build();
    let uri: http::Uri = origin.url("/").parse().ok()?;
    matcher.intercept(&uri)?;
    parse(&given, inputs)
}

fn parse(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<EgressProxy> {
    match EgressProxy::parse(&given.value) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            let hint = match given.source {
                Source::Variable(_) => " (NO_PROXY names hosts that are reached directly)",
                _ => "",
            };
            inputs.problems.add(&given.source, format_args!("{error}{hint}"));
            None
        }
    }
}
