#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use super::diff::Change;
use super::*;
use crate::catalogue::Catalogue;

const PROJECT: &str = "5a0a1e7e0f2912c554080adc";
const OTHER: &str = "5a0a1e7e0f2912c554080aaa";

fn list(value: &str) -> Option<Vec<String>> {
    Some(value.split(',').map(|one| one.replace('_', " ")).collect())
}

/// `allow operations=a,b methods=GET`: a rule as a line.
fn rule(line: &str) -> RuleText {
    let mut words = line.split_whitespace();
    let mut rule = RuleText {
        action: words.next().unwrap().to_owned(),
        place: line.to_owned(),
        ..RuleText::default()
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "operations" => rule.operations = list(value),
            "tags" => rule.tags = list(value),
            "methods" => rule.methods = list(value),
            "path" => rule.path = Some(value.to_owned()),
            "projects" => rule.projects = list(value),
            "organizations" => rule.organizations = list(value),
            odd => panic!("{odd}"),
        }
    }
    rule
}

fn text(rules: &[&str]) -> BookText {
    BookText {
        listeners: vec![ListenerText {
            name: "gateway".to_owned(),
            account: "default".to_owned(),
            callers: true,
            unmatched_passes: true,
            ..ListenerText::default()
        }],
        callers: vec![CallerText {
            name: "app".to_owned(),
            known_by: BTreeSet::from(["secret in app".to_owned()]),
            networks: BTreeSet::from(["10.2.0.0/16".to_owned()]),
            rules: rules.iter().map(|line| rule(line)).collect(),
            ..CallerText::default()
        }],
    }
}

fn book(text: &BookText) -> Option<Book> {
    Book::new(text.clone(), Arc::new(Catalogue::new())).ok()
}

fn of(rules: &[&str]) -> Book {
    Book::new(text(rules), Arc::new(Catalogue::new())).unwrap_or_else(|error| panic!("{error}"))
}

/// The names of what is wider, and of what differs.
fn compared(old: &Book, new: &Book) -> (Vec<String>, Vec<String>) {
    let diff = diff(old, new, None).unwrap();
    let names = |wider: bool| {
        let changes = diff.changes.iter().filter(|change| change.is_wider == wider);
        changes.map(|change| change.what.clone()).collect()
    };
    (names(true), names(false))
}

#[test]
fn a_newly_allowed_deletion_is_found_behind_a_wildcard() {
    let (old, new) = (
        of(&["allow operations=get*,list*"]),
        of(&["allow operations=get*,list*,*GroupCluster"]),
    );
    let (wider, _) = compared(&old, &new);
    assert!(wider.contains(&"deleteGroupCluster".to_owned()), "{wider:?}");
    assert!(compared(&new, &old).0.is_empty());
    assert!(diff(&old, &old, None).unwrap().changes.is_empty());
}

#[test]
fn literals_with_what_follows_a_placeholder_are_found() {
    let id = "5a0a1e7e0f2912c554080adc";
    for (operation, path) in [
        ("addOrgUserRole", format!("/api/atlas/v2/orgs/{{o}}/users/{id}:addRole")),
        ("migrateGroup", format!("/api/atlas/v2/groups/{id}:migrate")),
        (
            "pinGroupClusterFeatureCompatibilityVersion",
            "/api/atlas/v2/groups/*/clusters/c:pinFeatureCompatibilityVersion".to_owned(),
        ),
        (
            "stopGroupStreamProcessor",
            "/api/atlas/v2/groups/*/streams/*/processor/p%3Astop".to_owned(),
        ),
        (
            "downloadGroupClusterLog",
            "/api/atlas/v2/groups/*/clusters/*/logs/mongodb.gz".to_owned(),
        ),
        ("getGroupCluster", "/api/atlas/v2/groups/*/clusters/a%20b".to_owned()),
    ] {
        let rule = format!("allow operations={operation} path={path}");
        let (old, new) = (
            of(&["allow operations=getOrg"]),
            of(&["allow operations=getOrg", &rule]),
        );
        let (wider, calm) = compared(&old, &new);
        assert_eq!([wider, calm].concat(), [operation], "{path}");
    }
}

fn pairs(count: usize) -> Vec<String> {
    let path = |n| format!("path=/api/atlas/v2/groups/5a0a1e7e0f2912c5{n:08x}/clusters/c{n}");
    (0..count)
        .map(|n| format!("allow operations=getGroupCluster {}", path(n)))
        .collect()
}

#[test]
fn many_rules_that_name_values_at_two_places_are_all_tried() {
    let mut rules = pairs(200);
    let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
    let old = of(&lines);
    let rows = table(&old, None).unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].scope.split(' ').count(), 200);
    let last = rules[199].replace("getGroupCluster", "deleteGroupCluster");
    rules.push(last);
    let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
    assert_eq!(compared(&old, &of(&lines)).0, ["deleteGroupCluster"]);
}

#[test]
fn a_long_list_of_ids_is_tried_to_its_end() {
    let ids: Vec<String> = (0..3000).map(|n| format!("5a0a1e7e0f2912c5{n:08x}")).collect();
    let one = |key: &str, operation: &str, ids: &[String]| {
        of(&[&format!("allow operations={operation} {key}={}", ids.join(","))])
    };
    for (key, operation) in [("projects", "deleteGroup"), ("organizations", "deleteOrg")] {
        let (old, new) = (one(key, operation, &ids[..2999]), one(key, operation, &ids));
        assert_eq!(compared(&old, &new).0, [operation]);
        let table = table(&new, None).unwrap();
        assert_eq!(table.rows[0].scope, ids.join(" "));
        assert!(table.text().contains(&ids[2999]));
    }
    // Those that are alike are shown as one, and the rest by its number.
    let change = &diff(
        &one("projects", "getGroup", &ids[..1]),
        &one("projects", "getGroup", &ids[..20]),
        None,
    )
    .unwrap()
    .changes[0];
    assert!(change.added[0].ends_with(" and 10 more"), "{change}");
}

#[test]
fn what_is_too_much_is_refused_and_never_cut() {
    let mut rules: Vec<String> = Vec::new();
    for n in 0..60 {
        rules.push(format!(
            "deny path=/api/atlas/v2/groups/*/hosts/*/fts/metrics/indexes/d{n}/*/measurements"
        ));
        rules.push(format!(
            "deny path=/api/atlas/v2/groups/*/hosts/h{n}/fts/metrics/indexes/*/*/measurements"
        ));
        rules.push(format!(
            "deny path=/api/atlas/v2/groups/*/hosts/*/fts/metrics/indexes/*/i{n}/measurements"
        ));
    }
    rules.push("allow operations=listGroupHostFtsMetricIndexMeasurements".to_owned());
    let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
    let book = of(&lines);
    let error = table(&book, None).unwrap_err();
    assert_eq!(error.operation, "listGroupHostFtsMetricIndexMeasurements");
    assert_eq!(diff(&book, &book, None).unwrap_err(), error);
}

/// A value that stands for all others must not be one that a rule names.
#[test]
fn nobody_can_name_what_stands_for_all_others() {
    let deny = "deny projects=000000000000000000000000,000000000000000000000001";
    let (old, new) = (
        of(&[deny, "allow operations=getOrg"]),
        of(&[deny, "allow operations=deleteGroup,getOrg"]),
    );
    assert_eq!(compared(&old, &new).0, ["deleteGroup"]);
    let deny = "deny path=/api/atlas/v2/groups/*/clusters/0other0";
    let (old, new) = (
        of(&[deny, "allow operations=getOrg"]),
        of(&[deny, "allow operations=deleteGroupCluster,getOrg"]),
    );
    assert_eq!(compared(&old, &new).0, ["deleteGroupCluster"]);
}

#[test]
fn a_spelling_that_only_a_denial_sees_is_tried() {
    let rules = [
        "allow operations=deleteGroupCluster path=/api/atlas/v2/groups/*/clusters/secret",
        "deny path=/api/atlas/v2/groups/*/clusters/secret",
        "allow operations=deleteGroupCluster",
    ];
    let (old, new) = (of(&rules), of(&[rules[0], rules[2]]));
    assert_eq!(compared(&old, &new).0, ["deleteGroupCluster"]);
}

#[test]
fn a_get_that_was_added_is_shown_and_calm() {
    let (old, new) = (
        of(&["allow operations=getGroup"]),
        of(&["allow operations=getGroup,listGroupClusters"]),
    );
    assert_eq!(compared(&old, &new), (Vec::new(), vec!["listGroupClusters".to_owned()]));
}

#[test]
fn a_wider_set_of_projects_or_organizations_is_wider() {
    for (before, after) in [
        (
            format!("allow operations=getGroup projects={PROJECT}"),
            format!("allow operations=getGroup projects={PROJECT},{OTHER}"),
        ),
        (
            format!("allow operations=getGroup projects={PROJECT}"),
            "allow operations=getGroup".to_owned(),
        ),
        (
            format!("allow operations=getGroup projects={PROJECT}"),
            format!("allow operations=getGroup projects={OTHER}"),
        ),
        (
            format!("allow operations=getOrg organizations={PROJECT}"),
            "warn operations=getOrg".to_owned(),
        ),
    ] {
        let (wider, _) = compared(&of(&[&before]), &of(&[&after]));
        assert_eq!(wider.len(), 1, "{before} {after} {wider:?}");
    }
    let (narrow, wide) = (
        format!("allow operations=getGroup projects={PROJECT}"),
        "allow operations=getGroup",
    );
    assert_eq!(
        compared(&of(&[wide]), &of(&[&narrow])),
        (Vec::new(), vec!["getGroup".to_owned()])
    );
}

#[test]
fn unknown_paths_and_ways_of_being_known_are_compared() {
    let unknown = |path: &str| {
        of(&[
            "allow operations=getGroup",
            &format!("allow operations=unknown methods=GET path={path}"),
        ])
    };
    assert_eq!(
        compared(&unknown("/api/private/ipinfo"), &unknown("/api/private/**")).0,
        ["unknown"]
    );
    assert!(
        compared(&unknown("/api/private/**"), &unknown("/api/private/ipinfo"))
            .0
            .is_empty()
    );
    let base = text(&["allow operations=getGroup"]);
    let changed = |change: fn(&mut BookText)| {
        let mut text = base.clone();
        change(&mut text);
        compared(&book(&base).unwrap(), &book(&text).unwrap()).0
    };
    let none: [&str; 0] = [];
    assert_eq!(
        changed(|text| text.callers[0].known_by.extend(["user id 5".to_owned()])),
        ["known by"]
    );
    assert_eq!(
        changed(|text| text.callers[0].networks.extend(["10.3.0.0/16".to_owned()])),
        ["known by"]
    );
    assert_eq!(
        changed(|text| text.callers[0].networks = BTreeSet::from(["10.2.3.0/24".to_owned()])),
        none
    );
    assert_eq!(changed(|text| text.callers[0].own_account = true), ["known by"]);
    // Whoever shows nothing gets all that the listener lets pass.
    let anonymous = changed(|text| {
        text.listeners[0].anonymous = true;
        text.listeners[0].allow.insert("0.0.0.0/0".to_owned());
    });
    assert!(anonymous.contains(&"deleteGroup".to_owned()) && anonymous.contains(&"known by".to_owned()));
    // Another account is another place.
    let account = changed(|text| text.listeners[0].account = "gov".to_owned());
    assert_eq!(account, ["known by"]);
}

/// The changes between these texts.
fn changes(old: &BookText, new: &BookText) -> Vec<Change> {
    let (old, new) = (book(old).unwrap(), book(new).unwrap());
    diff(&old, &new, None).unwrap().changes
}

#[test]
fn a_pattern_with_a_slash_at_its_end_is_seen() {
    let slash = "allow methods=DELETE path=/api/atlas/v2/groups/*/clusters/*/";
    let base = "deny path=/api/atlas/v2/orgs/x";
    let all = "allow operations=deleteGroupCluster";
    // Of a listener.
    let with = |rules: &[&str]| {
        let mut text = text(&[all]);
        text.listeners[0].unmatched_passes = false;
        text.listeners[0].rules = rules.iter().map(|line| rule(line)).collect();
        text
    };
    let changed = changes(&with(&[base]), &with(&[base, slash]));
    assert_eq!(changed.len(), 1);
    assert!(changed[0].is_wider && changed[0].added[0].ends_with('/'), "{changed:?}");
    // Of a caller.
    let narrow = "allow operations=deleteGroupCluster path=/api/atlas/v2/groups/*/clusters/c";
    let (old, new) = (
        of(&[narrow]),
        of(&[
            narrow,
            "allow operations=deleteGroupCluster path=/api/atlas/v2/groups/*/clusters/*/**",
        ]),
    );
    assert_eq!(compared(&old, &new).0, ["deleteGroupCluster"]);
}

#[test]
fn what_one_pattern_names_is_tried_at_the_wildcards_of_another() {
    let allow = "allow operations=unknown methods=GET path=/api/atlas/**";
    let deny = "deny path=/api/*/secret/**";
    assert_eq!(compared(&of(&[deny, allow]), &of(&[allow])).0, ["unknown"]);
    assert!(compared(&of(&[allow]), &of(&[deny, allow])).0.is_empty());
    let allow = "allow operations=unknown methods=POST path=/api/atlas/v1.0/groups/*/zzz";
    let deny = format!("deny projects={PROJECT},{OTHER}");
    let (with, without) = (of(&[&deny, allow]), of(&[allow]));
    let changed = diff(&with, &without, None).unwrap().changes;
    assert_eq!(changed.len(), 1);
    assert!(
        changed[0].is_wider && changed[0].added[0].contains(OTHER),
        "{changed:?}"
    );
    assert!(compared(&without, &with).0.is_empty());
    // For whoever shows nothing, what a listener's rules name.
    let anonymous = |rules: &[&str]| {
        let mut text = text(&["allow operations=getOrg"]);
        text.listeners[0].anonymous = true;
        text.listeners[0].rules = rules.iter().map(|line| rule(line)).collect();
        text
    };
    let changed = changes(
        &anonymous(&["deny path=/api/x/y/z", "allow path=/**"]),
        &anonymous(&["allow path=/**"]),
    );
    assert!(changed.iter().any(|change| change.is_wider), "{changed:?}");
}

#[test]
fn a_network_of_somebody_else_in_a_network_is_a_hole() {
    let with = |guest: &[&str], anonymous: bool| {
        let mut text = text(&["allow operations=getGroup"]);
        text.listeners[0].anonymous = anonymous;
        text.listeners[0].allow = BTreeSet::from(["10.0.0.0/8".to_owned()]);
        text.callers[0].networks = BTreeSet::from(["10.0.0.0/12".to_owned()]);
        let guest = CallerText {
            name: "guest".to_owned(),
            networks: guest.iter().map(|network| (*network).to_owned()).collect(),
            ..text.callers[0].clone()
        };
        text.callers.push(guest);
        text
    };
    let (guests, none) = (with(&["10.9.0.0/16"], false), with(&[], false));
    let changed = changes(&guests, &none);
    let app = &changed[0];
    assert!(app.place.ends_with("caller app") && app.is_wider, "{changed:?}");
    assert_eq!(app.removed, [""; 0]);
    assert_eq!(app.added, ["network 10.0.0.0/12"]);
    let back = changes(&none, &guests);
    assert!(!back[0].is_wider && back[1].is_wider, "{back:?}");
    assert_eq!(back[0].removed, ["network 10.0.0.0/12"]);
    // A hole that is smaller.
    let changed = changes(&guests, &with(&["10.9.1.0/24", "10.9.2.0/24"], false));
    assert_eq!(changed[0].added, ["network 10.0.0.0/12 but 10.9.1.0/24, 10.9.2.0/24"]);
    assert!(changed[0].is_wider && !changes(&with(&["10.9.1.0/24"], false), &guests)[0].is_wider);
    // Whoever loses a network may become nobody.
    let changed = changes(&with(&["10.16.0.0/16"], true), &with(&[], true));
    let nobody = changed
        .iter()
        .find(|change| change.place.ends_with("anonymous"))
        .unwrap();
    assert!(nobody.is_wider && nobody.what == "known by", "{changed:?}");
}

#[test]
fn a_network_counts_as_far_as_the_listener_lets_it_connect() {
    let with = |allow: &str| {
        let mut text = text(&["allow operations=getGroup"]);
        text.listeners[0].allow = BTreeSet::from([allow.to_owned()]);
        text
    };
    let changed = changes(&with("10.2.3.0/24"), &with("10.0.0.0/8"));
    assert_eq!(changed.len(), 1);
    assert!(
        changed[0].is_wider && changed[0].added == ["network 10.2.0.0/16"],
        "{changed:?}"
    );
    assert!(!changes(&with("10.0.0.0/8"), &with("10.2.3.0/24"))[0].is_wider);
    assert!(changes(&with("10.0.0.0/8"), &with("0.0.0.0/0")).is_empty());
    assert!(!changes(&with("10.0.0.0/8"), &with("192.168.0.0/16"))[0].is_wider);
}

#[test]
fn another_load_balancer_that_is_believed_is_another_way_of_being_known() {
    let with = |balancers: &[&str]| {
        let mut text = text(&["allow operations=getGroup"]);
        text.listeners[0].proxy_protocol = balancers.iter().map(|one| (*one).to_owned()).collect();
        text
    };
    let changed = changes(&with(&[]), &with(&["10.0.0.1/32"]));
    assert!(
        changed
            .iter()
            .any(|change| change.is_wider && change.what == "known by"),
        "{changed:?}"
    );
    assert!(
        format!("{changed:?}").contains("by the word of 10.0.0.1/32"),
        "{changed:?}"
    );
    assert!(changes(&with(&["10.0.0.1/32"]), &with(&["10.0.0.1/32"])).is_empty());
}

#[test]
fn what_has_come_since_nobody_had() {
    let book = of(&["allow operations=delete*"]);
    let known: BTreeSet<String> = ["deleteGroup".to_owned()].into();
    let diff = diff(&book, &book, Some(&known)).unwrap();
    assert!(
        diff.changes
            .iter()
            .any(|change| change.what == "deleteGroupCluster" && change.is_wider)
    );
    assert!(!diff.changes.iter().any(|change| change.what == "deleteGroup"));
}

#[test]
fn the_table_names_projects_and_marks() {
    let deny = format!("deny operations=deleteGroup projects={OTHER}");
    let warn = format!("warn operations=listGroupClusters projects={PROJECT}");
    let book = of(&[
        &deny,
        "allow operations=deleteGroup,createOrgApiKey",
        &warn,
        "allow operations=getGroupCluster path=/api/atlas/v2/groups/*/clusters/open",
        "allow operations=unknown methods=GET path=/api/private/ipinfo",
    ]);
    let table = table(&book, None).unwrap();
    let shown: Vec<(&str, String, Vec<&str>)> = table
        .rows
        .iter()
        .map(|row| (row.operation.as_str(), row.scope.clone(), row.marks.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("deleteGroup", format!("any but {OTHER}"), vec![]),
            ("listGroupClusters", PROJECT.to_owned(), vec!["warn"]),
            ("getGroupCluster", "any".to_owned(), vec!["some paths"]),
            ("createOrgApiKey", "any".to_owned(), vec!["grants"]),
            ("unknown", "/api/private/ipinfo".to_owned(), vec![]),
        ]
    );
    assert!(
        table
            .markdown()
            .contains("| gateway | default | app | deleteGroup | DELETE |")
    );
    assert!(table.text().lines().count() == 6);
}

#[test]
fn explaining_names_the_places() {
    let mut text = text(&["allow operations=getGroup"]);
    text.listeners[0].rules.push(rule("deny methods=DELETE path=/**"));
    let book = book(&text).unwrap();
    let passes = book.explain(0, Who::Caller(0), &Method::GET, "/api/atlas/v2/groups/1");
    assert!(passes.allowed);
    assert!(
        passes.why[1].contains("rule 1 allows getGroup (allow operations=getGroup)"),
        "{passes:?}"
    );
    let denied = book.explain(0, Who::Caller(0), &Method::DELETE, "/api/atlas/v2/groups/1");
    assert!(
        !denied.allowed && denied.why[0].contains("(deny methods=DELETE path=/**)"),
        "{denied:?}"
    );
}

#[test]
fn what_is_decided_before_any_rule_is_said_so() {
    let mut text = text(&[
        "allow operations=unknown methods=GET,POST,TRACE path=/**",
        "allow operations=getGroup",
    ]);
    text.listeners[0].anonymous = true;
    let mut without = text.clone();
    without.listeners[0].callers = false;
    let (book, without) = (book(&text).unwrap(), book(&without).unwrap());
    for path in [
        "/api/oauth/token",
        "/API/OAuth/token",
        "/api/oauth/%74oken",
        "/api/oauth/revoke",
        "/api/oauth/caller",
    ] {
        let verdict = book.explain(0, Who::Caller(0), &Method::POST, path);
        assert!(verdict.answered_here && !verdict.allowed, "{path}");
        assert!(!book.decide(0, Who::Caller(0), &Method::POST, path).0, "{path}");
    }
    for (book, method, path) in [
        (&book, "TRACE", "/api/x"),
        (&book, "CONNECT", "/api/x"),
        (&book, "POST", "/api/oauth/other"),
        (&without, "GET", "/api/oauth/caller"),
    ] {
        let verdict = book.explain(0, Who::Anonymous, &method.parse().unwrap(), path);
        assert!(!verdict.answered_here && !verdict.allowed, "{method} {path}");
        assert!(verdict.why[0].contains("whatever the rules say"), "{verdict:?}");
    }
    assert!(book.explain(0, Who::Caller(0), &Method::GET, "/api/x").allowed);
}

#[test]
fn learned_rules_allow_the_same_and_no_other_write() {
    let catalogue = Catalogue::new();
    let line = |method: &str, path: &str, status: u16| {
        format!(r#"{{"caller":"app","method":"{method}","path":"{path}","status":{status},"decision":"forwarded"}}"#)
    };
    let clusters = format!("/api/atlas/v2/groups/{PROJECT}/clusters");
    let entry = format!("/api/atlas/v2/groups/{PROJECT}/accessList/10.0.0.0%2F8");
    let done = [
        ("GET", "/api/atlas/v2/groups"),
        ("GET", &clusters),
        ("POST", &clusters),
        ("GET", &entry),
        ("GET", "/api/private/ipinfo"),
        ("POST", &format!("/api/atlas/v2/orgs/{OTHER}/apiKeys")),
    ];
    let mut log: String = done
        .iter()
        .map(|(method, path)| line(method, path, 200) + "\n")
        .collect();
    log += &line("DELETE", &format!("{clusters}/c"), 403);
    // The proxy's own endpoints need no rule, however they are spelled.
    log += &format!("\nnot json\n{}\n", line("POST", "/api/oauth/token", 200));
    log += &format!(
        "{}\n{}\n",
        line("POST", "/API/OAuth/token", 200),
        line("GET", "/api/oauth%2Ftoken", 200)
    );
    let learned = learn(&log, false, &catalogue).unwrap();
    assert!(learned.left_out.is_empty(), "{:?}", learned.left_out);
    assert!(!learned.toml.to_lowercase().contains("oauth"), "{}", learned.toml);
    let mut rules = Vec::new();
    for block in learned.toml.split("[[caller.rule]]").skip(1) {
        let keys: Vec<String> = block
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .filter(|(key, _)| *key != "action")
            .map(|(key, value)| format!("{key}={}", value.replace(['[', ']', '"', ' '], "")))
            .collect();
        rules.push(format!("allow {}", keys.join(" ")));
    }
    let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
    let book = of(&lines);
    for (method, path) in done {
        assert!(
            book.decide(0, Who::Caller(0), &method.parse().unwrap(), path).0,
            "{method} {path}"
        );
    }
    let writes: Vec<Row> = table(&book, None)
        .unwrap()
        .rows
        .into_iter()
        .filter(|row| row.method != "GET" && row.method != "GET HEAD")
        .collect();
    let names: Vec<&str> = writes.iter().map(|row| row.operation.as_str()).collect();
    assert_eq!(names, ["createGroupCluster", "createOrgApiKey"], "{}", learned.toml);
    assert_eq!(writes[0].scope, PROJECT);
    let only = line("POST", &clusters, 200);
    assert_eq!(learn(&only, false, &catalogue), Err(LearnError::NoReads));
    assert!(learn(&only, true, &catalogue).is_ok());
    assert_eq!(learn("", false, &catalogue), Err(LearnError::Nothing));
}

/// Every request that could show a difference, without the code under test: operations by projects by spellings.
fn requests(catalogue: &Catalogue) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for operation in catalogue.operations() {
        let near = ["clusters", "/apiKeys", "databaseUsers", "accessList", "liveMigrations"];
        if operation.path.len() > 90
            || !(operation.path.len() < 42 || near.iter().any(|word| operation.path.contains(word)))
        {
            continue;
        }
        for id in [PROJECT, OTHER, "5a0a1e7e0f2912c554080abb"] {
            for value in ["c1", "c2", "secret", "a%2Fb"] {
                let parts = operation.path.split('/').map(|part| {
                    match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                        Some(("groupId" | "orgId", ending)) => format!("{id}{ending}"),
                        Some((_, ending)) => format!("{value}{ending}"),
                        None => part.to_owned(),
                    }
                });
                let path = parts.collect::<Vec<_>>().join("/");
                all.push((operation.method.clone(), path.clone()));
                if operation.method == Method::GET {
                    all.push((Method::HEAD, path.clone()));
                }
                all.push((operation.method.clone(), path.to_uppercase()));
                all.push((operation.method.clone(), path.clone() + "/"));
                all.push((operation.method.clone(), path.replace("/v2/", "/v1.0/")));
            }
        }
    }
    for path in ["/api/private/ipinfo", "/api/private/x", "/api/other", "/api/other/x"] {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            all.push((method.parse().unwrap(), path.to_owned()));
        }
    }
    all.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    all.dedup();
    all
}

/// A key of a rule.
type Key = fn(&mut RuleText) -> &mut Option<Vec<String>>;

/// Every small change of these rules.
fn mutations(rules: &[RuleText]) -> Vec<Vec<RuleText>> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Vec<RuleText>)| {
        let mut changed = rules.to_vec();
        change(&mut changed);
        all.push(changed);
    };
    for n in 0..rules.len() {
        with(&|rules| drop(rules.remove(n)));
        if n > 0 {
            with(&|rules| rules.swap(n - 1, n));
        }
        for action in ["allow", "deny", "warn"] {
            with(&|rules| rules[n].action = action.to_owned());
        }
        let keys: [(Key, &[&str]); 5] = [
            (|rule| &mut rule.operations, &["createOrgApiKey", "unknown", "*"]),
            (|rule| &mut rule.tags, &["Projects"]),
            (|rule| &mut rule.methods, &["HEAD", "POST"]),
            (|rule| &mut rule.projects, &["5a0a1e7e0f2912c554080abb"]),
            (|rule| &mut rule.organizations, &[OTHER]),
        ];
        for (key, values) in keys {
            with(&|rules| *key(&mut rules[n]) = None);
            for value in values {
                with(&|rules| key(&mut rules[n]).get_or_insert_default().push((*value).to_owned()));
                with(&|rules| *key(&mut rules[n]) = Some(vec![(*value).to_owned()]));
            }
            with(&|rules| drop(key(&mut rules[n]).as_mut().and_then(Vec::pop)));
        }
        for path in [
            "/api/atlas/v2/groups/*/clusters/c1",
            "/api/atlas/v2/groups/*/clusters/*/",
            "/api/*/x/**",
            "/api/**",
        ] {
            with(&|rules| rules[n].path = Some(path.to_owned()));
        }
        with(&|rules| rules[n].path = None);
    }
    all
}

#[test]
fn every_mutation_that_changes_a_decision_is_noticed() {
    let deny = format!("deny operations=deleteGroupCluster,deleteGroup projects={OTHER}");
    let allow = format!("allow tags=Clusters,Database_Users methods=GET,DELETE projects={PROJECT},{OTHER}");
    let base = [
        "deny path=/api/atlas/v2/groups/*/clusters/secret/**",
        &deny,
        &allow,
        "allow operations=getGroupAccessListEntry path=/api/atlas/v2/groups/*/accessList/*",
        "warn operations=getGroup,createGroupLiveMigration",
        "allow operations=unknown methods=GET path=/api/private/ipinfo",
    ];
    let base = text(&base);
    let before = book(&base).unwrap();
    let requests = requests(&before.catalogue);
    let decided = |book: &Book| -> Vec<bool> {
        let one = |(method, path): &(Method, String)| book.decide(0, Who::Caller(0), method, path).0;
        requests.iter().map(one).collect()
    };
    let decisions = decided(&before);
    let rows = table(&before, None).unwrap().rows;
    // Whether it changes a decision, and whether somebody gets more than before.
    let notice = |rules: &Vec<RuleText>| -> (bool, bool) {
        let mut changed = base.clone();
        changed.callers[0].rules = rules.clone();
        // A rule that can match nothing is refused: that is noticed, too.
        let Some(after) = book(&changed) else {
            return (false, false);
        };
        let now = decided(&after);
        if now == decisions {
            return (false, false);
        }
        let what = || format!("{:?}", changed.callers[0].rules);
        let forth = diff(&before, &after, None).unwrap();
        assert!(!forth.changes.is_empty(), "{}", what());
        assert_ne!(rows, table(&after, None).unwrap().rows, "{}", what());
        // What somebody gets beyond a GET is wider.
        let mut both = requests.iter().zip(decisions.iter().zip(&now));
        let is_wider =
            both.any(|((method, _), (before, now))| *now && !*before && !matches!(*method, Method::GET | Method::HEAD));
        if is_wider {
            assert!(forth.is_wider(), "{}", what());
        }
        (true, is_wider)
    };
    let all = mutations(&base.callers[0].rules);
    let every = if std::env::var_os("ALL_MUTATIONS").is_some() {
        1
    } else {
        3
    };
    // A third of them does for each run; ALL_MUTATIONS=1 tries all, which takes minutes.
    let tried: Vec<_> = all.iter().step_by(every).collect();
    let noticed: Vec<(bool, bool)> = std::thread::scope(|scope| {
        let half = |part: usize| {
            tried
                .iter()
                .skip(part)
                .step_by(2)
                .map(|rules| notice(rules))
                .collect::<Vec<_>>()
        };
        let other = scope.spawn(move || half(1));
        let mut noticed = half(0);
        noticed.extend(other.join().unwrap());
        noticed
    });
    let changing = noticed.iter().filter(|(changes, _)| *changes).count();
    let wider = noticed.iter().filter(|(_, wider)| *wider).count();
    assert!(changing > 8 && wider > 2, "{changing} {wider}");
}

/// A denial counts for every path of an operation.
#[test]
fn what_a_denial_names_is_tried_at_every_path_of_the_operation() {
    let deny = "deny path=/api/atlas/v2/groups/*/clusters/secret";
    let allow = "allow operations=deleteGroupCluster path=/api/atlas/v1.0/groups/*/clusters/*";
    assert_eq!(compared(&of(&[deny, allow]), &of(&[allow])).0, ["deleteGroupCluster"]);
    assert!(compared(&of(&[allow]), &of(&[deny, allow])).0.is_empty());
}
