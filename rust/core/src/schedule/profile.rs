//! The weighted profile: filters in order, scores clamped and summed by weight, a picker that ranks.

use std::fmt;

use super::{Candidates, Context, Explanation};
use crate::Nanos;
use crate::stats::PluginLabels;

/// Removes candidates. Called once per decision, before any scorer, with the rows that earlier filters kept.
pub trait Filter: Send + Sync + fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Sets `keep[row] = false` for each row to drop; never sets a `false` back to `true`.
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]);
}

/// Rates candidates. Called once per decision.
pub trait Scorer: Send + Sync + fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Writes one score per row, all 0 before; the profile clamps each to 0..=1 (NaN counts 0) and multiplies it by the weight.
    fn score(&self, context: &Context<'_>, scores: &mut [f64]);
}

/// Chooses among scored candidates. Called once per decision.
pub trait Picker: Send + Sync + fmt::Debug {
    /// Type name as in the configuration.
    fn type_name(&self) -> &'static str;
    /// Writes into `ranked` up to `limit` (at least 1) distinct rows, best first. `scores` has one total per row and is not empty.
    fn pick(&self, scores: &[f64], limit: usize, random: &mut fastrand::Rng, ranked: &mut Vec<u32>);
}

/// A filter under its name in the configuration.
#[derive(Debug)]
pub(super) struct NamedFilter {
    pub(super) name: Box<str>,
    pub(super) filter: Box<dyn Filter>,
}

/// A scorer under its name in the configuration, with its weight.
#[derive(Debug)]
pub(super) struct NamedScorer {
    pub(super) name: Box<str>,
    pub(super) weight: f64,
    pub(super) scorer: Box<dyn Scorer>,
}

/// What decides: built from a [`super::ProfileSpec`] by `Profile::from_spec`.
#[derive(Debug)]
pub struct Profile {
    pub(super) filters: Vec<NamedFilter>,
    pub(super) scorers: Vec<NamedScorer>,
    pub(super) picker: Box<dyn Picker>,
    /// Name of the picker in the configuration.
    pub(super) picker_name: Box<str>,
    /// How many endpoints are ranked; at least 1.
    pub(super) limit: usize,
}

/// The outcome of a decision, beside the ranked rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Best row, in the rows of the context.
    pub row: u32,
    /// Its total score: the sum of weight × score.
    pub total: f64,
    /// Rows that were left after the filters.
    pub considered: u32,
}

/// No candidate was left. The exchange answers 429, `ResourceExhausted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEndpoint {
    /// Rows before the filters; 0: there was nothing to choose from.
    pub candidates: usize,
    /// Name of the filter that dropped the last row.
    pub filter: Option<Box<str>>,
}

impl fmt::Display for NoEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The reference's wording: clients and tests look for it.
        formatter.write_str("no endpoints available for the given request")
    }
}

impl std::error::Error for NoEndpoint {}

/// Memory that decisions use again and again; one for each thread, or behind the lock that decisions share.
#[derive(Debug, Default)]
pub struct Scratch {
    keep: Vec<bool>,
    /// The rows that filters left, packed. Unused while nothing was dropped.
    kept: Candidates,
    /// Original row of each packed row; empty while nothing was dropped.
    rows: Vec<u32>,
    scores: Vec<f64>,
    totals: Vec<f64>,
    /// What tells the time, where plugins are to be measured.
    clock: Option<fn() -> Nanos>,
    /// When the first plugin of the last decision began and when each one ended.
    marks: Vec<Nanos>,
}

impl Scratch {
    /// Memory that also records when each plugin ran: one look at the clock a plugin, and one before the first.
    pub fn timed(clock: fn() -> Nanos) -> Self {
        Self {
            clock: Some(clock),
            ..Self::default()
        }
    }

    /// When the first plugin of the last decision began and when each one ended, in the order of [`Profile::plugins`]; empty unless timed.
    pub fn marks(&self) -> &[Nanos] {
        &self.marks
    }

    /// (row, total score) of each row that the filters left, in the last decision that used this memory.
    pub fn totals(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.totals
            .iter()
            .enumerate()
            .map(|(packed, total)| (self.original(packed as u32), *total))
    }

    fn original(&self, packed: u32) -> u32 {
        self.rows.get(packed as usize).copied().unwrap_or(packed)
    }
}

fn mark(clock: Option<fn() -> Nanos>, marks: &mut Vec<Nanos>) {
    if let Some(clock) = clock {
        marks.push(clock());
    }
}

impl Profile {
    /// The plugins in the order in which a decision runs them.
    pub fn plugins(&self) -> impl Iterator<Item = PluginLabels<'_>> {
        let labels = |extension_point, plugin_type, plugin_name| PluginLabels {
            extension_point,
            plugin_type,
            plugin_name,
        };
        let filters = self
            .filters
            .iter()
            .map(move |named| labels("Filter", named.filter.type_name(), &*named.name));
        let scorers = self
            .scorers
            .iter()
            .map(move |named| labels("Scorer", named.scorer.type_name(), &*named.name));
        let picker = labels("Picker", self.picker.type_name(), &*self.picker_name);
        filters.chain(scorers).chain(std::iter::once(picker))
    }

    /// Ranks the candidates: writes into `ranked` up to the profile's number of rows of `context`, best first.
    ///
    /// Filters run in order, each on what the ones before left. Every score is clamped to 0..=1 (NaN is 0), multiplied by its weight and
    /// summed, without division by the sum of weights. Allocates nothing once `scratch` and `ranked` have grown to the pool's size,
    /// unless an explanation is asked for.
    ///
    /// # Errors
    /// [`NoEndpoint`] when the filters, or the caller, left no row; `ranked` is empty then, and an explanation tells what was dropped where.
    pub fn run(
        &self,
        context: &Context<'_>,
        random: &mut fastrand::Rng,
        scratch: &mut Scratch,
        ranked: &mut Vec<u32>,
        mut explain: Option<&mut Explanation>,
    ) -> Result<Choice, NoEndpoint> {
        ranked.clear();
        scratch.rows.clear();
        scratch.totals.clear();
        scratch.marks.clear();
        if let Some(explanation) = explain.as_deref_mut() {
            explanation.begin(context);
        }
        let count = context.candidates.len();
        if count == 0 {
            return Err(NoEndpoint {
                candidates: 0,
                filter: None,
            });
        }
        mark(scratch.clock, &mut scratch.marks);
        if !self.filters.is_empty() {
            self.run_filters(context, scratch, explain.as_deref_mut())?;
        }

        let Scratch {
            kept,
            rows,
            scores,
            totals,
            clock,
            marks,
            ..
        } = &mut *scratch;
        let candidates = if rows.is_empty() {
            context.candidates
        } else {
            &*kept
        };
        let context = Context {
            candidates,
            ..*context
        };
        let considered = candidates.len();
        totals.resize(considered, 0.0);
        for NamedScorer {
            name,
            weight,
            scorer,
        } in &self.scorers
        {
            scores.clear();
            scores.resize(considered, 0.0);
            scorer.score(&context, scores);
            if let Some(explanation) = explain.as_deref_mut() {
                explanation.scored(name, scorer.type_name(), *weight, rows, scores);
            }
            for (total, score) in totals.iter_mut().zip(scores.iter()) {
                *total += weight * clamped(*score);
            }
            mark(*clock, marks);
        }

        self.picker.pick(totals, self.limit, random, ranked);
        mark(*clock, marks);
        let Some(&best) = ranked.first() else {
            return Err(NoEndpoint {
                candidates: count,
                filter: None,
            });
        };
        let total = totals[best as usize];
        if !scratch.rows.is_empty() {
            for row in ranked.iter_mut() {
                *row = scratch.original(*row);
            }
        }
        if let Some(explanation) = explain {
            explanation.finish(self.picker.type_name(), scratch.totals(), ranked);
        }
        Ok(Choice {
            row: ranked[0],
            total,
            considered: considered as u32,
        })
    }

    /// Fills `scratch.kept` and `scratch.rows`, when any row was dropped.
    fn run_filters(
        &self,
        context: &Context<'_>,
        scratch: &mut Scratch,
        mut explain: Option<&mut Explanation>,
    ) -> Result<(), NoEndpoint> {
        let count = context.candidates.len();
        let Scratch {
            keep,
            kept,
            rows,
            clock,
            marks,
            ..
        } = scratch;
        keep.clear();
        keep.resize(count, true);
        let mut left = count;
        for NamedFilter { name, filter } in &self.filters {
            filter.filter(context, keep);
            left = keep.iter().filter(|kept| **kept).count();
            mark(*clock, marks);
            if let Some(explanation) = explain.as_deref_mut() {
                explanation.filtered(name, filter.type_name(), keep);
            }
            if left == 0 {
                return Err(NoEndpoint {
                    candidates: count,
                    filter: Some(name.clone()),
                });
            }
        }
        if left < count {
            rows.extend(
                keep.iter()
                    .zip(0..)
                    .filter_map(|(kept, row)| kept.then_some(row)),
            );
            pack(context.candidates, rows, kept);
        }
        Ok(())
    }
}

/// NaN is no opinion; a score out of range has no more say than its weight.
pub(super) fn clamped(score: f64) -> f64 {
    if score.is_nan() {
        0.0
    } else {
        score.clamp(0.0, 1.0)
    }
}

/// Copies the given rows of every column.
fn pack(from: &Candidates, rows: &[u32], into: &mut Candidates) {
    fn column<T: Copy>(from: &[T], rows: &[u32], into: &mut Vec<T>) {
        into.clear();
        into.extend(rows.iter().map(|row| from[*row as usize]));
    }
    // Named one by one: a column added to the candidates does not compile until it is packed too.
    let Candidates {
        position,
        waiting,
        running,
        kv_usage,
        inflight_requests,
        inflight_tokens,
        prefill_tokens,
        matched_blocks,
    } = from;
    column(position, rows, &mut into.position);
    column(waiting, rows, &mut into.waiting);
    column(running, rows, &mut into.running);
    column(kv_usage, rows, &mut into.kv_usage);
    column(inflight_requests, rows, &mut into.inflight_requests);
    column(inflight_tokens, rows, &mut into.inflight_tokens);
    column(prefill_tokens, rows, &mut into.prefill_tokens);
    column(matched_blocks, rows, &mut into.matched_blocks);
}

#[cfg(test)]
mod tests;
