//! What is printed of a rotation.

use std::io::{self, Write};

use serde_json::json;

use crate::report::Step;
use crate::rotate::Rotation;

/// How wide the columns are, in characters.
pub(super) const STATUS_WIDTH: usize = 5;
pub(super) const NAME_WIDTH: usize = 8;

pub(super) fn as_json(steps: &[Step], rotation: &Rotation) -> String {
    let new = rotation.new.as_ref();
    let expires = new.and_then(|new| jiff::Timestamp::try_from(new.expires?).ok());
    json!({
        "ok": rotation.ok,
        "steps": steps.iter().map(|step| json!({
            "step": step.name,
            "status": step.status.as_str(),
            "detail": step.detail,
        })).collect::<Vec<_>>(),
        "in_force": rotation.in_force,
        "secret_id": new.map(|new| &new.id),
        "expires": expires.map(|at| format!("{at:.0}")),
    })
    .to_string()
}

pub(super) fn print(line: &str) {
    // An error means that the reader has closed the output, and does not want it.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
