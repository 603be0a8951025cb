//! Prints the steps of `check` and `rotate-secret` as they end, and on a terminal what is waited for.

use std::io::{self, IsTerminal, Write};

use crate::config::Environment;
use crate::report::{Columns, Status, Step, printable};

/// Ends a line that stands on the terminal only until the step has ended: to its start, and delete it (ECMA-48).
const TAKE_BACK: &str = "\r\x1b[K";

/// The steps of one command.
pub(super) struct Steps {
    columns: Columns,
    /// Only failures.
    quiet: bool,
    /// Whether what is waited for is shown.
    waits: bool,
    /// Such a line stands there now.
    waiting: bool,
    /// Whether the account of a step is named.
    pub(super) names_accounts: bool,
}

impl Steps {
    /// To standard output. `status` and `name`: the widths of the columns.
    pub(super) fn new(status: usize, name: usize, quiet: bool, environment: &dyn Environment) -> Self {
        let is_set = |name: &str| environment.var(name).is_some_and(|value| !value.is_empty());
        let is_dumb = environment.var("TERM").is_none_or(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !is_dumb;
        Self {
            columns: Columns {
                status,
                name,
                // https://no-color.org
                coloured: terminal && !is_set("NO_COLOR"),
            },
            quiet,
            waits: terminal && !quiet,
            waiting: false,
            names_accounts: false,
        }
    }

    /// A step that has ended, or begun.
    pub(super) fn step(&mut self, step: &Step) {
        if step.status == Status::Running {
            if self.waits {
                self.put(&step.line(self.columns, self.names_accounts));
                self.waiting = true;
            }
            return;
        }
        if self.quiet && step.status != Status::Fail {
            return;
        }
        let mut text = step.line(self.columns, self.names_accounts) + "\n";
        if let Some(hint) = &step.hint {
            let indent = self.columns.status + self.columns.name + 2;
            text += &format!("{:indent$}-> {}\n", "", printable(hint));
        }
        self.put(&text);
    }

    /// A line that belongs to no step; not for who wants failures alone.
    pub(super) fn line(&mut self, line: &str) {
        if !self.quiet {
            self.put(&format!("{line}\n"));
        }
    }

    fn put(&mut self, text: &str) {
        let before = if std::mem::take(&mut self.waiting) {
            TAKE_BACK
        } else {
            ""
        };
        let mut stdout = io::stdout().lock();
        // An error means that the reader has closed the output, and does not want it.
        let _ = write!(stdout, "{before}{text}").and_then(|()| stdout.flush());
    }
}
