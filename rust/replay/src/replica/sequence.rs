//! A request on its way through the replica.

use super::Arrival;
use super::cache::{BlockCache, Name};

/// What stays with a request while it waits and runs. Slots are used again, with their memory.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    pub(super) id: u32,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    /// Tokens produced so far, as of the last time it was preempted; while it runs, [`Running`] knows.
    pub(super) generated: u32,
    pub(super) lora: u16,
    /// Whether it has been admitted before, which fixes `cached_tokens`.
    pub(super) admitted: bool,
    /// Prompt tokens found in the cache at the first admission.
    pub(super) cached_tokens: u32,
    pub(super) arrived: f64,
    pub(super) last_token: f64,
    /// Ids of the full units of its prompt.
    pub(super) keys: Vec<u64>,
    /// Entries that it holds for them, from the first on.
    pub(super) units: Vec<u32>,
    /// Number that names its own blocks; 0: never preempted, so nobody will ask for those blocks and they need no entry.
    pub(super) serial: u32,
    /// Entries of its own full blocks behind the units, if it has a serial.
    pub(super) own: Vec<u32>,
}

impl Sequence {
    /// Takes the place of a request that is done.
    pub(super) fn reset(&mut self, arrival: &Arrival<'_>, full_units: usize, now: f64) {
        self.id = arrival.id;
        self.prompt_tokens = arrival.prompt_tokens;
        self.output_tokens = arrival.output_tokens;
        self.generated = 0;
        self.lora = arrival.lora;
        self.admitted = false;
        self.cached_tokens = 0;
        self.arrived = now;
        self.last_token = now;
        self.keys.clear();
        self.keys.extend_from_slice(&arrival.blocks[..full_units]);
        self.serial = 0;
        debug_assert!(self.units.is_empty() && self.own.is_empty());
    }

    /// Tokens of the prompt and of the answer so far, as of the last time it was preempted.
    pub(super) fn length(&self) -> u32 {
        self.prompt_tokens + self.generated
    }

    /// Gives back all it holds, the tail first, so that a prefix outlives what follows it. `blocks`: KV blocks it has.
    pub(super) fn release(&mut self, cache: &mut BlockCache, blocks: u32, unit_blocks: u32) {
        let named = self.units.len() as u32 * unit_blocks + self.own.len() as u32;
        cache.release_unnamed(blocks - named);
        for entry in self.own.drain(..).rev() {
            cache.release(entry);
        }
        for entry in self.units.drain(..).rev() {
            cache.release(entry);
        }
    }

    /// Names the units that are full at `tokens` tokens, and its own full blocks if it may have to find them again.
    pub(super) fn store(
        &mut self,
        cache: &mut BlockCache,
        tokens: u32,
        unit_tokens: u32,
        block_size: u32,
    ) {
        let unit_blocks = unit_tokens / block_size;
        while self.units.len() < self.keys.len()
            && (self.units.len() as u32 + 1) * unit_tokens <= tokens
        {
            let name = Name::of_prompt(self.keys[self.units.len()], self.lora);
            self.units.push(cache.name(name, unit_blocks));
        }
        if self.serial == 0 || self.units.len() < self.keys.len() {
            return;
        }
        let behind = tokens - self.keys.len() as u32 * unit_tokens;
        while (self.own.len() as u32 + 1) * block_size <= behind {
            let name = Name::of_sequence(self.serial, self.own.len() as u32);
            self.own.push(cache.name(name, 1));
        }
    }

    /// Finds the longest prefix of its first `limit` tokens in the cache, without holding it; the KV blocks of it, and how many of these are free.
    pub(super) fn look_up(
        &mut self,
        cache: &BlockCache,
        limit: u32,
        unit_tokens: u32,
        block_size: u32,
    ) -> (u32, u32) {
        let unit_blocks = unit_tokens / block_size;
        let mut free = 0;
        let units = self.keys.len().min((limit / unit_tokens) as usize);
        for &key in &self.keys[..units] {
            let Some(entry) = cache.find(Name::of_prompt(key, self.lora)) else {
                break;
            };
            free += cache.free_of(entry);
            self.units.push(entry);
        }
        if self.serial > 0 && self.units.len() == self.keys.len() {
            let own = (limit - self.keys.len() as u32 * unit_tokens) / block_size;
            for index in 0..own {
                let Some(entry) = cache.find(Name::of_sequence(self.serial, index)) else {
                    break;
                };
                free += cache.free_of(entry);
                self.own.push(entry);
            }
        }
        let found = self.units.len() as u32 * unit_blocks + self.own.len() as u32;
        (found, free)
    }
}

/// What each step needs of a running sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    /// Its [`Sequence`].
    pub(super) slot: u32,
    /// Tokens whose KV is in the cache.
    pub(super) computed: u32,
    /// Tokens of the prompt and of the answer so far.
    pub(super) length: u32,
    /// Tokens of the prompt.
    pub(super) prompt: u32,
    /// Tokens of the prompt and of the whole answer.
    pub(super) end: u32,
    /// KV blocks it has.
    pub(super) blocks: u32,
    /// Tokens that the present step computes.
    pub(super) scheduled: u32,
    /// Whether its own blocks need names.
    pub(super) preempted: bool,
    pub(super) last_token: f64,
}

impl Running {
    /// Whether only its next token is missing, from the one before.
    pub(super) fn decodes(&self) -> bool {
        self.computed + 1 == self.length && self.length > self.prompt
    }

    /// KV blocks that it lacks to hold `tokens` tokens.
    pub(super) fn missing(&self, tokens: u32, block_size: u32) -> u32 {
        // Most often none: no division then.
        if tokens <= self.blocks * block_size {
            0
        } else {
            tokens.div_ceil(block_size) - self.blocks
        }
    }
}
