//! `SGLang`'s own generate endpoint: token ids in.

use super::Dialect;
use super::prompt::MainValue;
use super::table::{Field, Requires, Segment, Shape, Table};

/// Path suffixes.
pub(super) const PATHS: &[(&str, Dialect)] = &[("generate", Dialect::SglangGenerate)];

/// Generate. The reference carries no model of it, and its engine knows no `cache_salt`.
pub(super) const GENERATE: Table = Table {
    fields: &[
        (b"input_ids", Field::Prompt(Segment::Main, Shape::Batch)),
        (b"extra_key", Field::CacheSalt),
        (
            b"sampling_params",
            Field::SamplingParameters(b"max_new_tokens"),
        ),
        (b"model", Field::Ignored),
        (b"cache_salt", Field::Ignored),
    ],
    keys: &[],
    requires: Requires::FilledList,
    requirement: "invalid generate request: input_ids must be an array of uint32 integers",
    finer: &[
        (
            MainValue::Missing,
            "invalid generate request: input_ids must be provided",
        ),
        (
            MainValue::EmptyList,
            "invalid generate request: input_ids cannot be empty",
        ),
    ],
    salt_requirement: Some("unsupported generate request: extra_key must be a string"),
};
