//! Settings, and the certificate authorities that their accounts trust, read from files: on a blocking thread, and
//! before anything changes.

use std::collections::BTreeMap;

use rustls::ClientConfig;

use super::StartError;
use crate::settings::{AccountSettings, Settings};
use crate::trace::Authorities;
use crate::upstream::{TlsError, client_config, read_authorities, trusting};

/// Settings, and everything else that a run reads from files.
pub struct Prepared {
    pub(super) settings: Settings,
    pub(super) trusts: Trusts,
    /// For the way to the receiver of traces, if there is one.
    pub(super) traces_tls: Option<ClientConfig>,
}

/// By account.
pub(super) type Trusts = BTreeMap<String, Trust>;

/// Whom an account trusts upstream.
#[derive(Clone)]
pub(super) struct Trust {
    /// The content of the CA file; `None`: the system's authorities.
    content: Option<Vec<u8>>,
    pub(super) tls: ClientConfig,
}

/// Equal when both trust the same authorities. The system's authorities count as the same: they change with the
/// machine.
impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Trust {}

impl Prepared {
    /// Reads the files of certificate authorities, and the system's. Blocks its thread.
    ///
    /// # Errors
    /// When TLS to an account's upstream can't be set up.
    pub fn read(settings: Settings) -> Result<Self, StartError> {
        let mut of_system = None;
        let trusts = settings
            .accounts
            .iter()
            .map(|(name, account)| {
                let trust = Trust::read(account, &mut of_system).map_err(|source| StartError::Tls {
                    account: name.clone(),
                    source,
                })?;
                Ok((name.clone(), trust))
            })
            .collect::<Result<_, StartError>>()?;
        let traces_tls = settings.traces.as_ref().map(|traces| match &traces.authorities {
            Some(Authorities { path, pem }) => trusting(path, pem),
            None => of_system.map_or_else(|| client_config(None), Ok),
        });
        let traces_tls = traces_tls.transpose().map_err(StartError::Traces)?;
        Ok(Self {
            settings,
            trusts,
            traces_tls,
        })
    }
}

impl Trust {
    fn read(account: &AccountSettings, of_system: &mut Option<ClientConfig>) -> Result<Self, TlsError> {
        if let Some(path) = account.upstream.ca_file.as_deref() {
            let content = read_authorities(path)?;
            return Ok(Self {
                tls: trusting(path, &content)?,
                content: Some(content),
            });
        }
        let tls = match of_system {
            Some(tls) => tls.clone(),
            None => of_system.insert(client_config(None)?).clone(),
        };
        Ok(Self { content: None, tls })
    }
}
