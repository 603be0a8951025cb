//! What rules allow, shown before it happens: a decision explained, all of them in a table, two tables compared, rules learned
//! from a log. Pure: it gets the rules as text ([`BookText`]) and gives text.
//!
//! What a caller may do with an operation is found by trying it: with each project, organization and word that any rule names
//! at a place of the operation's path, and with one that none names (`instances.rs`). Rules tell no other values
//! apart.

mod book;
mod diff;
mod instances;
mod learn;
mod places;
pub mod request;
mod table;
mod walk;
mod ways;

pub use book::{Book, BookError, BookText, CallerText, ListenerText, RuleText, Verdict, Who};
pub use diff::{Diff, diff};
pub use instances::TooMany;
pub use learn::{LearnError, Learned, learn};
pub use table::{Row, Table, table};
pub use ways::with_life;

#[cfg(test)]
mod tests;
