use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::admin::status::*;

fn at(seconds: u64) -> At {
    At::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
}

const NOW: u64 = 1_000_000;
const DAY: u64 = 86_400;

/// One of everything, with `text` wherever text comes from outside.
fn status(text: &str) -> Status {
    let text = || text.to_owned();
    let share = Share {
        per_minute: Some(10),
        last_minute: 9,
        at_once: Some(2),
        now: 2,
    };
    let account = |name: &str, credential| Account {
        name: format!("{name}{}", text()),
        credential,
        upstream: text(),
        realm: None,
        way: Some(text()),
        usable: false,
        token_expires_at: Some(at(NOW + 600)),
        next_token_request_at: Some(at(NOW + 300)),
        secret_expires_at: Some(at(NOW + DAY)),
        identity_expires_at: Some(at(NOW + DAY)),
        token_failure: Some(TokenFailure {
            outcome: "rejected",
            cause: text(),
        }),
        digest: Some(DigestUse {
            answers: 100,
            challenges: 2,
            reuse: Some(0.98),
        }),
        connections: 1,
        rate_limit: Some(RateLimit {
            tag: text(),
            remaining: 7,
        }),
        errors: BTreeMap::from([("dns", 3)]),
        failures: vec![Failure {
            kind: "access_list",
            count: 3,
            last_at: Some(at(NOW - 10)),
            status: 403,
            error_code: Some(text()),
            needs: Some(text()),
            hint: text(),
        }],
    };
    let caller = |name: String| Caller {
        name,
        listeners: Some(vec![text()]),
        requests: 12,
        answers: BTreeMap::from([("2xx", 7), ("4xx", 5)]),
        refused: 5,
        share: Some(share),
    };
    let mut status = Status {
        version: "1.2.3",
        build: Build {
            flavour: "standard",
            features: vec!["token-store"],
        },
        time: at(NOW),
        started_at: Some(at(NOW - 4000)),
        uptime_seconds: 4000,
        draining: false,
        verdict: Verdict::serving(),
        configuration: Configuration {
            digest: text(),
            loaded_at: Some(at(NOW - 4000)),
            after_restart: vec!["workers"],
            last_refused: Some(RefusedReload {
                at: Some(at(NOW - 20)),
                messages: vec![text()],
            }),
            process: BTreeMap::from([("workers", text())]),
            limits: BTreeMap::from([("max_headers", text())]),
        },
        last_hour: LastHour {
            classes: CLASSES,
            minutes: vec![[1, 2, 3, 4, 5, 6]; MINUTES],
            accounts: BTreeMap::from([(
                format!("a{}", text()),
                AccountHour {
                    classes: ANSWERS,
                    minutes: vec![[1, 2, 3, 4, 5]; MINUTES],
                    p50: Some(0.05),
                    p95: Some(2.5),
                },
            )]),
        },
        refusals: vec![Refusal {
            code: "PROXY_RULE_DENIED",
            meaning: "A rule forbids it.",
            status: 403,
            count: 1234,
            last: Some(LastRefusal {
                at: Some(at(NOW - 60)),
                listener: text(),
                caller: Some(text()),
                peer: text(),
                method: Some(text()),
                what: "listGroups",
            }),
        }],
        denied: vec![Denied {
            listener: text(),
            caller: text(),
            reason: "rule".to_owned(),
            count: 3,
        }],
        token_store: Some(TokenStore {
            address: text(),
            up: Some(false),
            cause: Some(text()),
        }),
        audit: Some(serde_json::json!({ "chain": text(), "seq": 7, "hash": text() })),
        audit_log: Some(AuditLog {
            to: text(),
            when_full: "refuse",
            writes: false,
            refuses_changes: true,
            since: Some(at(NOW - 70)),
            cause: Some(text()),
            lines_dropped: 3,
        }),
        listeners: vec![Listener {
            name: text(),
            address: text(),
            also_at: Some(text()),
            account: text(),
            tls: true,
            client_certificates: Some("required"),
            certificate_expires_at: Some(at(NOW + DAY)),
            allow: vec![text()],
            read_only: true,
            rules: 3,
            callers: Some("required"),
            default_accept: Some(text()),
            required_header: Some(text()),
            rewrite_links: false,
            share,
        }],
        callers: vec![caller(text())],
        unnamed: vec![caller("anonymous".to_owned())],
        issuers: vec![Issuer {
            name: text(),
            keys: 0,
            age_seconds: Some(30),
            last_error: Some(text()),
        }],
        accounts: vec![
            account("a", "service_account"),
            account("b", "api_key"),
            account("c", "gateway"),
        ],
        sunset: ["sunset", "deprecated", "gone", "not_acceptable"]
            .map(|kind| Sunset {
                listener: text(),
                caller: text(),
                operation: "listGroups",
                kind,
                version: Some(text()),
                sunset: (kind == "sunset").then(text),
                newest_version: Some(text()),
                count: 3,
                last_at: Some(at(NOW - 5)),
            })
            .to_vec(),
    };
    status.verdict = Verdict::of(&status);
    status
}

/// The same when all is well.
fn well() -> Status {
    let mut status = status("x");
    status.configuration.last_refused = None;
    (status.refusals, status.denied, status.issuers) = (Vec::new(), Vec::new(), Vec::new());
    (status.token_store, status.audit_log) = (None, None);
    status.last_hour.minutes = vec![[9, 0, 1, 0, 0, 0]; MINUTES];
    for account in &mut status.accounts {
        (account.usable, account.token_failure) = (true, None);
        account.failures.clear();
        account.secret_expires_at = Some(at(NOW + 90 * DAY));
    }
    status.listeners[0].certificate_expires_at = None;
    status.verdict = Verdict::of(&status);
    status
}

/// What the browser takes for markup.
fn markup(html: &str) -> [usize; 4] {
    ['<', '>', '"', '\''].map(|character| html.matches(character).count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a name, an address or an error is, it makes no element and ends no attribute.
    #[test]
    fn nothing_from_outside_is_markup(text in "[<>&\"'a-z/= \\PC]{1,30}") {
        // What is between backticks is shown as code, which is markup of the page's own.
        let text = text.replace('`', "<");
        let (page, plain) = (Page::new(), markup(&Page::parts(&status("x"))));
        prop_assert_eq!(markup(&Page::parts(&status(&text))), plain);
        prop_assert_eq!(markup(&page.html(&status(&text))), markup(&page.html(&status("x"))));
    }
}

#[test]
fn each_id_is_there_once_and_every_part_has_a_heading() {
    let page = Page::new().html(&status("x"));
    let ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    for (id, _, _) in PARTS {
        let part = page.split_once(&format!("<section id=\"{id}\"")).unwrap().1;
        assert!(part.split("</section>").next().unwrap().contains("<h2>"), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")));
    }
}

#[test]
fn a_table_is_one_for_a_screen_reader_and_is_bounded() {
    let mut many = status("x");
    let one = many.callers[0].clone();
    many.callers = (0..table::MOST_ROWS + 7)
        .map(|n| Caller {
            name: format!("caller-{n:03}"),
            requests: n as u64,
            ..one.clone()
        })
        .collect();
    many.unnamed.clear();
    let page = Page::parts(&many);
    assert!(page.contains("and 7 more, which /status.json has"));
    assert!(
        page.contains("caller-056") && !page.contains("caller-006"),
        "those with the most requests"
    );
    for table in page.split("<table role=\"table\">").skip(1) {
        assert!(table.starts_with("<caption>"), "{table}");
        let head = table.split("</thead>").next().unwrap();
        assert_eq!(head.matches("<th ").count(), head.matches("scope=\"col\"").count());
        let row = table
            .split("<tr role=\"row\">")
            .nth(2)
            .unwrap()
            .split("</tr>")
            .next()
            .unwrap();
        assert_eq!(row.matches(" role=").count(), head.matches("<th ").count(), "{row}");
        assert!(row.starts_with("<th role=\"rowheader\" scope=\"row\">"), "{row}");
    }
}

#[test]
fn of_too_many_accounts_those_that_fail_are_shown() {
    let mut many = well();
    let one = many.accounts[0].clone();
    many.accounts = (0..table::MOST_ROWS + 9)
        .map(|n| Account {
            name: format!("account-{n:03}"),
            usable: n < table::MOST_ROWS + 8,
            ..one.clone()
        })
        .collect();
    let page = Page::parts(&many);
    assert!(page.contains("account-058") && !page.contains("account-055"));
    assert!(page.contains("and 9 more, which /status.json has"));
}

fn whys(status: &Status) -> Vec<String> {
    let verdict = Verdict::of(status);
    verdict
        .reasons
        .iter()
        .map(|reason| format!("{}: {}", reason.about, reason.what))
        .collect()
}

#[test]
fn the_verdict_is_serving_only_while_nothing_is_wrong() {
    assert_eq!(Verdict::of(&well()), Verdict::serving());
    let degraded = |change: fn(&mut Status), why: &str| {
        let mut status = well();
        change(&mut status);
        let verdict = Verdict::of(&status);
        assert_eq!(verdict.condition, Condition::Degraded, "{why}");
        let whys = whys(&status);
        assert!(whys.len() == 1 && whys[0].contains(why), "{why}: {whys:?}");
    };
    degraded(|s| s.accounts[0].usable = false, "account ax: Atlas refuses its tokens");
    degraded(|s| s.accounts[1].usable = false, "account bx: Atlas refuses its key");
    degraded(
        |s| s.accounts[2].usable = false,
        "account cx: the identity that the gateway is shown is over",
    );
    degraded(
        |s| s.accounts[0].token_failure = status("no route").accounts[0].token_failure.clone(),
        "the one before is used on: no route",
    );
    degraded(
        |s| s.accounts[0].failures = status("x").accounts[0].failures.clone(),
        "Atlas answered 403 lately (access list)",
    );
    degraded(
        |s| s.accounts[0].secret_expires_at = Some(at(NOW + 6 * DAY)),
        "the client secret expires in 6 days",
    );
    degraded(
        |s| s.accounts[0].secret_expires_at = Some(at(NOW)),
        "the client secret has expired",
    );
    degraded(
        |s| s.listeners[0].certificate_expires_at = Some(at(NOW + DAY)),
        "listener x: its certificate expires in 1 d",
    );
    degraded(
        |s| s.audit_log = status("full").audit_log,
        "audit log: full can't be written (full): changes are refused",
    );
    degraded(
        |s| s.configuration.last_refused = status("line 7").configuration.last_refused,
        "stay in force: line 7",
    );
    degraded(
        |s| s.token_store = status("x").token_store,
        "token store: x: x; replicas ask",
    );
    degraded(|s| s.issuers = status("x").issuers, "issuer x: its keys can't be had");
    degraded(
        |s| s.last_hour.minutes[59][5] = 3,
        "3 of 53 in the last 5 minutes got no answer of Atlas",
    );
    degraded(
        |s| s.last_hour.minutes[57][3] = 3,
        "Atlas answered 3 of 53 in the last 5 minutes with 5xx",
    );

    let mut calm = well();
    calm.accounts[0].secret_expires_at = Some(at(NOW + 7 * DAY));
    // What is long ago, and what is too little to say something.
    calm.last_hour.minutes = vec![[0, 0, 0, 0, 0, 1]; MINUTES];
    calm.last_hour.minutes[10] = [0, 0, 0, 900, 0, 900];
    calm.accounts[0].failures = status("x").accounts[0].failures.clone();
    calm.accounts[0].failures[0].last_at = Some(at(NOW - 300));
    calm.accounts[1].failures = status("x").accounts[0].failures.clone();
    calm.accounts[1].failures[0].kind = "role";
    assert_eq!(whys(&calm), Vec::<String>::new());
}

#[test]
fn without_a_credential_it_does_not_serve_and_a_drain_counts_before_all() {
    let mut status = well();
    for account in &mut status.accounts {
        account.usable = false;
    }
    assert_eq!(Verdict::of(&status).condition, Condition::NotServing);
    status.draining = true;
    let verdict = Verdict::of(&status);
    assert_eq!(verdict.condition, Condition::Draining);
    assert_eq!(verdict.reasons[0].about, "process");
    assert!(
        Page::new().html(&status).contains("<title>Serving ·"),
        "the verdict is what the status says"
    );
    status.verdict = verdict;
    assert!(
        Page::new()
            .html(&status)
            .contains("<title>Draining · atlas-auth-proxy</title>")
    );
}
