//! What `check` and `rotate-secret` tell of each of their steps.

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done, or as it should be.
    Ok,
    /// A dry run: it would be done.
    Would,
    /// It works, but not as asked or meant.
    Warn,
    /// It failed, or does not work.
    Fail,
    /// It could not be tried.
    Skip,
}

impl Status {
    /// As machines read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Would => "would",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }

    /// As people read it: a failure must be seen among many lines.
    fn mark(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            other => other.as_str(),
        }
    }
}

/// One step: what was tried, what was done or found, and what to do. Holds nothing secret.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was tried.
    pub name: &'static str,
    /// For which account; `None`: it is about none in particular.
    pub account: Option<String>,
    /// How it ended.
    pub status: Status,
    /// What was done or found.
    pub detail: String,
    /// What to do, unless `detail` says so.
    pub hint: Option<String>,
}

/// How wide the columns of a text are, in characters.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// That of the status.
    pub status: usize,
    /// That of the step's name.
    pub name: usize,
}

impl Step {
    /// A step about no account in particular, without a hint.
    pub fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self {
            name,
            account: None,
            status,
            detail: detail.into(),
            hint: None,
        }
    }

    /// For people: a line of all but the hint. `account`: whether to name the account.
    pub fn line(&self, columns: Columns, account: bool) -> String {
        let account = match &self.account {
            Some(name) if account => format!("[{name}] "),
            _ => String::new(),
        };
        format!(
            "{:<status$} {:<name$} {account}{}",
            self.status.mark(),
            self.name.replace('_', " "),
            self.detail,
            status = columns.status,
            name = columns.name,
        )
    }
}
