//! What a caller may do: rules over operations, methods, paths, projects and organizations. Pure: no I/O, no clock.
//!
//! A request is read once ([`Reading`]) and judged by the rules of its caller ([`CallerRules`]), which are compiled once.
//! The first rule that matches decides; what none allows is denied. What lets in is compared exactly; what keeps out is
//! compared as loosely as any server might.

mod decision;
mod operations;
mod own;
mod paths;
mod possible;
mod reading;
mod rule;
mod rules;
mod sets;
mod words;

pub use decision::{Decision, Told, Why};
pub use own::{OwnCredential, Touched};
pub use reading::Reading;
pub use rule::{Rule, RuleError, RuleParts};
pub use rules::CallerRules;

/// The most rules that settings may give one caller.
pub const MOST_RULES: usize = 200;

/// What becomes of a request that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// It passes unless a later rule denies it, and is logged and counted.
    Warn,
}

#[cfg(test)]
mod tests;
