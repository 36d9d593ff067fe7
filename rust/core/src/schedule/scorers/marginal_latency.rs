//! `marginal-latency-scorer`: the least total latency added, to this request and to those already there. The default policy.

use std::time::Duration;

use crate::Nanos;
use crate::learn::Curve;
use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, PrefixColumn, Scorer};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "marginal-latency-scorer",
    roles: &[Role::Scorer],
    summary: "Least cost over own cost, in seconds that this request would add to its own latency and to that of the requests already there, by rates that are learnt; without rates P + u·(1 + n/3): P tokens waiting for prefill, u uncached tokens of this request, n requests in flight.",
    parameters: &[
        ParameterKind {
            name: "countEngineRequests",
            shape: Shape::Boolean,
            default: "true",
            summary: "Take n as the engine's running and waiting requests where those are more than the ones in flight through this picker.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "rates",
            shape: Shape::Choice(&["learnt", "none"]),
            default: "\"learnt\"",
            summary: "Whether cost is in seconds, by the rates that were learnt from this pool, or in tokens, which needs no rates.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "stallWeight",
            shape: WEIGHT,
            default: "0.4",
            summary: "Part of the time of this request's prefill that each request in flight there is charged with, because it is stalled meanwhile.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "decodeWeight",
            shape: WEIGHT,
            default: "0.15",
            summary: "Weight of the time that the answer takes and that it adds to the answers already there.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "memoryWeight",
            shape: WEIGHT,
            default: "0.03333333333333333",
            summary: "Weight of a KV cache that would become too full, where the engine tells of it.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "slotWeight",
            shape: WEIGHT,
            default: "10",
            summary: "Weight of the time until a place is free, on an engine that runs as many requests as it can, where its pages have shown how many these are; where more than a twentieth too many are there already, a further one weighs 1, or this if it is less.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "stepWeight",
            shape: WEIGHT,
            default: "1",
            summary: "Weight of the engine's step, which a new request waits for.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::PrefixMatch, Data::InFlightLoad],
    build: |parameters| {
        Ok(Parts::scorer(MarginalLatencyScorer {
            count_engine_requests: parameters.boolean("countEngineRequests"),
            rates: match parameters.text("rates") {
                "none" => Rates::None,
                _ => Rates::Learnt,
            },
            stall: parameters.number("stallWeight"),
            decode: parameters.number("decodeWeight"),
            memory: parameters.number("memoryWeight"),
            slot: parameters.number("slotWeight"),
            step: parameters.number("stepWeight"),
        }))
    },
    ..PluginKind::BASE
};

const WEIGHT: Shape = Shape::Number {
    least: 0.0,
    most: f64::INFINITY,
};

/// Share of its places up to which requests that are too many weigh `slotWeight`; those beyond weigh their own time.
const MARGIN: f64 = 1.0 / 20.0;

/// KV cache usage from which on an engine is close to putting requests back into its queue.
const FULL: f64 = 0.92;

/// What an older page says of the KV cache is not believed. (A page every second costs nothing, every 5 seconds 4 %: `policy.md` §1.)
const STALE: Duration = Duration::from_secs(5);

/// What cost is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rates {
    /// Seconds, by the rates that were learnt.
    Learnt,
    /// Tokens.
    None,
}

/// The marginal latency cost (`policy.md` §1): the seconds that a request would add on an endpoint, its own and those of the others.
///
/// With `P` uncached tokens reserved there and not yet prefilled, those of `q` requests, `u` uncached tokens of this request (at least 1), `n` requests in flight,
/// first tokens leaving every `d` seconds, `o` output tokens expected, and the rates `R`, `A`, `B` of this endpoint:
///
/// * `max(P/R, q·d) + u/R`: its own time to the first token. `q·d` is the larger where the engine stalls for another reason than prefill;
/// * `stall · n · u/R`: its prefill stalls the requests in flight;
/// * `decode · o · (A + B·(2n + 1))`: its own answer, and the slowdown of the `n` others;
/// * `memory · x · o · (A + B·n) · (1 + n)`: where the KV cache would be too full by `x`, the engine puts requests back and computes them again;
/// * `(slot · y + z) · o · (A + B·S) / S`: where the engine runs no more than `S` requests at once, one has to end for each that is too many. Of these,
///   `y` are the first twentieth of `S` (one at least), and `z` the rest: a place elsewhere is worth a detour, a queue everywhere is only the time that it takes;
/// * `step · (A + B·n)`: the step that runs when the request comes.
///
/// The first five are `policy.md`'s, with `stall` and `decode` at 0.4 and 0.15 instead of 1/3 and 0.1; the last two are ours: they end its losses near
/// saturation (docs/policy.md tells what each is worth).
///
/// `n` is what this picker has reserved, exact and without delay; where the engine reports more running and waiting requests, other routers
/// send there too, and the larger number counts. The two are not added: they count the same requests, and a scraped page lags behind the
/// reservations. What the page still counts after its requests have ended makes `n` too large for one scrape interval at most;
/// `countEngineRequests: false` gives the pure form. `P` and `q` are always this picker's own.
///
/// Without rates the cost is `P + u · (1 + stall · n)` tokens ("tok-mlc").
///
/// The score is `least cost / cost`, in 0..=1, 1 for the least: the order of costs is kept, ties stay ties, and nothing but the least cost scores 1, because
/// the quotient of two different doubles does not round to 1 from below.
#[derive(Clone, Copy, Debug)]
pub struct MarginalLatencyScorer {
    /// Take the engine's own count of requests where it is larger.
    pub count_engine_requests: bool,
    /// What cost is made of.
    pub rates: Rates,
    /// `k_x` of `policy.md`.
    pub stall: f64,
    /// `k_d`.
    pub decode: f64,
    /// `k_m`.
    pub memory: f64,
    /// Of the wait for a place.
    pub slot: f64,
    /// Of the wait for the step that runs.
    pub step: f64,
}

/// The columns that cost is made of, and what is the same in all rows. Each is as long as there are rows, so that no row is looked for in vain.
struct Costs<'a> {
    scorer: MarginalLatencyScorer,
    prompt_tokens: f64,
    block_tokens: f64,
    held: &'a [u32],
    requests: &'a [f64],
    running: &'a [f64],
    waiting: &'a [f64],
    prefill_tokens: &'a [f64],
    pending_prefills: &'a [f64],
    prefill_gap: &'a [f64],
    prefill_factor: &'a [f64],
    decode_factor: &'a [f64],
    slots: &'a [f64],
    kv_usage: &'a [f64],
    kv_tokens: &'a [f64],
    sent_since_page: &'a [f64],
    page_at: &'a [Nanos],
    curve: Curve,
    /// Pages read before are not believed.
    fresh: Nanos,
}

impl<'a> Costs<'a> {
    fn new(
        scorer: MarginalLatencyScorer,
        context: &Context<'a>,
        prefix: &'a PrefixColumn,
        rows: usize,
    ) -> Self {
        let candidates = context.candidates;
        Self {
            scorer,
            prompt_tokens: f64::from(context.request.prompt_tokens),
            block_tokens: f64::from(prefix.block_tokens),
            held: prefix.held_blocks(),
            requests: &candidates.inflight_requests[..rows],
            running: &candidates.running[..rows],
            waiting: &candidates.waiting[..rows],
            prefill_tokens: &candidates.prefill_tokens[..rows],
            pending_prefills: &candidates.pending_prefills[..rows],
            prefill_gap: &candidates.prefill_gap[..rows],
            prefill_factor: &candidates.prefill_factor[..rows],
            decode_factor: &candidates.decode_factor[..rows],
            slots: &candidates.slots[..rows],
            kv_usage: &candidates.kv_usage[..rows],
            kv_tokens: &candidates.kv_tokens[..rows],
            sent_since_page: &candidates.sent_since_page[..rows],
            page_at: &candidates.page_at[..rows],
            curve: candidates.curve,
            // A page that was read at 0 is none.
            fresh: Nanos(context.now.0.saturating_sub(STALE.as_nanos() as u64).max(1)),
        }
    }

    /// u.
    #[inline]
    fn uncached(&self, row: usize) -> f64 {
        let held = self.held.get(row).copied().unwrap_or(0);
        larger(
            1.0,
            self.prompt_tokens - f64::from(held) * self.block_tokens,
        )
    }

    /// n.
    #[inline]
    fn requests(&self, row: usize) -> f64 {
        let own = self.requests[row];
        if self.scorer.count_engine_requests {
            larger(own, self.running[row] + self.waiting[row])
        } else {
            own
        }
    }

    /// Tokens; more than 0, NaN where an input is no number.
    #[inline]
    fn tokens(&self, row: usize) -> f64 {
        let stalled = 1.0 + self.scorer.stall * self.requests(row);
        self.prefill_tokens[row] + self.uncached(row) * stalled
    }

    /// Seconds; more than 0, NaN where an input is no number.
    #[inline]
    fn seconds(&self, row: usize) -> f64 {
        let (scorer, curve) = (&self.scorer, &self.curve);
        let requests = self.requests(row);
        let uncached = self.uncached(row);
        let output_tokens = curve.output_tokens;

        let token_seconds = curve.prefill_token * self.prefill_factor[row];
        let gaps = self.pending_prefills[row] * self.prefill_gap[row];
        let wait = larger(self.prefill_tokens[row] * token_seconds, gaps);
        let prefill = uncached * token_seconds * (1.0 + scorer.stall * requests);

        // All that follows is by the endpoint's decode factor.
        let step = curve.token_seconds(requests);
        let decoded = scorer.decode * output_tokens * curve.token_seconds(2.0 * requests + 1.0);
        let mut decode = decoded + scorer.step * step;
        let overfull = self.overfull(row, uncached + output_tokens);
        if overfull > 0.0 {
            decode += scorer.memory * overfull * output_tokens * step * (1.0 + requests);
        }
        let slots = self.slots[row];
        let too_many = requests + 1.0 - slots;
        if too_many > 0.0 {
            let one_ends = output_tokens * curve.token_seconds(slots) / slots;
            let margin = smaller(too_many, larger(1.0, MARGIN * slots));
            let queue = smaller(scorer.slot, 1.0) * (too_many - margin);
            decode += (scorer.slot * margin + queue) * one_ends;
        }
        wait + prefill + decode * self.decode_factor[row]
    }

    /// x: share of the KV cache by which `more` tokens, and those sent since the page, would overfill it; not above 0 where it would not, or where no
    /// fresh page tells.
    #[inline]
    fn overfull(&self, row: usize, more: f64) -> f64 {
        let room = self.kv_tokens[row];
        let spare = FULL - self.kv_usage[row];
        let coming = self.sent_since_page[row] + more;
        // Without a division as long as there is room, which is nearly always.
        if self.page_at[row] < self.fresh || (coming <= spare * room && spare >= 0.0) {
            0.0
        } else if room > 0.0 {
            coming / room - spare
        } else {
            -spare
        }
    }
}

/// The larger of two numbers; the first where the other is none. One instruction, where `f64::max` takes three, one after the other.
#[inline]
fn larger(number: f64, other: f64) -> f64 {
    if other > number { other } else { number }
}

#[inline]
fn smaller(number: f64, other: f64) -> f64 {
    if other < number { other } else { number }
}

impl Scorer for MarginalLatencyScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let mut least = f64::INFINITY;
        // Found once and not for each row.
        let costs = Costs::new(*self, context, context.prefix(None), scores.len());
        let rows = scores.iter_mut().enumerate();
        match self.rates {
            Rates::Learnt => {
                for (row, score) in rows {
                    *score = costs.seconds(row);
                    least = smaller(least, *score);
                }
            }
            Rates::None => {
                for (row, score) in rows {
                    *score = costs.tokens(row);
                    least = smaller(least, *score);
                }
            }
        }
        for score in scores {
            *score = least / *score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::built;
    use crate::schedule::testing::Scene;
    use proptest::prelude::*;
    use serde_json::json;

    /// The token form, by our own count of requests.
    const PURE: MarginalLatencyScorer = MarginalLatencyScorer {
        count_engine_requests: false,
        rates: Rates::None,
        stall: 1.0 / 3.0,
        decode: 0.1,
        memory: 1.0 / 30.0,
        slot: 10.0,
        step: 0.0,
    };
    const HYBRID: MarginalLatencyScorer = MarginalLatencyScorer {
        count_engine_requests: true,
        ..PURE
    };
    const LEARNT: MarginalLatencyScorer = MarginalLatencyScorer {
        rates: Rates::Learnt,
        ..PURE
    };

    /// R = 2,000 tokens a second, A = 20 ms, B = 1 ms, o = 50.
    const CURVE: Curve = Curve {
        prefill_base: 0.3,
        prefill_token: 1.0 / 2000.0,
        decode_base: 0.020,
        decode_request: 0.001,
        output_tokens: 50.0,
    };

    fn cost(scene: &Scene, row: usize) -> f64 {
        cost_by(PURE, scene, row)
    }

    fn cost_by(scorer: MarginalLatencyScorer, scene: &Scene, row: usize) -> f64 {
        let context = scene.context();
        let costs = Costs::new(scorer, &context, context.prefix(None), row + 1);
        match scorer.rates {
            Rates::Learnt => costs.seconds(row),
            Rates::None => costs.tokens(row),
        }
    }

    #[test]
    fn cost_is_waiting_prefill_and_own_prefill_with_the_stall_it_causes() {
        let mut scene = Scene::new(4);
        scene.candidates.prefill_tokens = vec![0.0, 500.0, 0.0, 0.0];
        scene.candidates.inflight_requests = vec![0.0, 0.0, 3.0, 3.0];
        scene.set_matched(vec![0, 0, 0, 15]);
        // 1,000; 1,500; 1,000 · 2; 40 · 2.
        let costs: Vec<f64> = (0..4).map(|row| cost(&scene, row)).collect();
        assert_eq!(costs, [1000.0, 1500.0, 2000.0, 80.0]);
        assert_eq!(scene.scores(&PURE), [0.08, 80.0 / 1500.0, 0.04, 1.0]);
    }

    #[test]
    fn a_warm_endpoint_loses_when_its_queue_is_longer_than_the_cold_prefill() {
        let mut scene = Scene::new(2);
        scene.set_matched(vec![15, 0]);
        scene.candidates.prefill_tokens = vec![2000.0, 0.0];
        let scores = scene.scores(&PURE);
        assert!(scores[1] > scores[0]);
    }

    #[test]
    fn other_routers_requests_count_when_they_are_more_than_our_own() {
        let mut scene = Scene::new(3);
        scene.candidates.inflight_requests = vec![3.0, 3.0, 3.0];
        scene.candidates.running = vec![2.0, 5.0, f64::NAN];
        scene.candidates.waiting = vec![0.0, 1.0, 0.0];
        let costs: Vec<f64> = (0..3).map(|row| cost_by(HYBRID, &scene, row)).collect();
        assert_eq!(costs, [2000.0, 3000.0, 2000.0]);
        let pure: Vec<f64> = (0..3).map(|row| cost(&scene, row)).collect();
        assert_eq!(pure, [2000.0; 3]);
    }

    #[test]
    fn one_endpoint_and_equal_ones_score_one() {
        assert_eq!(Scene::new(1).scores(&HYBRID), [1.0]);
        assert_eq!(Scene::new(3).scores(&HYBRID), [1.0; 3]);
    }

    #[test]
    fn a_request_without_tokens_goes_by_the_load() {
        let mut scene = Scene::new(2);
        scene.request.prompt_tokens = 0;
        scene.candidates.inflight_requests = vec![3.0, 0.0];
        assert_eq!(scene.scores(&PURE), [0.5, 1.0]);
    }

    #[test]
    fn what_is_no_number_does_not_disturb_the_others() {
        let mut scene = Scene::new(2);
        scene.candidates.prefill_tokens = vec![f64::NAN, 1000.0];
        let scores = scene.scores(&PURE);
        assert!(scores[0].is_nan());
        assert_eq!(scores[1..], [1.0]);
    }

    /// What each row changes on an idle endpoint with a prompt of 1,000 tokens, and its cost in seconds, computed by hand.
    #[test]
    fn the_cost_is_the_latency_added_in_seconds() {
        type Change = fn(&mut Scene);
        let idle = 0.5 + 0.1 * 50.0 * (0.020 + 0.001);
        let cases: &[(&str, Change, f64)] = &[
            ("idle", |_| {}, idle),
            (
                "waits for P/R",
                |scene| scene.candidates.prefill_tokens[0] = 400.0,
                idle + 0.2,
            ),
            (
                "waits for q·d where that is more",
                |scene| {
                    scene.candidates.prefill_tokens[0] = 400.0;
                    scene.candidates.pending_prefills[0] = 3.0;
                    scene.candidates.prefill_gap[0] = 0.1;
                },
                idle + 0.3,
            ),
            (
                "stalls and slows those in flight",
                |scene| scene.candidates.inflight_requests[0] = 6.0,
                0.5 * 3.0 + 0.1 * 50.0 * (0.020 + 0.001 * 13.0),
            ),
            (
                "holds 960 of 1,000 tokens",
                |scene| scene.set_matched(vec![15]),
                0.02 + 0.1 * 50.0 * 0.021,
            ),
            (
                "prefills half as fast, decodes twice as fast",
                |scene| {
                    scene.candidates.prefill_factor[0] = 2.0;
                    scene.candidates.decode_factor[0] = 0.5;
                },
                1.0 + 0.1 * 50.0 * 0.021 / 2.0,
            ),
            (
                "KV cache too full by (200 + 1,000 + 50)/10,000 + 0.9 - 0.92",
                |scene| {
                    full(scene);
                    scene.candidates.inflight_requests[0] = 3.0;
                },
                0.5 * 2.0 + 0.1 * 50.0 * 0.027 + 0.105 / 30.0 * 50.0 * 0.023 * 4.0,
            ),
            (
                "KV cache of unknown size",
                |scene| {
                    full(scene);
                    scene.candidates.kv_tokens[0] = 0.0;
                    scene.candidates.kv_usage[0] = 0.95;
                },
                idle + 0.03 / 30.0 * 50.0 * 0.020,
            ),
            (
                "a page that is too old to tell of the KV cache",
                |scene| {
                    full(scene);
                    scene.now = Nanos(5_000_000_002);
                },
                idle,
            ),
            (
                "no page",
                |scene| {
                    full(scene);
                    scene.candidates.page_at[0] = Nanos(0);
                },
                idle,
            ),
        ];
        for (name, change, expected) in cases {
            let mut scene = Scene::new(1);
            scene.candidates.curve = CURVE;
            change(&mut scene);
            let cost = cost_by(LEARNT, &scene, 0);
            assert!(
                (cost - expected).abs() < 1e-12,
                "{name}: {cost}, not {expected}"
            );
        }
    }

    /// On an engine that runs 4 requests at once: those in flight, its decode factor, and the cost.
    #[test]
    fn each_request_too_many_waits_for_a_place() {
        let decoded = |requests: f64| 0.1 * 50.0 * (0.020 + 0.001 * (2.0 * requests + 1.0));
        // A place is free every 50 · 24 ms / 4.
        let place = 0.3;
        for (requests, factor, expected) in [
            (3.0, 1.0, 0.5 * 2.0 + decoded(3.0)),
            (4.0, 1.0, 0.5 * (7.0 / 3.0) + decoded(4.0) + 10.0 * place),
            (6.0, 1.0, 0.5 * 3.0 + decoded(6.0) + (10.0 + 2.0) * place),
            (
                6.0,
                2.0,
                0.5 * 3.0 + 2.0 * (decoded(6.0) + (10.0 + 2.0) * place),
            ),
        ] {
            let mut scene = Scene::new(1);
            scene.candidates.curve = CURVE;
            scene.candidates.slots[0] = 4.0;
            scene.candidates.inflight_requests[0] = requests;
            scene.candidates.decode_factor[0] = factor;
            let cost = cost_by(LEARNT, &scene, 0);
            assert!(
                (cost - expected).abs() < 1e-12,
                "{requests} {factor}: {cost}, not {expected}"
            );
        }
    }

    #[test]
    fn the_step_that_runs_counts_by_its_weight() {
        let mut scene = Scene::new(1);
        scene.candidates.curve = CURVE;
        scene.candidates.inflight_requests[0] = 6.0;
        scene.candidates.decode_factor[0] = 2.0;
        let with = |step| cost_by(MarginalLatencyScorer { step, ..LEARNT }, &scene, 0);
        // A step with 6 requests takes 26 ms, of this endpoint 52.
        assert!((with(0.5) - with(0.0) - 0.026).abs() < 1e-12);
        assert!((with(2.0) - with(0.0) - 0.104).abs() < 1e-12);
    }

    #[test]
    fn the_engines_own_count_fills_its_places_where_it_is_more() {
        let mut scene = Scene::new(2);
        scene.candidates.curve = CURVE;
        scene.candidates.slots = vec![4.0, f64::INFINITY];
        scene.candidates.running = vec![4.0; 2];
        scene.candidates.waiting = vec![2.0; 2];
        let counting = MarginalLatencyScorer {
            count_engine_requests: true,
            ..LEARNT
        };
        let places = cost_by(counting, &scene, 0) - cost_by(counting, &scene, 1);
        assert!((places - (10.0 + 2.0) * 0.3).abs() < 1e-12, "{places}");
    }

    #[test]
    fn the_weights_of_slots_and_steps_are_parameters_with_the_documented_defaults() {
        let mut scene = Scene::new(2);
        scene.candidates.curve = CURVE;
        scene.candidates.slots[0] = 4.0;
        scene.candidates.inflight_requests = vec![6.0; 2];
        let none = json!({"slotWeight": 0, "stepWeight": 0});
        assert_eq!(scene.rated(&built(&KIND, &none)), [1.0, 1.0]);
        let by_default = MarginalLatencyScorer {
            count_engine_requests: true,
            rates: Rates::Learnt,
            stall: 0.4,
            decode: 0.15,
            memory: 1.0 / 30.0,
            slot: 10.0,
            step: 1.0,
        };
        let told = scene.rated(&built(&KIND, &json!({})));
        assert_eq!(told, scene.scores(&by_default));
        assert!(told[0] < 0.5);
    }

    /// A fresh page of an engine with 10,000 tokens of KV cache, nearly full.
    fn full(scene: &mut Scene) {
        scene.candidates.page_at[0] = Nanos(1);
        scene.candidates.kv_usage[0] = 0.9;
        scene.candidates.kv_tokens[0] = 10_000.0;
        scene.candidates.sent_since_page[0] = 200.0;
    }

    #[test]
    fn the_parameters_are_the_weights() {
        let parameters = json!({"rates": "learnt", "countEngineRequests": false, "stallWeight": 0, "decodeWeight": 0, "stepWeight": 0, "memoryWeight": 1});
        let parts = built(&KIND, &parameters);
        let mut scene = Scene::new(2);
        scene.candidates.curve = CURVE;
        scene.candidates.inflight_requests = vec![100.0, 0.0];
        assert_eq!(
            scene.rated(&parts),
            [1.0, 1.0],
            "neither stall nor decoding nor the step counts"
        );
        full(&mut scene);
        assert!(scene.rated(&parts)[0] < 0.1);
    }

    proptest! {
        #[test]
        fn scores_are_in_range_and_keep_the_order_of_costs(rows in proptest::collection::vec((0u32..100_000, 0u32..300, 0u32..16, 0.1..10.0), 1..50)) {
            let mut scene = Scene::new(rows.len() as u8);
            scene.candidates.prefill_tokens = rows.iter().map(|row| f64::from(row.0)).collect();
            scene.candidates.inflight_requests = rows.iter().map(|row| f64::from(row.1)).collect();
            scene.candidates.prefill_factor = rows.iter().map(|row| row.3).collect();
            scene.candidates.slots = rows.iter().map(|row| if row.2 < 8 { f64::INFINITY } else { 8.0 * row.3 + 1.0 }).collect();
            scene.candidates.kv_usage = rows.iter().map(|row| row.3 / 5.0).collect();
            scene.candidates.page_at = vec![Nanos(1); rows.len()];
            scene.set_matched(rows.iter().map(|row| row.2).collect());
            for scorer in [PURE, LEARNT] {
                let scores = scene.scores(&scorer);
                let costs: Vec<f64> = (0..rows.len()).map(|row| cost_by(scorer, &scene, row)).collect();
                let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
                for (left, cost) in costs.iter().enumerate() {
                    prop_assert!(scores[left] > 0.0 && scores[left] <= 1.0);
                    prop_assert_eq!(scores[left] >= 1.0, *cost <= least);
                    for (right, other) in costs.iter().enumerate() {
                        prop_assert!(cost >= other || scores[left] >= scores[right]);
                    }
                }
            }
        }
    }
}
