//! A set of operations.

use crate::catalogue::{Catalogue, OperationId};

/// One bit for each operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operations(Box<[u64]>);

impl Operations {
    pub(super) fn of(catalogue: &Catalogue, has: impl Fn(OperationId) -> bool) -> Self {
        let mut words = vec![0_u64; catalogue.operations().len().div_ceil(64)];
        for id in catalogue.ids().filter(|id| has(*id)) {
            words[id.index() / 64] |= 1 << (id.index() % 64);
        }
        Self(words.into())
    }

    pub(super) fn has(&self, id: OperationId) -> bool {
        self.0
            .get(id.index() / 64)
            .is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}
