//! The segments of a path, split once for all the patterns that look at them.

/// Paths of more segments than any operation has are split by allocating.
const MOST: usize = 24;

/// Room for the segments of an ordinary path.
pub(super) struct Parts<'p> {
    few: [&'p str; MOST],
    len: usize,
    many: Vec<&'p str>,
}

impl<'p> Parts<'p> {
    /// `path` begins with `/`.
    pub(super) fn of(path: &'p str) -> Self {
        let mut few = [""; MOST];
        let mut len = 0;
        for part in path[1..].split('/') {
            if len == MOST {
                let many = path[1..].split('/').collect();
                return Self { few, len, many };
            }
            few[len] = part;
            len += 1;
        }
        Self {
            few,
            len,
            many: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'p str> {
        let all = if self.many.is_empty() {
            &self.few[..self.len]
        } else {
            &self.many
        };
        all.iter().copied()
    }
}
