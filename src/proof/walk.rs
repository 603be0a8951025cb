//! The paths that rules tell apart, collected place by place.

use http::Method;

use super::instances::{Instance, MOST, Scope, TooMany, Values};
use super::places::{Ids, Live, Looks, Place, Rules, Value, encoded, placeholder};

/// Where the placeholders of a path stand, and what follows each.
pub(super) fn places<'t>(parts: &[&'t str]) -> Vec<(usize, &'t str)> {
    let all = parts.iter().enumerate();
    all.filter_map(|(at, part)| Some((at, placeholder(part)?.1))).collect()
}

/// A path of an operation.
struct Template<'t> {
    parts: &'t [&'t str],
    /// Of each placeholder, where it stands in each reading.
    places: Vec<Vec<(usize, &'t str)>>,
    /// The placeholder, counted from 0, whose value has a slash in it.
    slash: Option<usize>,
}

/// Where a walk is.
#[derive(Default, Clone)]
pub(super) struct At {
    path: String,
    shown: String,
    scope: Option<Scope>,
}

/// Collects paths.
pub(super) struct Walk<'r> {
    rules: &'r Rules,
    values: &'r Values,
    methods: &'r [Method],
    found: Vec<Instance>,
    is_full: bool,
}

impl<'r> Walk<'r> {
    pub(super) fn new(rules: &'r Rules, values: &'r Values, methods: &'r [Method]) -> Self {
        Self {
            rules,
            values,
            methods,
            found: Vec::new(),
            is_full: false,
        }
    }

    pub(super) fn end(self, operation: &str, is_it: impl Fn(&Instance) -> bool) -> Result<Vec<Instance>, TooMany> {
        if self.is_full {
            return Err(TooMany {
                operation: operation.to_owned(),
            });
        }
        let mut found = self.found;
        found.retain(is_it);
        Ok(found)
    }

    fn may_pass(&self, live: &[Live]) -> bool {
        self.values.open || live.iter().any(|one| self.rules.get(*one).lets_in)
    }

    /// Goes on with a segment.
    fn step(&mut self, here: &At, segment: &str, shown: &str, scope: Option<Scope>, go: impl FnOnce(&mut Self, &At)) {
        let next = At {
            path: format!("{}/{segment}", here.path),
            shown: format!("{}/{shown}", here.shown),
            scope: scope.or_else(|| here.scope.clone()),
        };
        go(self, &next);
    }

    /// Tries the first of these paths of an operation; a denial may look at the others, too. `slash`: the placeholder, counted
    /// from 0, whose value has a slash in it. That is told from another value by rules with `path` alone.
    pub(super) fn operation(&mut self, paths: &[Vec<&str>], slash: Option<usize>, is_about: impl Fn(&Looks) -> bool) {
        let own = places(&paths[0]);
        let twins = paths[1..].iter().map(|path| (path, places(path)));
        let twins: Vec<_> = twins.filter(|(_, places)| places.len() == own.len()).collect();
        let other = &self.values.other;
        let inside = |path: &[&str], places: &[(usize, &str)]| -> Vec<String> {
            let mut path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            if let Some((at, ending)) = slash.map(|n| places[n]) {
                path[at] = format!("{other}%2F{other}{ending}");
            }
            path
        };
        let first = inside(&paths[0], &own);
        let separated = first
            .iter()
            .flat_map(|part| part.split("%2F"))
            .map(str::to_owned)
            .collect();
        let mut readings = vec![first, separated];
        readings.extend(twins.iter().map(|(path, places)| inside(path, places)));
        let live = self.rules.start(true, readings.len(), |rule, n| {
            let counts = match n {
                0 => is_about(rule),
                1 => slash.is_some() && rule.has_path(),
                _ => is_about(rule) && rule.sees_twins(),
            };
            counts && rule.fits(&readings[n])
        });
        if slash.is_some() && !live.iter().any(|one| self.rules.get(*one).has_path()) {
            return;
        }
        let at_each = |n: usize| {
            let (at, ending) = own[n];
            let is_after = slash.is_some_and(|slash| slash < n);
            let both = [(at, ending), (at + usize::from(is_after), ending)];
            both.into_iter()
                .chain(twins.iter().map(|(_, places)| places[n]))
                .collect()
        };
        let template = Template {
            parts: &paths[0],
            places: (0..own.len()).map(at_each).collect(),
            slash,
        };
        self.template(&template, [0, 0], &live, &At::default());
    }

    /// `at`: the segment, and the placeholder.
    fn template(&mut self, template: &Template<'_>, [at, n]: [usize; 2], live: &[Live], here: &At) {
        if self.is_full || !self.may_pass(live) {
            return;
        }
        let Some(part) = template.parts.get(at).copied() else {
            return self.take(at, template.slash.is_some(), live, here);
        };
        let (rules, values) = (self.rules, self.values);
        let Some((name, ending)) = placeholder(part) else {
            return self.step(here, part, part, None, |walk, here| {
                walk.template(template, [at + 1, n], live, here)
            });
        };
        let next = [at + 1, n + 1];
        if template.slash == Some(n) {
            let segment = format!("{0}%2F{0}{ending}", values.other);
            let shown = format!("*%2F*{ending}");
            return self.step(here, &segment, &shown, None, |walk, here| {
                walk.template(template, next, live, here)
            });
        }
        let (ids, other) = match name {
            "groupId" => (Ids::Project, &values.other_id),
            "orgId" => (Ids::Organization, &values.other_id),
            _ => (Ids::None, &values.other),
        };
        let place = Place {
            at: &template.places[n],
            ids,
        };
        for value in rules.values(live, place, other) {
            let scope = (ids != Ids::None).then(|| values.scope(&value.words));
            let (segment, shown) = value.segment(other, ending);
            self.step(here, &segment, &shown, scope, |walk, here| {
                walk.template(template, next, &value.live, here)
            });
        }
    }

    pub(super) fn unknown(&mut self, depth: usize, live: &[Live], here: &At) {
        if self.is_full || !self.may_pass(live) {
            return;
        }
        self.take(depth, false, live, here);
        let (rules, values) = (self.rules, self.values);
        let deepest = live.iter().map(|one| rules.get(*one).depth()).max().unwrap_or_default();
        if depth >= deepest.max(1) {
            return;
        }
        // One id in a path is enough to tell the rules that name it.
        let ids = if here.scope.is_none() { Ids::Any } else { Ids::None };
        let place = Place {
            at: &[(depth, "")],
            ids,
        };
        for value in rules.values(live, place, &values.other) {
            let scope = value.names_ids(rules).then(|| self.values.scope(&value.words));
            let (segment, shown) = value.segment(&values.other, "");
            self.step(here, &segment, &shown, scope, |walk, here| {
                walk.unknown(depth + 1, &value.live, here)
            });
        }
    }

    /// Takes a path, and the same with a slash at its end where a rule tells them apart.
    fn take(&mut self, len: usize, has_slash: bool, live: &[Live], here: &At) {
        let sees_slash = live.iter().any(|one| self.rules.get(*one).sees_slash(len));
        let endings = [(len > 0).then_some(""), sees_slash.then_some("/")];
        for ending in endings.into_iter().flatten() {
            for method in self.methods {
                self.is_full |= self.found.len() >= MOST;
                if self.is_full {
                    return;
                }
                self.found.push(Instance {
                    method: method.clone(),
                    path: format!("{}{ending}", here.path),
                    scope: here.scope.clone().unwrap_or(Scope::None),
                    has_slash,
                    shown: format!("{}{ending}", here.shown),
                });
            }
        }
    }
}

impl Value {
    /// As it is sent, and as it is shown.
    fn segment(&self, other: &str, ending: &str) -> (String, String) {
        match self.words.first() {
            Some(word) => {
                let sent = encoded(word) + ending;
                (sent.clone(), sent)
            }
            None => (format!("{other}{ending}"), format!("*{ending}")),
        }
    }
}
