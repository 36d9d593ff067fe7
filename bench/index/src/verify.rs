//! Answers beside the oracle's.

use serde::Serialize;

use crate::oracle::Oracle;
use crate::subject::Subject;

/// Wrong answers to a number of queries; one that is too deep for a worker and too short for another counts as too deep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Queries asked.
    pub of: usize,
    /// Some worker is said to hold more than it does.
    pub too_deep: usize,
    /// Some worker is said to hold less than it does.
    pub too_short: usize,
}

/// Asks each query and compares every worker's depth.
pub fn compare<'a, S: Subject>(
    subject: &S,
    oracle: &Oracle,
    queries: impl IntoIterator<Item = &'a Vec<u64>>,
) -> Wrong {
    let mut wrong = Wrong::default();
    for query in queries {
        let right = oracle.depths(query);
        let mut given = vec![0; right.len()];
        for (worker, depth) in subject.depths(query) {
            given[worker as usize] = depth;
        }
        wrong.of += 1;
        if given.iter().zip(&right).any(|(given, right)| given > right) {
            wrong.too_deep += 1;
        } else if given != right {
            wrong.too_short += 1;
        }
    }
    wrong
}
