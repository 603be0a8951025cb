//! Decisions compared with an independent reading of the same rules: slow, by the words of the documentation, and without
//! a line of the code under test.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::catalogue::Operation;

struct Oracle<'c> {
    catalogue: &'c Catalogue,
    rules: &'c [String],
}

/// A reading of a path: its segments, decoded.
type Segments = Vec<String>;

/// What servers agree on, or nothing. `apart`: `%2F` separates.
fn read(path: &str, apart: bool) -> Option<Segments> {
    let path = if apart {
        path.replace("%2F", "/").replace("%2f", "/")
    } else {
        path.to_owned()
    };
    let inner: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let mut segments = Vec::new();
    for (n, segment) in inner.iter().enumerate() {
        if matches!(*segment, "." | "..") || (segment.is_empty() && n + 1 < inner.len()) {
            return None;
        }
        let mut decoded = Vec::new();
        let mut rest = segment.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            match first {
                b'%' => {
                    let byte = u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok()?;
                    rest = &tail[2..];
                    match byte {
                        b'/' => decoded.extend(b"%2F"),
                        b'%' | b'\\' | b';' | b'?' | b'#' | 0..=31 | 127 => return None,
                        byte if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) => return None,
                        byte => decoded.push(byte),
                    }
                }
                b';' | b'\\' | b'?' | b'#' | 0..=32 | 127.. => return None,
                byte => decoded.push(*byte),
            }
        }
        segments.push(String::from_utf8(decoded).ok()?);
    }
    Some(segments)
}

/// Without case, blanks at the ends, and invisible characters: enough for what the generator makes.
fn loose(text: &str) -> String {
    text.replace('\u{200b}', "").trim().to_lowercase()
}

impl Oracle<'_> {
    /// Each operation with each of its paths.
    fn templates(&self) -> impl Iterator<Item = (&Operation, &'static str)> {
        let of = |id| {
            let operation = self.catalogue.get(id);
            self.catalogue.paths(id).iter().map(move |path| (operation, *path))
        };
        self.catalogue.ids().flat_map(of)
    }

    /// All verbs that some template has at this place, given what stands before it.
    fn ends_in_a_verb(&self, segments: &[String], at: usize) -> bool {
        segments[at].contains(':')
            && self.templates().any(|(_, path)| {
                let template: Vec<&str> = path[1..].split('/').collect();
                template.len() > at
                    && template[at].rsplit_once(':').is_some_and(|(_, verb)| {
                        segments[at]
                            .to_lowercase()
                            .ends_with(&format!(":{}", verb.to_lowercase()))
                    })
                    && (0..at).all(|n| self.fits(template[n], segments, n, true))
            })
    }

    fn fits(&self, template: &str, segments: &[String], at: usize, loosely: bool) -> bool {
        let segment = &segments[at];
        let lower = |text: &str| if loosely { text.to_lowercase() } else { text.to_owned() };
        match template.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            None => lower(template) == lower(segment),
            Some((_, "")) => !segment.is_empty() && !self.ends_in_a_verb(segments, at),
            Some((_, ending)) => lower(segment).ends_with(&lower(ending)) && (loosely || segment.len() > ending.len()),
        }
    }

    fn operation(&self, method: &str, segments: &[String], loosely: bool) -> Option<&Operation> {
        self.found(method, segments, loosely).map(|(operation, _)| operation)
    }

    /// The operation, and which of its paths it is.
    fn found(&self, method: &str, segments: &[String], loosely: bool) -> Option<(&Operation, &'static str)> {
        let method = if loosely {
            method.to_uppercase()
        } else {
            method.to_owned()
        };
        let method = if method == "HEAD" { "GET" } else { &method };
        let kept: Segments = if loosely {
            segments
                .iter()
                .map(|segment| loose(segment))
                .filter(|segment| !segment.is_empty())
                .collect()
        } else {
            // A slash at the end means nothing.
            let (last, rest) = segments.split_last().expect("a path has a segment");
            if last.is_empty() && !rest.is_empty() {
                rest.to_vec()
            } else {
                segments.to_vec()
            }
        };
        let fitting = self.templates().filter(|(operation, path)| {
            if operation.method.as_str() != method || path.matches('/').count() != kept.len() {
                return false;
            }
            let template: Vec<&str> = path[1..].split('/').collect();
            (0..kept.len()).all(|at| self.fits(template[at], &kept, at, loosely))
        });
        // A literal sorts before a placeholder.
        let (found, path) = fitting.min_by_key(|(_, path)| {
            let placeholders = path.split('/').map(|part| part.starts_with('{'));
            placeholders.collect::<Vec<_>>()
        })?;
        // No id has a colon.
        let mut parts = path[1..].split('/').zip(&kept);
        let has_colon = parts.any(|(part, given)| matches!(part, "{groupId}" | "{orgId}") && given.contains(':'));
        (loosely || !has_colon).then_some((found, path))
    }

    /// `rule 1`: the words of a rule.
    fn keys(&self, rule: usize) -> (&str, Vec<(&str, Vec<String>)>) {
        let mut words = self.rules[rule].split_whitespace();
        let action = words.next().unwrap();
        let key = |word: &'_ str| {
            let at = word.find('=').unwrap();
            (
                at,
                word[at + 1..]
                    .split(',')
                    .map(|value| value.replace('_', " "))
                    .collect::<Vec<_>>(),
            )
        };
        (action, words.map(|word| (&word[..key(word).0], key(word).1)).collect())
    }

    fn pattern_fits(&self, pattern: &str, segments: &[String], deny: bool) -> bool {
        let mut parts: Vec<&str> = pattern[1..].split('/').collect();
        let rest = parts.last() == Some(&"**");
        if rest {
            parts.pop();
        }
        let mut given = segments.to_vec();
        if deny && !rest && given.last().is_some_and(String::is_empty) {
            given.pop();
        }
        (given.len() == parts.len() || (rest && given.len() >= parts.len()))
            && parts.iter().enumerate().all(|(n, part)| match (*part, deny) {
                ("*", true) => !given[n].is_empty(),
                ("*", false) => !given[n].is_empty() && !self.ends_in_a_verb(segments, n),
                (part, true) => loose(part) == loose(&given[n]),
                (part, false) => part == given[n],
            })
    }

    fn method_fits(&self, values: &[String], method: &str, deny: bool) -> bool {
        let method = if deny { method.to_uppercase() } else { method.to_owned() };
        values
            .iter()
            .any(|value| *value == method || (method == "HEAD" && value == "GET"))
    }

    /// The segments of each path of the operation, with the values that stand in this one.
    fn twins(&self, operation: &Operation, path: &str, segments: &[String]) -> Vec<Segments> {
        let ending = |part: &str| part.split_once('}').map(|(_, ending)| ending.len());
        let values = path[1..].split('/').zip(segments).filter_map(|(part, segment)| {
            let len = segment.len() - ending(part)?;
            Some(segment[..len].to_owned())
        });
        let values: Vec<String> = values.collect();
        let paths = self.templates().filter(|(one, _)| one.name == operation.name);
        let filled = |(_, path): (&Operation, &'static str)| {
            let mut values = values.iter();
            let part = |part: &str| match part.split_once('}') {
                Some((_, ending)) => format!("{}{ending}", values.next().unwrap()),
                None => part.to_owned(),
            };
            path[1..].split('/').map(part).collect()
        };
        paths.map(filled).collect()
    }

    fn matches(&self, rule: usize, method: &str, segments: &[String]) -> bool {
        let (action, keys) = self.keys(rule);
        let deny = action == "deny";
        let found = self.found(method, segments, false);
        let operation = found.map(|(operation, _)| operation);
        let has = |name: &str| keys.iter().any(|(key, _)| *key == name);
        let full = |name: &str| {
            keys.iter()
                .any(|(key, values)| *key == "operations" && values.iter().any(|v| v == name))
        };
        if let (Some(operation), false) = (operation, deny) {
            let narrowed = has("projects") || has("organizations");
            if (operation.grants || (operation.crosses && narrowed)) && !full(operation.name) {
                return false;
            }
        }
        if operation.is_none() {
            let private = segments.len() >= 2 && loose(&segments[0]) == "api" && loose(&segments[1]) == "private";
            let says_private = self.rules[rule].contains("path=/api/private/");
            let named = full("unknown");
            if !deny && (!named || (private && !says_private)) || deny && has("operations") && !named {
                return false;
            }
        }
        keys.iter().all(|(key, values)| match (*key, operation) {
            ("operations", Some(operation)) => values.iter().any(|value| match value.split_once('*') {
                Some((before, after)) => {
                    operation.name.len() >= before.len() + after.len()
                        && operation.name.starts_with(before)
                        && operation.name.ends_with(after)
                }
                None => value == operation.name,
            }),
            ("operations", None) => true,
            ("tags", Some(operation)) => values
                .iter()
                .any(|value| value == self.catalogue.tags()[operation.tag.index()]),
            ("tags", None) => false,
            ("methods", _) => self.method_fits(values, method, deny),
            ("path", _) => {
                let by_twin = |(operation, path)| {
                    let twins = self.twins(operation, path, segments);
                    twins.iter().any(|twin| self.pattern_fits(&values[0], twin, true))
                };
                self.pattern_fits(&values[0], segments, deny) || (deny && found.is_some_and(by_twin))
            }
            ("projects" | "organizations", Some(_)) => {
                let placeholder = if *key == "projects" { "{groupId}" } else { "{orgId}" };
                let path = found.map_or("", |(_, path)| path);
                let template: Vec<&str> = path[1..].split('/').collect();
                template
                    .iter()
                    .position(|part| part.starts_with(placeholder))
                    .is_some_and(|at| {
                        let ending = template[at].len() - placeholder.len();
                        let id = &segments[at][..segments[at].len() - ending];
                        let id = if deny { loose(id) } else { id.to_lowercase() };
                        values.contains(&id)
                    })
            }
            ("projects" | "organizations", None) => segments.iter().any(|part| values.contains(&loose(part))),
            odd => panic!("{odd:?}"),
        })
    }

    /// The rule that lets this reading pass.
    fn judge(&self, method: &str, segments: &[String]) -> Option<usize> {
        let name = |loosely| {
            self.operation(method, segments, loosely)
                .map(|operation| operation.name)
        };
        if name(true).is_some() && name(true) != name(false) {
            return None;
        }
        let mut warned = None;
        for rule in 0..self.rules.len() {
            if self.matches(rule, method, segments) {
                match self.keys(rule).0 {
                    "allow" => return Some(rule),
                    "deny" => return None,
                    _ => warned = warned.or(Some(rule)),
                }
            }
        }
        warned
    }

    fn allows(&self, method: &str, path: &str) -> bool {
        let Some(inside) = read(path, false) else { return false };
        if !path.to_lowercase().contains("%2f") {
            return self.judge(method, &inside).is_some();
        }
        let Some(apart) = read(path, true) else { return false };
        let is = |segments: &[String]| self.operation(method, segments, false).is_some();
        if !path.starts_with("/api/atlas/v2/") || is(&inside) == is(&apart) {
            return self.judge(method, &inside).is_some() && self.judge(method, &apart).is_some();
        }
        let (one, other) = if is(&inside) { (inside, apart) } else { (apart, inside) };
        let Some(by) = self.judge(method, &one) else {
            return false;
        };
        if self.operation(method, &other, true).is_some() {
            return false;
        }
        let mut says = None;
        for rule in 0..self.rules.len() {
            let (action, keys) = self.keys(rule);
            let value = |name: &str| keys.iter().find(|(key, _)| *key == name).map(|(_, values)| values);
            let deny = action == "deny";
            let fits = value("path").is_some_and(|values| self.pattern_fits(&values[0], &other, deny))
                && value("methods").is_none_or(|values| self.method_fits(values, method, deny));
            match (fits, action) {
                (false, _) => {}
                (true, "deny") => return false,
                (true, "allow") => {
                    says = Some(true);
                    break;
                }
                (true, _) => says = Some(true),
            }
        }
        says.unwrap_or(!self.rules[by].contains("path="))
    }
}

fn id() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![PROJECT, OTHER, "5a0a1e7e0f2912c554080abb"])
}

fn rule() -> impl Strategy<Value = String> {
    let some = |values: &[&'static str]| prop::sample::select(values.to_vec());
    let key = prop_oneof![
        some(&[
            "operations=getGroupCluster,listGroupClusters",
            "operations=*Cluster",
            "operations=get*",
            "operations=create*",
            "operations=createGroupServiceAccount",
            "operations=*",
            "operations=createGroupLiveMigration,get*",
            "operations=getGroupDatabaseUser,listGroupDatabaseUserCerts",
            "operations=getGroupAccessListEntry",
            "operations=pinGroup*,getGroup*",
        ])
        .prop_map(str::to_owned),
        some(&[
            "tags=Clusters",
            "tags=Projects,Database_Users",
            "tags=Service_Accounts,Clusters"
        ])
        .prop_map(str::to_owned),
        some(&[
            "methods=GET",
            "methods=GET,POST",
            "methods=DELETE",
            "methods=HEAD",
            "methods=POST"
        ])
        .prop_map(str::to_owned),
        some(&[
            "path=/api/atlas/v2/groups/*/clusters/*",
            "path=/api/atlas/v2/groups/**",
            "path=/api/atlas/v2/groups/*/databaseUsers/*/*",
            "path=/api/atlas/v2/groups/*/databaseUsers/admin/**",
            "path=/api/atlas/v2/groups/*/*/**",
            "path=/**",
            "path=/api/atlas/v1.0/groups/*/clusters/*",
            "path=/api/atlas/v1.5/**",
            "path=/api/public/v1.0/groups/**",
            "path=/api/private/**",
        ])
        .prop_map(str::to_owned),
        id().prop_map(|id| format!("projects={id}")),
        id().prop_map(|id| format!("organizations={id}")),
    ];
    let unknown = some(&[
        "operations=unknown methods=GET path=/**",
        "operations=unknown,getGroupCluster methods=GET,DELETE path=/api/atlas/v2/**",
        "operations=unknown methods=GET,OPTIONS path=/api/private/**",
        "operations=unknown methods=GET path=/api/atlas/v2/groups/*/*/*",
    ]);
    let known = prop::collection::vec(key, 1..3);
    let keys = prop_oneof![
        6 => known.prop_map(|keys| {
            // Each key once.
            let mut seen = BTreeSet::new();
            let once = keys.into_iter().filter(|key| seen.insert(key.split('=').next().unwrap().to_owned()));
            once.collect::<Vec<_>>().join(" ")
        }),
        1 => unknown.prop_map(str::to_owned),
    ];
    (some(&["allow", "allow", "allow", "deny", "warn"]), keys).prop_map(|(action, keys)| format!("{action} {keys}"))
}

fn segment() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "c",
        "admin",
        "certs",
        "status",
        "byName",
        "pending",
        "accountDetails",
        "10.0.0.0%2F8",
        "a%2Fb",
        "%24external",
        "c%20d",
        "c:pinFeatureCompatibilityVersion",
        "c:x",
        "x.gz",
        "mongodb.gz",
    ]);
    prop_oneof![3 => id().prop_map(str::to_owned), 2 => fixed.prop_map(str::to_owned)]
}

/// A path of some operation, or near one, in some spelling.
fn path() -> impl Strategy<Value = String> {
    let catalogue = Catalogue::new();
    let known = |path: &&str| {
        [
            "clusters",
            "databaseUsers",
            "serviceAccounts",
            "accessList",
            "liveMigrations",
            "invoices",
            "streams",
        ]
        .iter()
        .any(|word| path.contains(word))
            || path.len() < 45
    };
    let templates: Vec<&str> = catalogue
        .ids()
        .flat_map(|id| catalogue.paths(id))
        .copied()
        .filter(known)
        .collect();
    let spelled = |(template, values, spelling, at): (&str, Vec<String>, u8, usize)| {
        let mut values = values.into_iter().cycle();
        let filled =
            template.split('/').map(
                |part| match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                    Some((_, ending)) => format!("{}{ending}", values.next().unwrap()),
                    None => part.to_owned(),
                },
            );
        let mut parts: Vec<String> = filled.collect();
        let at = 1 + at % (parts.len() - 1);
        match spelling {
            0 => parts[at] = parts[at].to_uppercase(),
            1 => parts[at].push_str("%20"),
            2 => parts[at].push_str("%E2%80%8B"),
            3 => parts.push(String::new()),
            4 => parts[at].insert_str(0, "%2F"),
            5 => parts.insert(at, String::new()),
            6 => parts.insert(at, "..".to_owned()),
            7 => parts[at].push_str("%41"),
            8 => parts.push("more".to_owned()),
            9 => {
                parts.truncate(at + 1);
            }
            10 => parts[1] = "other".to_owned(),
            11 => parts[at].push(';'),
            12 | 13 if at + 1 < parts.len() => {
                let next = parts.remove(at + 1);
                parts[at] = format!("{}%2F{next}", parts[at]);
            }
            14 => parts[at] = parts[at].replace(':', "%3A"),
            _ => {}
        }
        parts.join("/")
    };
    let of_template = (
        prop::sample::select(templates),
        prop::collection::vec(segment(), 1..4),
        0..40_u8,
        any::<usize>(),
    )
        .prop_map(spelled);
    prop_oneof![
        20 => of_template,
        1 => prop::sample::select(vec!["/api/private/ipinfo", "/api/Private/ipinfo", "/api/other", "/", "/api/private"])
            .prop_map(str::to_owned),
    ]
}

thread_local! {
    static CATALOGUE: Arc<Catalogue> = Arc::new(Catalogue::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn decisions_are_those_of_an_independent_reading(
        given in prop::collection::vec(rule(), 0..9),
        requests in prop::collection::vec((path(), prop::sample::select(vec!["GET", "GET", "POST", "DELETE", "HEAD", "PATCH", "get", "OPTIONS"])), 8),
    ) {
        let catalogue = CATALOGUE.with(Arc::clone);
        // A rule that can match nothing is no rule.
        let (mut lines, mut rules) = (Vec::new(), Vec::new());
        for line in given {
            if let Ok(rule) = Rule::new(parts(&line), &catalogue) {
                lines.push(line);
                rules.push(rule);
            }
        }
        let oracle = Oracle { catalogue: &catalogue, rules: &lines };
        let rules = CallerRules::new(rules, false, catalogue.clone());
        for (path, name) in requests {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let decision = rules.decide(&Reading::of(&catalogue, &method, &path), &OwnCredential::new(None));
            prop_assert_eq!(decision.allowed, oracle.allows(name, &path), "{} {} by {:?}: {:?}", name, path, lines, decision);
        }
    }

    #[test]
    fn no_path_makes_it_panic(path in any::<String>(), method in "[A-Za-z]{1,9}", odd in "(/|%2F|%|:|api|atlas|v2|groups|[^a]){0,40}") {
        let caller = Caller::new(&["allow methods=GET", "deny path=/api/**", "allow operations=unknown methods=GET path=/**"]);
        for path in [path, odd] {
            let _ = caller.decide(&method, &path);
        }
    }
}
