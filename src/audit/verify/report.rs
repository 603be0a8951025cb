//! What `audit verify` has to say.

/// Findings that are told one by one.
const MOST_TOLD: usize = 100;

/// What was found in audit files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that were read.
    pub lines: u64,
    /// What shows that lines are missing, swapped or changed, each with its place.
    pub found: Vec<String>,
    /// How many of these say that a key is missing, which proves nothing of the lines.
    pub missing_keys: usize,
    /// What is worth knowing, and no fault.
    pub notes: Vec<String>,
    /// Changes that were forwarded without a line, as `when_full = "drop"` has it.
    pub unrecorded: u64,
    /// Changes that were begun, and whose end nobody knows.
    pub unknown_outcomes: Vec<String>,
}

impl Report {
    /// Whether nothing was found.
    pub fn whole(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn find(&mut self, what: String) {
        match self.found.len() {
            MOST_TOLD => self.found.push("… and more".to_owned()),
            0..MOST_TOLD => self.found.push(what),
            _ => {}
        }
    }
}
