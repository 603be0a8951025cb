//! `callers` and what goes with it.

use super::FileListener;
use crate::config::problem::Problems;
use crate::config::value;
use crate::crypto::MD5_ALLOWED;
use crate::proxy::CallersMode;

/// Whether the listener's clients must show who they are. As soon as the file says anything of callers, every listener requires
/// one, but where `optional` is written.
pub(crate) fn mode(table: Option<&FileListener>, named: bool, problems: &mut Problems) -> Option<Option<CallersMode>> {
    let given = table.and_then(|table| table.callers.clone());
    let source = given.as_ref().map(|given| given.source.clone());
    let mode = match given {
        None => named.then_some(CallersMode::Required),
        Some(given) => {
            let parsed = problems.parse(given, |text| match text {
                "required" => Ok(CallersMode::Required),
                "optional" => Ok(CallersMode::Optional),
                _ => Err(value::one_of(text, &["required", "optional"])),
            });
            Some(parsed?.value)
        }
    };
    let has_rules = table.is_some_and(|table| !table.rules.is_empty());
    if let (Some(source), Some(CallersMode::Optional), false) = (&source, mode, has_rules) {
        problems.add(
            source,
            "whoever shows nothing may do what the listener's rules allow, and there are none: add a `[[listener.rule]]`, or \
             write `callers = \"required\"`",
        );
        return None;
    }
    let optional = table.and_then(|table| table.tls.as_ref()?.client_certificate.as_ref());
    if let Some(given) = optional.filter(|given| given.value == "optional" && mode != Some(CallersMode::Required)) {
        problems.add(
            &given.source,
            "whoever shows no certificate must show something else: this needs `callers = \"required\"`, and callers",
        );
        return None;
    }
    Some(mode)
}

/// Whether MD5 is among the challenges.
pub(super) fn digest_md5(table: Option<&FileListener>, problems: &mut Problems) -> Option<bool> {
    match table.and_then(|table| table.digest_md5.as_ref()) {
        Some(given) if given.value && !MD5_ALLOWED => {
            problems.add(
                &given.source,
                "this is a FIPS build, and FIPS 140-3 does not approve of MD5: remove this",
            );
            None
        }
        Some(given) => Some(given.value),
        None => Some(MD5_ALLOWED),
    }
}
