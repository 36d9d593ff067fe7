//! A histogram of atomics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::family::SampleValue;

/// Observations by bucket. Takes memory only once something is observed: most series of a family are rare.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    cells: OnceLock<Cells>,
}

#[derive(Debug)]
struct Cells {
    /// Observations in each bucket (not cumulative), the last one beyond all bounds.
    counts: Box<[AtomicU64]>,
    /// Bits of the sum.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            cells: OnceLock::new(),
        }
    }

    pub(crate) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Counts a value; NaN is left out, it would spoil the sum for good.
    pub(crate) fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let cells = self.cells.get_or_init(|| Cells::new(self.bounds.len() + 1));
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let mut bits = cells.sum.load(Ordering::Relaxed);
        while let Err(changed) = cells.sum.compare_exchange_weak(
            bits,
            (f64::from_bits(bits) + value).to_bits(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            bits = changed;
        }
    }

    /// `None` when nothing was observed.
    pub(crate) fn observed(&self) -> Option<SampleValue> {
        self.cells.get().map(Cells::value)
    }

    /// Values that were observed.
    pub(super) fn count(&self) -> u64 {
        match self.observed() {
            Some(SampleValue::Histogram { cumulative, .. }) => {
                cumulative.last().copied().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// All zero when nothing was observed.
    pub(super) fn value(&self) -> SampleValue {
        self.observed().unwrap_or_else(|| SampleValue::Histogram {
            cumulative: vec![0; self.bounds.len() + 1],
            sum: 0.0,
        })
    }
}

impl Cells {
    fn new(buckets: usize) -> Self {
        Self {
            counts: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    fn value(&self) -> SampleValue {
        let mut total = 0;
        let cumulative = self.counts.iter().map(|count| {
            total += count.load(Ordering::Relaxed);
            total
        });
        SampleValue::Histogram {
            cumulative: cumulative.collect(),
            sum: f64::from_bits(self.sum.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        assert_eq!(histogram.observed(), None);
        for value in [0.5, 1.0, 1.5, 2.5, f64::NAN] {
            histogram.observe(value);
        }
        assert_eq!(
            histogram.value(),
            SampleValue::Histogram {
                cumulative: vec![2, 3, 4],
                sum: 5.5
            }
        );
    }

    #[test]
    fn no_observation_is_lost_between_threads() {
        let histogram = Histogram::new(&[1.0]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.observe(0.5)));
            }
        });
        assert_eq!(
            histogram.value(),
            SampleValue::Histogram {
                cumulative: vec![40_000, 40_000],
                sum: 20_000.0
            }
        );
    }
}
