//! The profile's arithmetic, its filters and its explanation.

use super::*;
use crate::schedule::pickers::MaxScorePicker;
use crate::schedule::testing::Scene;

/// Gives fixed scores, by position of the endpoint.
#[derive(Debug)]
struct Fixed(Vec<f64>);

impl Scorer for Fixed {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        assert_eq!(scores.len(), context.candidates.len());
        for (score, position) in scores.iter_mut().zip(&context.candidates.position) {
            *score = self.0[*position as usize];
        }
    }
}

/// Keeps the rows with these positions.
#[derive(Debug)]
struct Only(Vec<u32>);

impl Filter for Only {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        for (keep, position) in keep.iter_mut().zip(&context.candidates.position) {
            *keep &= self.0.contains(position);
        }
    }
}

fn profile(filters: Vec<Only>, scorers: Vec<(f64, Vec<f64>)>, limit: usize) -> Profile {
    Profile {
        name: "default".into(),
        filters: filters
            .into_iter()
            .map(|filter| Named {
                name: format!("only {:?}", filter.0).into(),
                type_name: "only".into(),
                part: FilterPart::Own(Arc::new(filter)),
            })
            .collect(),
        scorers: scorers
            .into_iter()
            .map(|(weight, scores)| {
                let named = Named {
                    name: "mine".into(),
                    type_name: "fixed".into(),
                    part: ScorerPart::Own(Arc::new(Fixed(scores)) as Arc<dyn Scorer>),
                };
                (named, weight)
            })
            .collect(),
        picker: Named {
            name: "max-score-picker".into(),
            type_name: "max-score-picker".into(),
            part: Arc::new(MaxScorePicker),
        },
        limit,
    }
}

fn run(
    profile: &Profile,
    scene: &Scene,
    scratch: &mut Scratch,
    explain: Option<&mut Explanation>,
) -> Result<(Choice, Vec<u32>), NoEndpoint> {
    let mut ranked = vec![77];
    let choice = profile.run(&scene.context(), None, scratch, &mut ranked, explain)?;
    Ok((choice, ranked))
}

#[test]
fn scores_are_clamped_weighted_and_summed() {
    let profile = profile(
        Vec::new(),
        vec![
            (2.0, vec![5.0, 0.5, f64::NAN, -3.0]),
            (3.0, vec![0.0, 0.5, 1.0, f64::INFINITY]),
        ],
        4,
    );
    let mut scratch = Scratch::default();
    let (choice, ranked) = run(&profile, &Scene::new(4), &mut scratch, None).expect("candidates");
    assert_eq!(
        scratch.totals().collect::<Vec<_>>(),
        [(0, 2.0), (1, 2.5), (2, 3.0), (3, 3.0)]
    );
    assert_eq!((choice.total, choice.considered), (3.0, 4));
    assert_eq!((choice.row, ranked[2], ranked[3]), (ranked[0], 1, 0));
}

#[test]
fn scorers_see_only_what_filters_kept_and_rows_are_told_as_the_caller_knows_them() {
    let profile = profile(
        vec![Only(vec![1, 2, 4]), Only(vec![0, 2, 4])],
        vec![(1.0, vec![1.0, 1.0, 0.25, 1.0, 0.5])],
        5,
    );
    let mut scratch = Scratch::default();
    let (choice, ranked) = run(&profile, &Scene::new(5), &mut scratch, None).expect("candidates");
    assert_eq!(ranked, [4, 2]);
    assert_eq!(
        choice,
        Choice {
            row: 4,
            total: 0.5,
            considered: 2
        }
    );
    assert_eq!(scratch.totals().collect::<Vec<_>>(), [(2, 0.25), (4, 0.5)]);
    // The next decision with the same memory drops nothing.
    let all = self::profile(vec![Only(vec![0, 1])], vec![(1.0, vec![0.5, 1.0])], 5);
    assert_eq!(
        run(&all, &Scene::new(2), &mut scratch, None)
            .expect("candidates")
            .1,
        [1, 0]
    );
}

#[test]
fn nothing_left_is_an_error_that_names_the_filter() {
    let profile = profile(vec![Only(vec![0, 1]), Only(vec![2])], Vec::new(), 1);
    let mut explanation = Explanation::default();
    let error = run(
        &profile,
        &Scene::new(3),
        &mut Scratch::default(),
        Some(&mut explanation),
    )
    .expect_err("nothing left");
    assert_eq!(
        (error.candidates, error.filter.as_deref()),
        (3, Some("only [2]"))
    );
    assert_eq!(
        error.to_string(),
        "no endpoints available for the given request"
    );
    assert_eq!(
        explanation
            .filters
            .iter()
            .map(|filter| filter.kept)
            .collect::<Vec<_>>(),
        [2, 0]
    );
    let error =
        run(&profile, &Scene::new(0), &mut Scratch::default(), None).expect_err("no candidates");
    assert_eq!((error.candidates, error.filter), (0, None));
}

#[test]
fn without_scorers_the_choice_is_random() {
    let profile = profile(Vec::new(), Vec::new(), 1);
    let scene = Scene::new(2);
    let (mut scratch, mut ranked) = (Scratch::default(), Vec::new());
    let firsts = (0..1000)
        .filter(|_| {
            profile
                .run(&scene.context(), None, &mut scratch, &mut ranked, None)
                .is_ok_and(|choice| choice.row == 0)
        })
        .count();
    assert!((400..600).contains(&firsts), "{firsts}");
}

#[test]
fn an_explanation_tells_every_step() {
    let profile = profile(
        vec![Only(vec![0, 1, 2])],
        vec![(2.0, vec![0.5, 1.5, f64::NAN, 1.0])],
        2,
    );
    let mut explanation = Explanation::default();
    let mut scene = Scene::new(4);
    scene.set_matched(vec![0, 15, 0, 0]);
    let (_, ranked) = run(
        &profile,
        &scene,
        &mut Scratch::default(),
        Some(&mut explanation),
    )
    .expect("candidates");
    assert_eq!(ranked, [1, 0]);
    let json = serde_json::to_value(&explanation).expect("plain data");
    assert_eq!(json["picker"], "max-score-picker");
    assert_eq!(
        json["filters"],
        serde_json::json!([{"name": "only [0, 1, 2]", "type": "only", "kept": 3}])
    );
    assert_eq!(
        json["scorers"],
        serde_json::json!([{"name": "mine", "type": "fixed", "weight": 2.0}])
    );
    let told: Vec<(&str, f64, Option<u64>)> = json["candidates"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|candidate| {
            (
                candidate["endpoint"].as_str().unwrap_or(""),
                candidate["total"].as_f64().unwrap_or(-1.0),
                candidate["rank"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("10.0.0.2:8000", 2.0, Some(1)),
            ("10.0.0.1:8000", 1.0, Some(2)),
            ("10.0.0.3:8000", 0.0, None),
            ("10.0.0.4:8000", 0.0, None)
        ]
    );
    assert_eq!(
        json["candidates"][0]["scores"],
        serde_json::json!([{"raw": 1.5, "weighted": 2.0}])
    );
    assert_eq!(json["candidates"][0]["uncached_tokens"], 40.0);
    assert_eq!(
        json["candidates"][2]["scores"],
        serde_json::json!([{"raw": null, "weighted": 0.0}])
    );
    assert_eq!(json["candidates"][3]["dropped_by"], "only [0, 1, 2]");
    // Asked again, it tells the new decision only.
    run(
        &profile,
        &scene,
        &mut Scratch::default(),
        Some(&mut explanation),
    )
    .expect("candidates");
    assert_eq!(
        (explanation.candidates.len(), explanation.scorers.len()),
        (4, 1)
    );
}

#[test]
fn the_reference_policy_prefers_the_lower_queue_and_cache_usage() {
    // The first case of the reference's hermetic suite.
    let spec = crate::PolicySpec::reference_policy();
    let policy = crate::engine::Policy::build(&spec, &crate::plugin::Externals::new(), 1, None)
        .expect("built-in");
    let profile = &policy.profiles()[0];
    let mut scene = Scene::new(3);
    scene.candidates.waiting = vec![3.0, 0.0, 10.0];
    scene.candidates.kv_usage = vec![0.2, 0.1, 0.2];
    let (choice, _) = run(profile, &scene, &mut Scratch::default(), None).expect("candidates");
    assert_eq!(choice.row, 1);
    assert!((choice.total - 3.8).abs() < 1e-12);
}

/// Answers as it is told to.
#[derive(Debug)]
struct Elsewhere(Result<Vec<f64>, ExternalFailure>);

impl External for Elsewhere {
    fn call(
        &self,
        _snapshot: &Arc<Snapshot>,
        context: &Context<'_>,
    ) -> Result<Vec<f64>, ExternalFailure> {
        let positions = context.candidates.position.iter();
        self.0.clone().map(|values| {
            positions
                .filter_map(|position| values.get(*position as usize).copied())
                .collect()
        })
    }
}

fn external<T>(name: &str, part: T) -> Named<T> {
    Named {
        name: name.into(),
        type_name: "elsewhere".into(),
        part,
    }
}

/// Two filters (one elsewhere) and three scorers (two elsewhere, the last of which fails).
fn with_externals(verdict: Result<Vec<f64>, ExternalFailure>) -> Profile {
    let mut profile = profile(
        vec![Only(vec![1, 2, 3])],
        vec![(1.0, vec![0.9, 0.1, 0.2, 0.3])],
        1,
    );
    profile.filters.push(external(
        "verdict",
        FilterPart::External(Arc::new(Elsewhere(verdict))),
    ));
    let scores = Elsewhere(Ok(vec![1.0, 0.5, 0.25, 0.0]));
    let fails = Elsewhere(Err(ExternalFailure::TimedOut));
    profile.scorers.insert(
        0,
        (
            external("scores", ScorerPart::External(Arc::new(scores))),
            2.0,
        ),
    );
    profile.scorers.push((
        external("fails", ScorerPart::External(Arc::new(fails))),
        5.0,
    ));
    profile
}

fn prepare_and_run(
    profile: &Profile,
    scene: &Scene,
    explanation: &mut Explanation,
) -> (Choice, usize) {
    let mut apart = Scratch::default();
    let prepared = profile
        .prepare(
            &scene.snapshot,
            &scene.context(),
            &mut apart,
            Some(explanation),
        )
        .expect("candidates");
    let choice = profile
        .run(
            &scene.context(),
            Some(&prepared),
            &mut Scratch::default(),
            &mut Vec::new(),
            Some(explanation),
        )
        .expect("candidates");
    (choice, prepared.failures.len())
}

#[test]
fn plugins_elsewhere_take_part_and_a_failing_one_is_skipped() {
    let profile = with_externals(Ok(vec![1.0, 0.0, 1.0, 1.0]));
    assert!(profile.has_external());
    let mut explanation = Explanation::default();
    let (choice, failures) = prepare_and_run(&profile, &Scene::new(4), &mut explanation);
    // Left are 2 (2 · 0.25 + 0.2) and 3 (0 + 0.3).
    assert_eq!((choice.row, choice.considered, failures), (2, 2, 1));
    assert!((choice.total - 0.7).abs() < 1e-12);
    let kept: Vec<u32> = explanation
        .filters
        .iter()
        .map(|filter| filter.kept)
        .collect();
    assert_eq!(kept, [3, 2]);
    for candidate in &explanation.candidates {
        let expected = if candidate.dropped_by.is_some() { 0 } else { 3 };
        assert_eq!(candidate.scores.len(), expected);
    }
    assert!(explanation.candidates[0].scores[2].raw.is_nan());
    let skipped: Vec<_> = explanation
        .scorers
        .iter()
        .map(|scorer| scorer.skipped)
        .collect();
    assert_eq!(skipped, [None, None, Some("timeout")]);
    assert!(
        explanation
            .filters
            .iter()
            .all(|filter| filter.skipped.is_none())
    );
}

#[test]
fn a_filter_elsewhere_that_fails_drops_nothing_and_a_wrong_number_of_values_is_a_failure() {
    for (verdict, reason) in [
        (Err(ExternalFailure::Raised("no".into())), "exception"),
        (Ok(vec![1.0, 1.0]), "bad_result"),
    ] {
        let profile = with_externals(verdict);
        let mut explanation = Explanation::default();
        let (choice, failures) = prepare_and_run(&profile, &Scene::new(4), &mut explanation);
        assert_eq!((choice.row, choice.considered, failures), (1, 3, 2));
        assert_eq!(explanation.filters[1].skipped, Some(reason));
    }
}
