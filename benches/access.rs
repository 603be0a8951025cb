//! What it costs to find a request's operation and to judge it by its caller's rules: `cargo bench --bench access`. Before
//! anything is measured, the same is done once while allocations are counted: there must be none.
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::access::{Action, CallerRules, OwnCredential, Reading, Rule, RuleParts};
use atlas_auth_proxy::catalogue::Catalogue;
use atlas_auth_proxy::guard::PathPattern;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLERS: usize = 100;
const RULES: usize = 50;

const PATH: &str = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters/Cluster0";
const DEEP: &str =
    "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters/Cluster0/backup/snapshots/6a7943462c88faeba59ccf50";
/// Of an operation with a `:verb`.
const VERB: &str = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/streams/s/processor/p:start";
const UNKNOWN: &str = "/api/private/ipinfo";

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = nothing_is_allocated, finding, judging
}

fn paths() -> [(&'static str, Method, &'static str); 4] {
    [
        ("6 segments", Method::GET, PATH),
        ("10 segments", Method::DELETE, DEEP),
        ("a verb", Method::POST, VERB),
        ("unknown", Method::GET, UNKNOWN),
    ]
}

/// Rules that are all looked at to the last of their keys, and the last one allows.
#[derive(Clone, Copy)]
enum Kind {
    Operations,
    Projects,
    Paths,
    DenyingPaths,
    Warnings,
}

fn rule(kind: Kind, n: usize, catalogue: &Catalogue) -> Rule {
    let project = format!("6a793f8a2c88faeba59{n:05x}");
    let mut parts = RuleParts::of_any(Action::Allow);
    let path = |text: String| Some(PathPattern::parse(&text).unwrap());
    match kind {
        Kind::Operations => parts.operations = Some(vec!["createGroupCluster".to_owned()]),
        Kind::Projects => parts.projects = Some((0..20).map(|i| format!("6a793f8a2c88fae{i:04x}{n:05x}")).collect()),
        Kind::Paths => parts.path = path(format!("/api/atlas/v2/groups/*/clusters/cluster{n:05}")),
        Kind::DenyingPaths => {
            parts.action = Action::Deny;
            parts.path = path(format!("/api/atlas/v2/groups/{project}/clusters/**"));
        }
        Kind::Warnings => {
            parts.action = Action::Warn;
            parts.operations = Some(vec!["*".to_owned()]);
            parts.path = path("/api/atlas/v2/groups/*/clusters/**".to_owned());
        }
    }
    Rule::new(parts, catalogue).unwrap()
}

fn callers(kind: Kind, catalogue: &Arc<Catalogue>) -> Vec<CallerRules> {
    let caller = |_| {
        let mut rules: Vec<Rule> = (1..RULES).map(|n| rule(kind, n, catalogue)).collect();
        rules.push(
            Rule::new(
                RuleParts {
                    operations: Some(vec!["getGroupCluster".to_owned(), "listGroupClusters".to_owned()]),
                    tags: Some(vec!["Clusters".to_owned()]),
                    methods: Some(vec![Method::GET]),
                    path: Some(PathPattern::parse("/api/atlas/v2/groups/{project}/**").unwrap()),
                    projects: Some(vec!["6a793f8a2c88faeba59bc7c2".to_owned()]),
                    ..RuleParts::of_any(Action::Allow)
                },
                catalogue,
            )
            .unwrap(),
        );
        CallerRules::new(rules, false, catalogue.clone())
    };
    (0..CALLERS).map(caller).collect()
}

const KINDS: [(&str, Kind); 5] = [
    ("operations", Kind::Operations),
    ("20 projects each", Kind::Projects),
    ("paths", Kind::Paths),
    ("denying paths", Kind::DenyingPaths),
    ("warnings", Kind::Warnings),
];

fn own() -> OwnCredential {
    OwnCredential::new(Some("mdb_sa_id_6a793f8a2c88faeba59bc7c2"))
}

fn nothing_is_allocated(_: &mut Criterion) {
    let catalogue = Arc::new(Catalogue::new());
    let callers: Vec<_> = KINDS.iter().flat_map(|(_, kind)| callers(*kind, &catalogue)).collect();
    let own = own();
    let region = Region::new(ALLOCATOR);
    for (_, method, path) in &paths() {
        let reading = Reading::of(&catalogue, method, path);
        black_box(catalogue.find_loosely(method, path));
        for caller in &callers {
            black_box(caller.decide(&reading, &own));
        }
    }
    assert_eq!(
        region.change().allocations,
        0,
        "a request's reading or decision allocates"
    );
}

fn finding(c: &mut Criterion) {
    let catalogue = Catalogue::new();
    let mut group = c.benchmark_group("catalogue");
    for (name, method, path) in &paths() {
        group.bench_function(format!("find, {name}"), |b| {
            b.iter(|| catalogue.find(black_box(method), black_box(path)))
        });
        group.bench_function(format!("find loosely, {name}"), |b| {
            b.iter(|| catalogue.find_loosely(black_box(method), black_box(path)));
        });
        group.bench_function(format!("reading, {name}"), |b| {
            b.iter(|| Reading::of(&catalogue, black_box(method), black_box(path)));
        });
    }
    group.bench_function("made", |b| b.iter(Catalogue::new));
    group.finish();
}

/// 100 callers with 50 rules each, in turn.
fn judging(c: &mut Criterion) {
    let catalogue = Arc::new(Catalogue::new());
    let own = own();
    let mut group = c.benchmark_group("decide");
    for (name, kind) in KINDS {
        let callers = callers(kind, &catalogue);
        let mut turn = (0..CALLERS).cycle();
        let method = Method::GET;
        let reading = Reading::of(&catalogue, &method, PATH);
        assert!(callers[0].decide(&reading, &own).allowed);
        group.bench_function(format!("the last of 50 rules, {name}"), |b| {
            b.iter(|| {
                let caller = &callers[turn.next().unwrap()];
                caller.decide(black_box(&Reading::of(&catalogue, &method, black_box(PATH))), &own)
            });
        });
    }
    let of_projects = callers(Kind::Projects, &catalogue);
    let method = Method::GET;
    group.bench_function("no rule of 50, unknown", |b| {
        b.iter(|| of_projects[0].decide(black_box(&Reading::of(&catalogue, &method, black_box(UNKNOWN))), &own));
    });
    let encoded = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/accessList/10.1.0.0%2F16";
    group.bench_function("no rule of 50, %2F", |b| {
        b.iter(|| of_projects[0].decide(black_box(&Reading::of(&catalogue, &method, black_box(encoded))), &own));
    });
    group.finish();
}
