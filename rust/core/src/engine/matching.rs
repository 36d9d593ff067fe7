//! What of a prompt each endpoint holds: the columns that the producers of prefix matches fill.

use smallvec::SmallVec;

use super::exact::{ExactPrompt, Fallback};
use super::{Active, Engine, Inquiry};
use crate::pool::Reservation;
use crate::prefix::{self, ApproximateIndex};
use crate::schedule::{PrefixColumn, Prompt};

/// What the producers say of one prompt, in the policy's order, by slot; and what to remember once it is sent.
#[derive(Debug, Default)]
pub(super) struct Matching {
    pub(super) columns: SmallVec<[PrefixColumn; 1]>,
    /// Chained hashes of the prompts for the approximate indexes.
    pub(super) chains: Vec<Vec<u64>>,
    /// The prompt as the exact index knows it, where it was asked.
    pub(super) exact: Option<ExactPrompt>,
}

impl Matching {
    /// The prompt as the plugins of a profile may know it.
    pub(super) fn prompt<'a>(&'a self, active: &'a Active, block_tokens: u32) -> Prompt<'a> {
        let first = active.policy.prefixes.producers.first();
        Prompt {
            chain: self.chains.first().map_or(&[], Vec::as_slice),
            block_tokens,
            sent: first.map(|producer| &*active.indexes[producer.approximate]),
        }
    }
}

impl Engine {
    /// Asks every producer of the policy.
    pub(super) fn match_prompt(&self, inquiry: &Inquiry<'_>) -> Matching {
        let active = inquiry.active;
        let prefixes = &active.policy.prefixes;
        if prefixes.producers.is_empty() {
            return Matching::default();
        }
        let block_tokens = self.block_tokens();
        let seed = prefix::seed(&inquiry.facts.target_model, inquiry.cache_salt);
        let chains: Vec<Vec<u64>> = inquiry
            .sequences
            .iter()
            .map(|ids| prefix::chain(seed, ids))
            .collect();
        let exact = prefixes.exact().and_then(|_| self.exact_prompt(inquiry));
        let approximates = prefixes.approximates.iter().zip(&active.indexes);
        let sent = approximates.map(|(approximate, index)| {
            let most = approximate.settings.longest.blocks(block_tokens);
            let cut = |chain: &Vec<u64>| chain.len().min(most) as u32;
            PrefixColumn {
                producer: approximate.name.clone(),
                total_blocks: chains.iter().map(cut).sum(),
                block_tokens,
                blocks: sent_blocks(index, &chains, most),
                held: Vec::new(),
            }
        });
        // Each index is asked once, also where an exact producer falls back on that of an approximate one.
        let mut sent: SmallVec<[PrefixColumn; 1]> = sent.collect();
        let of_exact = prefixes.producers.iter().map(|producer| {
            let (settings, sent) = (producer.exact.as_ref()?, &sent[producer.approximate]);
            Some(match &exact {
                Some(prompt) => {
                    self.exact
                        .column(prompt, settings, &producer.name, sent, self.clock)
                }
                None => PrefixColumn {
                    producer: producer.name.clone(),
                    ..sent.clone()
                },
            })
        });
        let of_exact: SmallVec<[Option<PrefixColumn>; 1]> = of_exact.collect();
        let columns = prefixes.producers.iter().zip(of_exact);
        let columns = columns.map(|(producer, exact)| {
            // An approximate producer has an index of its own, so nobody else asks for its column.
            exact.unwrap_or_else(|| std::mem::take(&mut sent[producer.approximate]))
        });
        Matching {
            columns: columns.collect(),
            chains,
            exact,
        }
    }

    /// `None`, and counted, where the prompt can only be matched against what was sent.
    fn exact_prompt(&self, inquiry: &Inquiry<'_>) -> Option<ExactPrompt> {
        // A request without a prompt has nothing to match: nothing is missing.
        if inquiry.facts.prompt_tokens == 0 {
            return None;
        }
        let model = &inquiry.facts.target_model;
        let prompt = self
            .exact
            .prompt(model, inquiry.cache_salt, inquiry.tokens.as_ref());
        prompt
            .map_err(|fallback: Fallback| self.exact.fell_back(fallback))
            .ok()
    }

    /// What was just sent to `slot` counts as held from now on.
    pub(super) fn remember(
        &self,
        inquiry: &Inquiry<'_>,
        reservation: &mut Reservation,
        matching: &Matching,
    ) {
        let active = inquiry.active;
        let slot = reservation.endpoint().slot;
        active.remember(slot, &matching.chains, self.block_tokens());
        if let (Some(settings), Some(prompt)) = (active.policy.prefixes.exact(), &matching.exact) {
            if let Some(prefill) = reservation.prefill_handle() {
                let prefill = (prefill, reservation.uncached_tokens());
                self.exact.await_prefill(slot, prompt, prefill, inquiry.now);
            }
            self.exact.speculate(slot, prompt, settings, inquiry.now);
        }
    }
}

/// Leading blocks that each slot was sent, summed over the prompts, of at most `most` blocks of each.
fn sent_blocks(index: &ApproximateIndex, chains: &[Vec<u64>], most: usize) -> Vec<u32> {
    let mut matched = Vec::new();
    let mut one = Vec::new();
    for chain in chains {
        let chain = &chain[..chain.len().min(most)];
        if matched.is_empty() {
            index.longest_match(chain, &mut matched);
            continue;
        }
        index.longest_match(chain, &mut one);
        matched.resize(matched.len().max(one.len()), 0);
        for (sum, blocks) in matched.iter_mut().zip(&one) {
            *sum += blocks;
        }
    }
    matched
}

impl Active {
    /// What was just sent counts as held from now on.
    pub(super) fn remember(&self, slot: u32, chains: &[Vec<u64>], block_tokens: u32) {
        for (index, approximate) in self.indexes.iter().zip(&self.policy.prefixes.approximates) {
            let most = approximate.settings.longest.blocks(block_tokens);
            for chain in chains {
                index.record(slot, &chain[..chain.len().min(most)]);
            }
        }
    }
}
