//! From a prompt's tokens to the root and content hashes under which the index knows its blocks, for each block size that publishers use.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::prefix::exact::{content, root};
use crate::tokens::TokenSequence;

/// Who holds blocks: an endpoint, and the number under which the index knows one of its engines. They are the same number for an endpoint's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The endpoint's slot in the pool.
    pub slot: u32,
    /// The owner in the index; an endpoint with several engines counts with the best of them.
    pub owner: u32,
}

/// A request's prompts as the index is asked for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptKeys {
    /// Tokens a block.
    pub block_tokens: u32,
    /// What stands before the first block of each prompt.
    pub root: u64,
    /// For each prompt the content hashes of its full blocks, first to last.
    pub sequences: Vec<Vec<u64>>,
    /// The engines that this is for.
    pub owners: Vec<Holder>,
}

/// Sizes of blocks by which a prompt is cut: those that most engines use. Each costs a pass over the prompt, so publishers that make up sizes
/// cannot make decisions slow.
const MOST_SIZES: usize = 8;

/// The endpoints whose caches are known at a time.
#[derive(Debug)]
pub struct KnownEndpoints(pub(super) Arc<View>);

impl KnownEndpoints {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.known.is_empty()
    }

    /// Whether that of a slot is.
    pub fn contains(&self, slot: u32) -> bool {
        self.0.known.contains(slot)
    }
}

/// All publishers as readers see them; replaced whole, by [`super::roster::Roster`].
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) groups: Vec<Group>,
    pub(super) adapters: Arc<HashSet<Arc<str>>>,
    pub(super) known: SlotSet,
    pub(super) publishers: usize,
}

/// Engines that agree in what keys depend on.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) block_tokens: u32,
    pub(super) base_model: Option<Arc<str>>,
    pub(super) holders: Vec<Holder>,
}

/// Slots, a bit for each.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        let word = self.0.get(slot as usize / 64);
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(super) fn set(&mut self, slot: u32, is_in: bool) {
        let place = slot as usize / 64;
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        let bit = 1 << (slot % 64);
        if is_in {
            self.0[place] |= bit;
        } else {
            self.0[place] &= !bit;
        }
    }
}

impl View {
    pub(super) fn keys(
        &self,
        model: &str,
        salt: Option<&str>,
        sequences: &[TokenSequence],
    ) -> Vec<PromptKeys> {
        let is_adapter = self.adapters.contains(model);
        let mut all: Vec<(bool, PromptKeys)> = Vec::new();
        for group in &self.groups {
            // An engine that says it serves this model itself has no adapter of that name, whatever others claim.
            let adapter = is_adapter && group.base_model.as_deref() != Some(model);
            let same = all.iter_mut().find(|(as_adapter, keys)| {
                *as_adapter == adapter && keys.block_tokens == group.block_tokens
            });
            if let Some((_, keys)) = same {
                keys.owners.extend_from_slice(&group.holders);
                continue;
            }
            if all.len() >= MOST_SIZES {
                continue;
            }
            let sequences = sequences
                .iter()
                .map(|sequence| BlockContents::new(group.block_tokens, salt, sequence).collect());
            let keys = PromptKeys {
                block_tokens: group.block_tokens,
                root: root(group.block_tokens, adapter.then_some(model)),
                sequences: sequences.collect(),
                owners: group.holders.clone(),
            };
            all.push((adapter, keys));
        }
        all.into_iter().map(|(_, keys)| keys).collect()
    }
}

/// Content hashes of a prompt's full blocks, each computed when it is asked for.
#[derive(Clone, Debug)]
pub struct BlockContents<'a> {
    block_tokens: usize,
    salt: Option<&'a str>,
    sequence: &'a TokenSequence,
    start: usize,
    /// Media before this one end before the block.
    medium: usize,
}

impl<'a> BlockContents<'a> {
    /// `salt`: of the cache, part of the first block.
    pub fn new(block_tokens: u32, salt: Option<&'a str>, sequence: &'a TokenSequence) -> Self {
        Self {
            block_tokens: block_tokens.max(1) as usize,
            salt: salt.filter(|salt| !salt.is_empty()),
            sequence,
            start: 0,
            medium: 0,
        }
    }
}

impl Iterator for BlockContents<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let end = self.start.checked_add(self.block_tokens)?;
        let tokens = self.sequence.tokens.get(self.start..end)?;
        let media = &self.sequence.media;
        let begins_before = |position: u32, place: usize| (position as usize) < place;
        while media
            .get(self.medium)
            .is_some_and(|span| span.start as usize + span.length as usize <= self.start)
        {
            self.medium += 1;
        }
        let first = self.start == 0;
        let content = if self.medium == media.len() && !(first && self.salt.is_some()) {
            content(tokens, &[])
        } else {
            let spans = media[self.medium..].iter();
            let mut extras: Vec<&str> = spans
                .take_while(|span| begins_before(span.start, end))
                .filter(|span| span.start as usize + span.length as usize > self.start)
                .map(|span| &*span.hash)
                .collect();
            extras.extend(self.salt.filter(|_| first));
            content(tokens, &extras)
        };
        self.start = end;
        Some(content)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.sequence.tokens.len().saturating_sub(self.start) / self.block_tokens;
        (left, Some(left))
    }
}
