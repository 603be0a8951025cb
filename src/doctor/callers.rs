//! Whether the issuers of callers' tokens answer with keys, and whether replicas could know each other's passes.

use std::sync::Arc;
use std::time::Duration;

use super::{Circumstances, Report, span};
use crate::caller::{CallerState, Callers, IssuerStatus};
use crate::report::{Status, Step};
use crate::settings::Settings;

const CALLERS: &str = "callers";
const ISSUER: &str = "issuer";

/// How long all issuers together may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn examine(settings: &Settings, around: &Circumstances, report: &mut Report) {
    let identification = &settings.callers.identification;
    let (callers, issuers) = (identification.callers(), identification.issuers());
    if callers.is_empty() && issuers.is_empty() {
        return;
    }
    let found = format!(
        "{} caller{}, {} issuer{} of tokens",
        callers.len(),
        if callers.len() == 1 { "" } else { "s" },
        issuers.len(),
        if issuers.len() == 1 { "" } else { "s" },
    );
    let shared = identification.passes().keys.is_some();
    report.add(Step {
        hint: (!shared).then(|| {
            "with more than one replica name a `key_file` in [passes]: without it each seals passes with a key of its own, which \
             the others don't know, and passes live a minute at most"
                .to_owned()
        }),
        ..Step::new(CALLERS, Status::Ok, found)
    });
    if issuers.is_empty() {
        return;
    }
    let state = match CallerState::new(Arc::clone(&around.clock)) {
        Ok(state) => state,
        Err(error) => {
            let found = format!("the system gives no randomness: {error}");
            return report.add(Step::new(CALLERS, Status::Fail, found));
        }
    };
    report.begin(ISSUER, "asking issuers for their keys");
    let callers = Arc::new(Callers::new(identification.clone(), state));
    let answered = async {
        while !callers
            .issuers_status()
            .iter()
            .all(|issuer| issuer.age.is_some() || issuer.last_error.is_some())
        {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = Arc::clone(&callers).keep_keys() => {}
        _ = tokio::time::timeout(PATIENCE, answered) => {}
    }
    for issuer in callers.issuers_status() {
        report.add(step(&issuer));
    }
}

fn step(issuer: &IssuerStatus) -> Step {
    let name = &issuer.name;
    let hint = "its tokens are refused until it answers: is `jwks_url` (`jwks_file`) right, may this machine connect to it, and \
                does it want a token (`token_file`, with `ca_file`)?";
    match (&issuer.last_error, issuer.keys) {
        (None, 0) => Step {
            hint: Some(hint.to_owned()),
            ..Step::new(
                ISSUER,
                Status::Fail,
                format!("`{name}` has given no key within {}", span(PATIENCE)),
            )
        },
        (None, keys) => Step::new(
            ISSUER,
            Status::Ok,
            format!("`{name}` has {keys} key{} for tokens", if keys == 1 { "" } else { "s" }),
        ),
        (Some(why), _) => Step {
            hint: Some(hint.to_owned()),
            ..Step::new(ISSUER, Status::Fail, format!("`{name}`: {why}"))
        },
    }
}
