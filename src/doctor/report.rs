//! All that was found, for people and for machines.

use std::fmt::Write as _;

use serde_json::json;

use crate::report::{Columns, Status, Step};

const COLUMNS: Columns = Columns { status: 4, name: 14 };

/// All steps, in their order.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| step.status != Status::Fail)
    }

    /// A line for each check, and one below it for what to do.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let several = self.accounts() > 1;
        for step in &self.steps {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{}", printable(&step.line(COLUMNS, several)));
            if let Some(hint) = &step.hint {
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
            .steps
            .iter()
            .map(|step| {
                json!({
                    "check": step.name,
                    "account": step.account,
                    "status": step.status.as_str(),
                    "found": step.detail,
                    "hint": step.hint,
                })
            })
            .collect();
        json!({ "ok": self.is_good(), "checks": checks }).to_string()
    }

    fn count(&self, status: Status) -> usize {
        self.steps.iter().filter(|step| step.status == status).count()
    }

    fn accounts(&self) -> usize {
        let names: std::collections::BTreeSet<_> = self.steps.iter().filter_map(|step| step.account.as_ref()).collect();
        names.len()
    }
}

/// Text from elsewhere must not control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
