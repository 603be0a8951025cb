//! Whether `run` could write the audit log. Nothing is written, made or locked: a running proxy may have the file.

use std::path::Path;
use std::time::Duration;

use super::{Report, span};
use crate::audit::{self, AuditFileError, AuditSettings, Destination, ExaminedFile};
use crate::blocking;
use crate::report::{Status, Step};
use crate::settings::Settings;

const CHECK: &str = "audit";
/// How long the file system may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// With less room left than this, MiB, it is time to look: it lasts about an hour at ten changes a second.
const LITTLE_ROOM: u64 = 64;
/// With less than this, bytes, a start would fail or soon be of no use.
const NO_ROOM: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

pub(super) async fn examine(settings: &Settings, report: &mut Report) {
    let Some(audit) = &settings.audit else { return };
    let Destination::File(path) = &audit.to else {
        let found =
            "lines go to standard output: whether they are kept is up to what reads it, and no chain proves them";
        return report.add(Step::new(CHECK, Status::Ok, found));
    };
    report.begin(CHECK, format!("looking at {}", path.display()));
    let place = path.clone();
    let examined = blocking::run(move || audit::examine(&place));
    let fail = |found: String, hint: Option<&str>| Step {
        hint: hint.map(str::to_owned),
        ..Step::new(CHECK, Status::Fail, found)
    };
    let step = match tokio::time::timeout(PATIENCE, examined).await {
        Ok(Ok(Ok(found))) => return say(audit, path, found, report),
        Ok(Ok(Err(error))) => {
            let another_user = matches!(error, AuditFileError::Owner { .. });
            let hint = "if that is the user of the proxy, run `check` as that one";
            fail(error.to_string(), another_user.then_some(hint))
        }
        Ok(Err(error)) => fail(format!("cannot look at {}: {error}", path.display()), None),
        Err(_) => fail(
            format!(
                "the file system of {} gives no answer within {}",
                path.display(),
                span(PATIENCE)
            ),
            Some("every change would wait for it, and be refused: name a file on a disk of this machine"),
        ),
    };
    report.add(step);
}

fn say(settings: &AuditSettings, path: &Path, found: ExaminedFile, report: &mut Report) {
    let path = path.display();
    let state = if found.exists { "can be written" } else { "can be made" };
    let chain = match settings.key_id() {
        Some(id) => format!("lines are chained with the key {id}"),
        None => "without `chain_key_file` nothing proves what it says".to_owned(),
    };
    if found.free < NO_ROOM {
        let found = format!("no room is left for {path}: the proxy would not start, and refuses changes while it runs");
        return report.add(Step {
            hint: Some("free some, or name a file on another disk".to_owned()),
            ..Step::new(CHECK, Status::Fail, found)
        });
    }
    let free = room(found.free);
    report.add(Step::new(
        CHECK,
        Status::Ok,
        format!("{path} {state}, with {free} left; {chain}"),
    ));
    let mut warn = |found: String, hint: &str| {
        report.add(Step {
            hint: Some(hint.to_owned()),
            ..Step::new(CHECK, Status::Warn, found)
        });
    };
    if found.free / MIB < LITTLE_ROOM {
        warn(
            format!("only {free} are left for {path}"),
            "free some: when there is none, changes are refused (`when_full = \"refuse\"`), or not recorded (\"drop\")",
        );
    }
    if found.open_to_group {
        warn(
            format!("the group may read or write {path}"),
            "`chmod 600` it; the next start does",
        );
    }
    if !found.folder_writable {
        warn(
            format!("no other file can be made beside {path}"),
            "let the user of the proxy write in that folder: once the file is renamed, SIGHUP begins another",
        );
    }
}

fn room(bytes: u64) -> String {
    if bytes < MIB {
        format!("{} KiB", bytes >> 10)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}
