//! `check`: the doctor.

use std::cell::RefCell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Builder;

use super::exit;
use super::steps::Steps;
use crate::config::{self, Environment, Sources};
use crate::crypto;
use crate::doctor::{self, Circumstances, PROXY_VARIABLES, Report};
use crate::report::{Status, Step};
use crate::time::SystemClock;

/// How wide the columns are, in characters.
const STATUS_WIDTH: usize = 4;
const NAME_WIDTH: usize = 14;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Every step.
    Steps,
    /// Those that failed.
    Failures,
    /// One JSON object.
    Json,
}

/// Examines what these sources say, prints what was found.
pub(super) fn check(
    sources: Sources<'_>,
    environment: &dyn Environment,
    account: Option<&str>,
    answer: Answer,
) -> ExitCode {
    if answer == Answer::Json {
        let mut report = Report::default();
        examine(sources, environment, account, &mut report, |_| ());
        // An error means that the reader has closed the output, and does not want it.
        let _ = writeln!(io::stdout().lock(), "{}", report.json());
        return code(&report);
    }
    let quiet = answer == Answer::Failures;
    let steps = Rc::new(RefCell::new(Steps::new(STATUS_WIDTH, NAME_WIDTH, quiet, environment)));
    let shown = Rc::clone(&steps);
    let mut report = Report::watched(Box::new(move |step| shown.borrow_mut().step(step)));
    examine(sources, environment, account, &mut report, |several| {
        steps.borrow_mut().names_accounts = several;
    });
    steps.borrow_mut().line(&report.summary());
    code(&report)
}

fn code(report: &Report) -> ExitCode {
    if report.is_good() { exit::CLEAN } else { exit::failed() }
}

/// `several`: is told whether more than one account is examined, before the first step about one.
fn examine(
    sources: Sources<'_>,
    environment: &dyn Environment,
    account: Option<&str>,
    report: &mut Report,
    several: impl FnOnce(bool),
) {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for line in errors.lines() {
                report.add(Step::new("configuration", Status::Fail, line));
            }
            return;
        }
    };
    let settings = &loaded.settings;
    several(account.is_none() && settings.accounts.len() > 1);
    let names: Vec<&str> = settings.accounts.keys().map(String::as_str).collect();
    let found = format!(
        "{} listener{}, account{} {}",
        settings.listeners.len(),
        if settings.listeners.len() == 1 { "" } else { "s" },
        if names.len() == 1 { "" } else { "s" },
        names.join(", ")
    );
    report.add(Step::new("configuration", Status::Ok, found));
    for warning in &loaded.warnings {
        report.add(Step::new("configuration", Status::Warn, warning));
    }
    for note in &loaded.notes {
        report.add(Step::new("configuration", Status::Ok, note));
    }
    if let Some(account) = account.filter(|account| !settings.accounts.contains_key(*account)) {
        let account = super::without_credentials(account);
        let found = format!("there is no account `{account}`: there is {}", names.join(", "));
        return report.add(Step::new("configuration", Status::Fail, found));
    }
    if let Err(error) = crypto::self_check() {
        return report.add(Step::new("cryptography", Status::Fail, error.to_string()));
    }
    let around = Circumstances {
        proxy_variables: PROXY_VARIABLES
            .into_iter()
            .filter(|name| environment.var(name).is_some_and(|value| !value.is_empty()))
            .collect(),
        clock: Arc::new(SystemClock),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.add(Step::new("process", Status::Fail, error.to_string())),
    };
    runtime.block_on(doctor::examine(settings, account, &around, report));
    // A name look-up that hangs must not keep the process.
    runtime.shutdown_background();
}
