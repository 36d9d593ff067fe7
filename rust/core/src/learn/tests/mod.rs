//! The learner on synthetic engines with known rates.

mod world;

use proptest::prelude::*;

use super::*;
use crate::Nanos;
use crate::pool::EngineMetrics;
use world::{HARDWARE, Hardware, Hears, World};

/// How far off the curve of the pool is: (prefill rate, seconds to a first token of 2,000 tokens, seconds per token at 5 in flight, output tokens), as shares.
fn errors(world: &World, hardware: Hardware) -> [f64; 4] {
    let curve = world.pool.rates().curve();
    let first = hardware.base + 2000.0 / hardware.rate;
    let token = hardware.decode_base + 5.0 * hardware.decode_request;
    [
        1.0 / curve.prefill_token / hardware.rate - 1.0,
        curve.first_token_seconds(2000.0) / first - 1.0,
        curve.token_seconds(5.0) / token - 1.0,
        curve.output_tokens / 99.5 - 1.0,
    ]
}

fn assert_close(world: &World, hardware: Hardware, limit: f64) {
    let errors = errors(world, hardware);
    let curve = world.pool.rates().curve();
    assert!(
        errors.iter().all(|error| error.abs() < limit),
        "{errors:?} {curve:?}"
    );
}

#[test]
fn the_curve_starts_as_documented() {
    let told = Rates::new().curve();
    assert_eq!(told, Curve::START);
    // The samples that the fits begin with lie on it, so that the first request does not overturn it.
    let rates = Rates::new();
    let mut factor = Factor::default();
    rates.learn_prefill(Sample::new(1000.0, 0.1), &mut factor, Nanos(0));
    rates.learn_decode(Sample::new(30.0, 0.013), &mut factor, Nanos(0));
    let learnt = rates.curve();
    for (told, learnt) in [
        (told.prefill_token, learnt.prefill_token),
        (told.decode_base, learnt.decode_base),
        (told.decode_request, learnt.decode_request),
    ] {
        assert!((learnt / told - 1.0).abs() < 1e-2, "{learnt} {told}");
    }
    assert!(learnt.prefill_base < 1e-3);
}

#[test]
fn the_curve_converges_within_500_requests() {
    for (endpoints, hears) in [
        (4, Hears::Everything),
        (1, Hears::Everything),
        (4, Hears::Pages),
    ] {
        let mut world = World::new(&vec![HARDWARE; endpoints], hears);
        world.run_requests(500);
        world.run(5.0);
        assert_close(&world, HARDWARE, 0.1);
    }
}

#[test]
fn worse_signals_teach_what_they_can() {
    // KV events tell of first tokens only; a tenth of the answers needs ten times as long.
    let mut world = World::new(&[HARDWARE; 2], Hears::KvEvents);
    world.run_requests(500);
    let told = errors(&world, HARDWARE);
    assert!(told[0].abs() < 0.15 && told[1].abs() < 0.15, "{told:?}");
    assert_eq!(world.endpoints[0].signal(world.clock()), Signal::KvEvents);
    let (curve, start) = (world.pool.rates().curve(), Curve::START);
    let untaught = Curve {
        prefill_base: curve.prefill_base,
        prefill_token: curve.prefill_token,
        ..start
    };
    assert_eq!(curve, untaught);
    let mut world = World::new(&[HARDWARE; 2], Hears::Samples);
    world.run_requests(5000);
    // What is pending is a guess where first tokens are not seen.
    assert_close(&world, HARDWARE, 0.2);
    assert_eq!(world.endpoints[0].signal(world.clock()), Signal::Sampled);
}

#[test]
fn without_signals_nothing_is_learnt_and_prefill_does_not_pile_up() {
    for (hears, signal) in [(Hears::Ends, Signal::Ends), (Hears::Aborts, Signal::None)] {
        // Answers that stream for ten seconds.
        let streaming = Hardware {
            decode_base: 0.1,
            ..HARDWARE
        };
        let mut world = World::new(&[streaming; 2], hears);
        world.run(30.0);
        assert_eq!(world.pool.rates().curve(), Curve::START);
        for endpoint in &world.endpoints {
            assert_eq!(endpoint.signal(world.clock()), signal);
            assert_eq!(endpoint.factors(), (1.0, 1.0));
            let (requests, pending) = (endpoint.inflight_requests(), endpoint.pending_prefills());
            assert!(requests > 30 && pending < 10, "{requests} {pending}");
        }
    }
}

#[test]
fn a_prefill_stays_pending_where_the_pools_other_first_tokens_are_seen() {
    let mut world = World::new(&[HARDWARE; 2], Hears::Everything);
    world.run(10.0);
    // The first engine hangs.
    world.hardware[0].base = 1e6;
    world.run(20.0);
    let pending = world.endpoints[0].pending_prefills();
    world.served = (1, 1);
    world.run(120.0);
    assert!(pending > 50);
    assert_eq!(world.endpoints[0].pending_prefills(), pending);
    assert!(world.endpoints[1].pending_prefills() < 20);
}

#[test]
fn a_change_of_rate_is_followed_within_a_minute() {
    for hears in [Hears::Everything, Hears::Pages] {
        for factor in [2.0, 0.5] {
            let mut world = World::new(&[HARDWARE; 4], hears);
            world.run(60.0);
            let changed = HARDWARE.slower(factor);
            world.hardware.fill(changed);
            world.run(60.0);
            assert_close(&world, changed, 0.2);
        }
    }
}

#[test]
fn outliers_move_the_rate_by_less_than_a_tenth() {
    let rate = |outliers| {
        let mut world = World::new(&[HARDWARE; 4], Hears::Everything);
        world.run(60.0);
        world.outliers = outliers;
        world.run(120.0);
        1.0 / world.pool.rates().curve().prefill_token
    };
    let (clean, disturbed) = (rate(0.0), rate(0.01));
    assert!((disturbed / clean - 1.0).abs() < 0.1, "{clean} {disturbed}");
}

#[test]
fn a_slower_endpoint_has_a_larger_factor_and_drifts_back_when_idle() {
    for hears in [Hears::Everything, Hears::Pages] {
        let mut world = World::new(&[HARDWARE, HARDWARE.slower(2.0)], hears);
        world.run(120.0);
        let (fast, slow) = (world.endpoints[0].factors(), world.endpoints[1].factors());
        // Answers that take longer are also more at once, which the pool's curve takes for the cause of a part.
        assert!(
            ((slow.0 / fast.0) - 2.0).abs() < 0.4 && slow.1 / fast.1 > 1.2,
            "{hears:?} {fast:?} {slow:?}"
        );
        let ratio = world.endpoints[0].prefill_rate() / world.endpoints[1].prefill_rate();
        assert!((ratio - slow.0 / fast.0).abs() < 1e-9);
        // Only the first one is used; the second drifts back to the pool's curve.
        world.served = (0, 1);
        world.run(300.0);
        let (prefill, decode) = world.endpoints[1].factors();
        assert!(
            (prefill - 1.0).abs() < 0.05 && (decode - 1.0).abs() < 0.05,
            "{prefill} {decode}"
        );
    }
}

#[test]
fn mixed_hardware_is_told_apart_whoever_holds_more_requests() {
    for hears in [Hears::Everything, Hears::Pages] {
        for spares_second_half in [false, true] {
            let fast = [HARDWARE; 4];
            let slow = [HARDWARE.slower(2.0); 4];
            let mut world = World::new(&[fast, slow].concat(), hears);
            world.spares_second_half = spares_second_half;
            world.run(240.0);
            let factors: Vec<_> = world.endpoints.iter().map(|one| one.factors()).collect();
            for fast in &factors[..4] {
                for slow in &factors[4..] {
                    let ratios = (slow.0 / fast.0, slow.1 / fast.1);
                    assert!(
                        (1.5..2.5).contains(&ratios.0) && (1.5..2.5).contains(&ratios.1),
                        "{hears:?} {spares_second_half} {ratios:?} {factors:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_page_of_absurd_counters_does_not_overturn_what_was_learnt() {
    for absurd in [f64::NAN, f64::INFINITY, -5.0, 1e9, 1e18, f64::MAX] {
        let mut world = World::new(&[HARDWARE; 4], Hears::Pages);
        world.run(60.0);
        let endpoint = &world.endpoints[0];
        let page = EngineMetrics {
            first_tokens: Some(absurd),
            first_token_seconds: Some(absurd),
            token_gaps: Some(absurd),
            token_gap_seconds: Some(absurd),
            output_tokens: Some(absurd),
            finished_requests: Some(absurd),
            running: Some(absurd),
            waiting: Some(absurd),
            kv_usage: Some(absurd),
            ..EngineMetrics::default()
        };
        endpoint.refresh(page, world.clock());
        let rates = [endpoint.prefill_rate(), endpoint.decode_seconds_per_token()];
        assert!(
            rates.iter().all(|rate| rate.is_finite() && *rate > 0.0),
            "{absurd} {rates:?}"
        );
        world.run(60.0);
        assert_close(&world, HARDWARE, 0.15);
        let factors: Vec<_> = world.endpoints.iter().map(|one| one.factors()).collect();
        assert!(
            factors
                .iter()
                .all(|(prefill, decode)| (prefill - 1.0).abs() < 0.3 && (decode - 1.0).abs() < 0.3),
            "{absurd} {factors:?}"
        );
    }
}

#[test]
fn a_clock_that_steps_or_jumps_costs_a_few_samples() {
    for hears in [Hears::Everything, Hears::Pages] {
        for step in [-3600, 3600, -40, 40] {
            let mut world = World::new(&[HARDWARE; 4], hears);
            world.run(60.0);
            world.clock_error = step * 1_000_000_000;
            world.run(1.0);
            let told = errors(&world, HARDWARE);
            assert!(
                told.iter().all(|error| error.abs() < 0.3),
                "{hears:?} {step} {told:?}"
            );
            world.run(60.0);
            assert_close(&world, HARDWARE, 0.1);
            let gap = world.pool.snapshot().endpoints[0].factors();
            assert!(gap.0 < 1.5 && gap.1 < 1.5, "{gap:?}");
        }
    }
}

#[test]
fn an_engine_that_starts_again_teaches_nothing_wrong() {
    let mut world = World::new(&[HARDWARE; 2], Hears::Pages);
    for _ in 0..20 {
        world.run(5.0);
        world.restart(0);
    }
    assert_close(&world, HARDWARE, 0.1);
}

#[test]
fn worse_signals_do_not_teach_where_better_ones_flow() {
    let mut learner = Pace::default();
    let rates = Rates::new();
    let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
    let totals = |count: f64| PageTotals {
        first_tokens: Some(count),
        first_token_seconds: Some(count * 60.0),
        ..PageTotals::default()
    };
    let request = Measured {
        tokens: 1000.0,
        reserved: at(1),
        moved: false,
    };
    learner.page_totals(totals(0.0));
    let told = |learner: &mut Pace, count: f64, now: Nanos| {
        let before = rates.curve();
        let page = Page {
            growth: learner.page_totals(totals(count)),
            answered: 1,
            tokens: 1000.0,
            ..Page::default()
        };
        learner.page(&rates, &page, now);
        before != rates.curve()
    };
    learner.first_token(&rates, &request, false, false, at(1));
    assert!(!told(&mut learner, 1.0, at(2)), "first tokens are seen");
    assert!(told(&mut learner, 2.0, at(62)), "none was for a minute");
    learner.prompt_stored(&rates, &request, false, at(63));
    assert!(
        !told(&mut learner, 3.0, at(64)),
        "KV events tell more exactly"
    );
}

/// Anything that can be measured, and what cannot.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..10_000.0,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, -0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, 3600.0, 1e12]),
    ]
}

proptest! {
    #[test]
    fn whatever_is_measured_the_rates_are_positive_numbers(
        samples in proptest::collection::vec((any::<bool>(), number(), number(), number(), prop_oneof![0u64..100_000_000_000, any::<u64>()]), 0..200),
    ) {
        let rates = Rates::new();
        let (mut prefill, mut decode) = (Factor::default(), Factor::default());
        let mut gap = gap::Gap::default();
        for (is_prefill, at, seconds, weight, now) in samples {
            let sample = Sample { at, seconds, weight };
            let now = Nanos(now);
            if is_prefill {
                rates.learn_prefill(sample, &mut prefill, now);
                gap.start(now);
            } else {
                rates.learn_decode(sample, &mut decode, now);
                rates.learn_output(at, weight);
                gap.first_tokens(1.0, 20.0, true, now);
            }
            let curve = rates.curve();
            let never_negative = [curve.prefill_base, curve.decode_base, gap.seconds()];
            prop_assert!(never_negative.iter().all(|value| value.is_finite() && *value >= 0.0), "{:?}", curve);
            let positive = [curve.prefill_token, curve.decode_request];
            prop_assert!(positive.iter().all(|value| value.is_finite() && *value > 0.0), "{:?}", curve);
            prop_assert!(curve.output_tokens.is_finite() && curve.output_tokens >= 1.0);
            let factors = rates.factors(&mut prefill, &mut decode, now);
            prop_assert!((0.1..=10.0).contains(&factors.0) && (0.1..=10.0).contains(&factors.1));
        }
    }
}
