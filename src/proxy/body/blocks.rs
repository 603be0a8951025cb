//! The bytes of a body that may have to be sent again, in blocks of their own: a slice of a read buffer would keep the whole
//! buffer, so that a body of single bytes would hold thousands of times its size.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The sizes of the first block and of the largest. Each is twice as large as the one before, so that at most as much
/// is free as is used.
const BLOCKS: (usize, usize) = (512, 64 << 10);

#[derive(Debug, Default)]
pub(super) struct Blocks {
    full: VecDeque<Bytes>,
    /// The block that is being filled. Never grows: that would copy it.
    last: BytesMut,
    next_block: usize,
    length: usize,
}

impl Blocks {
    /// Copies `data` to the end.
    pub(super) fn push(&mut self, mut data: &[u8]) {
        self.length += data.len();
        while !data.is_empty() {
            if self.last.len() == self.last.capacity() {
                self.begin_block(data.len());
            }
            let room = self.last.capacity() - self.last.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.last.extend_from_slice(now);
            data = later;
        }
    }

    /// Appends `data` without copying them. For what is taken out again soon.
    pub(super) fn push_whole(&mut self, data: Bytes) {
        self.length += data.len();
        self.end_block();
        self.full.push_back(data);
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The bytes after the first `offset` that lie together in one block; `None`: there are none.
    pub(super) fn from(&self, mut offset: usize) -> Option<Bytes> {
        for block in &self.full {
            if offset < block.len() {
                return Some(block.slice(offset..));
            }
            offset -= block.len();
        }
        self.last
            .get(offset..)
            .filter(|rest| !rest.is_empty())
            .map(Bytes::copy_from_slice)
    }

    /// Takes out the first block.
    pub(super) fn take_first(&mut self) -> Option<Bytes> {
        if self.full.is_empty() {
            self.end_block();
        }
        let first = self.full.pop_front()?;
        self.length -= first.len();
        Some(first)
    }

    /// All of it, copied together.
    pub(super) fn whole(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.length);
        self.full.iter().for_each(|block| whole.extend_from_slice(block));
        whole.extend_from_slice(&self.last);
        whole.freeze()
    }

    fn begin_block(&mut self, at_least: usize) {
        self.end_block();
        let size = self.next_block.max(at_least).clamp(BLOCKS.0, BLOCKS.1);
        self.next_block = (size * 2).min(BLOCKS.1);
        self.last = BytesMut::with_capacity(size);
    }

    fn end_block(&mut self) {
        if !self.last.is_empty() {
            self.full.push_back(std::mem::take(&mut self.last).freeze());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_pieces_give_the_same_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..40)) {
            let mut recorded = Blocks::default();
            let mut all = Vec::new();
            for (n, piece) in pieces.iter().enumerate() {
                if n % 7 == 6 {
                    recorded.push_whole(piece.clone().into());
                } else {
                    recorded.push(piece);
                }
                all.extend_from_slice(piece);
                prop_assert_eq!(recorded.len(), all.len());
            }
            prop_assert_eq!(&recorded.whole()[..], &all[..]);
            let mut read = Vec::new();
            while let Some(bytes) = recorded.from(read.len()) {
                read.extend_from_slice(&bytes);
            }
            prop_assert_eq!(&read, &all);
            let mut taken = Vec::new();
            while let Some(bytes) = recorded.take_first() {
                taken.extend_from_slice(&bytes);
            }
            prop_assert_eq!(&taken, &all);
            prop_assert_eq!(recorded.len(), 0);
        }
    }

    #[test]
    fn single_bytes_hold_little_more_than_themselves() {
        let mut recorded = Blocks::default();
        for _ in 0..100_000 {
            recorded.push(b"x");
        }
        let held: usize = recorded.full.iter().map(Bytes::len).sum::<usize>() + recorded.last.capacity();
        assert!(held <= 2 * 100_000 + BLOCKS.0, "{held}");
        assert!(recorded.full.len() < 20);
    }
}
