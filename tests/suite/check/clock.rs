//! This machine's clock beside the upstream's.

use std::time::SystemTime;

use atlas_auth_proxy::time::{Clock, SystemClock};

use crate::support::check::{Fake, Setup, fake_atlas, in_days};

#[tokio::test]
async fn a_clock_that_is_wrong() {
    const HOUR: i64 = 3600;
    for (upstream_ahead, mark, found, code) in [
        (
            3 * HOUR + 60,
            "FAIL",
            "this machine's clock is 3 h behind the upstream's",
            1,
        ),
        (
            -3 * HOUR - 60,
            "FAIL",
            "this machine's clock is 3 h ahead of the upstream's",
            1,
        ),
        (-60, "warn", "s ahead of the upstream's", 0),
        (0, "ok", "agree on the time", 0),
    ] {
        let atlas = Fake::start(move |head| {
            let now = SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let then = i64::try_from(now.as_secs()).unwrap() + upstream_ahead;
            let date = jiff::Timestamp::from_second(then)
                .unwrap()
                .strftime("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
            fake_atlas(head, &in_days(300)).replacen("\r\n", &format!("\r\nDate: {date}\r\n"), 1)
        })
        .await;
        let said = atlas.before(Setup::bearer()).check().await;
        let hint: &[&str] = if mark == "ok" { &[] } else { &["NTP"] };
        said.line(mark, "clock", &[found], hint);
        assert_eq!(said.code, Some(code), "{}", said.text);
    }
    let timeless = Fake::start(|head| fake_atlas(head, &in_days(300))).await;
    let said = timeless.before(Setup::bearer()).check().await;
    said.works("all is well");
    said.line("skip", "clock", &["does not say what time it is"], &[]);
}
