//! What the radar keeps, tells, and forgets.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex as Shared;

use super::*;
use crate::log::captured;
use crate::time::Clock;

/// Both clocks, as the test sets them: since 2026-11-27, and since boot.
#[derive(Default)]
struct TestClock(Shared<(Duration, Duration)>);

const START: Duration = Duration::from_secs(1_795_737_600);

impl TestClock {
    fn advance(&self, by: Duration) {
        let mut clocks = self.0.lock();
        clocks.0 += by;
        clocks.1 += by;
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + START + self.0.lock().0
    }

    fn boot(&self) -> Duration {
        self.0.lock().1
    }
}

fn radar() -> (Radar, Arc<Metrics>, Arc<TestClock>) {
    let (metrics, clock) = (Metrics::new(&[]), Arc::new(TestClock::default()));
    let radar = Radar::new(
        &Catalogue::new(),
        Arc::clone(&metrics),
        Arc::clone(&clock) as SharedClock,
    );
    (radar, metrics, clock)
}

fn call(listener: &str, caller: &str) -> Call {
    Call {
        listener: listener.to_owned(),
        caller: caller.to_owned(),
        operation: "listGroupClusters",
    }
}

fn finding() -> Finding {
    Finding {
        fate: Fate::Sunset,
        version: Some(Version::Of(jiff::civil::date(2023, 1, 1))),
        sunset: Some(jiff::civil::date(2027, 7, 1)),
        newest: Some(Version::Of(jiff::civil::date(2024, 8, 5))),
        newest_stays: true,
        from: VersionFrom::Client,
    }
}

fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render();
    let all = text
        .lines()
        .filter_map(|line| line.strip_prefix("atlas_auth_proxy_sunset_requests_total"));
    all.map(str::to_owned).collect()
}

#[test]
fn each_is_told_at_first_sight_and_once_a_day_while_it_goes_on() {
    let (radar, _, clock) = radar();
    let (said, _guard) = captured();
    let lines = || said.text().lines().count();
    let billing = || radar.note(call("gateway", "billing"), finding());
    for _ in 0..3 {
        billing();
    }
    let text = said.text();
    assert_eq!(lines(), 1, "{text}");
    for part in [
        "WARN",
        "listener=\"gateway\"",
        "caller=\"billing\"",
        "`listGroupClusters` is called with version 2023-01-01, which Atlas ends on 2027-07-01: change the client to 2024-08-05",
        "kind=\"sunset\"",
        "version=2023-01-01",
        "sunset=2027-07-01",
        "newest_version=2024-08-05",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    radar.note(call("gateway", "deployer"), finding());
    assert_eq!(lines(), 2);
    clock.advance(TOLD_EVERY - Duration::from_secs(1));
    billing();
    assert_eq!(lines(), 2);
    clock.advance(Duration::from_secs(1));
    billing();
    billing();
    assert_eq!(lines(), 3);
    // Days in which nothing happens are told of by nobody.
    clock.advance(TOLD_EVERY * 5);
    assert_eq!(lines(), 3);
    billing();
    assert_eq!(lines(), 4);
    // A wall clock that jumps makes no line.
    clock.0.lock().0 += TOLD_EVERY * 3;
    billing();
    assert_eq!(lines(), 4);
    let seen = radar.seen();
    let billing = &seen[&call("gateway", "billing")];
    assert_eq!(billing.count, 8);
    assert_eq!(billing.last_at, clock.wall());
}

#[test]
fn what_is_told_apart_is_bounded_and_the_rest_is_one_more() {
    let (radar, metrics, _clock) = radar();
    let (said, _guard) = captured();
    for nth in 0..MOST + 20 {
        radar.note(call("l", &format!("c{nth}")), finding());
    }
    assert_eq!(radar.seen().len(), MOST + 1);
    let all = series(&metrics);
    assert_eq!(all.len(), MOST + 1);
    let other = r#"{caller="other",listener="other",operation="other"} 20"#;
    assert!(all.iter().any(|line| line == other), "{all:?}");
    assert_eq!(said.text().lines().count(), MOST + 1);
    assert!(said.text().contains("the rest is counted as `other`"));
    // What is known goes on by its own name.
    radar.note(call("l", "c0"), finding());
    assert_eq!(radar.seen()[&call("l", "c0")].count, 2);
    assert_eq!(radar.seen().len(), MOST + 1);
}

#[test]
fn what_is_gone_from_the_settings_gives_its_room_back() {
    let (radar, metrics, _clock) = radar();
    // A line that another test waits for is lost when its place in the code is first met where nobody listens.
    let _listening = captured();
    for caller in ["billing", "deployer", "billing"] {
        radar.note(call("l", caller), finding());
    }
    radar.forget_others(|listener, caller| listener == "l" && caller == "billing");
    assert_eq!(
        series(&metrics),
        [r#"{caller="billing",listener="l",operation="listGroupClusters"} 2"#]
    );
    assert_eq!(radar.seen().len(), 1);
    for nth in 0..MOST {
        radar.note(call("l", &format!("c{nth}")), finding());
    }
    radar.forget_others(|_, _| false);
    assert_eq!(
        series(&metrics),
        [r#"{caller="other",listener="other",operation="other"} 1"#],
        "they may be anybody's"
    );
}

#[test]
fn versions_that_there_never_were_make_one_line_a_day_and_leave_room_for_those_that_vanish() {
    let (radar, metrics, clock) = radar();
    let (said, _guard) = captured();
    let nonsense = || Finding {
        fate: Fate::NotAcceptable,
        ..finding()
    };
    let catalogue = Catalogue::new();
    for listener in ["a", "b", "c"] {
        for operation in catalogue.operations() {
            let operation = operation.name;
            let caller = "none".to_owned();
            let listener = listener.to_owned();
            radar.note(
                Call {
                    listener,
                    caller,
                    operation,
                },
                nonsense(),
            );
        }
    }
    assert_eq!(radar.seen().len(), MOST_UNACCEPTABLE + 1, "and `other`");
    assert_eq!(series(&metrics).len(), MOST_UNACCEPTABLE + 1);
    let lines = || said.text().lines().count();
    assert_eq!(lines(), 2, "of listener a, and of `other`: {}", said.text());
    radar.note(call("b", "billing"), finding());
    assert!(radar.seen().contains_key(&call("b", "billing")));
    assert_eq!(lines(), 3);
    clock.advance(TOLD_EVERY);
    radar.note(call("a", "none"), nonsense());
    radar.note(call("a", "none"), nonsense());
    assert_eq!(lines(), 4);
}
