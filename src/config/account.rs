//! Accounts: a credential and the one upstream that it may travel to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::credential;
use super::egress;
use super::gateway::Gateway;
use super::inputs::Inputs;
use super::problem::shown;
use super::source::{Given, Source};
use super::table::tables;
use super::{value, variable};
use crate::catalogue::is_id;
use crate::credential::CredentialSettings;
use crate::settings::AccountSettings;
use crate::upstream::{ConnectTo, HttpVersion, Origin, UpstreamLimits, UpstreamSettings};

tables! {
    /// One `[account.NAME]`.
    FileAccount {
        /// Realm: `commercial` is `https://cloud.mongodb.com`, `gov` is `https://cloud.mongodbgov.com`.
        environment: text as OneOf("commercial", "gov") default "commercial",
        /// Another upstream, `https://host[:port]`; wins over the environment; `http://` to this machine only.
        base_url: text,
        /// `HOST:PORT` that all connections of the account go to. Left out: where the name of the base URL leads.
        connect_to: text,
        /// A gateway of this program, `https://host[:port]`, in place of base URL and credential.
        gateway: text,
        /// File with the JSON Web Token that the gateway is shown; read anew when it changes.
        identity_token_file: text,
        /// Command that prints that token: an absolute path, then arguments.
        identity_token_command: command,
        /// PEM file of the certificate that the gateway is shown, and its intermediates; reloaded.
        client_certificate: text,
        /// PEM file of its private key; reloaded.
        client_key: text,
        /// PEM file of the authorities to trust upstream. Left out: the system's.
        ca_file: text,
        /// HTTP version upstream.
        http: text_or_integer as OneOf("auto", "1", "2") default "auto",
        /// Client id of a service account, `mdb_sa_id_…`.
        client_id: text,
        /// File that holds it.
        client_id_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        client_id_command: command,
        /// File that holds the client secret of the service account, `mdb_sa_sk_…`; watched.
        client_secret_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        client_secret_command: command,
        /// File that may hold the secret that will follow.
        client_secret_next_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        client_secret_next_command: command,
        /// Public key of an API key.
        public_key: text,
        /// File that holds it.
        public_key_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        public_key_command: command,
        /// File that holds the private key of the API key; watched.
        private_key_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        private_key_command: command,
        /// Id by which paths of the API name this API key, 24 hexadecimal digits; `atlas-auth-proxy check` prints it.
        api_key_id: text as Id,
        /// Requests with this API key at once. Left out: no limit.
        digest_max_concurrent: integer as Range(1, 4294967295),
        /// Egress proxy for token and API traffic, `http://[user:password@]host[:port]`, or `none`. Left out: as `HTTPS_PROXY` and its like say.
        proxy: text,
        /// File with `user:password` for it.
        proxy_credentials_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        proxy_credentials_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        "client_secret" => "no secret in this file: put it into a file of its own and name that with `client_secret_file`",
        "private_key" => "no secret in this file: put it into a file of its own and name that with `private_key_file`",
    }
}

/// The account that flags and variables apply to when the file names none.
pub(crate) const DEFAULT: &str = "default";

/// The largest file of certificate authorities that is read, bytes; the whole of Mozilla's list has about 220 KiB.
const LARGEST_CA_FILE: usize = 2 << 20;

/// Which accounts there are.
pub(crate) struct Roster {
    pub(crate) names: BTreeSet<String>,
    /// The account that flags and variables apply to; `None`: it is ambiguous.
    pub(crate) target: Option<String>,
}

impl Roster {
    /// The accounts that have a table, and the one that needs none because flags and variables describe it: `default`,
    /// or the only account that the file mentions.
    pub(crate) fn of<'f>(
        accounts: &BTreeMap<String, FileAccount>,
        named_by_listeners: impl Iterator<Item = &'f String>,
    ) -> Self {
        let mut names: BTreeSet<String> = accounts.keys().cloned().collect();
        let mut spoken_of = names.clone();
        if spoken_of.is_empty() {
            spoken_of.extend(named_by_listeners.cloned());
        } else {
            // Any other name without a table is a mistake, which the check of the listener reports.
            spoken_of.extend(named_by_listeners.filter(|name| *name == DEFAULT).cloned());
        }
        let target = match spoken_of.first() {
            None => Some(DEFAULT.to_owned()),
            Some(_) if spoken_of.contains(DEFAULT) => Some(DEFAULT.to_owned()),
            Some(only) if spoken_of.len() == 1 => Some(only.clone()),
            Some(_) => None,
        };
        names.extend(target.clone());
        Self { names, target }
    }

    /// The names as a message lists them.
    pub(crate) fn list(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| shown(name)).collect();
        names.join(", ")
    }
}

/// An account, and where its table, its base URL and `connect_to` were given, if they were.
pub(crate) struct BuiltAccount {
    pub(crate) settings: AccountSettings,
    pub(crate) place: Source,
    pub(crate) base_url: Option<Source>,
    pub(crate) connect_to: Option<Source>,
}

/// What flags and variables say of their account.
#[derive(Default)]
struct Overrides {
    environment: Option<Given<String>>,
    base_url: Option<Given<String>>,
    ca_file: Option<Given<String>>,
    http: Option<Given<String>>,
}

impl Overrides {
    fn read(inputs: &mut Inputs<'_>) -> Self {
        let flags = inputs.sources.flags;
        let base_url = inputs
            .setting("--base-url", flags.base_url.as_ref(), variable::BASE_URL)
            .or_else(|| inputs.variable(variable::ATLAS_BASE_URL))
            .or_else(|| inputs.variable(variable::OPS_MANAGER_URL));
        Self {
            environment: inputs.setting("--environment", flags.environment.as_ref(), variable::SERVICE),
            base_url,
            ca_file: inputs.setting("--upstream-ca", flags.upstream_ca.as_ref(), variable::UPSTREAM_CA),
            http: inputs.setting("--upstream-http", flags.upstream_http.as_ref(), variable::UPSTREAM_HTTP),
        }
    }

    fn given(self) -> impl Iterator<Item = Source> {
        [self.environment, self.base_url, self.ca_file, self.http]
            .into_iter()
            .flatten()
            .map(|given| given.source)
    }
}

/// Builds every account of the roster.
pub(crate) fn build(
    tables: &BTreeMap<String, FileAccount>,
    roster: &Roster,
    limits: UpstreamLimits,
    inputs: &mut Inputs<'_>,
) -> BTreeMap<String, BuiltAccount> {
    let mut overrides = Some(Overrides::read(inputs));
    if roster.target.is_none() {
        report_ambiguous(roster, overrides.take().unwrap_or_default(), inputs);
    }
    let mut accounts = BTreeMap::new();
    for name in &roster.names {
        let table = tables.get(name);
        let mine = roster.target.as_ref() == Some(name);
        let overrides = if mine { overrides.take() } else { None };
        let account = credential::Account {
            name,
            table,
            takes_environment: mine,
        };
        let overrides = overrides.unwrap_or_default();
        let (found, gateway) = match Gateway::given(&account, inputs) {
            None => (credential::find(&account, inputs), None),
            Some(gateway) => {
                let base_url = overrides.base_url.as_ref().or_else(|| table?.base_url.as_ref());
                let base_url = base_url.map(|given| given.source.clone());
                let identity = gateway.identity(&account, base_url.as_ref(), inputs);
                let Some(origin) = gateway.origin(inputs) else { continue };
                (identity.map(CredentialSettings::Identity), Some(origin))
            }
        };
        let (upstream, base_url) = upstream(table, overrides, gateway, limits, inputs);
        let api_key_id = api_key_id(table, found.as_ref(), inputs);
        if let Some(credential) = found {
            let settings = AccountSettings {
                credential,
                api_key_id,
                upstream,
            };
            let connect_to = settings.upstream.connect_to.as_ref();
            let connect_to = connect_to.and_then(|_| Some(table?.connect_to.as_ref()?.source.clone()));
            accounts.insert(
                name.clone(),
                BuiltAccount {
                    settings,
                    place: table.map_or(Source::Nowhere, |table| table.place.clone()),
                    base_url,
                    connect_to,
                },
            );
        }
    }
    accounts
}

/// Which API key of the organization the credential is.
fn api_key_id(
    table: Option<&FileAccount>,
    credential: Option<&CredentialSettings>,
    inputs: &mut Inputs<'_>,
) -> Option<String> {
    let given = table?.api_key_id.clone()?;
    if matches!(credential, Some(CredentialSettings::ServiceAccount(_))) {
        inputs.problems.add(
            &given.source,
            "this is for API keys only, and the account has a service account: remove it",
        );
        return None;
    }
    let id = inputs.problems.parse(given, |text| {
        let hint = "`atlas-auth-proxy check` tells it, and Atlas's list of API keys; it is not the public key";
        is_id(text)
            .then(|| text.to_owned())
            .ok_or_else(|| format!("an API key's id has 24 hexadecimal digits: {hint}"))
    })?;
    Some(id.value)
}

/// With several accounts, and none called `default`, a flag or variable about "the account" could hit the wrong one.
fn report_ambiguous(roster: &Roster, overrides: Overrides, inputs: &mut Inputs<'_>) {
    let mut given: Vec<Source> = overrides.given().collect();
    given.extend(
        credential::all_variables()
            .chain([
                variable::GATEWAY,
                variable::IDENTITY_TOKEN_FILE,
                variable::CLIENT_CERTIFICATE,
                variable::CLIENT_KEY,
            ])
            .filter(|name| inputs.secret_variable(name).is_some())
            .map(Source::Variable),
    );
    for source in given {
        inputs.problems.add(
            &source,
            format_args!(
                "the file speaks of several accounts ({}) and none is called `{DEFAULT}`: unset this, and say it in the \
                 file's [account.NAME]",
                roster.list()
            ),
        );
    }
}

fn upstream(
    table: Option<&FileAccount>,
    overrides: Overrides,
    gateway: Option<Given<Origin>>,
    limits: UpstreamLimits,
    inputs: &mut Inputs<'_>,
) -> (UpstreamSettings, Option<Source>) {
    let realm = realm(table, overrides.environment, inputs);
    let what = if gateway.is_some() { "gateway" } else { "base URL" };
    let base_url = gateway.or_else(|| {
        inputs.choose(overrides.base_url, table.and_then(|t| t.base_url.as_ref()), |text| {
            Origin::parse(text).map_err(|e| e.to_string())
        })
    });
    let ca_file = overrides
        .ca_file
        .or_else(|| table.and_then(|t| t.ca_file.clone()))
        .and_then(|given| ca_file(&given, inputs));
    let http = inputs
        .choose(overrides.http, table.and_then(|t| t.http.as_ref()), value::http_version)
        .map_or(HttpVersion::Auto, |given| given.value);
    if let (Some(base_url), Some(realm)) = (&base_url, &realm)
        && base_url.value != realm.value
    {
        inputs.problems.warn(format_args!(
            "the {what} {} (from {}) wins over the environment that {} chooses",
            base_url.value, base_url.source, realm.source
        ));
    }
    let source = base_url.as_ref().map(|given| given.source.clone());
    let origin = base_url.or(realm).map_or_else(Origin::commercial, |given| given.value);
    let connect_to = connect_to(table, &origin, inputs);
    let egress = egress::choose(table, &origin, connect_to.as_ref(), inputs);
    let settings = UpstreamSettings {
        origin,
        connect_to,
        ca_file,
        http,
        egress,
        limits,
    };
    (settings, source)
}

/// Plain HTTP goes to this machine only: elsewhere the credential would be seen.
fn connect_to(table: Option<&FileAccount>, origin: &Origin, inputs: &mut Inputs<'_>) -> Option<ConnectTo> {
    let given = table?.connect_to.clone()?;
    if !origin.is_tls() {
        inputs.problems.add(
            &given.source,
            format_args!("the upstream {origin} is this machine, by plain HTTP, which goes nowhere else: remove this"),
        );
        return None;
    }
    let parsed = inputs.problems.parse(given, |text| {
        ConnectTo::parse(text).map_err(|error| format!("{}: {error}", shown(text)))
    });
    parsed.map(|given| given.value)
}

/// The realm that was chosen by name, as its origin.
pub(crate) fn realm(
    table: Option<&FileAccount>,
    over: Option<Given<String>>,
    inputs: &mut Inputs<'_>,
) -> Option<Given<Origin>> {
    let given = over.or_else(|| table.and_then(|t| t.environment.clone()))?;
    // Atlas's own tools read this variable, too, so it takes their words.
    let [commercial, gov] = match given.source {
        Source::Variable(_) => ["cloud", "cloudgov"],
        _ => ["commercial", "gov"],
    };
    inputs.problems.parse(given, |text| match text.trim() {
        text if text == commercial => Ok(Origin::commercial()),
        text if text == gov => Ok(Origin::government()),
        text => Err(value::one_of(text, &[commercial, gov])),
    })
}

/// The file must exist and hold at least one certificate: TLS would only report that it trusts nobody.
pub(crate) fn ca_file(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<PathBuf> {
    let path = inputs.path(given);
    let bytes = inputs.read(&path, LARGEST_CA_FILE, &given.source)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let shown = shown(&path.display().to_string());
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Some(path),
        Ok(_) => {
            inputs.problems.add(
                &given.source,
                format_args!("the file {shown} holds no certificate: it must have PEM blocks `BEGIN CERTIFICATE`"),
            );
            None
        }
        Err(error) => {
            inputs
                .problems
                .add(&given.source, format_args!("the file {shown} is not PEM: {error}"));
            None
        }
    }
}
