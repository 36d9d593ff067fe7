use serde_json::{Value, json};

use super::*;
use crate::plugin::testing::{built, refused};
use crate::schedule::testing::Scene;

const REVISION: &str = "disaggregatedset.x-k8s.io/revision";
const ROLE: &str = "disaggregatedset.x-k8s.io/role";

fn parameters(mode: &str, roles: &[&str]) -> Value {
    json!({
        "scope": {"labelSelector": "set=mine"},
        "headerSelectors": [
            {"name": "revision", "headerName": "X-Revision", "labelKey": REVISION, "mode": "strict"},
            {"name": "slice", "headerName": "x-slice", "labelKey": "slice", "mode": "prefer"},
        ],
        "revisionGating": {"mode": mode, "requireRoles": {"values": roles}},
    })
}

const PAIR: &[&str] = &["prefill", "decode"];

/// So many endpoints of (revision, role).
fn rollout(counts: &[(&str, &str, usize)]) -> Scene {
    let labels: Vec<Vec<(&str, &str)>> = counts
        .iter()
        .flat_map(|(revision, role, count)| {
            let labels = vec![
                ("set", "mine"),
                (REVISION, *revision),
                (ROLE, *role),
                ("slice", "7"),
            ];
            std::iter::repeat_n(labels, *count)
        })
        .collect();
    let labels: Vec<&[(&str, &str)]> = labels.iter().map(Vec::as_slice).collect();
    Scene::with_labels(&labels)
}

fn screened(scene: &Scene, parts: &Parts) -> Vec<bool> {
    let mut keep = vec![true; scene.candidates.len()];
    let screener = parts.screener.as_ref().expect("a screener");
    screener
        .screen(&scene.context(), &mut keep, &mut HeaderPairs::new())
        .expect("refuses nothing by itself");
    keep
}

/// Label values and number of each sample of a family.
fn samples(scene: &Scene, parts: &Parts, name: &str) -> Vec<(String, f64)> {
    let source = parts.families.as_ref().expect("metrics");
    let families = source.families(&scene.snapshot);
    let family = families.iter().find(|family| family.name == name);
    let samples = &family.expect("a family").samples;
    samples
        .iter()
        .map(|sample| match sample.value {
            SampleValue::Number(number) => (sample.labels.join(" "), number),
            SampleValue::Histogram { .. } => panic!("no histogram"),
        })
        .collect()
}

#[test]
fn shares_follow_the_references_worked_examples() {
    // 2 prefill and 9 decode of A beside 1 and 1 of B.
    let uneven = [
        ("A", "prefill", 2),
        ("A", "decode", 9),
        ("B", "prefill", 1),
        ("B", "decode", 1),
    ];
    // Step 4 of its rollout plan.
    let step_4 = [
        ("A", "prefill", 1),
        ("A", "decode", 6),
        ("B", "prefill", 1),
        ("B", "decode", 4),
    ];
    let incomplete = [("A", "prefill", 2), ("A", "decode", 8), ("B", "decode", 2)];
    let tied = [
        ("A", "prefill", 3),
        ("A", "decode", 1),
        ("B", "prefill", 1),
        ("B", "decode", 3),
    ];
    for (mode, counts, expected) in [
        ("sum", &uneven[..], [11.0 / 13.0, 2.0 / 13.0]),
        ("max-role", &uneven, [0.9, 0.1]),
        ("max-role", &step_4, [0.6, 0.4]),
        ("sum", &incomplete, [1.0, 0.0]),
        // Equal totals: prefill is named first.
        ("max-role", &tied, [0.75, 0.25]),
        (
            "sum",
            &[("A", "prefill", 1), ("B", "decode", 1)],
            [0.0, 0.0],
        ),
    ] {
        let scene = rollout(counts);
        let parts = built(&KIND, &parameters(mode, PAIR));
        let told = samples(&scene, &parts, "disaggregatedset_revision_gating_share");
        let names = ["A", "B"].map(|name| format!("{TYPE_NAME} mine {mode} {name}"));
        assert_eq!(told, names.into_iter().zip(expected).collect::<Vec<_>>());

        let mut first = 0;
        for _ in 0..4000 {
            let kept = screened(&scene, &parts);
            let rows = || {
                counts
                    .iter()
                    .flat_map(|(name, _, count)| std::iter::repeat_n(*name, *count))
            };
            let revisions: std::collections::BTreeSet<&str> = rows()
                .zip(&kept)
                .filter(|(_, kept)| **kept)
                .map(|(name, _)| name)
                .collect();
            assert!(revisions.len() <= 1, "{revisions:?}");
            if let Some(name) = revisions.first() {
                let whole = rows().filter(|other| other == name).count();
                assert_eq!(kept.iter().filter(|kept| **kept).count(), whole);
                first += usize::from(*name == "A");
            } else {
                assert!(expected.iter().all(|share| *share < f64::EPSILON));
            }
        }
        assert!(
            (first as f64 / 4000.0 - expected[0]).abs() < 0.03,
            "{mode}: {first}"
        );
    }
}

#[test]
fn a_header_names_the_revision_and_nothing_else_is_substituted() {
    let counts = [
        ("A", "prefill", 1),
        ("A", "decode", 1),
        ("B", "prefill", 1),
        ("B", "decode", 1),
        ("C", "decode", 1),
    ];
    let parts = built(&KIND, &parameters("sum", PAIR));
    for (wanted, kept, counted) in [
        ("B", [false, false, true, true, false], 0.0),
        // C misses a role, D does not exist; both count as asked for in vain.
        ("C", [false; 5], 1.0),
        ("D", [false; 5], 2.0),
    ] {
        let mut scene = rollout(&counts);
        scene.header("x-revision", wanted);
        assert_eq!(screened(&scene, &parts), kept);
        let told = samples(
            &scene,
            &parts,
            "disaggregatedset_strict_header_no_match_total",
        );
        let expected = (counted > 0.0).then(|| (format!("{TYPE_NAME} mine revision"), counted));
        assert_eq!(told, Vec::from_iter(expected));
    }
    // A preference only concerns scorers and the response.
    let mut scene = rollout(&counts[..2]);
    scene.header("x-slice", "8");
    assert_eq!(screened(&scene, &parts), [true, true]);
}

#[test]
fn without_gating_only_headers_screen() {
    let parts = built(&KIND, &parameters("disabled", &[]));
    let mut scene = rollout(&[("A", "prefill", 1), ("B", "decode", 1)]);
    assert_eq!(screened(&scene, &parts), [true, true]);
    assert_eq!(
        samples(&scene, &parts, "disaggregatedset_revision_gating_share"),
        []
    );
    scene.header("x-revision", "B");
    assert_eq!(screened(&scene, &parts), [false, true]);
}

#[test]
fn endpoints_out_of_scope_or_without_labels_do_not_count() {
    let parts = built(&KIND, &parameters("sum", &["decode"]));
    let scene = Scene::with_labels(&[
        &[("set", "mine"), (REVISION, "A"), (ROLE, "decode")][..],
        &[("set", "other"), (REVISION, "B"), (ROLE, "decode")],
        &[("set", "mine"), (REVISION, "A")],
        &[("set", "mine"), (ROLE, "decode")],
        &[],
    ]);
    // Candidates of a known revision stay, whatever their own role.
    assert_eq!(screened(&scene, &parts), [true, false, true, false, false]);
    let shares = samples(&scene, &parts, "disaggregatedset_revision_gating_share");
    assert_eq!(shares, [(format!("{TYPE_NAME} mine sum A"), 1.0)]);
}

#[test]
fn a_change_of_the_endpoints_is_seen() {
    let parts = built(&KIND, &parameters("sum", &["decode"]));
    for revision in ["A", "B"] {
        let scene = rollout(&[(revision, "decode", 1)]);
        assert_eq!(screened(&scene, &parts), [true]);
        let shares = samples(&scene, &parts, "disaggregatedset_revision_gating_share");
        assert_eq!(shares, [(format!("{TYPE_NAME} mine sum {revision}"), 1.0)]);
    }
}

#[test]
fn the_response_tells_the_labels_of_the_endpoint_that_served() {
    let parts = built(&KIND, &parameters("disabled", &[]));
    let told = |scene: &Scene| {
        let mut set = HeaderPairs::new();
        let response = Response {
            endpoint: &scene.snapshot.endpoints[0],
            profile: "default",
            lb_metadata: false,
            served: None,
        };
        parts
            .response
            .as_ref()
            .expect("a response part")
            .response_received(&response, &mut set);
        set
    };
    let header = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
    assert_eq!(
        told(&rollout(&[("A", "decode", 1)])),
        [header("x-revision", "A"), header("x-slice", "7")]
    );
    assert_eq!(told(&Scene::new(1)), []);
}

#[test]
fn parameters_that_cannot_be_used_are_refused_by_name() {
    let mut without_roles = parameters("sum", PAIR);
    without_roles["revisionGating"]["requireRoles"] = Value::Null;
    let mut two_of_a_name = parameters("sum", PAIR);
    two_of_a_name["headerSelectors"][1]["name"] = "revision".into();
    let mut two_of_a_header = parameters("sum", PAIR);
    two_of_a_header["headerSelectors"][1]["headerName"] = "x-REVISION".into();
    let mut unreadable = parameters("sum", PAIR);
    unreadable["scope"]["labelSelector"] = "set in mine".into();
    for (given, told) in [
        (json!({}), "scope: required and missing"),
        (
            parameters("average", PAIR),
            "revisionGating.mode: must be one of \"sum\", \"max-role\", \"disabled\", not \"average\"",
        ),
        (
            parameters("sum", &[]),
            "revisionGating.requireRoles.values: must contain at least one role",
        ),
        (
            parameters("sum", &["decode", "decode"]),
            "revisionGating.requireRoles.values: contains \"decode\" twice",
        ),
        (
            without_roles,
            "revisionGating.requireRoles: required with mode sum",
        ),
        (
            two_of_a_name,
            "headerSelectors[1].name: another selector has \"revision\"; each needs its own",
        ),
        (
            two_of_a_header,
            "headerSelectors[1].headerName: another selector has \"x-revision\"; each needs its own",
        ),
    ] {
        assert_eq!(refused(&KIND, &given), told);
    }
    let told = refused(&KIND, &unreadable);
    assert!(
        told.starts_with("scope.labelSelector: is no label selector: cannot read \"set in mine\""),
        "{told}"
    );
}
