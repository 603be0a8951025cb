//! The line written by hand beside the one that the general formatter makes of the same event.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::log::formatter;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the general formatter makes of the record.
fn by_the_formatter(record: &RequestRecord<'_>, shape: Shape) -> String {
    let written = Written::default();
    let to = written.clone();
    let layer = formatter(shape, move || to.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || record.event());
    let line = written.0.lock().clone();
    String::from_utf8(line).unwrap()
}

fn by_hand(record: &RequestRecord<'_>, shape: Shape) -> String {
    String::from_utf8(record.line(shape, Timestamp::now())).unwrap()
}

/// The line without its time, and the time.
fn parted(line: &str, shape: Shape) -> (String, Timestamp) {
    let before = match shape {
        Shape::Json => "{\"timestamp\":\"",
        Shape::Text { colours: false } => "",
        Shape::Text { colours: true } => "\u{1b}[2m",
    };
    let time = &line[before.len()..before.len() + "2026-11-25T12:00:00.123456Z".len()];
    assert!(line.starts_with(before) && time.ends_with('Z'), "{line}");
    (line.replacen(time, "", 1), time.parse().unwrap())
}

/// Text with what needs escapes in one of the formats, or is longer than what is shown.
fn text() -> impl Strategy<Value = String> {
    let odd = "\"'\\=/ {}\0\u{7}\u{8}\t\n\u{c}\r\u{1b}\u{7f}\u{85}\u{9b}é\u{301}\u{202e}\u{2028}…\u{1f600}";
    let odd: Vec<String> = odd
        .chars()
        .map(String::from)
        .chain(["\u{1b}[31m".into(), "ü".repeat(300)])
        .collect();
    let piece = prop_oneof![
        4 => "[a-z/]{1,8}",
        4 => prop::sample::select(odd),
        1 => any::<String>(),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn peer() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<IpAddr>().prop_map(|ip| ip.to_string()),
        any::<u32>().prop_map(|uid| format!("unix:{uid}"))
    ]
}

proptest! {
    #[test]
    fn the_line_is_the_one_that_the_formatter_makes(
        texts in prop::array::uniform6(text()),
        maybe in prop::array::uniform7(option::of(text())),
        peer in peer(),
        statuses in (any::<u16>(), option::of(any::<u16>())),
        numbers in any::<(u32, u64, u64)>(),
        // Up to 71 years.
        micros in prop_oneof![0..1_u64 << 51, 0..10_000_000_u64],
        warned_by_rule in option::of(any::<usize>()),
    ) {
        let [listener, account, operation, method, path, decision] = &texts;
        let [caller, claimed_caller, identified_by, upstream_error, gateway_error, needs, why] = &maybe;
        let record = RequestRecord {
            listener,
            account,
            peer: &peer,
            caller: caller.as_deref(),
            claimed_caller: claimed_caller.as_deref(),
            identified_by: identified_by.as_deref(),
            operation,
            method,
            path,
            status: statuses.0,
            upstream_status: statuses.1,
            attempts: numbers.0,
            bytes_in: numbers.1,
            bytes_out: numbers.2,
            duration: Duration::from_micros(micros),
            upstream_error: upstream_error.as_deref(),
            gateway_error: gateway_error.as_deref(),
            needs: needs.as_deref(),
            warned_by_rule,
            decision,
            why: why.as_deref(),
        };
        for shape in [Shape::Json, Shape::Text { colours: false }, Shape::Text { colours: true }] {
            let ours = by_hand(&record, shape);
            let theirs = by_the_formatter(&record, shape);
            prop_assert_eq!(parted(&ours, shape).0, parted(&theirs, shape).0);
            prop_assert!(ours.ends_with('\n') && ours.matches('\n').count() == 1, "{}", ours);
        }
    }
}
