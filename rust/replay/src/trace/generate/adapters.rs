//! `lora-mix`: any other workload, its requests for one of several adapters.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::random::Popularity;
use super::{AFTER_NOTHING, GenerateError, Trace, from_map, in_range};

/// Its own parameters. `requests`, `rate`, `seconds` and `unit_tokens` go to the workload beneath.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LoraMix {
    /// How many there are.
    adapters: u32,
    /// Popularity of the k-th is 1/k^exponent.
    exponent: f64,
    /// Of the requests (or sessions), those for the base model.
    base_share: f64,
    /// The workload beneath, as for `generate`.
    base: Map<String, Value>,
}

impl Default for LoraMix {
    fn default() -> Self {
        let mut base = Map::new();
        base.insert("workload".to_owned(), json!("sharegpt"));
        Self {
            adapters: 8,
            exponent: 1.0,
            base_share: 0.0,
            base,
        }
    }
}

pub(super) fn mix(
    settings: Map<String, Value>,
    common: Map<String, Value>,
    seed: u64,
) -> Result<Trace, GenerateError> {
    let LoraMix {
        adapters,
        exponent,
        base_share,
        mut base,
    } = serde_json::from_value(Value::Object(settings)).map_err(GenerateError::Json)?;
    in_range(
        (1..=10_000).contains(&adapters),
        "adapters",
        "from 1 to 10000",
    )?;
    in_range((0.0..=5.0).contains(&exponent), "exponent", "from 0 to 5")?;
    in_range(
        (0.0..=1.0).contains(&base_share),
        "base_share",
        "from 0 to 1",
    )?;
    in_range(
        base.get("workload").and_then(Value::as_str) != Some("lora-mix"),
        "base",
        "another workload",
    )?;
    base.extend(common);
    let mut trace = from_map(base, seed)?;
    trace.name = format!("lora-mix of {}", trace.name);
    trace.loras = (1..=adapters)
        .map(|number| format!("adapter-{number}"))
        .collect();
    // Another stream of chance than that of the workload beneath.
    let mut random = fastrand::Rng::with_seed(seed ^ 0x4c6f_5241);
    let popularity = Popularity::zipf(adapters, exponent);
    for index in 0..trace.requests.len() {
        let after = trace.requests[index].after;
        trace.requests[index].lora = if after != AFTER_NOTHING {
            trace.requests[after as usize].lora
        } else if random.f64() < base_share {
            0
        } else {
            popularity.draw(&mut random) as u16 + 1
        };
    }
    Ok(trace)
}
