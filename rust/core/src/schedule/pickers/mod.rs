//! Plugins that choose among scored candidates. One file each.

pub mod max_score;
pub mod random;
pub mod round_robin;
pub mod weighted_random;

pub use max_score::MaxScorePicker;
pub use random::RandomPicker;
pub use round_robin::RoundRobinPicker;
pub use weighted_random::WeightedRandomPicker;

use std::sync::Arc;

use super::Picker;
use crate::plugin::{ParameterKind, Parameters, Parts, Shape};

const PARAMETERS: &[ParameterKind] = &[ParameterKind {
    name: "maxNumOfEndpoints",
    shape: Shape::Integer {
        least: i64::MIN,
        most: 64,
    },
    default: "null",
    unit: "endpoints",
    summary: "How many endpoints are ranked, the first choice and its fallbacks; 0 and less count as 1. Left out: 1, or as --max-endpoints says.",
    ..ParameterKind::BASE
}];

fn build(picker: impl Picker + 'static, parameters: &Parameters<'_>) -> Parts {
    let limit = parameters
        .optional_integer("maxNumOfEndpoints")
        .map(|count| usize::try_from(count).unwrap_or(1).max(1));
    Parts {
        picker: Some((Arc::new(picker), limit)),
        ..Parts::default()
    }
}
