//! What is told of a policy.

use super::Policy;

impl Policy {
    /// Whether only reading methods pass.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }
}
