//! What was found, for people and for machines.

use std::fmt::Write as _;

use serde_json::json;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but hardly as meant.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be tried.
    Skip,
}

impl Status {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One check: what was tried, what was found, and what to do. Holds nothing secret.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was tried.
    pub check: &'static str,
    /// For which account; `None`: for the proxy as a whole.
    pub account: Option<String>,
    /// How it went.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding about the proxy as a whole.
    pub fn new(check: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self {
            check,
            account: None,
            status,
            found: found.into(),
            hint: None,
        }
    }
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.status != Status::Fail)
    }

    /// A line for each check, and one below it for what to do.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let several = self.accounts() > 1;
        for finding in &self.findings {
            let account = match &finding.account {
                Some(account) if several => format!("[{account}] "),
                _ => String::new(),
            };
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "{} {:<14} {account}{}",
                finding.status.mark(),
                finding.check.replace('_', " "),
                printable(&finding.found)
            );
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "                    -> {}", printable(hint));
            }
        }
        let failed = self.count(Status::Fail);
        let warned = self.count(Status::Warn);
        let _ = match (failed, warned) {
            (0, 0) => writeln!(text, "all is well"),
            (0, warned) => writeln!(text, "it works; {warned} to look at"),
            (failed, _) => writeln!(text, "{failed} failed"),
        };
        text
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let checks: Vec<_> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.check,
                    "account": finding.account,
                    "status": finding.status.as_str(),
                    "found": finding.found,
                    "hint": finding.hint,
                })
            })
            .collect();
        json!({ "ok": self.is_good(), "checks": checks }).to_string()
    }

    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    fn accounts(&self) -> usize {
        let names: std::collections::BTreeSet<_> = self.findings.iter().filter_map(|f| f.account.as_ref()).collect();
        names.len()
    }
}

/// Text from elsewhere must not control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
