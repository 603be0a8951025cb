//! One key of a Kubernetes Secret, patched through the cluster's API.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, request};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::destination::PutError;
use crate::own_http::{HttpClient, HttpResponse};
use crate::secret::Secret;
use crate::upstream::{HttpVersion, client_config};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// The most of a Secret that is read, bytes. Kubernetes accepts a MiB of data, which base64 and Kubernetes's own fields
/// make longer.
const MOST_SECRET: usize = 4 << 20;
/// RFC 7396.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// `NAMESPACE/NAME:KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSecret {
    namespace: String,
    name: String,
    key: String,
}

impl FromStr for KubernetesSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(namespace, rest)| Some((namespace, rest.split_once(':')?)));
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty()
                && text.len() <= 253
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        match parts {
            Some((namespace, (name, key))) if plain(namespace, b"-") && plain(name, b"-.") && plain(key, b"-._") => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    key: key.to_owned(),
                })
            }
            _ => Err("write NAMESPACE/NAME:KEY, such as platform/atlas-credentials:client-secret".to_owned()),
        }
    }
}

impl fmt::Display for KubernetesSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.key)
    }
}

impl KubernetesSecret {
    /// A shell command that puts the content of a file there, and never has it on a command line (`printf` is part of
    /// the shell).
    pub fn kubectl(&self, file: &Path) -> String {
        let file = file.display().to_string().replace('\'', r"'\''");
        let Self { namespace, name, key } = self;
        format!(
            "printf '{{\"data\":{{\"{key}\":\"%s\"}}}}' \"$(base64 -w0 '{file}')\" | kubectl --namespace {namespace} patch secret {name} --type merge --patch-file /dev/stdin"
        )
    }
}

/// The API of the cluster that this process runs in, and the right to call it.
#[derive(Debug)]
pub struct Cluster {
    /// `https://host:port`.
    origin: String,
    /// Holds `token` and `ca.crt`, which the kubelet renews.
    credentials: PathBuf,
}

impl Cluster {
    /// `host` and `port` of the API; `credentials` is the folder with `token` and `ca.crt`.
    pub fn new(host: &str, port: &str, credentials: PathBuf) -> Self {
        let origin = if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        };
        Self { origin, credentials }
    }

    /// Whether the Secret exists and this key of it may be patched; changes nothing. The value that is sent is no
    /// secret, but differs from the present one: an immutable Secret accepts patches that change nothing.
    pub(super) async fn try_patch(&self, secret: &KubernetesSecret) -> Result<(), String> {
        self.send_patch(secret, "a trial", "?dryRun=All")
            .await
            .map_err(|error| error.why)
    }

    pub(super) async fn patch(&self, secret: &KubernetesSecret, value: &Secret) -> Result<(), PutError> {
        match self.send_patch(secret, value.expose(), "").await {
            Err(error) if !error.untouched && self.holds(secret, value).await => Ok(()),
            other => other,
        }
    }

    /// Whether the Secret holds the value by now; false when it can't be read.
    async fn holds(&self, secret: &KubernetesSecret, value: &Secret) -> bool {
        let Ok(mut answer) = self.send(secret, Method::GET, "", None).await else {
            return false;
        };
        let status = answer.status();
        let Ok(body) = answer.read(MOST_SECRET).await.map(Zeroizing::new) else {
            return false;
        };
        let known = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let expected = Zeroizing::new(STANDARD.encode(value.expose()));
        status.is_success() && known["data"][&secret.key].as_str() == Some(&expected)
    }

    async fn send_patch(&self, secret: &KubernetesSecret, value: &str, query: &str) -> Result<(), PutError> {
        let mut data = serde_json::Map::new();
        data.insert(secret.key.clone(), Value::String(STANDARD.encode(value)));
        let patch = json!({ "data": data }).to_string();
        let status = self.send(secret, Method::PATCH, query, Some(patch)).await?.status();
        if status.is_success() {
            return Ok(());
        }
        let hint = match status.as_u16() {
            401 => "the service account's token is not accepted",
            403 => "give the Kubernetes service account of this pod the verbs `get` and `patch` on this Secret",
            404 => "there is no such Secret: create it first",
            422 => "is it marked as immutable?",
            _ => "look at the cluster's API",
        };
        Err(PutError {
            why: format!("the Secret {secret} can't be patched: HTTP {}; {hint}", status.as_u16()),
            // A server error may come after the change was made.
            untouched: !status.is_server_error(),
        })
    }

    async fn send(
        &self,
        secret: &KubernetesSecret,
        method: Method,
        query: &str,
        patch: Option<String>,
    ) -> Result<HttpResponse, PutError> {
        let file = self.credentials.join("token");
        let token = std::fs::read_to_string(&file)
            .map_err(|error| PutError::before(format!("cannot read {}: {error}", file.display())))?;
        let token = Zeroizing::new(token);
        let tls = client_config(Some(&self.credentials.join("ca.crt")))
            .map_err(|error| PutError::before(error.to_string()))?;
        let http = HttpClient::new(tls, CONNECT_LIMIT, None, HttpVersion::Http1);
        let bearer = Bytes::from_owner(Zeroizing::new(["Bearer ", token.trim()].concat().into_bytes()));
        let mut bearer = HeaderValue::from_maybe_shared(bearer)
            .map_err(|_| PutError::before(format!("{} holds no token", file.display())))?;
        bearer.set_sensitive(true);
        let KubernetesSecret { namespace, name, .. } = secret;
        let url = format!("{}/api/v1/namespaces/{namespace}/secrets/{name}{query}", self.origin);
        let mut request = request::Builder::new()
            .method(method)
            .uri(url)
            .header(AUTHORIZATION, bearer);
        if patch.is_some() {
            request = request.header(CONTENT_TYPE, MERGE_PATCH);
        }
        let sent = http.send(request, patch.unwrap_or_default(), CALL_LIMIT).await;
        sent.map_err(|error| PutError {
            why: format!("the cluster's API {} gives no answer: {}", self.origin, error.reason()),
            untouched: error.is_connect(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_in_three_parts() {
        let secret: KubernetesSecret = "platform/atlas-credentials:client-secret".parse().unwrap();
        assert_eq!(secret.to_string(), "platform/atlas-credentials:client-secret");
        for bad in [
            "", "a", "a/b", "a:b", "a/b:", "/b:c", "a/:c", "a/b:c d", "a/../b:c", "a/b?c:d", "a b/c:d",
        ] {
            assert!(bad.parse::<KubernetesSecret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_for_the_shell_survives_any_file_name() {
        let secret: KubernetesSecret = "ns/name:key".parse().unwrap();
        assert_eq!(
            secret.kubectl(Path::new("/tmp/it's here")),
            r#"printf '{"data":{"key":"%s"}}' "$(base64 -w0 '/tmp/it'\''s here')" | kubectl --namespace ns patch secret name --type merge --patch-file /dev/stdin"#
        );
    }
}
