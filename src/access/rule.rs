//! One rule of a caller.

use http::Method;

use super::Action;
use super::operations::Operations;
use super::possible::Checked;
use crate::catalogue::Catalogue;
use crate::guard::PathPattern;

/// A rule as it is written. All keys that are given must match; the values of one are alternatives.
#[derive(Debug, Clone)]
pub struct RuleParts {
    /// Names of operations, `*` for any number of letters, `unknown` for what is none.
    pub operations: Option<Vec<String>>,
    /// Tags of operations.
    pub tags: Option<Vec<String>>,
    /// Methods; GET is HEAD, too.
    pub methods: Option<Vec<Method>>,
    /// A pattern of the path.
    pub path: Option<PathPattern>,
    /// What stands at `{groupId}`: ids of 24 hexadecimal digits.
    pub projects: Option<Vec<String>>,
    /// What stands at `{orgId}`: ids of 24 hexadecimal digits.
    pub organizations: Option<Vec<String>>,
    /// What becomes of what matches.
    pub action: Action,
}

impl RuleParts {
    /// A rule that names nothing, and so matches whatever rules reach without a name.
    pub fn of_any(action: Action) -> Self {
        Self {
            operations: None,
            tags: None,
            methods: None,
            path: None,
            projects: None,
            organizations: None,
            action,
        }
    }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// The key that is wrong, as it is written in the settings; none: the rule as a whole.
    pub key: Option<&'static str>,
    pub(super) message: String,
}

/// One rule, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) action: Action,
    /// What all keys but the ids and the path itself let it match.
    pub(super) operations: Operations,
    /// Whether it can match what is no operation.
    pub(super) unknown: bool,
    /// None: any.
    pub(super) methods: Option<Box<[Method]>>,
    pub(super) path: Option<PathPattern>,
    /// In lower case.
    pub(super) projects: Option<Box<[Box<str>]>>,
    /// In lower case.
    pub(super) organizations: Option<Box<[Box<str>]>>,
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// When the rule, or one of its names, can match nothing; see [`RuleError`].
    pub fn new(parts: RuleParts, catalogue: &Catalogue) -> Result<Self, RuleError> {
        let checked = Checked::of(&parts, catalogue)?;
        let operations = Operations::of(catalogue, |id| checked.matches(id).is_ok());
        let names_unknown = checked.names_unknown;
        let unknown = match parts.action {
            Action::Deny => (parts.operations.is_none() || names_unknown) && parts.tags.is_none(),
            Action::Allow | Action::Warn => names_unknown,
        };
        if operations.is_empty() && !unknown {
            return Err(checked.matches_nothing());
        }
        let lower = |ids: Option<Vec<String>>| {
            ids.map(|ids| ids.into_iter().map(|id| id.to_ascii_lowercase().into()).collect())
        };
        Ok(Self {
            action: parts.action,
            operations,
            unknown,
            methods: parts.methods.map(Into::into),
            path: parts.path,
            projects: lower(parts.projects),
            organizations: lower(parts.organizations),
        })
    }
}
