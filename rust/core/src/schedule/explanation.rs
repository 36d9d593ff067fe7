//! Why a decision went as it did. Filled only when somebody asks.

use std::net::SocketAddr;

use serde::Serialize;

use super::Context;
use super::profile::{Named, clamped};

/// A decision, step by step; serialises to JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// Type of the picker that ranked; empty when the filters left nothing.
    pub picker: Box<str>,
    /// Screeners in the order in which they ran. What they dropped is not among the candidates.
    pub screeners: Vec<FilterExplanation>,
    /// Filters in the order in which they ran.
    pub filters: Vec<FilterExplanation>,
    /// Scorers in the order in which they ran.
    pub scorers: Vec<ScorerExplanation>,
    /// Candidates: the picked ones first in their order, then the others by falling total, then those that a filter dropped.
    pub candidates: Vec<CandidateExplanation>,
}

/// One filter or screener.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilterExplanation {
    /// Name in the configuration.
    pub name: Box<str>,
    /// Type in the configuration.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// Candidates left after it.
    pub kept: u32,
    /// Why it had no part: the reason under which its failure is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<&'static str>,
}

/// One scorer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScorerExplanation {
    /// Name in the configuration.
    pub name: Box<str>,
    /// Type in the configuration.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// What its scores are multiplied by.
    pub weight: f64,
    /// Why it had no part: the reason under which its failure is counted. Its scores are null then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<&'static str>,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateExplanation {
    /// `address:port`; empty when the row's endpoint is not in the snapshot.
    pub endpoint: Box<str>,
    /// Row in the decision's candidates.
    #[serde(skip)]
    pub row: u32,
    /// Name of the filter that dropped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_by: Option<Box<str>>,
    /// One for each scorer, in their order; empty for a dropped candidate.
    pub scores: Vec<ScoreExplanation>,
    /// Sum of weight × clamped score.
    pub total: f64,
    /// Place among the picked, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// What the scorers saw: prompt tokens not in its cache.
    pub uncached_tokens: f64,
    /// Uncached tokens reserved and not yet prefilled.
    pub prefill_tokens: f64,
    /// Requests in flight through this picker.
    pub inflight_requests: f64,
    /// Requests waiting in the engine.
    pub waiting: f64,
    /// Requests running in the engine.
    pub running: f64,
    /// KV cache usage, 0 to 1.
    pub kv_usage: f64,
}

/// What one scorer gave one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreExplanation {
    /// As the scorer wrote it; JSON null when it is no number.
    pub raw: f64,
    /// Weight × clamped score: its part of the total.
    pub weighted: f64,
}

impl FilterExplanation {
    fn new<T>(plugin: &Named<T>, keep: &[bool]) -> Self {
        Self {
            name: plugin.name.as_ref().into(),
            type_name: plugin.type_name.as_ref().into(),
            kept: keep.iter().filter(|keep| **keep).count() as u32,
            skipped: None,
        }
    }
}

impl Explanation {
    pub(super) fn begin(&mut self, context: &Context<'_>) {
        let candidates = context.candidates;
        *self = Self {
            screeners: std::mem::take(&mut self.screeners),
            ..Self::default()
        };
        self.candidates = (0..candidates.len())
            .map(|row| {
                let endpoint = context
                    .snapshot
                    .endpoints
                    .get(candidates.position[row] as usize);
                CandidateExplanation {
                    endpoint: endpoint
                        .map(|endpoint| {
                            SocketAddr::new(endpoint.identity.address, endpoint.identity.port)
                                .to_string()
                        })
                        .unwrap_or_default()
                        .into(),
                    row: row as u32,
                    dropped_by: None,
                    scores: Vec::new(),
                    total: 0.0,
                    rank: None,
                    uncached_tokens: context.uncached_tokens(row),
                    prefill_tokens: candidates.prefill_tokens[row],
                    inflight_requests: candidates.inflight_requests[row],
                    waiting: candidates.waiting[row],
                    running: candidates.running[row],
                    kv_usage: candidates.kv_usage[row],
                }
            })
            .collect();
    }

    pub(super) fn filtered<T>(
        &mut self,
        filter: &Named<T>,
        keep: &[bool],
        skipped: Option<&'static str>,
    ) {
        for (candidate, keep) in self.candidates.iter_mut().zip(keep) {
            if !keep && candidate.dropped_by.is_none() {
                candidate.dropped_by = Some(filter.name.as_ref().into());
            }
        }
        self.filters.push(FilterExplanation {
            skipped,
            ..FilterExplanation::new(filter, keep)
        });
    }

    /// `keep`: what it and those before it keep.
    pub(crate) fn screened<T>(&mut self, screener: &Named<T>, keep: &[bool]) {
        self.screeners.push(FilterExplanation::new(screener, keep));
    }

    /// `rows`: original row of each score; empty when they are the same.
    pub(super) fn scored<T>(&mut self, by: &Named<T>, weight: f64, rows: &[u32], scores: &[f64]) {
        self.scorers.push(ScorerExplanation {
            name: by.name.as_ref().into(),
            type_name: by.type_name.as_ref().into(),
            weight,
            skipped: None,
        });
        for (packed, &raw) in scores.iter().enumerate() {
            let row = rows.get(packed).map_or(packed, |row| *row as usize);
            self.candidates[row].scores.push(ScoreExplanation {
                raw,
                weighted: weight * clamped(raw),
            });
        }
    }

    /// The scorer that was told last gave no usable answer.
    pub(super) fn skipped(&mut self, reason: &'static str) {
        if let Some(scorer) = self.scorers.last_mut() {
            scorer.skipped = Some(reason);
        }
    }

    pub(super) fn finish(
        &mut self,
        picker: &str,
        totals: impl Iterator<Item = (u32, f64)>,
        ranked: &[u32],
    ) {
        self.picker = picker.into();
        for (row, total) in totals {
            self.candidates[row as usize].total = total;
        }
        for (rank, row) in (1..).zip(ranked) {
            self.candidates[*row as usize].rank = Some(rank);
        }
        self.candidates.sort_by(|left, right| {
            let key = |candidate: &CandidateExplanation| {
                (
                    candidate.rank.unwrap_or(u32::MAX),
                    candidate.dropped_by.is_some(),
                )
            };
            key(left)
                .cmp(&key(right))
                .then(right.total.total_cmp(&left.total))
        });
    }
}
