//! What the Atlas Administration API can do: its operations, and which of them a method and a path stand for.
//!
//! The operations are data in the binary, `operations.tsv`; `twins.tsv` names the paths of older versions of the API
//! that lead to the same operations, one by one. CONTRIBUTING.md says how both are renewed.

mod data;
mod template;
mod tree;

use std::borrow::Cow;
use std::collections::HashMap;

use http::Method;

use tree::{Route, Tree};

/// An operation: its place in [`Catalogue::operations`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(u16);

impl OperationId {
    /// The place in [`Catalogue::operations`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A tag, the chapter of the API's description that an operation stands in: its place in [`Catalogue::tags`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TagId(u16);

impl TagId {
    /// The place in [`Catalogue::tags`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Whether an operation has a request body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Never.
    None,
    /// Always.
    Required,
    /// With or without.
    Optional,
}

/// What an answer of a version is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// `application/vnd.atlas.DATE+json`
    Json,
    /// `application/vnd.atlas.DATE+gzip`
    Gzip,
    /// `application/vnd.atlas.DATE+csv`
    Csv,
}

/// A version of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// `YYYY-MM-DD`, or `preview`.
    pub date: &'static str,
    /// The day from which Atlas no longer answers in it, `YYYY-MM-DD`.
    pub sunset: Option<&'static str>,
    /// What an answer is made of.
    pub media: Media,
}

/// One operation of the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its id in the API's description: `getGroupCluster`.
    pub name: &'static str,
    /// Its method; HEAD is a GET.
    pub method: Method,
    /// Its path under `/api/atlas/v2`, with placeholders: `/api/atlas/v2/groups/{groupId}`.
    pub path: &'static str,
    /// The chapter that it stands in.
    pub tag: TagId,
    /// Whether it takes a request body.
    pub body: Content,
    /// Its versions, in no order.
    pub versions: Vec<Version>,
    /// Any one of these lets somebody use it; none: whoever is known.
    pub roles: Vec<&'static str>,
    /// Whether Atlas advises against it.
    pub deprecated: bool,
    /// Whether it makes or changes credentials, roles, invitations, teams, federation or access lists of credentials.
    pub grants: bool,
    /// Whether its body names another project or organization than its path.
    pub crosses: bool,
}

/// Whether a text is an id as Atlas makes them, of projects, organizations and API keys: 24 hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What a method and a path stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'p> {
    /// The operation.
    pub operation: OperationId,
    /// The path of the operation that it is, with placeholders.
    pub template: &'static str,
    /// What stands at `{groupId}`.
    pub project: Option<&'p str>,
    /// What stands at `{orgId}`.
    pub organization: Option<&'p str>,
}

/// The operations, and their paths as a tree.
pub struct Catalogue {
    operations: Vec<Operation>,
    tags: Vec<&'static str>,
    paths: Vec<Vec<&'static str>>,
    tree: Tree,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operations = self.operations.len();
        f.debug_struct("Catalogue")
            .field("operations", &operations)
            .finish_non_exhaustive()
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalogue {
    /// Reads the data in the binary.
    pub fn new() -> Self {
        let mut tags = Vec::new();
        let operations = data::operations(&mut tags);
        let mut tree = Tree::default();
        for (at, operation) in (0..).zip(&operations) {
            tree.add(&operation.method, operation.path, OperationId(at));
        }
        let mut catalogue = Self {
            paths: operations.iter().map(|operation| vec![operation.path]).collect(),
            operations,
            tags,
            tree,
        };
        let by_name: HashMap<&str, OperationId> = catalogue
            .ids()
            .map(|id| (catalogue.operations[id.index()].name, id))
            .collect();
        for twin in data::twins() {
            let operation = *by_name.get(twin.operation).expect("a twin names an operation");
            catalogue.paths[operation.index()].push(twin.path);
            catalogue.tree.add(&twin.method, twin.path, operation);
        }
        catalogue
    }

    /// All of them; an [`OperationId`] is a place in it.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// All of them; a [`TagId`] is a place in it.
    pub fn tags(&self) -> &[&'static str] {
        &self.tags
    }

    /// An operation.
    pub fn get(&self, id: OperationId) -> &Operation {
        &self.operations[id.index()]
    }

    /// The ids of all operations.
    pub fn ids(&self) -> impl Iterator<Item = OperationId> + use<> {
        (0..self.operations.len() as u16).map(OperationId)
    }

    /// The paths of an operation, with placeholders: its own, and those of older versions of the API.
    pub fn paths(&self, id: OperationId) -> &[&'static str] {
        &self.paths[id.index()]
    }

    /// The operation of this name.
    pub fn by_name(&self, name: &str) -> Option<OperationId> {
        self.ids().find(|id| self.get(*id).name == name)
    }

    /// The operation that a method and a path stand for. `path` is percent-decoded, begins with `/` and has no query. A
    /// literal segment wins over a placeholder, a slash at the end means nothing, and HEAD is a GET. Allocates nothing.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Option<Found<'p>> {
        let (parts, route) = self.tree.find(method, path)?;
        let Route {
            operation, template, ..
        } = *route;
        let (project, organization) = (
            route.project.map(|place| place.of(&parts)),
            route.organization.map(|place| place.of(&parts)),
        );
        // No id has a colon: that is a `:verb` which the catalogue does not know, and so another operation.
        if project.or(organization).is_some_and(|id| id.contains(':')) {
            return None;
        }
        Some(Found {
            operation,
            template,
            project,
            organization,
        })
    }

    /// Every other path that leads to an operation, with the values that stand in `path`: each as its segments. `template`: the
    /// operation's path that `path` is. Allocates nothing for ordinary ones.
    pub fn twins<'p>(
        &self,
        operation: OperationId,
        template: &'static str,
        path: &'p str,
    ) -> impl Iterator<Item = impl Iterator<Item = Cow<'p, str>>> {
        let others = self.paths(operation).iter().filter(move |other| **other != template);
        let values = template::values(template, path);
        others.map(move |other| template::filled(other, values))
    }

    /// The operation that the most forgiving server might take a method and a path for: in any case, with empty segments
    /// left out. For what must not be walked around, never for what is to be let in. Allocates nothing.
    pub fn find_loosely(&self, method: &Method, path: &str) -> Option<OperationId> {
        self.tree.find_loosely(method, path).map(|route| route.operation)
    }

    /// Bit n: segment n of a path, counted from 0, ends in a `:verb` that the catalogue has at its place. No placeholder and
    /// no wildcard for one segment takes such a one. Allocates nothing.
    pub fn verbs(&self, path: &str) -> u32 {
        self.tree.verbs(path)
    }
}

#[cfg(test)]
mod tests;
