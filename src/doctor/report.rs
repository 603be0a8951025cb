//! All that was found, for people and for machines.

use serde_json::json;

use crate::report::{Status, Step};

/// Who is told of each step as it ends, and of those that begin.
pub type Watcher = Box<dyn FnMut(&Step)>;

/// All steps, in their order.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
    watcher: Option<Watcher>,
}

impl Report {
    /// An empty report whose steps somebody watches.
    pub fn watched(watcher: Watcher) -> Self {
        Self {
            steps: Vec::new(),
            watcher: Some(watcher),
        }
    }

    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        if let Some(watcher) = &mut self.watcher {
            watcher(&step);
        }
        if step.status != Status::Running {
            self.steps.push(step);
        }
    }

    /// Says that a check has begun that may take some time.
    pub(super) fn begin(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(Step::new(check, Status::Running, what));
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.count(Status::Fail) == 0
    }

    /// What came of it, in a few words.
    pub fn summary(&self) -> String {
        match (self.count(Status::Fail), self.count(Status::Warn)) {
            (0, 0) => "all is well".to_owned(),
            (0, warned) => format!("it works; {warned} to look at"),
            (failed, _) => format!("{failed} failed"),
        }
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
}
