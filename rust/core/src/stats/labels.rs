//! Label values under a cap: clients choose model names and fairness ids, so their number must not grow the page without a bound.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::RwLock;

/// What stands for every value beyond a cap.
pub(super) const OVERFLOW: &str = "other";

/// Interned label values, at most `limit` of them.
#[derive(Debug)]
pub(super) struct LabelValues {
    limit: usize,
    values: RwLock<HashSet<Arc<str>>>,
    overflow: Arc<str>,
}

impl LabelValues {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            values: RwLock::default(),
            overflow: OVERFLOW.into(),
        }
    }

    /// The shared copy of `value`, or of `OVERFLOW` when it is new and the cap is reached.
    pub(super) fn intern(&self, value: &str) -> Arc<str> {
        if let Some(known) = self.values.read().get(value) {
            return Arc::clone(known);
        }
        let mut values = self.values.write();
        if let Some(known) = values.get(value) {
            return Arc::clone(known);
        }
        if values.len() >= self.limit {
            return self.overflow();
        }
        let value: Arc<str> = value.into();
        values.insert(Arc::clone(&value));
        value
    }

    pub(super) fn overflow(&self) -> Arc<str> {
        Arc::clone(&self.overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_cap_become_other_and_known_ones_stay() {
        let values = LabelValues::new(2);
        assert_eq!(
            ["a", "b", "c", "a"].map(|value| values.intern(value)),
            ["a", "b", "other", "a"].map(Arc::from)
        );
    }
}
