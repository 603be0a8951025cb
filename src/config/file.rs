//! The configuration file as a whole. What the values mean is decided elsewhere, together with flags and environment.

use std::path::Path;

use super::account::FileAccount;
use super::admin::FileAdmin;
use super::audit::FileAudit;
use super::caller::{FileCaller, FileIssuer, FilePasses};
use super::document::Document;
use super::limits::FileLimits;
use super::listener::FileListener;
use super::log::FileLog;
use super::problem::Problems;
use super::table::tables;
use super::token_store::FileTokenStore;

tables! {
    /// The whole file. Without one: nothing.
    FileConfig {
        listeners = "listener": tables of FileListener,
        accounts = "account": named of FileAccount,
        admin: section of FileAdmin,
        limits: section of FileLimits,
        log: section of FileLog,
        token_store: table of FileTokenStore,
        callers = "caller": tables of FileCaller,
        issuers = "issuer": tables of FileIssuer,
        passes: table of FilePasses,
        audit: table of FileAudit,
        workers: integer,
        drain_timeout: text,
        drain_delay: text,
        "listeners" => "there is no such key; write `[[listener]]`, once for each",
        "callers" => "there is no such key; write `[[caller]]`, once for each",
        "issuers" => "there is no such key; write `[[issuer]]`, once for each",
        "accounts" => "there is no such key; write `[account.NAME]`, once for each",
    }
}

impl FileConfig {
    /// Reads the text of a file; what is wrong with its syntax, keys and types is noted.
    pub(crate) fn parse(path: &Path, text: &str, problems: &mut Problems) -> Self {
        Document::new(path, text).read(problems).unwrap_or_default()
    }
}
