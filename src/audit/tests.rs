//! The log as a whole: what is written, what is proven of it, and what happens where there is no room.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use serde_json::Value;

use super::chain::Chain;
use super::keys::hex;
use super::verify::{Report, Verifier, heads};
use super::*;
use crate::crypto::RootKey;
use crate::fair::Places;
use crate::time::SystemClock;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Log {
    folder: tempfile::TempDir,
    dropped: Arc<AtomicU64>,
}

impl Log {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            dropped: Arc::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn settings(&self) -> AuditSettings {
        AuditSettings {
            to: Destination::File(self.file()),
            include: Include::Changes,
            format: AuditFormat::Json,
            when_full: WhenFull::Refuse,
            path: PathShown::Full,
            keys: Some(KeyFile::parse(KEY.as_bytes()).unwrap()),
        }
    }

    fn start(&self, change: impl FnOnce(&mut AuditSettings)) -> Result<Arc<Audit>, AuditStartError> {
        let mut settings = self.settings();
        change(&mut settings);
        let dropped = Arc::clone(&self.dropped);
        Audit::start(&settings, "0f", Arc::new(SystemClock), move |lines| {
            dropped.fetch_add(lines, Ordering::Relaxed);
        })
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        let event = |line: &Value| line["event"].as_str().unwrap().to_owned();
        self.lines().iter().map(event).collect()
    }
}

fn request(method: &'static str, path: &'static str) -> AuditRequest<'static> {
    AuditRequest {
        caller: Some("billing"),
        claimed_caller: Some("job"),
        identified_by: Some("jwt"),
        peer: &"10.0.0.1",
        site: &"10.0.0.1",
        listener: "gateway",
        account: "default",
        operation: "createGroup",
        method,
        path,
        project: Some("5a0a1e7e0f2912c554080adc"),
        organization: Some("5a0a1e7e0f2912c554080ade"),
        rule: Some(3),
        user_agent: Some("curl/8"),
    }
}

const OUTCOME: AuditOutcome<'static> = AuditOutcome {
    status: 201,
    upstream_status: Some(201),
    decision: "forwarded",
    attempts: 1,
    duration: Duration::from_micros(1500),
    bytes_in: 10,
    bytes_out: 20,
    request_id: Some("r-7"),
};

/// Of one that has all the room for changes.
fn alone() -> Arc<Part> {
    Places::amount(ROOM_FOR_CHANGES).part()
}

async fn change(audit: &Audit) {
    let (ticket, on_disk) = audit
        .begin(&request("POST", "/api/atlas/v2/groups"), &alone())
        .unwrap()
        .unwrap();
    on_disk.unwrap().wait().await.unwrap();
    let written = audit.end(ticket, &request("POST", "/api/atlas/v2/groups"), &OUTCOME);
    written.unwrap().wait().await;
}

fn verify_with(keys: &[&str], files: &[&Path], head: &str) -> Report {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| KeyFile::parse(key.as_bytes()).unwrap().current)
        .collect();
    let keys = keys.iter().map(|key| ("audit-key".to_owned(), key));
    let mut verifier = Verifier::new(keys, [heads(head)]);
    for file in files {
        let content = fs::read(file).unwrap();
        verifier.read(&file.display().to_string(), content.as_slice()).unwrap();
    }
    verifier.end()
}

fn verify(file: &Path) -> Report {
    verify_with(&[KEY], &[file], "")
}

#[tokio::test]
async fn a_change_is_on_disk_before_it_is_forwarded_and_its_end_before_the_answer() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    assert_eq!(log.events(), ["open"]);
    let (ticket, on_disk) = audit
        .begin(&request("POST", "/api/atlas/v2/groups"), &alone())
        .unwrap()
        .unwrap();
    on_disk.unwrap().wait().await.unwrap();
    assert_eq!(log.events(), ["open", "begin"]);
    let written = audit.end(ticket, &request("POST", "/api/atlas/v2/groups"), &OUTCOME);
    written.unwrap().wait().await;
    audit.close(PATIENCE).await;
    assert_eq!(log.events(), ["open", "begin", "end", "close"]);
    let lines = log.lines();
    let open = (
        &lines[0]["configuration"],
        &lines[0]["version"],
        lines[0].get("previous"),
    );
    assert_eq!(open, (&"0f".into(), &env!("CARGO_PKG_VERSION").into(), None));
    assert_eq!(lines[1]["id"], lines[2]["id"]);
    for (name, value) in [
        ("caller", Value::from("billing")),
        ("claimed_caller", "job".into()),
        ("identified_by", "jwt".into()),
        ("peer", "10.0.0.1".into()),
        ("listener", "gateway".into()),
        ("account", "default".into()),
        ("operation", "createGroup".into()),
        ("method", "POST".into()),
        ("path", "/api/atlas/v2/groups".into()),
        ("project", "5a0a1e7e0f2912c554080adc".into()),
        ("organization", "5a0a1e7e0f2912c554080ade".into()),
        ("rule", 3.into()),
        ("user_agent", "curl/8".into()),
    ] {
        assert_eq!((&lines[1][name], &lines[2][name]), (&value, &value), "{name}");
    }
    for (name, value) in [
        ("status", Value::from(201)),
        ("upstream_status", 201.into()),
        ("decision", "forwarded".into()),
        ("attempts", 1.into()),
        ("duration_ms", 1.5.into()),
        ("bytes_in", 10.into()),
        ("bytes_out", 20.into()),
        ("request_id", "r-7".into()),
    ] {
        assert_eq!(lines[2][name], value, "{name}");
    }
    assert_eq!(
        lines
            .iter()
            .map(|line| line["seq"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    let report = verify(&log.file());
    assert!(report.whole() && report.unknown_outcomes.is_empty(), "{report:?}");
    let mode = fs::metadata(log.file()).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn a_file_that_others_could_reach_is_refused() {
    let log = Log::new();
    let refused = |log: &Log| log.start(|_| ()).unwrap_err().to_string();
    fs::create_dir(log.file()).unwrap();
    assert!(refused(&log).contains("audit.jsonl"));
    fs::remove_dir(log.file()).unwrap();
    let elsewhere = log.folder.path().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    symlink(&elsewhere, log.file()).unwrap();
    assert!(refused(&log).contains("symbolic link"), "{}", refused(&log));
    fs::remove_file(log.file()).unwrap();
    fs::hard_link(&elsewhere, log.file()).unwrap();
    fs::set_permissions(log.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&log).contains("hard link"), "{}", refused(&log));
    fs::remove_file(&elsewhere).unwrap();
    for mode in [0o604, 0o602, 0o666] {
        fs::set_permissions(log.file(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(&log).contains("chmod 600"), "{}", refused(&log));
    }
    fs::set_permissions(log.file(), fs::Permissions::from_mode(0o600)).unwrap();
    drop(log.start(|_| ()).unwrap());
    // What a volume's group has it loses.
    fs::set_permissions(log.file(), fs::Permissions::from_mode(0o660)).unwrap();
    log.start(|_| ()).unwrap();
    let mode = fs::metadata(log.file()).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn cuts_swaps_and_changes_are_found_wherever_they_are() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    for _ in 0..3 {
        change(&audit).await;
    }
    audit.close(PATIENCE).await;
    let head = json!({"audit": audit.head()}).to_string();
    let whole = fs::read_to_string(log.file()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let forged = log.folder.path().join("forged");
    let found = |lines: &[&str]| {
        fs::write(&forged, lines.join("\n") + "\n").unwrap();
        !verify_with(&[KEY], &[&forged], &head).whole()
    };
    assert!(!found(&lines));
    for at in 0..lines.len() {
        let mut cut = lines.clone();
        cut.remove(at);
        // What is cut off at the beginning may have been retired: the file says that there was more.
        if at > 0 {
            assert!(found(&cut), "line {at} cut out");
        } else {
            assert!(
                verify(&forged_of(&forged, &cut))
                    .notes
                    .iter()
                    .any(|note| note.contains("the beginning"))
            );
        }
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert!(found(&twice), "line {at} twice");
        if at + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            assert!(found(&swapped), "line {at} swapped");
        }
        let changed = lines[at]
            .replacen("open", "0pen", 1)
            .replacen("billing", "payroll", 1)
            .replacen("close", "cl0se", 1);
        let mut lines = lines.clone();
        lines[at] = &changed;
        assert!(found(&lines), "line {at} changed");
    }
    // Without the head nobody knows about a cut at the end, and it says so.
    let report = verify(&forged_of(&forged, &lines[..4]));
    assert!(
        report.whole() && report.notes.iter().any(|note| note.contains("end not proven")),
        "{report:?}"
    );
    // With the head of that moment, what follows is known to follow.
    let report = verify_with(&[KEY], &[&log.file()], &head);
    assert!(
        report.notes.iter().any(|note| note.contains("the end is proven")),
        "{report:?}"
    );
}

/// With the head, whatever it is, and wherever.
#[tokio::test]
async fn no_byte_can_be_changed_unseen() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    change(&audit).await;
    audit.close(PATIENCE).await;
    let head = json!({"audit": audit.head()}).to_string();
    let whole = fs::read(log.file()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        fs::write(log.file(), bytes).unwrap();
        assert!(!verify_with(&[KEY], &[&log.file()], &head).whole(), "byte {at}");
    }
    fs::write(log.file(), whole).unwrap();
    assert!(verify_with(&[KEY], &[&log.file()], &head).whole());
}

/// Numbers and hashes of the lines before are parts of what is hashed: whoever has no key makes a history without a change in
/// vain.
#[tokio::test]
async fn lines_that_are_joined_anew_after_a_cut_are_found() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    for _ in 0..2 {
        change(&audit).await;
    }
    audit.close(PATIENCE).await;
    let text = fs::read_to_string(log.file()).unwrap();
    let lines = log.lines();
    let text_of = |line: usize, name: &str| lines[line][name].as_str().unwrap();
    // The first change is gone, and all that follows counts on from the line before it.
    let mut joined = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(at, _)| !matches!(at, 1 | 2)) {
        let line = match at {
            0 => line.to_owned(),
            _ => line.replace(&format!("\"seq\":{}", at + 1), &format!("\"seq\":{}", at - 1)),
        };
        joined.push(match at {
            3 => line.replace(text_of(3, "prev"), text_of(0, "hash")),
            _ => line,
        });
    }
    let joined: Vec<&str> = joined.iter().map(String::as_str).collect();
    let forged = forged_of(&log.folder.path().join("forged"), &joined);
    let report = verify(&forged);
    let changed = report
        .found
        .iter()
        .filter(|found| found.ends_with("this line was changed"));
    assert_eq!((changed.count(), report.found.len()), (3, 3), "{report:?}");
}

#[test]
fn hashes_are_those_of_the_key_and_names_have_another_one_than_lines() {
    let [one, other] = [KEY, OTHER_KEY].map(|key| KeyFile::parse(key.as_bytes()).unwrap().current);
    let line = |key| AuditKeys::of(key).hash(b"text");
    let name = |key| PathKey::of(key).hash(b"text");
    assert_ne!(line(&one), line(&other));
    assert_ne!(name(&one), name(&other));
    assert!(!line(&one).starts_with(&name(&one)));
}

fn forged_of(file: &Path, lines: &[&str]) -> PathBuf {
    fs::write(file, lines.join("\n") + "\n").unwrap();
    file.to_owned()
}

#[tokio::test]
async fn keys_are_named_and_their_change_is_a_line() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    change(&audit).await;
    audit.take_keys(Some(&KeyFile::parse(format!("{OTHER_KEY}\n{KEY}").as_bytes()).unwrap()));
    change(&audit).await;
    audit.reloaded(true, Some("1f"));
    audit.reloaded(false, None);
    audit.close(PATIENCE).await;
    assert_eq!(
        log.events(),
        [
            "open", "begin", "end", "key", "begin", "end", "reload", "reload", "close"
        ]
    );
    let lines = log.lines();
    assert_ne!(lines[3]["key"], lines[4]["key"]);
    assert_eq!(lines[3]["new_key"], lines[4]["key"]);
    assert!(verify_with(&[KEY, OTHER_KEY], &[&log.file()], "").whole());
    for keys in [&[][..], &[KEY], &[OTHER_KEY]] {
        let report = verify_with(keys, &[&log.file()], "");
        assert!(!report.whole(), "{report:?}");
        assert!(report.found.iter().any(|found| found.contains("--key")), "{report:?}");
        assert_eq!(report.missing_keys, report.found.len(), "{report:?}");
    }
    let wrong = verify_with(&[KEY], &[&log.file()], "").found.remove(0);
    let [own, other] = [&lines[3]["key"], &lines[4]["key"]].map(|key| key.as_str().unwrap());
    let file = log.file().display().to_string();
    for part in [
        &format!("{file}:5: lines from here on, 5 in all, are hashed with key {other}"),
        &format!("have {own} (audit-key)"),
    ] {
        assert!(wrong.contains(part.as_str()), "{wrong}: {part}");
    }
    // Whoever has only a retired key can't go on with it.
    let text = fs::read_to_string(log.file()).unwrap();
    let key_line = text.lines().nth(3).unwrap();
    let cut: Vec<&str> = text.lines().filter(|line| *line != key_line).collect();
    let report = verify_with(
        &[KEY, OTHER_KEY],
        &[&forged_of(&log.folder.path().join("cut"), &cut)],
        "",
    );
    assert!(
        report.found.iter().any(|found| found.contains("another key")),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_process_that_was_killed_leaves_unknown_outcomes_and_perhaps_a_torn_line() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    let (_ticket, on_disk) = audit
        .begin(&request("DELETE", "/api/atlas/v2/groups/x"), &alone())
        .unwrap()
        .unwrap();
    on_disk.unwrap().wait().await.unwrap();
    change(&audit).await;
    let text = fs::read_to_string(log.file()).unwrap();
    // As if the process had been killed here, in the middle of a line; another one starts.
    let killed = log.folder.path().join("killed");
    fs::write(&killed, format!("{text}{{\"event\":\"end\",\"ti")).unwrap();
    fs::set_permissions(&killed, fs::Permissions::from_mode(0o600)).unwrap();
    let report = verify(&killed);
    assert!(report.whole(), "{report:?}");
    assert_eq!(report.unknown_outcomes.len(), 1);
    assert!(
        report.unknown_outcomes[0].contains("DELETE /api/atlas/v2/groups/x by billing"),
        "{report:?}"
    );
    let next = log
        .start(|settings| settings.to = Destination::File(killed.clone()))
        .unwrap();
    change(&next).await;
    next.close(PATIENCE).await;
    let report = verify(&killed);
    assert!(report.whole(), "{report:?}");
    assert_eq!(report.unknown_outcomes.len(), 1);
    assert!(report.notes.iter().any(|note| note.contains("torn")), "{report:?}");
    assert!(
        report.notes.iter().any(|note| note.contains("was killed")),
        "{report:?}"
    );
    // Lines that are cut off before the next process's are found by what it found.
    let text = fs::read_to_string(&killed).unwrap();
    let cut: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .map(|(_, line)| line)
        .collect();
    assert!(!verify(&forged_of(&killed, &cut)).whole());
}

#[tokio::test]
async fn a_renamed_file_is_followed_by_a_new_one_and_both_are_one_chain() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    change(&audit).await;
    let old = log.folder.path().join("audit.jsonl.1");
    fs::rename(log.file(), &old).unwrap();
    change(&audit).await;
    assert!(!log.file().exists(), "until it is told, it goes on in the renamed one");
    audit.reopen();
    change(&audit).await;
    // Nothing was renamed: nothing happens.
    audit.reopen();
    change(&audit).await;
    audit.close(PATIENCE).await;
    assert!(verify_with(&[KEY], &[&old, &log.file()], "").whole());
    let report = verify(&log.file());
    assert!(
        report.whole() && report.notes.iter().any(|note| note.contains("the beginning")),
        "{report:?}"
    );
    assert!(
        !verify_with(&[KEY], &[&log.file(), &old], "").whole(),
        "in the wrong order"
    );
}

#[tokio::test]
async fn a_second_writer_has_a_file_of_its_own() {
    let log = Log::new();
    let (one, two) = (log.start(|_| ()).unwrap(), log.start(|_| ()).unwrap());
    change(&one).await;
    change(&two).await;
    let chain = two.head().unwrap().chain;
    one.close(PATIENCE).await;
    two.close(PATIENCE).await;
    let own = log.folder.path().join(format!("audit.jsonl.{chain}"));
    assert!(verify(&log.file()).whole() && verify(&own).whole());
    assert!(verify_with(&[KEY], &[&log.file(), &own], "").whole());
}

#[tokio::test]
async fn a_file_that_is_no_audit_log_is_told_in_a_few_lines_and_a_chain_without_an_end_has_several_reasons() {
    let log = Log::new();
    let one = log.start(|_| ()).unwrap();
    change(&one).await;
    let text = fs::read_to_string(log.file()).unwrap();
    one.close(PATIENCE).await;
    let strange = log.folder.path().join("strange");
    let report = verify(&forged_of(&strange, &["no line"; 50]));
    let told: Vec<_> = report
        .found
        .iter()
        .map(|found| found.rsplit(": ").next().unwrap())
        .collect();
    let [first @ .., more, none] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(first, ["this is no line of an audit log"; 3]);
    assert_eq!(
        (*more, *none),
        ("… and 47 more lines", "there is no line of an audit log")
    );

    // As if it still ran.
    fs::write(log.file(), text).unwrap();
    let two = log.start(|_| ()).unwrap();
    let head = json!({"audit": two.head()}).to_string();
    change(&two).await;
    two.close(PATIENCE).await;
    let report = verify_with(&[KEY], &[&log.file()], &head);
    assert!(report.whole(), "{report:?}");
    for part in ["was killed, still runs, or", "the 3 lines after it could be cut off"] {
        assert!(
            report.notes.iter().any(|note| note.contains(part)),
            "{part}: {report:?}"
        );
    }
}

#[tokio::test]
async fn refusals_beyond_ten_a_second_become_one_counted_line() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    let refused = AuditOutcome {
        status: 403,
        upstream_status: None,
        decision: "PROXY_RULE_DENIED",
        attempts: 0,
        ..OUTCOME
    };
    for _ in 0..500 {
        audit.one(&request("DELETE", "/api/atlas/v2/groups/x"), &refused, true);
    }
    let mut counted = 0;
    while counted < 500 {
        tokio::task::yield_now().await;
        let count = |line: &Value| match line["event"].as_str() {
            Some("one") => line["count"].as_u64().unwrap_or(1),
            _ => 0,
        };
        counted = fs::read_to_string(log.file())
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .map(|line: Value| count(&line))
            .sum();
    }
    assert_eq!(counted, 500);
    // 500 may fall into two seconds, or three on a busy machine.
    assert!(log.lines().len() < 100);
    audit.close(PATIENCE).await;
    assert!(verify(&log.file()).whole());
    assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn every_begin_has_room_for_its_end_and_without_room_there_is_none() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    let (mut tickets, part) = (Vec::new(), alone());
    let why = loop {
        match audit.begin(&request("POST", "/api/atlas/v2/groups"), &part) {
            Ok(begun) => tickets.push(begun.unwrap().0),
            Err(why) => break why,
        }
    };
    assert_eq!(why, NotRecorded::TooMany);
    assert!(tickets.len() > 10_000, "{}", tickets.len());
    // Reads have a room of their own.
    audit.one(&request("GET", "/api/atlas/v2/groups"), &OUTCOME, false);
    let all = tickets.len();
    for ticket in tickets {
        audit.end(ticket, &request("POST", "/api/atlas/v2/groups"), &OUTCOME);
    }
    audit.close(PATIENCE).await;
    let events = log.events();
    let count = |event: &str| events.iter().filter(|one| *one == event).count();
    assert_eq!((count("begin"), count("end"), count("one")), (all, all, 1));
    assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
}

/// A caller that makes more changes than are written leaves the others their part of the room.
#[tokio::test]
async fn one_that_fills_the_room_for_changes_leaves_the_others_their_part() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    let places = Places::amount(ROOM_FOR_CHANGES);
    let (greedy, modest) = (places.part(), places.part());
    let begin = |part| audit.begin(&request("POST", "/api/atlas/v2/groups"), part);
    let held: Vec<_> = std::iter::from_fn(|| begin(&greedy).ok().flatten()).collect();
    let few: Vec<_> = std::iter::from_fn(|| begin(&modest).ok().flatten()).collect();
    // Three quarters, and a quarter.
    assert!(
        (held.len() / 4..held.len() / 2).contains(&few.len()),
        "{} and {}",
        held.len(),
        few.len()
    );
    drop((held, few));
    audit.close(PATIENCE).await;
    assert!(
        greedy.has(ROOM_FOR_CHANGES / 4 * 3),
        "what is written, or never will be, gives its room back"
    );
}

#[tokio::test]
async fn with_drop_nothing_is_refused_and_what_is_lost_is_counted() {
    let log = Log::new();
    let audit = log.start(|settings| settings.when_full = WhenFull::Drop).unwrap();
    let (mut tickets, part) = (Vec::new(), alone());
    while let Some((ticket, _)) = audit.begin(&request("POST", "/api/atlas/v2/groups"), &part).unwrap() {
        tickets.push(ticket);
    }
    assert_eq!(log.dropped.load(Ordering::Relaxed), 1);
}

/// A history of several processes and files is whole, however its parts were made; a part that is missing is found.
#[tokio::test]
async fn chains_of_several_files_are_joined_and_a_missing_one_is_found() {
    let log = Log::new();
    let at = |name: &str| log.folder.path().join(name);
    // Three processes in one file, then a rotation while none runs, then another two.
    let mut heads = String::new();
    for process in 0..5 {
        if process == 3 {
            fs::rename(log.file(), at("a.1")).unwrap();
        }
        let audit = log.start(|_| ()).unwrap();
        change(&audit).await;
        audit.close(PATIENCE).await;
        let head = json!({"target": "atlas_auth_proxy::audit", "audit": audit.head()});
        heads.push_str(&format!("{head}\n"));
    }
    let (first, last) = (at("a.1"), log.file());
    for head in ["", &heads] {
        let report = verify_with(&[KEY], &[&first, &last], head);
        assert!(report.whole(), "{report:?}");
    }
    // The second process of the first file is gone, and the file parted in two there.
    let text = fs::read_to_string(&first).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let opens: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains("\"open\"")).collect();
    let before = forged_of(&at("before"), &lines[..opens[1]]);
    let after = forged_of(&at("after"), &lines[opens[2]..]);
    assert!(!verify_with(&[KEY], &[&before, &after, &last], "").whole());
    // A tail and the whole last file are gone: the log tells of them.
    assert!(!verify_with(&[KEY], &[&first], &heads).whole());
}

/// The next process names the last line that it found, and knows nothing of those that were cut off before.
#[tokio::test]
async fn what_the_next_process_found_does_not_prove_the_end_of_a_chain_without_close() {
    let log = Log::new();
    let one = log.start(|_| ()).unwrap();
    change(&one).await;
    change(&one).await;
    one.close(PATIENCE).await;
    let whole = fs::read_to_string(log.file()).unwrap();
    let chain = one.head().unwrap().chain;
    let head_at = |seq: usize| {
        let hash = &log.lines()[seq - 1]["hash"];
        json!({"audit": {"chain": chain, "seq": seq, "hash": hash}}).to_string()
    };
    let (of_first_change, of_second_change) = (head_at(3), head_at(5));
    // With `close`, with a line after the first change, and with none.
    for kept in [6, 4, 3] {
        let lines: Vec<&str> = whole.lines().take(kept).collect();
        fs::write(log.file(), lines.join("\n") + "\n").unwrap();
        let two = log.start(|_| ()).unwrap();
        change(&two).await;
        two.close(PATIENCE).await;
        let not_proven = format!("end not proven of chain {chain}: it has no `close`");
        let told = |head: &str| {
            let report = verify_with(&[KEY], &[&log.file()], head);
            let is_told = |text: &str| report.notes.iter().any(|note| note.contains(text));
            let proven = format!("the end is proven up to line 3 of chain {chain}");
            let more = "; lines after 4 could be cut off without a trace before the next chain was opened";
            (report.whole(), is_told(&not_proven), is_told(&proven), is_told(more))
        };
        let is_cut = kept < 6;
        assert_eq!(told(""), (true, is_cut, false, false), "{kept}");
        assert_eq!(told(&of_first_change), (true, false, is_cut, kept == 4), "{kept}");
        assert_eq!(told(&of_second_change).0, !is_cut, "{kept}");
    }
}

#[tokio::test]
async fn what_clients_make_the_log_say_is_no_head() {
    let real = r#"{"chain":"ab","seq":7,"hash":"cd"}"#;
    let path = format!("/audit={real}");
    let text = format!(
        "2026-08-10T03:02:13Z  INFO atlas_auth_proxy::request: request path={path} decision=\"forwarded\"\n\
         {{\"target\":\"atlas_auth_proxy::request\",\"path\":\"x\",\"audit\":{real}}}\n"
    );
    assert!(heads(&text).is_empty());
}

/// With the key that was replaced nobody writes what comes later.
#[tokio::test]
async fn a_retired_key_is_good_for_nothing_later() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    audit.take_keys(Some(&KeyFile::parse(OTHER_KEY.as_bytes()).unwrap()));
    change(&audit).await;
    audit.close(PATIENCE).await;
    let with_old_key = log.start(|_| ()).unwrap();
    change(&with_old_key).await;
    with_old_key.close(PATIENCE).await;
    let report = verify_with(&[KEY, OTHER_KEY], &[&log.file()], "");
    assert!(
        report.found.iter().any(|found| found.contains("took the place of")),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_line_without_its_line_break_is_whole_and_a_part_of_one_is_torn() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    change(&audit).await;
    let text = fs::read_to_string(log.file()).unwrap();
    for (cut, torn) in [(1, false), (2, true), (200, true)] {
        let file = log.folder.path().join(format!("cut-{cut}"));
        fs::write(&file, &text[..text.len() - cut]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let report = verify(&file);
        assert!(report.whole(), "{cut}: {report:?}");
        let next = log
            .start(|settings| settings.to = Destination::File(file.clone()))
            .unwrap();
        next.close(PATIENCE).await;
        let report = verify(&file);
        assert!(report.whole(), "{cut}: {report:?}");
        assert_eq!(
            report.notes.iter().any(|note| note.contains("torn")),
            torn,
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn nothing_follows_the_last_line() {
    let log = Log::new();
    let audit = log.start(|_| ()).unwrap();
    let refused = AuditOutcome {
        status: 403,
        decision: "PROXY_RULE_DENIED",
        ..OUTCOME
    };
    for _ in 0..30 {
        audit.one(&request("DELETE", "/api/atlas/v2/groups/x"), &refused, true);
    }
    let (ticket, _) = audit
        .begin(&request("POST", "/api/atlas/v2/groups"), &alone())
        .unwrap()
        .unwrap();
    audit.close(Duration::from_millis(20)).await;
    // Later than that, and so unknown.
    drop(audit.end(ticket, &request("POST", "/api/atlas/v2/groups"), &OUTCOME));
    audit.reloaded(true, None);
    let report = verify(&log.file());
    assert!(report.whole() && report.unknown_outcomes.len() == 1, "{report:?}");
    assert_eq!(log.events().last().unwrap(), "close");
}

#[tokio::test]
async fn a_file_that_is_removed_is_made_anew_and_a_second_writer_stays_in_its_own() {
    let log = Log::new();
    let (one, two) = (log.start(|_| ()).unwrap(), log.start(|_| ()).unwrap());
    let own = log
        .folder
        .path()
        .join(format!("audit.jsonl.{}", two.head().unwrap().chain));
    fs::remove_file(log.file()).unwrap();
    change(&one).await;
    assert_eq!(log.events(), ["begin", "end"]);
    one.close(PATIENCE).await;
    two.reopen();
    change(&two).await;
    two.close(PATIENCE).await;
    assert!(verify(&own).whole(), "{:?}", verify(&own));
    assert_eq!(log.events(), ["begin", "end", "close"]);
}

/// What found no room is told of as soon as there is some.
#[tokio::test]
async fn lines_that_were_dropped_are_told_of_in_the_chain() {
    let log = Log::new();
    let audit = log.start(|settings| settings.when_full = WhenFull::Drop).unwrap();
    let (mut tickets, part) = (Vec::new(), alone());
    while let Some((ticket, _)) = audit.begin(&request("POST", "/api/atlas/v2/groups"), &part).unwrap() {
        tickets.push(ticket);
    }
    drop(tickets);
    change(&audit).await;
    audit.close(PATIENCE).await;
    let report = verify(&log.file());
    assert!(report.whole() && report.unrecorded == 1, "{report:?}");
}

#[test]
fn an_empty_file_and_one_that_is_no_audit_log_are_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for content in ["", "{\"keys\":[]}", "workers = 1\n"] {
        fs::write(&file, content).unwrap();
        assert!(!verify(&file).whole(), "{content}");
    }
}

/// Nobody writes: as if the disk did not answer.
#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_is_waited_for_within_a_bound_and_others_not_at_all() {
    let queue = Arc::new(Queue::new(Box::new(|_| ())));
    let (_, _room, done) = queue.begin(b"{".to_vec(), 100, true, &alone()).unwrap();
    let on_disk = OnDisk {
        done: done.unwrap(),
        queue: Arc::clone(&queue),
    };
    let begin = tokio::time::Instant::now();
    assert_eq!(on_disk.wait().await, Err(NotRecorded::Slow));
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
    assert!(queue.is_stuck());
    assert!(queue.other(b"{".to_vec()), "reads go on");
}

#[tokio::test]
async fn while_the_disk_does_not_answer_nobody_waits_for_it_anew() {
    for when_full in [WhenFull::Refuse, WhenFull::Drop] {
        let log = Log::new();
        let audit = log.start(|settings| settings.when_full = when_full).unwrap();
        audit.queue.set_stuck(true);
        match audit.begin(&request("POST", "/api/atlas/v2/groups"), &alone()) {
            Err(why) => assert_eq!((when_full, why), (WhenFull::Refuse, NotRecorded::Slow)),
            Ok(begun) => {
                let (_, on_disk) = begun.unwrap();
                assert!(when_full == WhenFull::Drop && on_disk.is_none());
            }
        }
    }
}

/// Nobody writes.
#[test]
fn reads_and_refusals_keep_out_of_the_room_of_changes() {
    let queue = Arc::new(Queue::new(Box::new(|_| ())));
    while queue.other(vec![b'x'; 100]) {}
    assert!(queue.begin(b"{".to_vec(), 100, false, &alone()).is_ok());
}

/// The fields that the published schema requires of a class-6003 event: events/base_event.json,
/// events/application/api_activity.json, objects/{api,metadata}.json and profiles/cloud.json of ocsf/ocsf-schema, with the
/// "at least one" of actor, product and network_endpoint.
const OCSF_REQUIRED: &[&str] = &[
    "/activity_id",
    "/category_uid",
    "/class_uid",
    "/type_uid",
    "/severity_id",
    "/time",
    "/metadata/version",
    "/metadata/product/name",
    "/actor",
    "/api/operation",
    "/src_endpoint",
    "/cloud/provider",
];

#[tokio::test]
async fn ocsf_lines_have_what_the_schema_requires_and_are_one_chain_all_the_same() {
    let log = Log::new();
    let audit = log.start(|settings| settings.format = AuditFormat::Ocsf).unwrap();
    change(&audit).await;
    let over_a_socket = AuditRequest {
        peer: &"unix:1000",
        caller: None,
        ..request("BREW", "/api/atlas/v2/groups")
    };
    audit.one(&over_a_socket, &OUTCOME, false);
    audit.reloaded(true, None);
    audit.close(PATIENCE).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        for required in OCSF_REQUIRED {
            assert!(line.pointer(required).is_some(), "{required} is missing in {line}");
        }
        let number = |name: &str| line[name].as_u64().unwrap();
        assert_eq!(number("class_uid"), 6003);
        assert_eq!(number("type_uid"), 6003 * 100 + number("activity_id"));
        let one_of = |object: &str, members: &[&str]| {
            let object = line[object].as_object().unwrap();
            members.iter().any(|member| object.contains_key(*member))
        };
        assert!(one_of("actor", &["user", "app_name"]), "{line}");
        assert!(one_of("src_endpoint", &["ip", "name", "svc_name"]), "{line}");
    }
    let activities: Vec<_> = lines.iter().map(|line| line["activity_id"].as_u64().unwrap()).collect();
    assert_eq!(activities, [99, 1, 1, 99, 99, 99]);
    assert!(verify(&log.file()).whole());
    assert_eq!(log.lines()[2]["unmapped"]["event"], "end");
}

#[test]
fn no_line_is_longer_than_the_room_that_it_has() {
    let long = "\\".repeat(10_000);
    let (path, agent) = (clean(&long, line::MOST_PATH), clean(&long, line::MOST_USER_AGENT));
    let request = AuditRequest {
        path: &path,
        user_agent: Some(&agent),
        rule: Some(usize::MAX),
        ..request("PROPPATCH", "")
    };
    let outcome = AuditOutcome {
        status: u16::MAX,
        upstream_status: Some(u16::MAX),
        decision: "PROXY_METHOD_NOT_ALLOWED",
        attempts: u32::MAX,
        duration: Duration::from_secs(1 << 40),
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        request_id: Some(&long),
    };
    for format in [AuditFormat::Json, AuditFormat::Ocsf] {
        let of = |event, outcome| line::of_request(format, event, SystemTime::UNIX_EPOCH, "id", &request, outcome);
        let (begin, end) = (of(Event::Begin, None), of(Event::End, Some(&outcome)));
        assert!(
            end.len() <= begin.len() + line::END_MORE,
            "{} {}",
            begin.len(),
            end.len()
        );
    }
    let mut sealed = Vec::new();
    let keys = Arc::new(AuditKeys::of(&RootKey::generate().unwrap()));
    let mut chain = Chain::new(hex(&[0; 8]).into(), Some(keys));
    for _ in 0..2 {
        sealed.clear();
        chain.seal(b"{", AuditFormat::Ocsf, &mut sealed);
    }
    assert!(sealed.len() + 20 < chain::SEAL_MOST, "{}", sealed.len());
}

#[test]
fn heads_are_found_in_a_log_and_in_a_status_answer() {
    let one = r#"{"chain":"ab","seq":7,"hash":"cd"}"#;
    let told = "atlas_auth_proxy::audit: the last line of the audit log audit=";
    for text in [
        format!(r#"{{"uptimeSeconds":1,"audit":{one},"accounts":[]}}"#),
        format!("{{\n  \"audit\" : {one}\n}}"),
        format!("audit of nothing\n2026-08-10T03:02:13Z  INFO {told}{one}\n{{\"audit\":null}}"),
        format!("{{\"level\":\"INFO\"}}\n{{\"audit\":{one},\"target\":\"atlas_auth_proxy::audit\"}}\n"),
    ] {
        let seen = heads(&text);
        assert_eq!(seen.len(), 1, "{text}");
    }
    assert!(heads("audit audit= audit={ \"audit\": {\"chain\":1}").is_empty());
}

proptest! {
    /// No bytes make the proof panic, and none but what was written pass as whole.
    #[test]
    fn whatever_a_file_holds_is_read(content: Vec<u8>, head in ".*") {
        let root = RootKey::generate().unwrap();
        let mut verifier = Verifier::new([("key".to_owned(), &root)], [heads(&head)]);
        verifier.read("file", content.as_slice()).unwrap();
        let report = verifier.end();
        prop_assert!(!report.whole(), "{report:?}");
    }
}
