//! How `benches/instructions.sh --check` judges, and the figures that it compares with. What it measures needs minutes:
//! `.ci/run` does that.

#[path = "../../benches/instructions/baseline.rs"]
mod baseline;

use std::collections::BTreeMap;

use baseline::{Baseline, TOLERANCE, change, losses};

const COMMITTED: &str = include_str!("../../benches/instructions/baseline.json");

fn figures(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
}

#[test]
fn what_costs_as_much_as_before_or_less_or_hardly_more_is_no_loss() {
    let before = figures(&[("small", 100_000), ("large", 700_000)]);
    for now in [
        before.clone(),
        figures(&[("small", 50_000), ("large", 600_000)]),
        figures(&[("small", 103_000), ("large", 700_000)]),
        figures(&[("small", 100_000), ("large", 700_000), ("new", 1)]),
    ] {
        assert_eq!(losses(&before, &now), Vec::<String>::new(), "{now:?}");
    }
}

#[test]
fn what_costs_more_than_noise_is_a_loss_that_names_scenario_and_size() {
    let before = figures(&[("small", 100_000), ("large", 700_000)]);
    // What is gained elsewhere does not make up for it.
    let now = figures(&[("small", 103_100), ("large", 350_000)]);
    assert_eq!(
        losses(&before, &now),
        ["small: 100000 instructions before, 103100 now: +3.1 %, where 3 % are allowed"]
    );
}

#[test]
fn a_scenario_that_is_no_longer_measured_is_a_loss() {
    let before = figures(&[("small", 100_000), ("large", 700_000)]);
    assert_eq!(
        losses(&before, &figures(&[("small", 100_000)])),
        ["large: 700000 instructions before, and not measured now"]
    );
}

#[test]
fn figures_made_with_something_else_are_not_compared() {
    let committed: Baseline = serde_json::from_str(COMMITTED).unwrap();
    let made_with = committed.made_with;
    assert_eq!(made_with.differs_from(&made_with), None);
    let mut here = made_with.clone();
    here.rustc = "rustc 1.0.0".to_owned();
    let why = made_with.differs_from(&here).unwrap();
    assert_eq!(
        why,
        format!("the baseline's rustc: {}; here: rustc 1.0.0", made_with.rustc)
    );
    let mut here = made_with.clone();
    here.processor.retain(|feature| feature != "avx2");
    assert!(made_with.differs_from(&here).unwrap().contains("processor"));
    let mut here = made_with.clone();
    here.pinned.clear();
    assert!(made_with.differs_from(&here).unwrap().contains("pinned"));
}

#[test]
fn the_committed_figures_are_of_what_a_request_costs_by_credential_log_and_size() {
    let committed: Baseline = serde_json::from_str(COMMITTED).unwrap();
    for about in ["Bearer", "Digest", "logged", "100 KiB"] {
        assert!(
            committed.instructions.keys().any(|name| name.contains(about)),
            "{about}"
        );
    }
    for &figure in committed.instructions.values() {
        assert!(change(figure, figure * 104 / 100) > TOLERANCE, "{figure}");
    }
    assert!(committed.requests >= 500, "fewer requests are noisier");
    for feature in ["aes", "avx2", "pclmulqdq"] {
        assert!(
            committed.made_with.processor.iter().any(|shown| shown == feature),
            "{feature}"
        );
    }
    for variable in ["GLIBC_TUNABLES", "OPENSSL_ia32cap"] {
        assert!(committed.made_with.pinned.contains_key(variable), "{variable}");
    }
}
