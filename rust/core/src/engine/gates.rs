//! What a request has to pass before a profile is run: load shedding, screeners, admitters, in the reference's order.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Active, Engine, Policy};
use crate::Nanos;
use crate::control::HeaderPairs;
use crate::control::saturation::stages;
use crate::exchange::Refusal;
use crate::pool::Snapshot;
use crate::schedule::{Candidates, Context, Explanation, PrefixColumn, Prompt, RequestFacts};
use crate::stats::PluginTimers;

/// A request before the gates of a policy.
pub(super) struct Gates<'a> {
    pub(super) policy: &'a Policy,
    pub(super) facts: &'a RequestFacts,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) now: Nanos,
    /// Only to measure the plugins.
    pub(super) clock: fn() -> Nanos,
    /// As [`Policy::gate_plugins`].
    pub(super) timers: &'a PluginTimers,
}

impl Engine {
    /// Refuses at once what [`Engine::decide`] would refuse now without having looked at the prompt, so that nobody works on it.
    ///
    /// # Errors
    /// [`Refusal::Shed`], [`Refusal::NoCandidates`].
    pub(crate) fn admits(
        &self,
        active: &Active,
        facts: &RequestFacts,
        subset_hint: Option<&[Box<str>]>,
        now: Nanos,
    ) -> Result<(), Refusal> {
        let snapshot = self.pool.load();
        let subset = self.subset(&snapshot, subset_hint);
        self.gates(active, facts, &snapshot, now)
            .open(subset.as_deref())
    }

    /// Positions of the endpoints that the gateway allows; `None`: all.
    pub(super) fn subset(
        &self,
        snapshot: &Snapshot,
        hint: Option<&[Box<str>]>,
    ) -> Option<Vec<u32>> {
        hint.filter(|_| self.settings.subset_filter)
            .map(|hint| snapshot.subset(hint))
    }

    pub(super) fn gates<'a>(
        &self,
        active: &'a Active,
        facts: &'a RequestFacts,
        snapshot: &'a Arc<Snapshot>,
        now: Nanos,
    ) -> Gates<'a> {
        Gates {
            policy: &active.policy,
            facts,
            snapshot,
            now,
            clock: self.clock,
            timers: &active.gate_timers,
        }
    }
}

impl Gates<'_> {
    /// What stands before the first look at the prompt: shedding, and whether there is any endpoint.
    pub(super) fn open(&self, subset: Option<&[u32]>) -> Result<(), Refusal> {
        self.shed(subset)?;
        if self.snapshot.endpoints.is_empty() || subset.is_some_and(<[u32]>::is_empty) {
            return Err(Refusal::NoCandidates);
        }
        Ok(())
    }

    /// Refuses a request that can be dropped where the pool, or the part of it that the gateway allows (`subset`), is saturated.
    /// Comes before anything is said of that part: one without endpoints counts as saturated.
    fn shed(&self, subset: Option<&[u32]>) -> Result<(), Refusal> {
        let detector = self.policy.saturation.as_ref();
        let Some(detector) = detector.filter(|_| self.facts.priority < 0) else {
            return Ok(());
        };
        let gather = |positions: &[u32], candidates: &mut Candidates| {
            self.gather(Some(positions), &[], candidates);
        };
        let saturation = self.with_context(&Candidates::default(), |context| {
            stages::effective(&**detector, context, subset, gather)
        });
        if saturation >= 1.0 {
            return Err(Refusal::Shed);
        }
        Ok(())
    }

    /// The positions that screeners leave, `None` for all.
    pub(super) fn screen(
        &self,
        subset: Option<Vec<u32>>,
        response: &mut HeaderPairs,
        mut explanation: Option<&mut Explanation>,
    ) -> Result<Option<Vec<u32>>, Refusal> {
        if self.policy.screeners.is_empty() {
            return Ok(subset);
        }
        let mut candidates = Candidates::default();
        self.gather(subset.as_deref(), &[], &mut candidates);
        let mut keep = vec![true; candidates.len()];
        for (place, screener) in self.policy.screeners.iter().enumerate() {
            // Each sees all candidates; what all of them keep remains.
            let mut own = vec![true; candidates.len()];
            self.timed(place, &candidates, |context| {
                screener.part.screen(context, &mut own, response)
            })?;
            for (keep, own) in keep.iter_mut().zip(own) {
                *keep &= own;
            }
            if let Some(explanation) = explanation.as_deref_mut() {
                explanation.screened(screener, &keep);
            }
        }
        if !keep.contains(&true) {
            return Err(Refusal::Screened(
                "screeners eliminated all endpoint candidates".to_owned(),
            ));
        }
        if !keep.contains(&false) {
            return Ok(subset);
        }
        let left = candidates.position.iter().zip(&keep);
        let left = left.filter_map(|(position, keep)| keep.then_some(*position));
        Ok(Some(left.collect()))
    }

    /// Asks the admitters about what screeners left; they see the prompt's prefixes (by slot) too.
    pub(super) fn admit(
        &self,
        subset: Option<&[u32]>,
        prefixes: &[PrefixColumn],
    ) -> Result<(), Refusal> {
        if self.policy.admitters.is_empty() {
            return Ok(());
        }
        let mut candidates = Candidates::default();
        self.gather(subset, prefixes, &mut candidates);
        for (place, admitter) in (self.policy.screeners.len()..).zip(&self.policy.admitters) {
            self.timed(place, &candidates, |context| admitter.part.admit(context))
                .map_err(|reason| Refusal::NotAdmitted(reason.into()))?;
        }
        Ok(())
    }

    fn gather(
        &self,
        positions: Option<&[u32]>,
        prefixes: &[PrefixColumn],
        candidates: &mut Candidates,
    ) {
        let to_the_end = self.policy.in_flight.add_estimated_output_tokens;
        self.snapshot
            .gather(positions, prefixes, to_the_end, candidates);
    }

    /// Asks the plugin at this place of [`Policy::gate_plugins`].
    fn timed<R>(
        &self,
        place: usize,
        candidates: &Candidates,
        ask: impl FnOnce(&Context<'_>) -> R,
    ) -> R {
        let begun = (self.clock)();
        let answer = self.with_context(candidates, ask);
        self.timers.observe_one(place, (self.clock)() - begun);
        answer
    }

    fn with_context<R>(&self, candidates: &Candidates, ask: impl FnOnce(&Context<'_>) -> R) -> R {
        ask(&Context {
            request: self.facts,
            snapshot: self.snapshot,
            candidates,
            prompt: Prompt::default(),
            now: self.now,
            random: &RefCell::new(fastrand::Rng::new()),
        })
    }
}

#[cfg(test)]
mod tests;
