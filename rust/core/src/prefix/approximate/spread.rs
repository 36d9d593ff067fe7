//! From a block's hash to the hash that the tables use.

/// A keyed mix of 64 bits.
///
/// Block hashes come from text that clients choose, under a public hash without a secret: without a key they could be crafted to fall into one bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    key: u64,
    factor: u64,
}

impl Spread {
    pub(super) fn random() -> Self {
        Self {
            key: fastrand::u64(..),
            factor: fastrand::u64(..) | 1,
        }
    }

    /// Folded multiplication: every bit of the input moves the low bits (tags), the middle (shards) and the upper half (places).
    pub(super) fn of(self, hash: u64) -> u64 {
        let product = u128::from(hash ^ self.key) * u128::from(self.factor);
        product as u64 ^ (product >> 64) as u64
    }
}
