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
    /// It has begun, and may take some time: only for people who wait. How it ended follows.
    Running,
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
            Self::Running => "...",
        }
    }

    /// As people read it: a failure must be seen among many lines.
    fn mark(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            other => other.as_str(),
        }
    }

    /// The colour of the mark on a terminal: the parameters of an SGR sequence (ECMA-48).
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Would | Self::Warn => "33",
            Self::Fail => "1;31",
            Self::Skip | Self::Running => "2",
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

/// How a step is written for people: how wide the columns are, in characters, and whether there are colours.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// That of the status.
    pub status: usize,
    /// That of the step's name.
    pub name: usize,
    /// Whether the reader is a terminal that shows colours.
    pub coloured: bool,
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
        let mark = format!("{:<1$}", self.status.mark(), columns.status);
        let mark = match columns.coloured {
            true => format!("\x1b[{}m{mark}\x1b[0m", self.status.colour()),
            false => mark,
        };
        format!(
            "{mark} {:<name$} {account}{}",
            self.name.replace('_', " "),
            printable(&self.detail),
            name = columns.name,
        )
    }
}

/// Text from elsewhere must not control the terminal.
pub fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| if is_no_text(c) { ' ' } else { c });
    shown.collect()
}

/// Whether a terminal or a page does something else with it than to show it: controls, and what changes the direction of a line.
pub fn is_no_text(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
