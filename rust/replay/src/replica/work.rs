//! What one step computes, and how long steps take.

use crate::hardware::CostModel;

/// What one step computes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    prefill_tokens: u64,
    decode_sequences: u64,
    decode_kv_tokens: u64,
    prefill_context: f64,
}

impl Work {
    /// A chunk of prompt tokens after `computed` ones that are in the cache.
    pub(super) fn add_prefill(&mut self, computed: u32, tokens: u32) {
        self.prefill_tokens += u64::from(tokens);
        self.prefill_context += f64::from(tokens) * (f64::from(computed) + f64::from(tokens) / 2.0);
    }

    /// One sequence decodes with `context` tokens before it.
    pub(super) fn add_decode(&mut self, context: u32) {
        self.decode_sequences += 1;
        self.decode_kv_tokens += u64::from(context);
    }

    /// The same decodes, so many steps later.
    pub(super) fn later(mut self, steps: u32) -> Self {
        self.decode_kv_tokens += self.decode_sequences * u64::from(steps);
        self
    }

    /// Seconds that a step with this work takes.
    pub(super) fn seconds(&self, cost: &CostModel) -> f64 {
        cost.step
            + cost.prefill_token * self.prefill_tokens as f64
            + cost.decode_sequence * self.decode_sequences as f64
            + cost.decode_kv_token * self.decode_kv_tokens as f64
            + cost.prefill_context * self.prefill_context
    }

    /// Seconds by which each following step of the same decodes is longer.
    pub(super) fn growth(&self, cost: &CostModel) -> f64 {
        cost.decode_kv_token * self.decode_sequences as f64
    }
}

/// Steps of linearly growing length, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Seconds of the first.
    pub(super) first: f64,
    /// Seconds by which each is longer than the one before.
    pub(super) growth: f64,
}

impl Pace {
    /// Seconds of the first `steps` steps together.
    pub(super) fn seconds(&self, steps: u32) -> f64 {
        let steps = f64::from(steps);
        steps * self.first + self.growth * (steps * (steps - 1.0) / 2.0)
    }

    /// How many whole steps fit between `start` and `until`; at most `limit`.
    pub(super) fn steps_until(&self, start: f64, until: f64, limit: u32) -> u32 {
        let ends_by = |steps: u32| start + self.seconds(steps) <= until;
        if !ends_by(1) {
            return 0;
        }
        if ends_by(limit) {
            return limit;
        }
        let span = until - start;
        let linear = self.first - self.growth / 2.0;
        let guess = 2.0 * span / (linear + (linear * linear + 2.0 * self.growth * span).sqrt());
        let mut steps = (guess as u32).clamp(1, limit);
        // The root is rounded; the ends of steps as `seconds` has them decide.
        while !ends_by(steps) {
            steps -= 1;
        }
        while steps < limit && ends_by(steps + 1) {
            steps += 1;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn steps_until_agrees_with_counting() {
        for (first, growth) in [(0.007, 0.0), (0.01, 3e-6), (1e-9, 1e-12), (0.5, 0.5)] {
            let pace = Pace { first, growth };
            for limit in [1, 7, 1000] {
                for quarter in 0..4200_u32 {
                    let until =
                        3.0 + pace.seconds(quarter / 4) + first * f64::from(quarter % 4) / 4.0;
                    let counted = (1..=limit)
                        .take_while(|&steps| 3.0 + pace.seconds(steps) <= until)
                        .count();
                    assert_eq!(pace.steps_until(3.0, until, limit) as usize, counted);
                }
            }
        }
    }
}
