//! What was decided, and why.

use std::fmt;

use super::Touched;
use crate::catalogue::{Catalogue, OperationId};
use crate::guard::{SlashReading, Unclear};

/// What the rules of a caller say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it passes.
    pub allowed: bool,
    /// What decided.
    pub why: Why,
    /// The first `warn` rule that let it pass, counted from 1.
    pub warned: Option<usize>,
    /// The operation of the reading that was decided about; none is `unknown`.
    pub operation: Option<OperationId>,
    /// Which reading of `%2F` was decided about, where there are two.
    pub reading: Option<SlashReading>,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// This rule, counted from 1.
    Rule(usize),
    /// No rule allows it.
    Unmatched,
    /// Servers may differ in how they read the path.
    Unclear(Unclear),
    /// A forgiving server might take it for this operation, but it is not written so.
    Disguised(OperationId),
    /// It touches the credential that the proxy itself uses.
    OwnCredential(Touched),
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential => "the path names the credential that the proxy itself uses",
            Self::PerhapsKey => {
                "it changes an API key, which may be the one that the proxy itself uses: `api_key_id` of the account tells which \
                 one that is, and then the others may be changed"
            }
        })
    }
}

impl Decision {
    /// The decision in words, for the client and the operator.
    pub fn told<'d>(&'d self, catalogue: &'d Catalogue) -> Told<'d> {
        Told {
            decision: self,
            catalogue,
        }
    }
}

/// A [`Decision`] in words.
#[derive(Clone, Copy)]
pub struct Told<'d> {
    decision: &'d Decision,
    catalogue: &'d Catalogue,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision {
            allowed,
            why,
            warned,
            operation,
            reading,
        } = self.decision;
        let operation = operation.map(|id| self.catalogue.get(id));
        let name = operation.map_or("unknown", |operation| operation.name);
        if let Some(reading) = reading {
            write!(f, "with `%2F` as {reading}: ")?;
        }
        match (why, allowed) {
            (Why::Rule(n), true) if warned == &Some(*n) => write!(f, "rule {n} warns of {name} and lets it pass"),
            (Why::Rule(n), true) => write!(f, "rule {n} allows {name}"),
            (Why::Rule(n), false) => write!(f, "rule {n} denies {name}"),
            (Why::Unmatched, _) => {
                write!(f, "no rule allows {name}")?;
                match operation {
                    Some(operation) if operation.grants => f.write_str(
                        ", which makes or changes credentials, roles or members: a rule reaches it only by its full name in \
                         `operations`",
                    ),
                    Some(operation) if operation.crosses => f.write_str(
                        ", whose body names another project or organization than its path: a rule with `projects` or \
                         `organizations` reaches it only by its full name in `operations`",
                    ),
                    Some(_) => Ok(()),
                    None => f.write_str(": what is no operation passes by `operations = [\"unknown\"]` only"),
                }
            }
            (Why::Unclear(why), _) => write!(
                f,
                "the path can be read in more than one way: {why}; send it in its plain form"
            ),
            (Why::Disguised(id), _) => write!(
                f,
                "a server might take this for {}: send it in its plain form",
                self.catalogue.get(*id).name
            ),
            (Why::OwnCredential(touched), _) => {
                write!(f, "{touched}; no caller may touch that without `own_account = true`")
            }
        }
    }
}
