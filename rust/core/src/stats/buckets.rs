//! Upper bounds of the reference's histograms, in the family's unit, without +Inf.

/// `request_duration_seconds`.
pub(super) const LATENCY: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0,
    1200.0, 1800.0, 2700.0, 3600.0,
];

/// `request_ttft_seconds`: as `LATENCY`, up to two minutes.
pub(super) const TTFT: &[f64] = LATENCY.split_at(24).0;

/// Durations inside the picker.
pub(super) const SMALL: &[f64] = &[
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
];

/// `extproc_stream_duration_seconds`.
pub(super) const STREAM: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Tokens. 32778 is how the reference spells it, and dashboards rely on it.
pub(super) const TOKENS: &[f64] = &[
    1.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32778.0,
    65536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
];

/// Output tokens: `TOKENS` up to 8192.
pub(super) const OUTPUT_TOKENS: &[f64] = TOKENS.split_at(12).0;

/// `response_size_bytes`: `TOKENS` up to 65536.
pub(super) const RESPONSE_BYTES: &[f64] = TOKENS.split_at(15).0;

/// `request_size_bytes`: 64 bytes to 1 GiB by doubling.
pub(super) const REQUEST_BYTES: &[f64] = &{
    let mut bounds = [64.0; 25];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2.0;
        index += 1;
    }
    bounds
};

/// `request_ntpot_seconds`.
pub(super) const NTPOT: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// `request_streaming_tpot_seconds`.
pub(super) const TPOT: &[f64] = &[
    0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.6, 0.8, 1.0, 2.0,
];

/// `request_streaming_itl_seconds`.
pub(super) const ITL: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0,
];

/// `request_processing_duration_seconds`.
pub(super) const REQUEST_PROCESSING: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// `response_processing_duration_seconds`.
pub(super) const RESPONSE_PROCESSING: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// `tokenize_duration_seconds`: from a prompt that was cached to a model server that hardly answers.
pub(super) const TOKENIZE: &[f64] = RESPONSE_PROCESSING;

/// `prefix_indexer_hit_ratio`. The reference's table gives no bounds for the two prefix histograms; tenths of a ratio and powers of two are ours.
pub(crate) const RATIO: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// `prefix_indexer_hit_bytes`.
pub(super) const HIT_BYTES: &[f64] = &[
    0.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32768.0,
    65536.0,
    262_144.0,
    1_048_576.0,
];

/// What the Prometheus client library for Go takes where nothing is said.
pub(super) const DEFAULT: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_end_where_the_reference_says() {
        for (bounds, count, last) in [
            (LATENCY, 35, 3600.0),
            (TTFT, 24, 120.0),
            (SMALL, 10, 0.1),
            (STREAM, 14, 600.0),
            (TOKENS, 19, 1_048_576.0),
            (OUTPUT_TOKENS, 12, 8192.0),
            (RESPONSE_BYTES, 15, 65536.0),
            (REQUEST_BYTES, 25, 1_073_741_824.0),
            (NTPOT, 13, 10.0),
            (TPOT, 19, 2.0),
            (ITL, 15, 2.0),
            (REQUEST_PROCESSING, 16, 10.0),
            (RESPONSE_PROCESSING, 15, 5.0),
            (RATIO, 11, 1.0),
            (HIT_BYTES, 16, 1_048_576.0),
        ] {
            assert_eq!((bounds.len(), bounds.last().copied()), (count, Some(last)));
            assert!(bounds.is_sorted_by(|left, right| left < right));
        }
    }
}
