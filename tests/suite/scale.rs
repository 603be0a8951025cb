//! A part of `cargo test --release --test scale`: its bounds hold, and docs/SCALE.md shows what it prints.

#[allow(unreachable_pub, reason = "a program of its own")]
#[path = "../scale/model.rs"]
mod model;

use std::time::Duration;

use model::{HEAD, MOST_A_MINUTE, MOST_LIVE, cases, line, simulate};

const PAGE: &str = include_str!("../../docs/SCALE.md");

#[test]
fn the_figures_of_the_page_are_those_of_the_program() {
    assert!(PAGE.contains(HEAD));
    for case in cases() {
        // Those that take long in a debug build are looked for by name.
        if case.setting.askers <= 100 && case.setting.leaves <= 1000 {
            let line = line(&case.name, &simulate(&case.setting, 1));
            assert!(PAGE.contains(&line), "{line}");
        }
        assert!(PAGE.contains(&format!("| {} |", case.name)), "{}", case.name);
    }
}

#[test]
fn what_the_page_recommends_keeps_atlas_limits_and_recovers_in_a_minute_whatever_the_seed() {
    for case in cases() {
        let setting = &case.setting;
        let recommended = setting.store.is_some() || setting.askers <= 10;
        if !recommended || setting.askers > 200 || setting.leaves > 1000 {
            continue;
        }
        for seed in 2..4 {
            let figures = simulate(setting, seed);
            assert!(figures.most_live <= 90 && 90 < MOST_LIVE, "{}: {figures:?}", case.name);
            assert!(figures.most_a_minute <= MOST_A_MINUTE, "{}: {figures:?}", case.name);
            assert_eq!(figures.over_live + figures.over_rate, 0, "{}: {figures:?}", case.name);
            let without = setting.askers.saturating_sub(45);
            assert!(figures.most_without <= without, "{}: {figures:?}", case.name);
            if setting.endpoint_away.is_some() {
                let recovered = figures.recovered_after.max(figures.leaves_recovered_after);
                assert!(
                    recovered.is_some_and(|time| time <= Duration::from_secs(75)),
                    "{}: {figures:?}",
                    case.name
                );
            }
        }
    }
}
