//! The lines of a recording, as far as a decision needs them again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::learn::Curve;
use crate::schedule::Prompt;

/// A line, by what it tells.
#[derive(Debug)]
pub(super) enum Line {
    Decided(Box<Decided>),
    Introduced(Vec<Introduced>),
    Other,
}

/// The fields by which lines are told apart.
#[derive(Debug, Deserialize)]
struct Fields {
    candidates: Option<IgnoredAny>,
    endpoints: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Introducing {
    endpoints: Vec<Introduced>,
}

impl Line {
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let fields: Fields = serde_json::from_slice(text)?;
        if fields.candidates.is_some() {
            return serde_json::from_slice(text).map(Self::Decided);
        }
        if fields.endpoints.is_some() {
            let introducing: Introducing = serde_json::from_slice(text)?;
            return Ok(Self::Introduced(introducing.endpoints));
        }
        Ok(Self::Other)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Introduced {
    pub(super) index: u32,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) address: Box<str>,
    #[serde(default)]
    pub(super) labels: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Decided {
    pub(super) timestamp: f64,
    pub(super) input_length: u32,
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) priority: i32,
    pub(super) max_tokens: Option<u32>,
    #[serde(default)]
    hash_ids: Vec<u64>,
    #[serde(default)]
    unit_tokens: u32,
    #[serde(default)]
    sequences: Vec<usize>,
    pub(super) chosen: u32,
    pub(super) candidates: Columns,
    pub(super) curve: Option<CurveOf>,
    #[serde(default)]
    pub(super) prefixes: Vec<Prefix>,
    #[serde(default)]
    pub(super) adapters: Vec<Adapters>,
}

type Column = Vec<Option<f64>>;

#[derive(Debug, Deserialize)]
pub(super) struct Columns {
    pub(super) endpoint: Vec<u32>,
    pub(super) inflight: Column,
    pub(super) inflight_tokens: Column,
    pub(super) prefill_tokens: Column,
    pub(super) waiting: Column,
    pub(super) running: Column,
    pub(super) kv: Column,
    pub(super) matched_tokens: Vec<u64>,
    #[serde(default)]
    pub(super) pending_prefills: Column,
    #[serde(default)]
    pub(super) prefill_gap: Column,
    #[serde(default)]
    pub(super) prefill_factor: Column,
    #[serde(default)]
    pub(super) decode_factor: Column,
    #[serde(default)]
    pub(super) slots: Column,
    #[serde(default)]
    pub(super) sent_since_page: Column,
    #[serde(default)]
    pub(super) kv_tokens: Column,
    #[serde(default)]
    pub(super) page_age_ms: Column,
    #[serde(default)]
    pub(super) media_matched: Column,
}

/// As [`Curve`] has them.
#[derive(Debug, Deserialize)]
pub(super) struct CurveOf {
    prefill_base: f64,
    prefill_token: f64,
    decode_base: f64,
    decode_request: f64,
    output_tokens: f64,
}

impl CurveOf {
    pub(super) fn read(&self) -> Curve {
        Curve {
            prefill_base: self.prefill_base,
            prefill_token: self.prefill_token,
            decode_base: self.decode_base,
            decode_request: self.decode_request,
            output_tokens: self.output_tokens,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Prefix {
    pub(super) producer: Box<str>,
    pub(super) block_tokens: u32,
    pub(super) total_blocks: u32,
    pub(super) blocks: Vec<u32>,
    #[serde(default)]
    pub(super) held: Vec<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Adapters {
    pub(super) row: usize,
    #[serde(default)]
    pub(super) running: Vec<Box<str>>,
    #[serde(default)]
    pub(super) waiting: Vec<Box<str>>,
    pub(super) max: Option<u32>,
}

impl Decided {
    /// All columns are as long as the list of endpoints.
    pub(super) fn check(&self) -> Result<(), String> {
        let Columns {
            endpoint,
            inflight,
            inflight_tokens,
            prefill_tokens,
            waiting,
            running,
            kv,
            matched_tokens,
            pending_prefills,
            prefill_gap,
            prefill_factor,
            decode_factor,
            slots,
            sent_since_page,
            kv_tokens,
            page_age_ms,
            media_matched,
        } = &self.candidates;
        let expected = endpoint.len();
        let columns = [
            ("inflight", inflight.len()),
            ("inflight_tokens", inflight_tokens.len()),
            ("prefill_tokens", prefill_tokens.len()),
            ("waiting", waiting.len()),
            ("running", running.len()),
            ("kv", kv.len()),
            ("matched_tokens", matched_tokens.len()),
        ];
        let optional = [
            ("pending_prefills", pending_prefills.len()),
            ("prefill_gap", prefill_gap.len()),
            ("prefill_factor", prefill_factor.len()),
            ("decode_factor", decode_factor.len()),
            ("slots", slots.len()),
            ("sent_since_page", sent_since_page.len()),
            ("kv_tokens", kv_tokens.len()),
            ("page_age_ms", page_age_ms.len()),
            ("media_matched", media_matched.len()),
        ];
        let told = optional.into_iter().filter(|(_, length)| *length > 0);
        let columns = columns.into_iter().chain(told);
        for (name, length) in columns {
            if length != expected {
                return Err(format!(
                    "candidates.{name} has {length} values for {expected} endpoints"
                ));
            }
        }
        Ok(())
    }

    /// Its blocks under the numbers of the recording: equal beginnings are equal, and have other homes than they had live where a plugin hashes them.
    pub(super) fn prompt(&self) -> Prompt<'_> {
        let first = self.sequences.first().copied();
        let blocks = first.unwrap_or(usize::MAX).min(self.hash_ids.len());
        Prompt {
            chain: &self.hash_ids[..blocks],
            block_tokens: self.unit_tokens,
            sent: None,
        }
    }

    /// Tokens of the prompt that the endpoint of a row did not have; at least 1.
    pub(super) fn uncached_tokens(&self, row: usize) -> f64 {
        let cached = self.candidates.matched_tokens[row];
        u64::from(self.input_length).saturating_sub(cached).max(1) as f64
    }
}
