//! `precise-prefix-cache-producer`: which leading blocks of a prompt each endpoint holds, from the KV events of the engines.

use std::sync::Arc;
use std::time::Duration;

use crate::plugin::{
    Data, ExactSettings, ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape,
    parse_duration,
};
use crate::schedule::scorers::prefix_cache::PrefixCacheScorer;

/// Budget of the index where the configuration gives none.
const DEFAULT_BYTES: usize = 2 << 30;
/// What an entry of `inMemoryConfig.size` is taken for: a measured upper bound (`bench/README.md`, prefix index, bytes a pair).
const ENTRY_BYTES: usize = 40;
/// Largest number of anything that is counted.
const MANY: i64 = 1 << 40;

const PORT: Shape = Shape::Integer {
    least: 0,
    most: 65_535,
};

const IGNORED: &str = "Read and without effect here.";

const TOKEN_PROCESSOR: &[ParameterKind] = &[
    ParameterKind {
        name: "blockSizeTokens",
        shape: Shape::Integer {
            least: 1,
            most: 1 << 20,
        },
        default: "16",
        unit: "tokens",
        summary: "Without effect: the size of blocks is learnt from each publisher's events.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "blockSize",
        shape: Shape::Integer {
            least: 1,
            most: 1 << 20,
        },
        unit: "tokens",
        summary: "Without effect.",
        deprecated: Some("blockSizeTokens"),
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "hashSeed",
        shape: Shape::AnyText,
        summary: "Without effect: engines' hashes are mapped to the index's own, so they need no common seed.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "hashAlgorithm",
        shape: Shape::Choice(&["cbor-fnv", "xxh64"]),
        default: "\"cbor-fnv\"",
        summary: "Without effect, as hashSeed.",
        ..ParameterKind::BASE
    },
];

const IN_MEMORY: &[ParameterKind] = &[
    ParameterKind {
        name: "size",
        shape: Shape::Integer {
            least: 1,
            most: MANY,
        },
        unit: "entries",
        summary: "Bounds the index to so many (block, endpoint) pairs, of 40 bytes each.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "podCacheSize",
        shape: Shape::Integer {
            least: 1,
            most: MANY,
        },
        default: "10",
        unit: "endpoints",
        summary: "Without effect: every endpoint that holds a block is known.",
        ..ParameterKind::BASE
    },
];

const BLOCK_INDEX: &[ParameterKind] = &[
    ParameterKind {
        name: "inMemoryConfig",
        shape: Shape::Object(IN_MEMORY),
        summary: "The index, bounded by entries.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "costAwareMemoryConfig",
        shape: Shape::Object(&[ParameterKind {
            name: "size",
            default: "\"2GiB\"",
            summary: "Bounds the index to so many bytes, as 512MiB or 2GiB.",
            ..ParameterKind::BASE
        }]),
        summary: "The index, bounded by bytes.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "redisConfig",
        shape: Shape::Object(&[ParameterKind {
            name: "address",
            summary: "Not supported.",
            ..ParameterKind::BASE
        }]),
        summary: "Not supported: each picker builds its index from the events.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "enableMetrics",
        shape: Shape::Boolean,
        default: "false",
        summary: "Without effect: the index's metrics are always there.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "metricsLoggingInterval",
        shape: Shape::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: "0",
        summary: IGNORED,
        ..ParameterKind::BASE
    },
];

const INDEXER: &[ParameterKind] = &[
    ParameterKind {
        name: "kvBlockIndexConfig",
        shape: Shape::Object(BLOCK_INDEX),
        default: "{}",
        summary: "How large the index may grow.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "kvCacheBackendConfigs",
        shape: Shape::Objects(&[
            ParameterKind {
                name: "name",
                default: "",
                summary: "Medium as the events name it, in any case.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "weight",
                shape: Shape::Number {
                    least: 0.0,
                    most: 1.0,
                },
                default: "",
                summary: "What a block in it counts.",
                ..ParameterKind::BASE
            },
        ]),
        default: r#"[{"name": "gpu", "weight": 1.0}, {"name": "cpu", "weight": 0.8}]"#,
        summary: "What blocks in each medium count; 1 in one that is not listed.",
        ..ParameterKind::BASE
    },
];

const DISCOVERY: &[ParameterKind] = &[
    ParameterKind {
        name: "podLabelSelector",
        shape: Shape::AnyText,
        default: "\"llm-d.ai/inference-serving=true\"",
        summary: "Without effect: the endpoints of the pool are subscribed to.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "podNamespace",
        shape: Shape::AnyText,
        summary: "Without effect, as podLabelSelector.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "addressTemplate",
        default: "\"tcp://{address}:{port}\"",
        summary: "Address of an endpoint's publisher: {address}, {port} (socketPort plus rank), {rank} and {name} are replaced. An endpoint's label warmroute.dev/kv-events goes before. Not in the reference.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "socketPort",
        shape: PORT,
        default: "5557",
        summary: "Port of an endpoint's publisher; its data-parallel rank is added.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "replaySocketPort",
        shape: PORT,
        default: "0",
        summary: "Port where what was missed can be asked for, the rank added; 0: nowhere.",
        ..ParameterKind::BASE
    },
];

const EVENTS: &[ParameterKind] = &[
    ParameterKind {
        name: "zmqEndpoint",
        shape: Shape::AnyText,
        summary: "Address to bind, as tcp://*:5557, where engines connect to the picker.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "topicFilter",
        shape: Shape::AnyText,
        default: "\"kv@\"",
        summary: "What the topics of the events begin with; an engine's own default is the empty topic.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "concurrency",
        shape: Shape::Integer {
            least: 1,
            most: 1024,
        },
        default: "4",
        summary: "Without effect: one thread reads millions of blocks a second.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "engineType",
        shape: Shape::Choice(&["vllm", "sglang"]),
        default: "\"vllm\"",
        summary: "Whose form of events is expected.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "discoverPods",
        shape: Shape::Boolean,
        default: "true",
        summary: "Subscribe to each endpoint of the pool.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "podDiscoveryConfig",
        shape: Shape::Object(DISCOVERY),
        default: "{}",
        summary: "Where each endpoint publishes.",
        ..ParameterKind::BASE
    },
];

const PARAMETERS: &[ParameterKind] = &[
    ParameterKind {
        name: "tokenProcessorConfig",
        shape: Shape::Object(TOKEN_PROCESSOR),
        default: "{}",
        summary: "How prompts are cut and hashed.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "indexerConfig",
        shape: Shape::Object(INDEXER),
        default: "{}",
        summary: "The index.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "kvEventsConfig",
        shape: Shape::Object(EVENTS),
        default: "{}",
        summary: "Where events come from.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "speculativeIndexing",
        shape: Shape::Boolean,
        default: "false",
        summary: "What was just sent counts as held before the engine has said so.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "speculativeTTL",
        default: "\"2s\"",
        summary: "For how long.",
        ..ParameterKind::BASE
    },
];

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "precise-prefix-cache-producer",
    roles: &[Role::Producer],
    summary: "Knows from the engines' own KV events which blocks each endpoint holds, in which memory, and matches prompts against them. Needs token ids (token-producer with local or vllm); what has none is matched by what was sent before.",
    parameters: PARAMETERS,
    consumes: &[Data::TokenizedPrompt],
    produces: Some(Data::PrefixMatch),
    build: |parameters| {
        Ok(Parts {
            exact: Some(Arc::new(settings(parameters)?)),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// The same, and the scorer of its matches in one.
pub const SCORER: PluginKind = PluginKind {
    type_name: "precise-prefix-cache-scorer",
    roles: &[Role::Producer, Role::Scorer],
    deprecated: Some("precise-prefix-cache-producer with prefix-cache-scorer"),
    summary: "precise-prefix-cache-producer and a prefix-cache-scorer of its matches in one.",
    build: |parameters| {
        Ok(Parts {
            exact: Some(Arc::new(settings(parameters)?)),
            ..Parts::scorer(PrefixCacheScorer {
                length_weight: 0.0,
                length_scale_tokens: 8192.0,
                producer: Some(parameters.plugin().into()),
            })
        })
    },
    ..KIND
};

fn settings(parameters: &Parameters<'_>) -> Result<ExactSettings, ParameterError> {
    let indexer = parameters.section("indexerConfig");
    let weights = indexer.objects("kvCacheBackendConfigs");
    let ttl = parameters.text("speculativeTTL");
    let ttl = parse_duration(ttl)
        .filter(|ttl| *ttl > Duration::ZERO)
        .ok_or_else(|| {
            let problem = format!("must be a duration as 2s or 500ms, more than 0, not \"{ttl}\"");
            ParameterError::new("speculativeTTL", problem)
        })?;
    Ok(ExactSettings {
        byte_budget: byte_budget(&indexer.section("kvBlockIndexConfig")).map_err(|error| {
            error
                .within("kvBlockIndexConfig", None)
                .within("indexerConfig", None)
        })?,
        weights: weights
            .map(|backend| {
                let name = backend.text("name").to_lowercase().into();
                (name, backend.number("weight") as f32)
            })
            .collect(),
        speculative_ttl: parameters.boolean("speculativeIndexing").then_some(ttl),
    })
}

fn byte_budget(index: &Parameters<'_>) -> Result<usize, ParameterError> {
    if index.object("redisConfig").is_some() {
        return Err(ParameterError::new(
            "redisConfig",
            "an index in Redis is not supported; leave it out: each picker builds its own from the events",
        ));
    }
    if let Some(bytes) = index.object("costAwareMemoryConfig") {
        let text = bytes.text("size");
        return parse_bytes(text).ok_or_else(|| {
            let problem = format!("must be a number of bytes as 512MiB or 2GiB, not \"{text}\"");
            ParameterError::new("size", problem).within("costAwareMemoryConfig", None)
        });
    }
    let entries = index
        .object("inMemoryConfig")
        .and_then(|memory| memory.optional_integer("size"))
        .and_then(|entries| usize::try_from(entries).ok());
    Ok(entries.map_or(DEFAULT_BYTES, |entries| entries.saturating_mul(ENTRY_BYTES)))
}

/// `512`, `10KB`, `2GiB`, with or without a space: units of 1000 and of 1024.
fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "tb" | "t" => 1e12,
        "kib" | "ki" => 1024.0,
        "mib" | "mi" => 1024.0 * 1024.0,
        "gib" | "gi" => 1024.0 * 1024.0 * 1024.0,
        "tib" | "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * scale;
    (1.0..1e15).contains(&bytes).then_some(bytes as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};

    #[test]
    fn nothing_said_is_the_default() {
        let settings = built(&KIND, &json!({})).exact.expect("settings");
        let expected = ExactSettings {
            weights: vec![("gpu".into(), 1.0), ("cpu".into(), 0.8)],
            byte_budget: 2 << 30,
            speculative_ttl: None,
        };
        assert_eq!(*settings, expected);
    }

    #[test]
    fn a_guides_parameters_become_settings() {
        let settings = built(
            &KIND,
            &json!({
                "tokenProcessorConfig": {"blockSizeTokens": 64, "hashSeed": "42", "hashAlgorithm": "xxh64"},
                "indexerConfig": {
                    "kvBlockIndexConfig": {"enableMetrics": true, "inMemoryConfig": {"size": 1000, "podCacheSize": 128}},
                    "kvCacheBackendConfigs": [{"name": "GPU", "weight": 1}, {"name": "disk", "weight": 0.25}],
                },
                "kvEventsConfig": {
                    "topicFilter": "", "concurrency": 8, "discoverPods": false, "zmqEndpoint": "tcp://*:5557", "engineType": "sglang",
                    "podDiscoveryConfig": {"socketPort": 5556, "replaySocketPort": 5559},
                },
                "speculativeIndexing": true,
                "speculativeTTL": "500ms",
            }),
        )
        .exact
        .expect("settings");
        assert_eq!(settings.byte_budget, 40_000);
        assert_eq!(
            settings.weights,
            [("gpu".into(), 1.0), ("disk".into(), 0.25)]
        );
        assert_eq!(settings.speculative_ttl, Some(Duration::from_millis(500)));
    }

    #[test]
    fn budgets_are_bytes_in_any_unit() {
        for (text, bytes) in [
            ("2GiB", Some(2 << 30)),
            ("512 MiB", Some(512 << 20)),
            ("1.5kB", Some(1500)),
            ("100", Some(100)),
            ("0", None),
            ("many", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (parameters, problem) in [
            (
                json!({"speculativeTTL": "soon"}),
                "speculativeTTL: must be a duration as 2s or 500ms, more than 0, not \"soon\"",
            ),
            (
                json!({"indexerConfig": {"kvBlockIndexConfig": {"redisConfig": {"address": "redis://r"}}}}),
                "indexerConfig.kvBlockIndexConfig.redisConfig: an index in Redis is not supported; leave it out: each picker builds its own from the events",
            ),
            (
                json!({"indexerConfig": {"kvBlockIndexConfig": {"costAwareMemoryConfig": {"size": "big"}}}}),
                "indexerConfig.kvBlockIndexConfig.costAwareMemoryConfig.size: must be a number of bytes as 512MiB or 2GiB, not \"big\"",
            ),
            (
                json!({"indexerConfig": {"kvCacheBackendConfigs": [{"name": "gpu"}]}}),
                "indexerConfig.kvCacheBackendConfigs[0].weight: required and missing",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), problem);
        }
    }

    #[test]
    fn the_old_scorer_scores_its_own_matches() {
        let parts = built(&SCORER, &json!({}));
        assert!(parts.exact.is_some() && parts.scorer.is_some());
    }
}
