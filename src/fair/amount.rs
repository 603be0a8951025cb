//! Places that are taken many at a time.

use std::sync::Arc;

use super::Part;

/// Places of one sharer whose number grows, such as bytes; free again when it is dropped.
#[derive(Debug)]
pub struct Amount {
    part: Arc<Part>,
    own: usize,
    common: usize,
}

impl Amount {
    /// None yet.
    pub fn none(part: &Arc<Part>) -> Self {
        Self {
            part: Arc::clone(part),
            own: 0,
            common: 0,
        }
    }

    /// How many there are.
    pub fn held(&self) -> usize {
        self.own + self.common
    }

    /// Takes so many more, or none; whether they were free.
    pub fn grow(&mut self, more: usize) -> bool {
        let own = self.part.own.free.available_permits().min(more);
        let own = if self.part.own.try_take_many(own) { own } else { 0 };
        if !self.part.common.try_take_many(more - own) {
            self.part.own.give_back(own);
            return false;
        }
        self.own += own;
        self.common += more - own;
        true
    }

    /// Gives all of them back.
    pub fn clear(&mut self) {
        self.part.own.give_back(std::mem::take(&mut self.own));
        self.part.common.give_back(std::mem::take(&mut self.common));
    }
}

impl Drop for Amount {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Places;
    use super::*;

    #[test]
    fn amounts_are_shared_out_by_the_byte() {
        let bytes = Places::amount(1000);
        let (one, other) = (bytes.part(), bytes.part());
        let (mut greedy, mut small) = (Amount::none(&one), Amount::none(&other));
        assert!(greedy.grow(700) && greedy.grow(50), "its part, and the common half");
        assert!(!greedy.grow(1) && greedy.held() == 750);
        assert!(other.has(250) && !other.has(251));
        assert!(!small.grow(251) && small.held() == 0, "all or nothing");
        assert!(small.grow(250));
        // One more sharer has its part at once; 2 more are anybody's, since 500 has no third.
        let third = bytes.part();
        let mut late = Amount::none(&third);
        assert!(!late.grow(169));
        greedy.clear();
        assert!(late.grow(166));
        drop((small, late, other, third));
        assert!(greedy.grow(1000));
        assert!(!Amount::none(&Places::amount(0).part()).grow(1));
    }
}
