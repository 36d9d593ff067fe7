//! vLLM's own generate endpoint: token ids in, token ids out.

use super::Dialect;
use super::table::{Field, Requires, Segment, Shape, Table};

/// Path suffixes.
pub(super) const PATHS: &[(&str, Dialect)] = &[("inference/v1/generate", Dialect::VllmGenerate)];

const TOKENS: Field = Field::Prompt(Segment::Main, Shape::Batch);

/// Generate.
pub(super) const GENERATE: Table = Table {
    fields: &[
        (b"token_ids", TOKENS),
        (b"input_ids", TOKENS),
        (b"sampling_params", Field::SamplingParameters(b"max_tokens")),
    ],
    keys: &[],
    requires: Requires::List,
    requirement: "invalid generate request: must have token_ids field",
    finer: &[],
    salt_requirement: None,
};
