//! A service account as it sees itself: its secrets, and when they expire.

use std::fmt;
use std::time::SystemTime;

use http::Method;
use serde_json::{Value, json};

use super::{ApiAnswer, AtlasApi, CallError};

/// The most organisations in which the account is looked for. It belongs to one; it may see others.
const MOST_ORGANIZATIONS: usize = 20;
/// The longest value of a secret, bytes. Atlas's have some 50.
const MOST_VALUE_BYTES: usize = 1024;

/// What a service account belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// An organisation, by its id.
    Organization(String),
    /// A project, by its id.
    Project(String),
}

impl Home {
    fn path(&self, client_id: &str) -> String {
        let (kind, id) = match self {
            Self::Organization(id) => ("orgs", id),
            Self::Project(id) => ("groups", id),
        };
        format!("/api/atlas/v2/{kind}/{id}/serviceAccounts/{client_id}")
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization(id) => write!(f, "organization {id}"),
            Self::Project(id) => write!(f, "project {id}"),
        }
    }
}

/// A secret as Atlas shows it once it is made: without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSecret {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it expires.
    pub expires: Option<SystemTime>,
    /// The end of its value, as far as Atlas shows it.
    tail: String,
}

/// A service account, by its client id, in its [`Home`].
#[derive(Debug, Clone)]
pub struct ServiceAccount {
    home: Home,
    client_id: String,
}

/// A call that Atlas answered, but not with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer was not the expected one.
    #[error("{what}: {}", .answer.summary())]
    Answer {
        /// What was asked for.
        what: String,
        /// What Atlas said.
        answer: Box<ApiAnswer>,
    },
    /// The answer lacks what it must have.
    #[error("{0}")]
    Content(String),
    /// A secret was made, and its value is not there or can't be one.
    #[error("{what}: the answer has no usable `secret`")]
    Unusable {
        /// What was asked for.
        what: String,
        /// The secret that was made.
        made: Box<ServiceSecret>,
    },
}

impl AccountError {
    fn answer(what: impl Into<String>, answer: ApiAnswer) -> Self {
        Self::Answer {
            what: what.into(),
            answer: Box::new(answer),
        }
    }
}

impl ServiceAccount {
    /// The account, when its home is known.
    pub fn at(home: Home, client_id: &str) -> Self {
        Self {
            home,
            client_id: client_id.to_owned(),
        }
    }

    /// Looks for the account in the organisations that it can see.
    ///
    /// # Errors
    /// When it can see no organisation, or not itself in them.
    pub async fn find(api: &AtlasApi, client_id: &str) -> Result<Self, AccountError> {
        let what = "the organizations cannot be listed";
        let answer = api.call(Method::GET, "/api/atlas/v2/orgs", None).await?;
        if !answer.status.is_success() {
            return Err(AccountError::answer(what, answer));
        }
        let organizations: Vec<String> = answer.body["results"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|org| org["id"].as_str().map(str::to_owned))
            .filter(|id| is_id(id))
            .take(MOST_ORGANIZATIONS)
            .collect();
        let mut last = None;
        for id in organizations {
            let account = Self::at(Home::Organization(id), client_id);
            match account.secrets(api).await {
                Ok(_) => return Ok(account),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| AccountError::Content(format!("{what}: it sees none"))))
    }

    /// What it belongs to.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its secrets.
    ///
    /// # Errors
    /// When Atlas does not show them.
    pub async fn secrets(&self, api: &AtlasApi) -> Result<Vec<ServiceSecret>, AccountError> {
        let what = format!("the service account cannot be read in {}", self.home);
        let answer = api.call(Method::GET, &self.home.path(&self.client_id), None).await?;
        if !answer.status.is_success() {
            return Err(AccountError::answer(what, answer));
        }
        let secrets = answer.body["secrets"].as_array();
        let secrets = secrets.ok_or_else(|| AccountError::Content(format!("{what}: the answer has no `secrets`")))?;
        Ok(secrets.iter().filter_map(ServiceSecret::read).collect())
    }

    /// Makes one more secret that lives for `hours`, and returns its value, which Atlas shows only this once.
    ///
    /// # Errors
    /// When Atlas makes none.
    pub async fn add_secret(
        &self,
        api: &AtlasApi,
        hours: u32,
    ) -> Result<(ServiceSecret, crate::secret::Secret), AccountError> {
        let path = self.home.path(&self.client_id) + "/secrets";
        let body = json!({ "secretExpiresAfterHours": hours });
        let what = format!("no new secret in {}", self.home);
        let mut answer = api.call(Method::POST, &path, Some(&body)).await?;
        if !answer.status.is_success() {
            return Err(AccountError::answer(what, answer));
        }
        let value = match answer.body.get_mut("secret").map(Value::take) {
            Some(Value::String(value)) => Some(crate::secret::Secret::new(value)),
            _ => None,
        };
        let Some(secret) = ServiceSecret::read(&answer.body) else {
            return Err(AccountError::Content(format!("{what}: the answer has no `id`")));
        };
        match value.filter(is_value) {
            Some(value) => Ok((secret, value)),
            None => Err(AccountError::Unusable {
                what,
                made: Box::new(secret),
            }),
        }
    }

    /// Deletes a secret.
    ///
    /// # Errors
    /// When Atlas does not.
    pub async fn delete_secret(&self, api: &AtlasApi, id: &str) -> Result<(), AccountError> {
        let path = format!("{}/secrets/{id}", self.home.path(&self.client_id));
        let answer = api.call(Method::DELETE, &path, None).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(AccountError::answer(
            format!("the secret {id} cannot be deleted"),
            answer,
        ))
    }
}

impl ServiceSecret {
    fn read(value: &Value) -> Option<Self> {
        let id = value["id"].as_str().filter(|id| is_id(id))?.to_owned();
        let masked = value["maskedSecretValue"].as_str().unwrap_or_default();
        // Atlas shows the end of the value, after dots or stars.
        let tail = masked
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
            .next()
            .unwrap_or_default();
        Some(Self {
            id,
            created: time(&value["createdAt"]),
            expires: time(&value["expiresAt"]),
            tail: if tail.len() == masked.len() {
                String::new()
            } else {
                tail.to_owned()
            },
        })
    }
}

/// The one of `secrets` that has this value; `None`: more than one could be it, or none.
pub fn in_use<'a>(secrets: &'a [ServiceSecret], value: &crate::secret::Secret) -> Option<&'a ServiceSecret> {
    if let [only] = secrets {
        return Some(only);
    }
    let mut fitting = secrets
        .iter()
        .filter(|secret| !secret.tail.is_empty() && value.expose().ends_with(&secret.tail));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Whether the text may go into a path.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether a file that holds this value alone is read back as the same secret.
fn is_value(value: &crate::secret::Secret) -> bool {
    let value = value.expose();
    let quoted = value.starts_with(['"', '\'']);
    !value.is_empty() && !quoted && value.len() <= MOST_VALUE_BYTES && value.bytes().all(|b| b.is_ascii_graphic())
}

fn time(value: &Value) -> Option<SystemTime> {
    let timestamp: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(timestamp.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn secret(id: &str, masked: &str) -> ServiceSecret {
        let value = json!({"id": id, "expiresAt": "2026-12-01T00:00:00Z", "maskedSecretValue": masked});
        ServiceSecret::read(&value).unwrap()
    }

    #[test]
    fn the_secret_in_use_is_told_by_its_end() {
        let value = Secret::new("mdb_sa_sk_abcdefgh-wxyz");
        let one = secret("1", "mdb_sa_sk_...wxyz");
        let other = secret("2", "****aaaa");
        assert_eq!(in_use(&[other.clone(), one.clone()], &value), Some(&one));
        assert_eq!(
            in_use(std::slice::from_ref(&other), &value),
            Some(&other),
            "there is one only"
        );
        assert_eq!(
            in_use(&[one.clone(), secret("3", "…wxyz")], &value),
            None,
            "either could be it"
        );
        assert_eq!(in_use(&[other.clone(), secret("3", "")], &value), None);
        assert_eq!(in_use(&[other, secret("3", "unmasked")], &value), None);
        assert!(one.expires.is_some() && one.created.is_none());
    }

    #[test]
    fn an_id_that_could_leave_its_place_in_a_path_is_none() {
        for id in ["", "../x", "a/b", "a?b", "a b"] {
            assert_eq!(ServiceSecret::read(&json!({ "id": id })), None, "{id}");
        }
    }
}
