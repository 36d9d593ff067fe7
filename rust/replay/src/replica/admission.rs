//! The queue: first come first served, within the step's budget, the seats, and room for the whole prompt.

use super::Replica;
use super::sequence::Running;
use super::stage::{Queue, Stage};

impl Replica {
    /// Admits from the queue into the step that begins; whether it admitted any.
    pub(super) fn admit(&mut self, stage: &mut Stage) -> bool {
        let before = self.running.len();
        stage.queue = Queue::Open;
        if self.waiting.is_empty() {
            return false;
        }
        self.find_adapters();
        while let Some(&slot) = self.waiting.front() {
            if stage.budget == 0 || self.running.len() >= self.hardware.max_num_seqs as usize {
                stage.queue = Queue::Stopped;
                break;
            }
            let lora = self.sequences[slot as usize].lora;
            if self.lacks_slot(lora) {
                self.waiting.pop_front();
                self.passed_over.push(slot);
                continue;
            }
            let Some(running) = self.take_prefix(slot) else {
                stage.queue = Queue::Stopped;
                break;
            };
            self.waiting.pop_front();
            let tokens = (running.length - running.computed).min(stage.budget);
            let missing = running.missing(running.computed + tokens, self.hardware.block_size);
            self.running.push(running);
            let given = self.make_room(self.running.len() - 1, missing);
            debug_assert!(given, "room was checked for the whole sequence");
            if lora > 0 && !self.adapters.contains(&lora) {
                self.adapters.push(lora);
            }
            self.schedule(self.running.len() - 1, tokens, stage);
        }
        while let Some(slot) = self.passed_over.pop() {
            self.waiting.push_front(slot);
        }
        self.running.len() > before
    }

    /// Notes the adapters of what runs, if their number is limited.
    fn find_adapters(&mut self) {
        self.adapters.clear();
        if self.hardware.max_loras == 0 || self.with_adapter == 0 {
            return;
        }
        for running in &self.running {
            let lora = self.sequences[running.slot as usize].lora;
            if lora > 0 && !self.adapters.contains(&lora) {
                self.adapters.push(lora);
            }
        }
    }

    /// Whether a request has to wait because all adapter slots are taken by others.
    fn lacks_slot(&self, lora: u16) -> bool {
        lora > 0
            && self.hardware.max_loras > 0
            && self.adapters.len() >= self.hardware.max_loras as usize
            && !self.adapters.contains(&lora)
    }

    /// Holds the cached prefix of a waiting sequence if the rest of it fits too. The last token is always computed.
    fn take_prefix(&mut self, slot: u32) -> Option<Running> {
        let block_size = self.hardware.block_size;
        let sequence = &mut self.sequences[slot as usize];
        let length = sequence.length();
        let (found, found_free) =
            sequence.look_up(&self.cache, length - 1, self.unit_tokens, block_size);
        let missing = length.div_ceil(block_size) - found;
        if missing > self.cache.free() - found_free {
            sequence.units.clear();
            sequence.own.clear();
            return None;
        }
        for &entry in sequence.units.iter().chain(&sequence.own) {
            self.cache.hold(entry);
        }
        let computed = found * block_size;
        if !sequence.admitted {
            sequence.admitted = true;
            sequence.cached_tokens = computed;
            self.counters.queried_tokens += u64::from(length);
            self.counters.cached_tokens += u64::from(computed);
        }
        Some(Running {
            slot,
            computed,
            length,
            prompt: sequence.prompt_tokens,
            end: sequence.prompt_tokens + sequence.output_tokens,
            blocks: found,
            scheduled: 0,
            preempted: sequence.serial > 0,
            last_token: sequence.last_token,
        })
    }
}
