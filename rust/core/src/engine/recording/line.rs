//! The lines of a recording: JSON, a superset of the Mooncake trace format.

use std::hash::{BuildHasher, RandomState};

use serde::{Serialize, Serializer};

use super::endpoints::{Endpoints, Row};
use super::{Adapters, Ending, RecordingEntry, milliseconds};
use crate::Nanos;
use crate::learn::Curve;

/// Numbers above this are not exact where JSON's numbers are read as doubles.
const HASH_BITS: u32 = 53;

#[derive(Serialize)]
pub(super) struct Header<'a> {
    /// Version of the format.
    pub(super) warmroute_recording: u32,
    /// Seconds since the epoch.
    pub(super) started: f64,
    pub(super) sample: f64,
    pub(super) block_tokens: u32,
    /// The effective configuration, YAML.
    pub(super) policy: &'a str,
    pub(super) endpoints: Vec<Row>,
}

#[derive(Serialize)]
struct Decided<'a> {
    /// Milliseconds since the start.
    timestamp: f64,
    input_length: u32,
    output_length: Option<u64>,
    hash_ids: Vec<u64>,
    unit_tokens: u32,
    /// Blocks of each prompt, where there are several.
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    sequences: &'a [u32],
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lora: Option<&'a str>,
    priority: i32,
    max_tokens: Option<u32>,
    profile: &'a str,
    chosen: u32,
    /// Where it ended, when that is another endpoint than the chosen one.
    #[serde(skip_serializing_if = "Option::is_none")]
    served: Option<u32>,
    ttft_ms: Option<f64>,
    duration_ms: f64,
    status: Option<u16>,
    /// How many there were, when not all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_total: Option<usize>,
    candidates: Columns<'a>,
    curve: CurveOf,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<Prefix<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<AdaptersOf<'a>>,
}

#[derive(Serialize)]
struct Columns<'a> {
    endpoint: Vec<u32>,
    inflight: Numbers<'a>,
    inflight_tokens: Numbers<'a>,
    prefill_tokens: Numbers<'a>,
    waiting: Numbers<'a>,
    running: Numbers<'a>,
    kv: Numbers<'a>,
    matched_tokens: Vec<u64>,
    pending_prefills: Numbers<'a>,
    prefill_gap: Numbers<'a>,
    prefill_factor: Numbers<'a>,
    decode_factor: Numbers<'a>,
    /// None where no limit has shown.
    slots: Numbers<'a>,
    sent_since_page: Numbers<'a>,
    kv_tokens: Numbers<'a>,
    /// Below zero where the scraper pauses: so long until it reads the next. None where no page was read.
    page_age_ms: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_matched: Option<Numbers<'a>>,
}

/// What requests cost on the pool's endpoints, as far as it was learnt: seconds, and tokens.
#[derive(Serialize)]
struct CurveOf {
    prefill_base: f64,
    prefill_token: f64,
    decode_base: f64,
    decode_request: f64,
    output_tokens: f64,
}

impl From<Curve> for CurveOf {
    fn from(curve: Curve) -> Self {
        Self {
            prefill_base: curve.prefill_base,
            prefill_token: curve.prefill_token,
            decode_base: curve.decode_base,
            decode_request: curve.decode_request,
            output_tokens: curve.output_tokens,
        }
    }
}

#[derive(Serialize)]
struct Prefix<'a> {
    producer: &'a str,
    block_tokens: u32,
    total_blocks: u32,
    blocks: &'a [u32],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    held: &'a [u32],
}

#[derive(Serialize)]
struct AdaptersOf<'a> {
    row: usize,
    running: &'a [Box<str>],
    waiting: &'a [Box<str>],
    max: Option<u32>,
}

/// Whole numbers without a fraction: most are counts.
struct Numbers<'a>(&'a [f64]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|number| Number(*number)))
    }
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as i64;
        #[expect(clippy::float_cmp, reason = "whether nothing is lost")]
        if whole as f64 == self.0 && whole.unsigned_abs() < 1 << HASH_BITS {
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// The first line.
pub(super) fn header(header: &Header<'_>) -> String {
    let mut line = String::new();
    push(header, &mut line);
    line
}

/// Another configuration decides from then on, milliseconds since the start. Readers of traces take a line with a `timestamp` for a request.
pub(super) fn policy(policy: &str, from_ms: f64) -> String {
    #[derive(Serialize)]
    struct Changed<'a> {
        from_ms: f64,
        policy: &'a str,
    }
    let mut line = String::new();
    push(&Changed { from_ms, policy }, &mut line);
    line
}

/// A decision whose exchange has ended, after the endpoints that it is the first to name.
pub(super) fn write(
    entry: &RecordingEntry,
    started: Nanos,
    salt: &RandomState,
    endpoints: &mut Endpoints,
    lines: &mut String,
) {
    let Some(ending) = &entry.ending else {
        return;
    };
    let mut news = endpoints.enter(&entry.snapshot);
    let candidates = &entry.choice.candidates;
    let chosen = endpoints.at(candidates.position[entry.choice.chosen]);
    let served = endpoints.number(&ending.served, &mut news);
    if !news.is_empty() {
        #[derive(Serialize)]
        struct Introduced {
            endpoints: Vec<Row>,
        }
        push(&Introduced { endpoints: news }, lines);
    }
    let positions = candidates.position.iter();
    let endpoint: Vec<u32> = positions.map(|position| endpoints.at(*position)).collect();
    push(
        &decided(entry, ending, started, salt, (chosen, served), endpoint),
        lines,
    );
}

fn decided<'a>(
    entry: &'a RecordingEntry,
    ending: &Ending,
    started: Nanos,
    salt: &RandomState,
    (chosen, served): (u32, u32),
    endpoint: Vec<u32>,
) -> Decided<'a> {
    let candidates = &entry.choice.candidates;
    let rows = candidates.len();
    let matched = candidates.prefixes.first();
    let cached = |row| matched.map_or(0, |column| column.cached_tokens(row));
    let own = |adapters: &Adapters| {
        let mut named = adapters.running.iter().chain(&adapters.waiting);
        named.any(|name| **name == *entry.model)
    };
    let is_adapter = entry.adapters.iter().any(own);
    // A client may write anything where the model's name is expected: what no engine knew is left out.
    let is_model = is_adapter || entry.status.is_some_and(|status| status < 400);
    let pages = candidates.page_at.iter();
    let several = entry.sequences.len() > 1;
    Decided {
        timestamp: milliseconds(entry.at - started),
        input_length: entry.prompt_tokens,
        output_length: ending.output_tokens,
        hash_ids: entry
            .hashes
            .iter()
            .map(|hash| salt.hash_one(hash) >> (64 - HASH_BITS))
            .collect(),
        unit_tokens: entry.unit_tokens,
        sequences: if several { &entry.sequences } else { &[] },
        model: if is_model { &entry.model } else { "" },
        lora: is_adapter.then_some(&*entry.model),
        priority: entry.priority,
        max_tokens: entry.max_tokens,
        profile: &entry.profile,
        chosen,
        served: (served != chosen).then_some(served),
        ttft_ms: ending.first_token.map(milliseconds),
        duration_ms: milliseconds(ending.duration),
        status: entry.status,
        candidates_total: (entry.choice.total != rows).then_some(entry.choice.total),
        candidates: Columns {
            endpoint,
            inflight: Numbers(&candidates.inflight_requests),
            inflight_tokens: Numbers(&candidates.inflight_tokens),
            prefill_tokens: Numbers(&candidates.prefill_tokens),
            waiting: Numbers(&candidates.waiting),
            running: Numbers(&candidates.running),
            kv: Numbers(&candidates.kv_usage),
            matched_tokens: (0..rows).map(cached).collect(),
            pending_prefills: Numbers(&candidates.pending_prefills),
            prefill_gap: Numbers(&candidates.prefill_gap),
            prefill_factor: Numbers(&candidates.prefill_factor),
            decode_factor: Numbers(&candidates.decode_factor),
            slots: Numbers(&candidates.slots),
            sent_since_page: Numbers(&candidates.sent_since_page),
            kv_tokens: Numbers(&candidates.kv_tokens),
            page_age_ms: pages.map(|page| age(entry.at, *page)).collect(),
            media_matched: (!candidates.media_matched.is_empty())
                .then_some(Numbers(&candidates.media_matched)),
        },
        curve: CurveOf::from(candidates.curve),
        prefixes: candidates
            .prefixes
            .iter()
            .map(|column| Prefix {
                producer: &column.producer,
                block_tokens: column.block_tokens,
                total_blocks: column.total_blocks,
                blocks: &column.blocks,
                held: &column.held,
            })
            .collect(),
        adapters: entry
            .adapters
            .iter()
            .map(|adapters| AdaptersOf {
                row: adapters.row,
                running: &adapters.running,
                waiting: &adapters.waiting,
                max: adapters.most,
            })
            .collect(),
    }
}

fn age(now: Nanos, page: Nanos) -> Option<f64> {
    if page == Nanos(0) {
        None
    } else if page > now {
        Some(-milliseconds(page - now))
    } else {
        Some(milliseconds(now - page))
    }
}

fn push(line: &impl Serialize, lines: &mut String) {
    // Plain numbers and texts do not fail; a line that did would be missing, not broken.
    if let Ok(json) = serde_json::to_string(line) {
        lines.push_str(&json);
        lines.push('\n');
    }
}
