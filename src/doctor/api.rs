//! One real call to the API, and what the service account sees of itself.

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};

use super::{Patient, span};
use crate::atlas_api::{AccountError, ApiAnswer, AtlasApi, CallError, ServiceAccount, in_use};
use crate::catalogue::is_id;
use crate::credential::ApiKeyPair;
use crate::report::Status;
use crate::secret::Secret;

/// A call that every credential may make, with a short answer.
pub(super) const CALL: &str = "/api/atlas/v2/groups?itemsPerPage=1";
/// Says which API key asks: `SystemStatus` of the API's description.
const STATUS: &str = "/api/atlas/v2";
const IP_INFO: &str = "/api/private/ipinfo";
/// Where an access list is.
pub(super) const ADD_ADDRESS: &str =
    "add it there (Atlas: Organization, Access Manager, the service account or API key, API Access List)";
/// A secret that expires sooner is worth a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

impl Patient<'_> {
    /// True when the API answered as it should.
    pub(super) async fn one_call(&mut self, api: &AtlasApi) -> bool {
        self.begin("api", format!("asking for {CALL}"));
        match api.call(Method::GET, CALL, None).await {
            Ok(answer) => {
                self.judge(&answer);
                self.egress_address(&answer, api).await;
                is_good(&answer)
            }
            Err(error) => {
                let hint = "the token endpoint answered a moment ago: try again. If it stays so, something in between ends the connection";
                self.add("api", Status::Fail, error.to_string(), Some(hint.to_owned()));
                false
            }
        }
    }

    /// What the answer to [`CALL`] says.
    pub(super) fn judge(&mut self, answer: &ApiAnswer) {
        let no_json = if answer.status.is_success() && !is_good(answer) {
            ", and no JSON object"
        } else {
            ""
        };
        let said = format!("GET {CALL}: {}{no_json}", answer.summary());
        let code = answer.error_code().unwrap_or_default();
        let base_url = if self.before_gateway() {
            "the gateway's base URL"
        } else {
            "the base URL"
        };
        let hint = match answer.status {
            _ if is_good(answer) => {
                return match answer.body["totalCount"].as_u64() {
                    Some(0) => {
                        let hint = "if there are projects, the credential may see none of them: give it a role in the organization or in a project";
                        self.add("api", Status::Warn, said + ", and no project", Some(hint.to_owned()));
                    }
                    Some(count) => self.add("api", Status::Ok, format!("{said}, {count} projects"), None),
                    None => self.add("api", Status::Ok, said, None),
                };
            }
            status if status.is_success() || status.is_redirection() => {
                format!("this is not the Admin API: look at {base_url}, and at what stands in between (a login page, a proxy)")
            }
            _ if code.contains("ACCESS_LIST") || code.contains("WHITELIST") => {
                let seen = named_address(answer).map_or_else(
                    || "the address from which this machine calls (Atlas does not name it)".to_owned(),
                    |address| format!("Atlas sees this machine as {address}, which"),
                );
                format!("{seen} is not on the API access list: {ADD_ADDRESS}")
            }
            StatusCode::UNAUTHORIZED => {
                "the token was granted, and is not accepted here: may the service account use this organization's API at all?".to_owned()
            }
            StatusCode::FORBIDDEN => "the credential is good, its role is not: give it a role that may read projects, such as Organization Read Only".to_owned(),
            StatusCode::NOT_ACCEPTABLE | StatusCode::GONE => {
                "the upstream does not know this version of the API: is it Atlas, or an older Ops Manager?".to_owned()
            }
            StatusCode::TOO_MANY_REQUESTS => "the rate limit is reached: others use up what this credential may do; wait, or bound them with `max_requests_per_minute`".to_owned(),
            StatusCode::NOT_FOUND => format!("there is no Admin API at this address: look at {base_url}"),
            status if status.is_server_error() => "a fault of Atlas, or of what answers in its place: see status.mongodb.com, and try again".to_owned(),
            _ => "look at what the upstream says".to_owned(),
        };
        self.add("api", Status::Fail, said, Some(hint));
    }

    /// The address that belongs on access lists: this machine's, after any address translation on the way out.
    pub(super) async fn egress_address(&mut self, answer: &ApiAnswer, api: &AtlasApi) {
        if !is_good(answer) {
            return;
        }
        let Ok(answer) = api.call(Method::GET, IP_INFO, None).await else {
            return;
        };
        // Not documented, though Atlas's own tools use it: where it is missing, the check is left out.
        let address = answer.body["currentIpv4Address"].as_str();
        if let Some(address) = address.and_then(|address| address.parse::<IpAddr>().ok()) {
            self.add(
                "egress",
                Status::Ok,
                format!("Atlas sees this machine as {address}"),
                None,
            );
        }
    }

    /// What paths of the API name the key by, which Atlas tells the key alone: left out where it does not.
    pub(super) async fn key_id(&mut self, key: &ApiKeyPair, api: &AtlasApi) {
        self.begin("api_key_id", "asking which key this is");
        let Ok(answer) = api.call(Method::GET, STATUS, None).await else {
            return;
        };
        let told = &answer.body["apiKey"];
        let id = told["id"].as_str().filter(|id| is_id(id));
        let Some(id) = id.filter(|_| told["publicKey"].as_str() == Some(&*key.public_key)) else {
            return;
        };
        let place = format!("`api_key_id` in [account.{}]", self.name);
        match self.account.api_key_id.as_deref() {
            Some(given) if given.eq_ignore_ascii_case(id) => {
                self.add(
                    "api_key_id",
                    Status::Ok,
                    format!("the API key's id is {id}, as set"),
                    None,
                );
            }
            Some(_) => {
                let found = format!("the API key's id is {id}, and another one is set");
                let hint = format!("set it as {place}: until then callers may change the key");
                self.add("api_key_id", Status::Fail, found, Some(hint));
            }
            None => {
                let found = format!("the API key's id is {id}; as {place} it lets callers change other keys");
                self.add("api_key_id", Status::Ok, found, None);
            }
        }
    }

    pub(super) async fn secret_expiry(&mut self, api: &AtlasApi, client_id: &str, secret: &Secret) {
        self.begin("secret_expiry", "looking for the service account");
        let found = match ServiceAccount::find(api, client_id).await {
            Ok(account) => account.secrets(api).await,
            Err(error) => Err(error),
        };
        let secrets = match found {
            Ok(secrets) => secrets,
            Err(AccountError::Call(CallError::NoAnswer { origin, why })) => {
                return self.add(
                    "secret_expiry",
                    Status::Skip,
                    format!("{origin} gave no answer: {why}"),
                    None,
                );
            }
            Err(error) => {
                // The summary alone: the other texts have ids, which are the server's.
                let why = match error {
                    AccountError::Answer { answer, .. } => answer.summary(),
                    _ => "it is in no organization that it sees".to_owned(),
                };
                let found = format!("not known, as the service account may not read itself ({why})");
                let hint = "Atlas warns by mail and alert before a secret expires; with the role Organization Read Only this, and the metric secret_expiry_timestamp_seconds, would tell".to_owned();
                return self.add("secret_expiry", Status::Skip, found, Some(hint));
            }
        };
        let Some(expires) = in_use(&secrets, secret).and_then(|secret| secret.expires) else {
            let found = format!("of {} secrets it cannot be told which one is in use", secrets.len());
            return self.add("secret_expiry", Status::Skip, found, None);
        };
        let hint = || Some("make a new one: `atlas-auth-proxy rotate-secret`".to_owned());
        match expires.duration_since(self.around.clock.wall()) {
            Err(since) => {
                let found = format!("the client secret expired {} ago", span(since.duration()));
                self.add("secret_expiry", Status::Fail, found, hint());
            }
            Ok(left) => {
                let found = format!("the client secret is good for {}", span(left));
                if left < EXPIRES_SOON {
                    self.add("secret_expiry", Status::Warn, found, hint());
                } else {
                    self.add("secret_expiry", Status::Ok, found, None);
                }
            }
        }
    }
}

fn is_good(answer: &ApiAnswer) -> bool {
    answer.status.is_success() && answer.body.is_object()
}

/// Repeats a value only if it is an address.
fn named_address(answer: &ApiAnswer) -> Option<IpAddr> {
    let parameters = answer.body["parameters"].as_array().into_iter().flatten();
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    parameters
        .filter_map(serde_json::Value::as_str)
        .chain(detail.split_ascii_whitespace())
        .find_map(|word| word.parse().ok())
}
