//! Plugins that choose among scored candidates. One file each.

pub mod max_score;
pub mod random;
pub mod weighted_random;

pub use max_score::MaxScorePicker;
pub use random::RandomPicker;
pub use weighted_random::WeightedRandomPicker;

use super::Picker;
use super::parameters::{ParameterError, Parameters};
use super::registry::{ParameterKind, Plugin};

const PARAMETERS: &[ParameterKind] = &[ParameterKind {
    name: "maxNumOfEndpoints",
    default: "null",
    summary: "How many endpoints are ranked, the first choice and its fallbacks; 0 and less count as 1, absent as the engine is set.",
}];

fn build(
    picker: impl Picker + 'static,
    parameters: &Parameters<'_>,
) -> Result<Plugin, ParameterError> {
    let limit = parameters
        .integer("maxNumOfEndpoints")?
        .map(|count| usize::try_from(count).unwrap_or(1).max(1));
    Ok(Plugin::Picker {
        picker: Box::new(picker),
        limit,
    })
}
