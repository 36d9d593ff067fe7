//! Which series of an engine's metrics page say what: the built-in engines and configured ones.
//!
//! Series names and the grammar `name` or `name{label=value,…}` as the reference's `core-metrics-extractor` has them.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use smallvec::SmallVec;

use super::custom_metrics::{self, CustomMetric};
use super::engines;
use super::series_spec::{LabelFilter, SeriesSpec};

/// An engine as a configuration writes it; an empty text means that the engine has no such series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EngineDefinition {
    /// Name, the value of an endpoint's engine label.
    pub name: String,
    /// Gauge of waiting requests.
    pub queued_requests_spec: String,
    /// Gauge of running requests.
    pub running_requests_spec: String,
    /// Gauge of KV cache usage, 0 to 1.
    pub kv_usage_spec: String,
    /// Info series with the labels `running_lora_adapters`, `waiting_lora_adapters` and `max_lora`; its value is a timestamp.
    pub lora_spec: String,
    /// Info series whose labels tell the cache's shape.
    pub cache_info_spec: String,
    /// Label of `cacheInfoSpec` with the tokens in a block; empty: `block_size`.
    pub cache_block_size_label_name: String,
    /// Label of `cacheInfoSpec` with the number of blocks; empty: `num_gpu_blocks`.
    pub cache_num_blocks_label_name: String,
    /// Gauge of tokens in a block, for engines without `cacheInfoSpec`.
    pub cache_block_size_spec: String,
    /// Gauge of the number of blocks, for engines without `cacheInfoSpec`.
    pub cache_num_blocks_spec: String,
    /// Counter of first tokens produced (the `_count` of a time-to-first-token histogram). This and the counters below may name several series,
    /// parted by `|`: the first of them that a page has counts.
    pub first_tokens_spec: String,
    /// Counter of seconds from arrival to the first token, over the requests that `firstTokensSpec` counts (the histogram's `_sum`).
    pub first_token_seconds_spec: String,
    /// Counter of gaps between two tokens of a request (the `_count` of an inter-token-latency histogram).
    pub token_gaps_spec: String,
    /// Counter of these gaps' seconds (the histogram's `_sum`).
    pub token_gap_seconds_spec: String,
    /// Counter of output tokens.
    pub output_tokens_spec: String,
    /// Counter of requests that ended.
    pub finished_requests_spec: String,
    /// Counter of prompt tokens that were looked up in the cache.
    pub queried_tokens_spec: String,
    /// Counter of those among them that the cache had.
    pub cached_tokens_spec: String,
    /// Counter of those that the cache did not have and memory beyond it had (the CPU's, another server's): cached as well.
    pub external_cached_tokens_spec: String,
    /// Gauges and counters that become attributes of the endpoint.
    pub custom_metrics: Vec<CustomMetric>,
}

impl EngineDefinition {
    /// What is not configured freely: the role, its field and the text in it.
    fn series(&self) -> [(Role, &'static str, &str); SeriesSet::FIXED as usize] {
        [
            (
                Role::Waiting,
                "queuedRequestsSpec",
                &self.queued_requests_spec,
            ),
            (
                Role::Running,
                "runningRequestsSpec",
                &self.running_requests_spec,
            ),
            (Role::KvUsage, "kvUsageSpec", &self.kv_usage_spec),
            (Role::Adapters, "loraSpec", &self.lora_spec),
            (Role::CacheInfo, "cacheInfoSpec", &self.cache_info_spec),
            (
                Role::BlockSize,
                "cacheBlockSizeSpec",
                &self.cache_block_size_spec,
            ),
            (
                Role::NumBlocks,
                "cacheNumBlocksSpec",
                &self.cache_num_blocks_spec,
            ),
            (
                Role::FirstTokens,
                "firstTokensSpec",
                &self.first_tokens_spec,
            ),
            (
                Role::FirstTokenSeconds,
                "firstTokenSecondsSpec",
                &self.first_token_seconds_spec,
            ),
            (Role::TokenGaps, "tokenGapsSpec", &self.token_gaps_spec),
            (
                Role::TokenGapSeconds,
                "tokenGapSecondsSpec",
                &self.token_gap_seconds_spec,
            ),
            (
                Role::OutputTokens,
                "outputTokensSpec",
                &self.output_tokens_spec,
            ),
            (
                Role::FinishedRequests,
                "finishedRequestsSpec",
                &self.finished_requests_spec,
            ),
            (
                Role::QueriedTokens,
                "queriedTokensSpec",
                &self.queried_tokens_spec,
            ),
            (
                Role::CachedTokens,
                "cachedTokensSpec",
                &self.cached_tokens_spec,
            ),
            (
                Role::ExternalCachedTokens,
                "externalCachedTokensSpec",
                &self.external_cached_tokens_spec,
            ),
        ]
    }
}

/// A definition that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Name of the engine.
    pub engine: String,
    /// Field of the definition.
    pub field: &'static str,
    /// What the field holds.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for SpecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "engine {:?}: {} {:?}: {}",
            self.engine, self.field, self.text, self.reason
        )
    }
}

impl std::error::Error for SpecError {}

/// Series that may tell one thing.
const MOST_ALTERNATIVES: u8 = 8;

/// What a wanted series tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Waiting,
    Running,
    KvUsage,
    Adapters,
    CacheInfo,
    BlockSize,
    NumBlocks,
    FirstTokens,
    FirstTokenSeconds,
    TokenGaps,
    TokenGapSeconds,
    OutputTokens,
    FinishedRequests,
    QueriedTokens,
    CachedTokens,
    ExternalCachedTokens,
    /// The number of the custom metric.
    Custom(u8),
}

impl Role {
    /// A counter that only makes the picker better: its absence is no fault, and it may have several names.
    pub(super) fn is_optional_counter(self) -> bool {
        self.optional_counter().is_some()
    }

    /// Its place among the optional counters.
    pub(super) fn optional_counter(self) -> Option<usize> {
        Some(match self {
            Self::FirstTokens => 0,
            Self::FirstTokenSeconds => 1,
            Self::TokenGaps => 2,
            Self::TokenGapSeconds => 3,
            Self::OutputTokens => 4,
            Self::FinishedRequests => 5,
            Self::QueriedTokens => 6,
            // What the cache itself did not have is looked for elsewhere: nothing is counted twice.
            Self::CachedTokens | Self::ExternalCachedTokens => 7,
            _ => return None,
        })
    }
}

/// Some of the series that an engine is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesSet(u128);

impl SeriesSet {
    /// Bits of the roles that are no custom metrics.
    pub(super) const FIXED: u8 = 16;
    /// Optional counters.
    pub(super) const COUNTERS: usize = 8;

    /// None of them.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn insert(&mut self, role: Role) {
        self.0 |= Self::bit(role);
    }

    fn contains(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    fn bit(role: Role) -> u128 {
        let bit = match role {
            Role::Waiting => 0,
            Role::Running => 1,
            Role::KvUsage => 2,
            Role::Adapters => 3,
            Role::CacheInfo => 4,
            Role::BlockSize => 5,
            Role::NumBlocks => 6,
            Role::FirstTokens => 7,
            Role::QueriedTokens => 8,
            Role::CachedTokens => 9,
            Role::ExternalCachedTokens => 10,
            Role::FirstTokenSeconds => 11,
            Role::TokenGaps => 12,
            Role::TokenGapSeconds => 13,
            Role::OutputTokens => 14,
            Role::FinishedRequests => 15,
            Role::Custom(index) => Self::FIXED + index,
        };
        1 << bit
    }
}

/// One wanted sample name, with what its series tell.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: Box<str>,
    pub(super) roles: SmallVec<[Told; 2]>,
}

/// What a series tells, when its labels are right.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) role: Role,
    /// Place among the series that tell the same: a page's first counts.
    pub(super) rank: u8,
    pub(super) filters: Vec<LabelFilter>,
}

/// Eight bytes of a line that a wanted name has at `EngineSpec::probe_offset`: most lines are rejected by them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) mask: u64,
    pub(super) key: u64,
}

/// An engine's series, ready to be looked for in a page.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    name: Box<str>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) probes: Vec<Probe>,
    pub(super) probe_offset: usize,
    pub(super) block_size_label: Box<str>,
    pub(super) num_blocks_label: Box<str>,
    pub(super) custom_keys: Vec<Arc<str>>,
    /// Series whose absence is a fault. Adapters are served by some only, and the counters are no part of the reference.
    pub(super) required: SeriesSet,
}

impl EngineSpec {
    /// Prepares a definition.
    ///
    /// # Errors
    /// `SpecError` for a field that does not follow the grammar, a definition without a name, one without any series, and custom metrics
    /// that are too many, or without a key of their own.
    pub fn new(definition: &EngineDefinition) -> Result<Self, SpecError> {
        let error = |field, text: &str, reason| SpecError {
            engine: definition.name.clone(),
            field,
            text: text.to_owned(),
            reason,
        };
        if definition.name.is_empty() {
            return Err(error("name", "", "an engine needs a name"));
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for (role, field, text) in definition.series() {
            if text.is_empty() {
                continue;
            }
            let names: SmallVec<[&str; 2]> = if role.is_optional_counter() {
                text.split('|').collect()
            } else {
                SmallVec::from_iter([text])
            };
            for (rank, name) in (0..MOST_ALTERNATIVES).zip(&names) {
                let series =
                    SeriesSpec::parse(name).map_err(|reason| error(field, text, reason))?;
                add(&mut wanted, (role, rank), series);
            }
            if names.len() > usize::from(MOST_ALTERNATIVES) {
                return Err(error(field, text, "more than eight series tell one thing"));
            }
        }
        let custom = custom_metrics::prepare(&definition.custom_metrics)
            .map_err(|(field, text, reason)| error(field, text, reason))?;
        let mut custom_keys = Vec::with_capacity(custom.len());
        for (index, (key, series)) in (0..).zip(custom) {
            custom_keys.push(key);
            add(&mut wanted, (Role::Custom(index), 0), series);
        }
        if wanted.is_empty() {
            return Err(error(
                "name",
                &definition.name,
                "the engine has no series at all",
            ));
        }
        let (probe_offset, probes) = probes(&wanted);
        let mut required = SeriesSet::default();
        for Told { role, .. } in wanted.iter().flat_map(|wanted| &wanted.roles) {
            if *role != Role::Adapters && !role.is_optional_counter() {
                required.insert(*role);
            }
        }
        let label = |configured: &str, default: &str| -> Box<str> {
            if configured.is_empty() {
                default.into()
            } else {
                configured.into()
            }
        };
        Ok(Self {
            name: definition.name.as_str().into(),
            wanted,
            probes,
            probe_offset,
            block_size_label: label(&definition.cache_block_size_label_name, "block_size"),
            num_blocks_label: label(&definition.cache_num_blocks_label_name, "num_gpu_blocks"),
            custom_keys,
            required,
        })
    }

    /// The engines known without configuration: vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton.
    pub fn built_in() -> &'static [Self] {
        static BUILT_IN: LazyLock<Vec<EngineSpec>> = LazyLock::new(|| {
            engines::definitions()
                .iter()
                .filter_map(|definition| EngineSpec::new(definition).ok())
                .collect()
        });
        &BUILT_IN
    }

    /// A built-in engine by name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::built_in().iter().find(|engine| engine.name() == name)
    }

    /// Name of the engine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to ask for with `name[]`: the family of each wanted series, and its sample name where that differs
    /// (`…_seconds` and `…_seconds_count`): vLLM's server filters by family, the Python client library by sample name.
    pub fn families(&self) -> Vec<&str> {
        let mut names = Vec::with_capacity(self.wanted.len() + 1);
        for wanted in &self.wanted {
            let family = family(&wanted.name);
            if !names.contains(&family) {
                names.push(family);
            }
            if family.len() < wanted.name.len() {
                names.push(&wanted.name);
            }
        }
        names
    }

    /// Attribute keys of the custom metrics, in the order of `PageReading::custom`: sorted.
    pub fn custom_keys(&self) -> &[Arc<str>] {
        &self.custom_keys
    }

    /// The series of a set by name, for people: `a, b`. Custom metrics are followed by their key.
    pub fn describe(&self, series: SeriesSet) -> String {
        let mut names = Vec::new();
        for wanted in &self.wanted {
            for Told { role, .. } in &wanted.roles {
                if !series.contains(*role) {
                    continue;
                }
                names.push(match role {
                    Role::Custom(index) => {
                        let key = &self.custom_keys[usize::from(*index)];
                        format!("{} (custom metric {key:?})", wanted.name)
                    }
                    _ => wanted.name.to_string(),
                });
            }
        }
        names.join(", ")
    }
}

impl<'de> Deserialize<'de> for EngineSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&EngineDefinition::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn add(wanted: &mut Vec<Wanted>, (role, rank): (Role, u8), series: SeriesSpec) {
    let told = Told {
        role,
        rank,
        filters: series.labels,
    };
    match wanted.iter_mut().find(|known| known.name == series.name) {
        Some(known) => known.roles.push(told),
        None => wanted.push(Wanted {
            name: series.name,
            roles: SmallVec::from_iter([told]),
        }),
    }
}

fn family(name: &str) -> &str {
    ["_count", "_sum", "_bucket", "_total"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// Where to probe, and for what. The offset skips what all names share (`vllm:`), and leaves each name eight bytes where it can.
fn probes(wanted: &[Wanted]) -> (usize, Vec<Probe>) {
    let Some(first) = wanted.first() else {
        return (0, Vec::new());
    };
    let shared = |name: &str| {
        first
            .name
            .bytes()
            .zip(name.bytes())
            .take_while(|(left, right)| left == right)
            .count()
    };
    let shortest = wanted
        .iter()
        .map(|wanted| wanted.name.len())
        .min()
        .unwrap_or(0);
    let offset = wanted
        .iter()
        .map(|wanted| shared(&wanted.name))
        .min()
        .unwrap_or(0)
        .min(shortest.saturating_sub(8));
    let mut probes = Vec::new();
    for wanted in wanted {
        let tail = &wanted.name.as_bytes()[offset..];
        let length = tail.len().min(8);
        let (mut key, mut mask) = ([0; 8], [0; 8]);
        key[..length].copy_from_slice(&tail[..length]);
        mask[..length].fill(0xff);
        let probe = Probe {
            mask: u64::from_le_bytes(mask),
            key: u64::from_le_bytes(key),
        };
        if !probes.contains(&probe) {
            probes.push(probe);
        }
    }
    (offset, probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_definition_is_valid() {
        let names: Vec<&str> = EngineSpec::built_in()
            .iter()
            .map(EngineSpec::name)
            .collect();
        assert_eq!(
            names,
            [
                "vllm",
                "sglang",
                "trtllm-serve",
                "triton-tensorrt-llm",
                "triton"
            ]
        );
        assert_eq!(
            EngineSpec::named("vllm").map(|engine| engine.probe_offset),
            Some("vllm:".len())
        );
    }

    #[test]
    fn families_name_a_histogram_and_its_count() {
        let families = EngineSpec::named("vllm").expect("built in").families();
        assert!(families.contains(&"vllm:num_requests_waiting"));
        assert!(families.contains(&"vllm:time_to_first_token_seconds"));
        assert!(families.contains(&"vllm:time_to_first_token_seconds_count"));
    }

    #[test]
    fn a_series_may_filter_by_labels() {
        let series =
            SeriesSpec::parse(" depth { queue = \"a b\" , rank=0 } ").expect("a valid spec");
        assert_eq!(series.name.as_ref(), "depth");
        assert_eq!(
            series.labels,
            [("queue".into(), "a b".into()), ("rank".into(), "0".into())]
        );
    }

    #[test]
    fn bad_definitions_name_the_field() {
        for (text, reason) in [
            ("9x", "not a metric name"),
            ("a{b=c", "the labels have no closing brace"),
            ("a{b}", "a label has no `=value`"),
        ] {
            let definition = EngineDefinition {
                name: "mine".into(),
                kv_usage_spec: text.into(),
                ..EngineDefinition::default()
            };
            let error = EngineSpec::new(&definition).expect_err("a bad definition");
            assert_eq!((error.field, error.reason), ("kvUsageSpec", reason));
            assert!(
                error
                    .to_string()
                    .starts_with("engine \"mine\": kvUsageSpec")
            );
        }
        assert!(
            EngineSpec::new(&EngineDefinition {
                name: "mine".into(),
                ..EngineDefinition::default()
            })
            .is_err()
        );
        assert!(
            serde_json::from_str::<EngineSpec>(
                r#"{"name":"mine","kvUsageSpec":"kv","customMetric":[]}"#
            )
            .is_err()
        );
        assert!(
            serde_json::from_str::<EngineSpec>(r#"{"name":"mine","kvUsageSpec":"kv"}"#).is_ok()
        );
    }
}
