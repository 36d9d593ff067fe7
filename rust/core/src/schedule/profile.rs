//! The weighted profile: filters in order, scores clamped and summed by weight, a picker that ranks.

use std::fmt;
use std::sync::Arc;

use super::{Candidates, Context, Explanation, gather_columns};
use crate::Nanos;
use crate::plugin::{External, ExternalFailure};
use crate::pool::Snapshot;
use crate::stats::PluginLabels;

/// Removes candidates. Called once per decision, before any scorer, with the rows that earlier filters kept.
pub trait Filter: Send + Sync + fmt::Debug {
    /// Sets `keep[row] = false` for each row to drop; never sets a `false` back to `true`.
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]);
}

/// Rates candidates. Called once per decision.
pub trait Scorer: Send + Sync + fmt::Debug {
    /// Writes one score per row, all 0 before; the profile clamps each to 0..=1 (NaN counts 0) and multiplies it by the weight.
    fn score(&self, context: &Context<'_>, scores: &mut [f64]);
}

/// Chooses among scored candidates. Called once per decision.
pub trait Picker: Send + Sync + fmt::Debug {
    /// Writes into `ranked` up to `limit` (at least 1) distinct rows, best first. `scores` has one total per row of `context` and is not empty.
    fn pick(&self, context: &Context<'_>, scores: &[f64], limit: usize, ranked: &mut Vec<u32>);
}

/// A part of a profile under its plugin's name in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: Arc<str>,
    pub(crate) type_name: Arc<str>,
    pub(crate) part: T,
}

/// A filter, here or elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum FilterPart {
    Own(Arc<dyn Filter>),
    External(Arc<dyn External>),
}

/// A scorer, here or elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum ScorerPart {
    Own(Arc<dyn Scorer>),
    External(Arc<dyn External>),
}

/// What decides: built from a [`crate::PolicySpec`].
#[derive(Debug)]
pub struct Profile {
    pub(crate) name: Arc<str>,
    pub(crate) filters: Vec<Named<FilterPart>>,
    /// With weights.
    pub(crate) scorers: Vec<(Named<ScorerPart>, f64)>,
    pub(crate) picker: Named<Arc<dyn Picker>>,
    /// How many endpoints are ranked; at least 1.
    pub(crate) limit: usize,
}

/// What was worked out before the choice was locked: the filters' verdict and the scores of external plugins.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Rows that the filters left; empty: none was dropped.
    rows: Vec<u32>,
    /// One list for each external scorer, in their order; else the reason why it gave no usable answer.
    scores: Vec<Result<Vec<f64>, &'static str>>,
    /// Seconds that each external scorer took, by its position in [`Profile::plugins`]; none unless timed.
    pub took: Vec<(usize, f64)>,
    /// External plugins that gave no usable answer.
    pub failures: Vec<(Arc<str>, Arc<str>, ExternalFailure)>,
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

    fn begin(&mut self) {
        self.rows.clear();
        self.totals.clear();
        self.marks.clear();
    }

    /// As `begin`, with filters that ran before.
    fn resume(&mut self, candidates: &Candidates, rows: &[u32]) {
        self.begin();
        self.rows.extend_from_slice(rows);
        if !rows.is_empty() {
            candidates.pack_into(rows, &mut self.kept);
        }
        mark(self.clock, &mut self.marks);
    }

    /// The rows that filters left.
    fn left<'a>(&'a self, all: &'a Candidates) -> &'a Candidates {
        if self.rows.is_empty() {
            all
        } else {
            &self.kept
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
    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The plugins in the order in which a decision runs them.
    pub fn plugins(&self) -> impl Iterator<Item = PluginLabels<'_>> {
        let filters = self.filters.iter().map(|named| named.labels("Filter"));
        let scorers = self.scorers.iter().map(|(named, _)| named.labels("Scorer"));
        filters
            .chain(scorers)
            .chain(std::iter::once(self.picker.labels("Picker")))
    }

    /// How many filters it has.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }

    /// True when a plugin stands outside of the engine, so that `prepare` has to run before the choice is locked.
    pub fn has_external(&self) -> bool {
        let filters = self.filters.iter();
        let scorers = self.scorers.iter();
        filters
            .map(|named| matches!(named.part, FilterPart::External(_)))
            .chain(scorers.map(|(named, _)| matches!(named.part, ScorerPart::External(_))))
            .any(|external| external)
    }

    /// Runs all filters, and the external scorers on what they left: the part of a decision that may take its time. Nothing may be locked.
    ///
    /// A filter of our own that reads the load then sees it as it was some microseconds before the choice.
    ///
    /// # Errors
    /// As `run`.
    pub fn prepare(
        &self,
        snapshot: &Arc<Snapshot>,
        context: &Context<'_>,
        scratch: &mut Scratch,
        mut explain: Option<&mut Explanation>,
    ) -> Result<Prepared, NoEndpoint> {
        scratch.begin();
        if let Some(explanation) = explain.as_deref_mut() {
            explanation.begin(context);
        }
        let mut prepared = Prepared::default();
        self.run_filters(
            context,
            Some((snapshot, &mut prepared.failures)),
            scratch,
            explain,
        )?;
        prepared.rows.clone_from(&scratch.rows);
        let clock = scratch.clock;
        let left = Context {
            candidates: scratch.left(context.candidates),
            ..*context
        };
        for (position, (named, _)) in self.scorers.iter().enumerate() {
            let ScorerPart::External(external) = &named.part else {
                continue;
            };
            let begun = clock.map(|clock| clock());
            let scores = external.call(snapshot, &left).and_then(|scores| {
                let expected = left.candidates.len();
                check_length(scores, expected)
            });
            if let (Some(clock), Some(begun)) = (clock, begun) {
                let seconds = (clock() - begun).as_secs_f64();
                prepared.took.push((self.filters.len() + position, seconds));
            }
            prepared.scores.push(scores.map_err(|failure| {
                let reason = failure.reason();
                prepared.failures.push(named.failed(failure));
                reason
            }));
        }
        Ok(prepared)
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
        prepared: Option<&Prepared>,
        scratch: &mut Scratch,
        ranked: &mut Vec<u32>,
        mut explain: Option<&mut Explanation>,
    ) -> Result<Choice, NoEndpoint> {
        ranked.clear();
        let count = context.candidates.len();
        if let Some(prepared) = prepared {
            scratch.resume(context.candidates, &prepared.rows);
        } else {
            scratch.begin();
            if let Some(explanation) = explain.as_deref_mut() {
                explanation.begin(context);
            }
            self.run_filters(context, None, scratch, explain.as_deref_mut())?;
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
        let mut external = prepared.map_or(&[][..], |prepared| &prepared.scores).iter();
        for (named, weight) in &self.scorers {
            scores.clear();
            let mut skipped = None;
            match &named.part {
                ScorerPart::Own(scorer) => {
                    scores.resize(considered, 0.0);
                    scorer.score(&context, scores);
                }
                // Without an answer the plugin has no part in the totals: NaN counts 0, and the explanation shows that there was none.
                ScorerPart::External(_) => match external.next() {
                    Some(Ok(given)) => scores.extend_from_slice(given),
                    none => {
                        scores.resize(considered, f64::NAN);
                        skipped = none.and_then(|answer| answer.as_ref().err().copied());
                    }
                },
            }
            if let Some(explanation) = explain.as_deref_mut() {
                explanation.scored(named, *weight, rows, scores);
                if let Some(reason) = skipped {
                    explanation.skipped(reason);
                }
            }
            for (total, score) in totals.iter_mut().zip(scores.iter()) {
                *total += weight * clamped(*score);
            }
            mark(*clock, marks);
        }

        self.picker.part.pick(&context, totals, self.limit, ranked);
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
            explanation.finish(&self.picker.type_name, scratch.totals(), ranked);
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
        mut outside: Option<Outside<'_>>,
        scratch: &mut Scratch,
        mut explain: Option<&mut Explanation>,
    ) -> Result<(), NoEndpoint> {
        let count = context.candidates.len();
        if count == 0 {
            return Err(NoEndpoint {
                candidates: 0,
                filter: None,
            });
        }
        mark(scratch.clock, &mut scratch.marks);
        if self.filters.is_empty() {
            return Ok(());
        }
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
        for named in &self.filters {
            let mut skipped = None;
            match (&named.part, &mut outside) {
                (FilterPart::Own(filter), _) => filter.filter(context, keep),
                (FilterPart::External(external), Some((snapshot, failures))) => {
                    // Outside, what was dropped before is not there at all: own filters look at `keep`.
                    let candidates = if left < count {
                        collect_kept(keep, rows);
                        context.candidates.pack_into(rows, kept);
                        &*kept
                    } else {
                        context.candidates
                    };
                    let context = Context {
                        candidates,
                        ..*context
                    };
                    let verdict = external
                        .call(snapshot, &context)
                        .and_then(|verdict| check_length(verdict, left));
                    match verdict {
                        Ok(verdict) => {
                            let asked = keep.iter_mut().filter(|keep| **keep);
                            for (keep, verdict) in asked.zip(verdict) {
                                *keep = verdict != 0.0;
                            }
                        }
                        Err(failure) => {
                            skipped = Some(failure.reason());
                            failures.push(named.failed(failure));
                        }
                    }
                }
                // `prepare` runs before: see `has_external`.
                (FilterPart::External(_), None) => {}
            }
            left = keep.iter().filter(|kept| **kept).count();
            mark(*clock, marks);
            if let Some(explanation) = explain.as_deref_mut() {
                explanation.filtered(named, keep, skipped);
            }
            if left == 0 {
                return Err(NoEndpoint {
                    candidates: count,
                    filter: Some(named.name.as_ref().into()),
                });
            }
        }
        if left < count {
            collect_kept(keep, rows);
            context.candidates.pack_into(rows, kept);
        }
        Ok(())
    }
}

/// What external plugins need, where they may run, and where their failures go.
type Outside<'a> = (
    &'a Arc<Snapshot>,
    &'a mut Vec<(Arc<str>, Arc<str>, ExternalFailure)>,
);

impl<T> Named<T> {
    /// As metrics name it where it takes part.
    pub(crate) fn labels(&self, extension_point: &'static str) -> PluginLabels<'_> {
        PluginLabels {
            extension_point,
            plugin_type: &self.type_name,
            plugin_name: &self.name,
        }
    }

    fn failed(&self, failure: ExternalFailure) -> (Arc<str>, Arc<str>, ExternalFailure) {
        (Arc::clone(&self.type_name), Arc::clone(&self.name), failure)
    }
}

fn check_length(values: Vec<f64>, expected: usize) -> Result<Vec<f64>, ExternalFailure> {
    if values.len() == expected {
        Ok(values)
    } else {
        let text = format!("{} values for {expected} endpoints", values.len());
        Err(ExternalFailure::BadResult(text.into()))
    }
}

/// The rows that are kept.
fn collect_kept(keep: &[bool], rows: &mut Vec<u32>) {
    rows.clear();
    rows.extend(
        keep.iter()
            .zip(0..)
            .filter_map(|(kept, row)| kept.then_some(row)),
    );
}

/// NaN is no opinion; a score out of range has no more say than its weight.
pub(super) fn clamped(score: f64) -> f64 {
    // What is no number is not above 0. No branch, so that several scores are clamped at once.
    let least = if score > 0.0 { score } else { 0.0 };
    if least < 1.0 { least } else { 1.0 }
}

impl Candidates {
    /// Makes `into` the given rows of every column, keeping its allocations.
    pub(crate) fn pack_into(&self, rows: &[u32], into: &mut Self) {
        pack(self, rows, into);
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
        curve,
        position,
        waiting,
        running,
        kv_usage,
        inflight_requests,
        inflight_tokens,
        prefill_tokens,
        pending_prefills,
        prefill_gap,
        prefill_factor,
        decode_factor,
        slots,
        sent_since_page,
        kv_tokens,
        page_at,
        prefixes,
        media_matched,
    } = from;
    into.curve = *curve;
    column(position, rows, &mut into.position);
    column(waiting, rows, &mut into.waiting);
    column(running, rows, &mut into.running);
    column(kv_usage, rows, &mut into.kv_usage);
    column(inflight_requests, rows, &mut into.inflight_requests);
    column(inflight_tokens, rows, &mut into.inflight_tokens);
    column(prefill_tokens, rows, &mut into.prefill_tokens);
    column(pending_prefills, rows, &mut into.pending_prefills);
    column(prefill_gap, rows, &mut into.prefill_gap);
    column(prefill_factor, rows, &mut into.prefill_factor);
    column(decode_factor, rows, &mut into.decode_factor);
    column(slots, rows, &mut into.slots);
    column(sent_since_page, rows, &mut into.sent_since_page);
    column(kv_tokens, rows, &mut into.kv_tokens);
    column(page_at, rows, &mut into.page_at);
    gather_columns(prefixes, &rows.iter().copied(), &mut into.prefixes);
    if media_matched.is_empty() {
        into.media_matched.clear();
    } else {
        column(media_matched, rows, &mut into.media_matched);
    }
}

#[cfg(test)]
mod tests;
