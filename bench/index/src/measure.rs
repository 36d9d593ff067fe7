//! Everything that one index goes through in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;

use crate::allocator::live_bytes;
use crate::beside;
use crate::long_prompt;
use crate::many_workers;
use crate::mooncake::{self, Trace};
use crate::queries::{self, Kind};
use crate::report::{Churned, Conversations, Loaded, Report, SharedPrefixes, SingleHolders};
use crate::subject::Subject;
use crate::timing::{Times, answer, clock_cost};
use crate::verify::Checks;
use crate::workload::{self, Arena, Change, Event, Workload};
use crate::{churn, resident};

/// Seed of everything drawn.
pub const SEED: u64 = 20_261_120;
/// Queries of each kind.
const QUERIES: usize = 8_192;
/// Events given to an index at once; small beside the caches that its own work needs.
const BATCH: usize = 1_024;
const REPLACED_A: usize = 120_000;
const REPLACED_BESIDE: usize = 60_000;
const REPLACED_B: usize = 8_000;
/// Workers `0..CLEARED` are cleared one after the other.
pub const CLEARED: u32 = 8;

/// Takes an index through everything. `trace`: workload C; `verify`: compare answers with an oracle's (and use much more memory).
///
/// # Errors
///
/// When the trace cannot be read.
pub fn run<S: Subject>(trace: Option<&Path>, verify: bool) -> std::io::Result<Report> {
    let trace = trace.map(|path| mooncake::read(path, SEED)).transpose()?;
    Ok(Report {
        subject: S::NAME,
        clock: clock_cost(),
        named_of_4096: many_workers::named::<S>(SEED),
        a: shared_prefixes::<S>(verify),
        b: single_holders::<S>(),
        c: trace.as_ref().map(conversations::<S>),
        long_prompt: long_prompt::run::<S>(SEED),
    })
}

/// Applies events in batches; their CPU time.
pub fn apply<S: Subject>(
    subject: &S,
    writer: &mut S::Writer,
    arena: &Arena,
    events: &[Event],
) -> Duration {
    events
        .chunks(BATCH)
        .map(|batch| {
            subject.apply(
                writer,
                batch.iter().map(|event| S::prepare(arena, event)).collect(),
            )
        })
        .sum()
}

fn load<S: Subject>(workload: &Workload) -> (S, S::Writer, Loaded) {
    let (heap, resident) = (live_bytes(), resident::bytes());
    let (subject, mut writer) = S::create(workload.workers);
    let cpu = apply(&subject, &mut writer, &workload.arena, &workload.load);
    let loaded = Loaded {
        pairs: workload.pairs,
        distinct: workload.distinct,
        events: workload.load.len(),
        heap_bytes: live_bytes().wrapping_sub(heap).cast_signed(),
        resident_bytes: resident::bytes().wrapping_sub(resident).cast_signed(),
        gauge_bytes: subject.gauge(),
        cpu_s: cpu.as_secs_f64(),
    };
    (subject, writer, loaded)
}

fn churn<S: Subject>(
    subject: &S,
    writer: &mut S::Writer,
    arena: &Arena,
    events: &[Event],
) -> Churned {
    let heap = live_bytes();
    let growth = || live_bytes().wrapping_sub(heap).cast_signed();
    let cpu = apply(subject, writer, arena, events);
    let growth_bytes = growth();
    let upkeep = subject.upkeep(writer);
    Churned {
        blocks: events.iter().map(Event::blocks).sum(),
        cpu_s: cpu.as_secs_f64(),
        growth_bytes,
        growth_after_upkeep_bytes: upkeep.map(|_| growth()),
        upkeep_cpu_s: upkeep.map(|cpu| cpu.as_secs_f64()),
    }
}

fn time<S: Subject>(subject: &S, kinds: &[Kind], rng: &mut Rng) -> BTreeMap<&'static str, Times> {
    let mut order: Vec<(usize, usize)> = kinds
        .iter()
        .enumerate()
        .flat_map(|(kind, of)| (0..of.queries.len()).map(move |query| (kind, query)))
        .collect();
    rng.shuffle(&mut order);
    let mut samples: Vec<Vec<u64>> = kinds
        .iter()
        .map(|kind| Vec::with_capacity(kind.queries.len()))
        .collect();
    let mut asked = S::Asked::default();
    for (kind, query) in order {
        subject.ask(&kinds[kind].queries[query], &mut asked);
        samples[kind].push(answer(subject, &mut asked));
    }
    kinds
        .iter()
        .map(|kind| kind.name)
        .zip(samples.into_iter().map(Times::of))
        .collect()
}

fn shared_prefixes<S: Subject>(verify: bool) -> SharedPrefixes {
    let mut rng = Rng::with_seed(SEED);
    let mut workload = workload::shared_prefixes(SEED);
    let kinds = queries::of_shared_prefixes(&workload, &mut rng, QUERIES);
    let (subject, mut writer, loaded) = load::<S>(&workload);
    let mut checks = Checks::new(verify, &workload);
    checks.check("loaded", &subject, &workload, &kinds);
    let timed = time(&subject, &kinds, &mut rng);

    rng.shuffle(&mut workload.sequences);
    let events = churn::replace_tails(&mut workload, &mut rng, 0..REPLACED_A);
    let churned = churn(&subject, &mut writer, &workload.arena, &events);
    checks.apply(&workload.arena, &events);
    let events = churn::replace_tails(
        &mut workload,
        &mut rng,
        REPLACED_A..REPLACED_A + REPLACED_BESIDE,
    );
    let mut mixed: Vec<&Vec<u64>> = kinds.iter().flat_map(|kind| &kind.queries).collect();
    rng.shuffle(&mut mixed);
    let beside = beside::run(&subject, &mut writer, &workload.arena, &events, &mixed);
    checks.apply(&workload.arena, &events);
    checks.check("churned", &subject, &workload, &kinds);

    let clears: Vec<Event> = (0..CLEARED)
        .map(|worker| Event {
            worker,
            change: Change::Clear,
        })
        .collect();
    let clear_cpu_s = clears
        .iter()
        .map(|event| {
            apply(
                &subject,
                &mut writer,
                &workload.arena,
                std::slice::from_ref(event),
            )
            .as_secs_f64()
        })
        .collect();
    checks.apply(&workload.arena, &clears);
    checks.check("cleared", &subject, &workload, &kinds);
    checks.holes(&subject, &mut writer, &mut workload);
    SharedPrefixes {
        loaded,
        queries: timed,
        churned,
        beside,
        clear_cpu_s,
        wrong: checks.wrong,
    }
}

fn single_holders<S: Subject>() -> SingleHolders {
    let mut rng = Rng::with_seed(SEED);
    let mut workload = workload::single_holders(SEED);
    let kinds = queries::of_single_holders(&workload, &mut rng, QUERIES);
    let (subject, mut writer, loaded) = load::<S>(&workload);
    let timed = time(&subject, &kinds, &mut rng);
    rng.shuffle(&mut workload.sequences);
    let events = churn::replace_tails(&mut workload, &mut rng, 0..REPLACED_B);
    let churned = churn(&subject, &mut writer, &workload.arena, &events);
    SingleHolders {
        loaded,
        queries: timed,
        churned,
    }
}

fn conversations<S: Subject>(trace: &Trace) -> Conversations {
    let (subject, mut writer) = S::create(mooncake::WORKERS);
    let mut asked = S::Asked::default();
    let queries = trace.steps.iter().map(|step| {
        subject.ask(&step.query, &mut asked);
        let time = answer(&subject, &mut asked);
        apply(&subject, &mut writer, &trace.arena, &step.events);
        time
    });
    let queries = Times::of(queries.collect());
    // By itself: between queries, single events would mostly measure the clock.
    let (subject, mut writer) = S::create(mooncake::WORKERS);
    let events: Vec<Event> = trace
        .steps
        .iter()
        .flat_map(|step| step.events.clone())
        .collect();
    let cpu = apply(&subject, &mut writer, &trace.arena, &events);
    Conversations {
        queries,
        blocks: events.iter().map(Event::blocks).sum(),
        cpu_s: cpu.as_secs_f64(),
    }
}
