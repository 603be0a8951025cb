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
        /// A port or socket that is listened on; each adds the credential of one account.
        listeners = "listener": tables of FileListener,
        /// A credential, and the one upstream that it may travel to.
        accounts = "account": named of FileAccount,
        /// The admin port: metrics, health, the status page.
        admin: section of FileAdmin,
        /// Bounds.
        limits: section of FileLimits,
        /// The log.
        log: section of FileLog,
        /// Where replicas share the tokens of service accounts. Without it each replica has its own.
        token_store: table of FileTokenStore,
        /// A program with a name of its own. Without callers and issuers nobody is asked who it is.
        callers = "caller": tables of FileCaller,
        /// Whose JSON Web Tokens are taken.
        issuers = "issuer": tables of FileIssuer,
        /// What callers get at `/api/oauth/token`.
        passes: table of FilePasses,
        /// Who changed what, on disk before it is forwarded. Without it there is the log alone.
        audit: table of FileAudit,
        /// Worker threads. Left out: the available cores, at most 4.
        workers: integer as Range(1, 512),
        /// How long requests in flight may go on after SIGTERM.
        drain_timeout: text as Duration default "30s",
        /// How long to serve on after SIGTERM, unready, before the drain begins: until load balancers have noticed.
        drain_delay: text as Duration default "0s",
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
