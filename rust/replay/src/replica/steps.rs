//! Steps: what runs is served in order of admission, the one admitted last gives way when blocks run short.

use super::stage::{Queue, Stage};
use super::work::{Pace, Work};
use super::{Observed, Replica};

impl Replica {
    /// Begins the next step at `now`, and finds how often it repeats.
    pub(super) fn begin_stage(&mut self, now: f64) {
        if self.running.is_empty() && self.waiting.is_empty() {
            self.stage = None;
            return;
        }
        let mut stage = Stage {
            start: now,
            work: Work::default(),
            pace: Pace {
                first: 0.0,
                growth: 0.0,
            },
            limit: 1,
            done: 0,
            decodes: false,
            queue: Queue::Open,
            budget: self.hardware.max_num_batched_tokens,
            token_age: 0.0,
        };
        let preemptions = self.counters.preemptions;
        stage.decodes = self.schedule_running(&mut stage);
        if self.counters.preemptions != preemptions {
            stage.queue = Queue::Preempted;
            stage.decodes = false;
        } else if self.admit(&mut stage) {
            stage.decodes = false;
        }
        self.measure(&mut stage);
        self.stage = Some(stage);
    }

    /// A request has joined the queue: the step that begins just now takes it in, or the next one is not like this one.
    pub(super) fn consider_arrival(&mut self, now: f64) {
        let Some(mut stage) = self.stage else {
            self.begin_stage(now);
            return;
        };
        if stage.queue != Queue::Open {
            // What runs has to end first. (A step that preempted is alone already.)
            return;
        }
        if stage.step_start() < now {
            stage.cut();
            self.stage = Some(stage);
            return;
        }
        if stage.done > 0 {
            self.count_decodes(&stage, stage.done);
            self.settle(stage.done, now, true);
            stage.work = stage.work.later(stage.done);
            stage.start = now;
            stage.done = 0;
        }
        if self.admit(&mut stage) {
            stage.decodes = false;
        }
        self.measure(&mut stage);
        self.stage = Some(stage);
    }

    /// Schedules what runs; whether all of it does nothing but decode.
    fn schedule_running(&mut self, stage: &mut Stage) -> bool {
        let block_size = self.hardware.block_size;
        let mut decodes = true;
        let mut index = 0;
        while index < self.running.len() && stage.budget > 0 {
            let running = self.running[index];
            let tokens = (running.length - running.computed).min(stage.budget);
            let missing = running.missing(running.computed + tokens, block_size);
            if missing > 0 && !self.make_room(index, missing) {
                break;
            }
            decodes &= running.decodes();
            self.schedule(index, tokens, stage);
            index += 1;
        }
        for running in &mut self.running[index..] {
            running.scheduled = 0;
            decodes = false;
        }
        decodes
    }

    /// Has the present step compute `tokens` more tokens of a running sequence that has the blocks for them.
    pub(super) fn schedule(&mut self, index: usize, tokens: u32, stage: &mut Stage) {
        let running = &mut self.running[index];
        stage.budget -= tokens;
        running.scheduled = tokens;
        let decodes = running.decodes();
        // As the engine has it: one token of a sequence that has produced some counts as decoding, even if more are missing.
        if tokens == 1 && running.length > running.prompt {
            stage.work.add_decode(running.computed);
        } else {
            stage.work.add_prefill(running.computed, tokens);
        }
        if !decodes || running.preempted {
            // Blocks are named when they are scheduled: an equal prompt in the same step shares them.
            let computed = running.computed + tokens;
            self.sequences[running.slot as usize].store(
                &mut self.cache,
                computed,
                self.unit_tokens,
                self.hardware.block_size,
            );
        }
    }

    /// Gives a running sequence more blocks, preempting the last of the running; false when it was itself preempted.
    pub(super) fn make_room(&mut self, index: usize, blocks: u32) -> bool {
        while !self.cache.allocate(blocks) {
            self.preempt();
            if self.running.len() == index {
                return false;
            }
        }
        self.running[index].blocks += blocks;
        true
    }

    /// Puts the sequence admitted last back to the head of the queue; what it computed is lost but for what the cache keeps.
    fn preempt(&mut self) {
        let Some(victim) = self.running.pop() else {
            return;
        };
        let sequence = &mut self.sequences[victim.slot as usize];
        if sequence.serial == 0 {
            // It may find its own blocks again: from now on they have names.
            self.serials += 1;
            sequence.serial = self.serials;
            sequence.store(
                &mut self.cache,
                victim.computed,
                self.unit_tokens,
                self.hardware.block_size,
            );
        }
        sequence.generated = victim.length - victim.prompt;
        sequence.last_token = victim.last_token;
        sequence.release(&mut self.cache, victim.blocks, self.unit_blocks);
        self.counters.preemptions += 1;
        self.waiting.push_front(victim.slot);
    }

    /// How long the stage's steps are, and how many of them are alike.
    fn measure(&self, stage: &mut Stage) {
        let cost = &self.hardware.cost;
        stage.pace = Pace {
            first: stage.work.seconds(cost),
            growth: 0.0,
        };
        stage.limit = 1;
        if stage.decodes {
            stage.pace.growth = stage.work.growth(cost);
            stage.token_age = 0.0;
            let mut first_end = u32::MAX;
            for running in &self.running {
                stage.token_age += stage.start - running.last_token;
                first_end = first_end.min(running.end - running.length);
            }
            stage.limit = self.steps_with_room(first_end);
        }
    }

    /// How many steps of decoding find the blocks they need, the present one (which has them) included; at most `at_most`.
    fn steps_with_room(&self, at_most: u32) -> u32 {
        let block_size = u64::from(self.hardware.block_size);
        let free = u64::from(self.cache.free());
        let running = self.running.len() as u64;
        // In block_size steps each sequence needs one block.
        if running * (u64::from(at_most) / block_size + 1) <= free {
            return at_most;
        }
        let mut enough =
            ((free / running).saturating_sub(1) * block_size).clamp(1, u64::from(at_most)) as u32;
        let mut search = u64::from(at_most).min((free / running + 1) * block_size) as u32;
        while enough < search {
            let steps = search - (search - enough) / 2;
            if u64::from(self.blocks_missing(steps)) <= free {
                enough = steps;
            } else {
                search = steps - 1;
            }
        }
        enough
    }

    /// KV blocks that the running sequences lack for `steps` steps of decoding.
    pub(super) fn blocks_missing(&self, steps: u32) -> u32 {
        let block_size = self.hardware.block_size;
        self.running
            .iter()
            .map(|running| running.missing(running.computed + steps, block_size))
            .sum()
    }

    /// Ends the stage's last step at `now`.
    pub(super) fn close_stage(&mut self, now: f64, observed: &mut Vec<(f64, Observed)>) {
        let Some(stage) = self.stage.take() else {
            return;
        };
        let mut ended = false;
        if stage.decodes {
            self.count_decodes(&stage, stage.limit);
            self.settle(stage.limit, now, false);
            for index in 0..self.running.len() {
                ended |= self.end_if_done(index, now, observed);
            }
        } else {
            for index in 0..self.running.len() {
                if self.finish_chunk(index, now, observed) {
                    ended |= self.end_if_done(index, now, observed);
                }
            }
        }
        if ended {
            self.running.retain(|running| running.length < running.end);
        }
    }

    /// Counts the tokens of `steps` decoding steps of the stage.
    fn count_decodes(&mut self, stage: &Stage, steps: u32) {
        let tokens = self.running.len() as u64 * u64::from(steps);
        self.counters.output_tokens += tokens;
        self.counters.token_gaps += tokens;
        self.counters.token_gap_seconds +=
            stage.token_age + self.running.len() as f64 * stage.pace.seconds(steps);
    }

    /// Moves every running sequence on by `steps` steps of decoding, the last of which ended at `now`; `begun`: one more has begun.
    fn settle(&mut self, steps: u32, now: f64, begun: bool) {
        let block_size = self.hardware.block_size;
        let missing = self.blocks_missing(steps + u32::from(begun));
        let given = self.cache.allocate(missing);
        debug_assert!(given, "the stage ends before blocks run short");
        for running in &mut self.running {
            running.computed += steps;
            running.length += steps;
            running.last_token = now;
            let held = running.computed + u32::from(begun);
            running.blocks += running.missing(held, block_size);
            if running.preempted {
                self.sequences[running.slot as usize].store(
                    &mut self.cache,
                    held,
                    self.unit_tokens,
                    block_size,
                );
            }
        }
    }

    /// Ends a running sequence's part of a step; whether it produced a token.
    fn finish_chunk(
        &mut self,
        index: usize,
        now: f64,
        observed: &mut Vec<(f64, Observed)>,
    ) -> bool {
        let running = &mut self.running[index];
        running.computed += running.scheduled;
        if running.scheduled == 0 || running.computed < running.length {
            return false;
        }
        self.counters.output_tokens += 1;
        if running.length == running.prompt {
            let sequence = &self.sequences[running.slot as usize];
            self.counters.first_tokens += 1;
            self.counters.first_token_seconds += now - sequence.arrived;
            observed.push((
                now,
                Observed::FirstToken {
                    id: sequence.id,
                    cached_tokens: sequence.cached_tokens,
                },
            ));
        } else {
            self.counters.token_gaps += 1;
            self.counters.token_gap_seconds += now - running.last_token;
        }
        running.length += 1;
        running.last_token = now;
        true
    }

    /// Frees what a running sequence holds if its last token is out; it stays listed.
    fn end_if_done(&mut self, index: usize, now: f64, observed: &mut Vec<(f64, Observed)>) -> bool {
        let running = self.running[index];
        if running.length < running.end {
            return false;
        }
        let sequence = &mut self.sequences[running.slot as usize];
        sequence.release(&mut self.cache, running.blocks, self.unit_blocks);
        self.with_adapter -= u32::from(sequence.lora > 0);
        self.counters.finished_requests += 1;
        observed.push((now, Observed::Finished { id: sequence.id }));
        self.spare.push(running.slot);
        true
    }
}
