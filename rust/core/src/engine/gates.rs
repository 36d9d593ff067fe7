//! What a request has to pass before a profile is run: screeners, load shedding, admitters.

use std::cell::RefCell;
use std::sync::Arc;

use super::Policy;
use crate::Nanos;
use crate::control::HeaderPairs;
use crate::control::saturation::stages;
use crate::exchange::Refusal;
use crate::pool::Snapshot;
use crate::schedule::{Candidates, Context, RequestFacts};

/// The positions that are left, `None` for all; or why the request is refused. In the reference's order: shedding looks at the pool before
/// screeners narrow it, admitters look at what they left.
pub(super) fn pass_gates(
    policy: &Policy,
    facts: &RequestFacts,
    snapshot: &Arc<Snapshot>,
    mut subset: Option<Vec<u32>>,
    now: Nanos,
    response: &mut HeaderPairs,
) -> Result<Option<Vec<u32>>, Refusal> {
    let random = RefCell::new(fastrand::Rng::new());
    let mut candidates = Candidates::default();
    let gather = |positions: Option<&[u32]>, candidates: &mut Candidates| {
        let to_the_end = policy.in_flight.add_estimated_output_tokens;
        snapshot.gather(positions, &[], to_the_end, candidates);
    };
    if let Some(detector) = policy.saturation.as_ref().filter(|_| facts.priority < 0) {
        let context = context(facts, snapshot, &candidates, now, &random);
        let gather = |positions: &[u32], candidates: &mut Candidates| {
            gather(Some(positions), candidates);
        };
        if stages::effective(&**detector, &context, gather) >= 1.0 {
            return Err(Refusal::Shed);
        }
    }
    gather(subset.as_deref(), &mut candidates);
    if !policy.screeners.is_empty() {
        let mut keep = vec![true; candidates.len()];
        for screener in &policy.screeners {
            // Each sees all candidates; what all of them keep remains.
            let mut own = vec![true; candidates.len()];
            let context = context(facts, snapshot, &candidates, now, &random);
            screener.part.screen(&context, &mut own, response)?;
            for (keep, own) in keep.iter_mut().zip(own) {
                *keep &= own;
            }
        }
        if !keep.contains(&true) {
            return Err(Refusal::Screened(
                "screeners eliminated all endpoint candidates".to_owned(),
            ));
        }
        if keep.contains(&false) {
            let left = candidates.position.iter().zip(&keep);
            let left = left.filter_map(|(position, keep)| keep.then_some(*position));
            subset = Some(left.collect());
            gather(subset.as_deref(), &mut candidates);
        }
    }
    for admitter in &policy.admitters {
        let context = context(facts, snapshot, &candidates, now, &random);
        admitter
            .part
            .admit(&context)
            .map_err(|reason| Refusal::NotAdmitted(reason.into()))?;
    }
    Ok(subset)
}

fn context<'a>(
    request: &'a RequestFacts,
    snapshot: &'a Snapshot,
    candidates: &'a Candidates,
    now: Nanos,
    random: &'a RefCell<fastrand::Rng>,
) -> Context<'a> {
    Context {
        request,
        snapshot,
        candidates,
        now,
        random,
    }
}
