//! `utilization-filter`: only endpoints below limits of load.

use super::narrow::narrow;
use crate::plugin::{
    Data, ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape, Stability,
};
use crate::schedule::{Candidates, Context, Filter};

/// The reference's type of that name. It consumes no data: requests in flight are counted whether a producer is configured or not, and one that is
/// added for nothing would have every prompt indexed.
pub const KIND: PluginKind = PluginKind {
    type_name: "utilization-filter",
    roles: &[Role::Filter],
    stability: Stability::Alpha,
    summary: "Only endpoints on which no listed metric is above its maximum; an unknown metric counts as 0.",
    parameters: &[
        ParameterKind {
            name: "conditions",
            shape: Shape::Objects(&[
                ParameterKind {
                    name: "metric",
                    shape: Shape::Choice(&[
                        "active-requests",
                        "running-requests",
                        "waiting-queue",
                        "kv-cache-utilization",
                    ]),
                    default: "",
                    summary: "Requests in flight through this picker; or, as the engine reports them, requests running, requests waiting, KV cache usage (0 to 1).",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "maxValue",
                    shape: Shape::Number {
                        least: 0.0,
                        most: f64::INFINITY,
                    },
                    default: "",
                    summary: "Largest value that is kept; at most 1 for kv-cache-utilization.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "",
            summary: "What must hold; at least one.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "fallbackOnEmpty",
            shape: Shape::Boolean,
            default: "false",
            summary: "Keep all where none would be left.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inFlightLoadProducerName",
            shape: Shape::ProducerName(Data::InFlightLoad),
            summary: "Whose count active-requests is.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let conditions = parameters
            .objects("conditions")
            .enumerate()
            .map(|(number, given)| {
                condition(&given).map_err(|error| error.within("conditions", Some(number)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if conditions.is_empty() {
            return Err(ParameterError::new(
                "conditions",
                "must hold at least one condition",
            ));
        }
        Ok(Parts::filter(UtilizationFilter {
            conditions,
            fallback_on_empty: parameters.boolean("fallbackOnEmpty"),
        }))
    },
    ..PluginKind::BASE
};

/// Keeps an endpoint when every condition holds.
#[derive(Clone, Debug)]
pub struct UtilizationFilter {
    conditions: Vec<Condition>,
    fallback_on_empty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Condition {
    metric: Metric,
    most: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    ActiveRequests,
    RunningRequests,
    WaitingQueue,
    KvCacheUtilization,
}

impl Condition {
    fn holds(self, candidates: &Candidates, row: usize) -> bool {
        let column = match self.metric {
            Metric::ActiveRequests => &candidates.inflight_requests,
            Metric::RunningRequests => &candidates.running,
            Metric::WaitingQueue => &candidates.waiting,
            Metric::KvCacheUtilization => &candidates.kv_usage,
        };
        // What is no number is unknown, and counts as 0.
        column[row].is_nan() || column[row] <= self.most
    }
}

impl Filter for UtilizationFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        narrow(keep, self.fallback_on_empty, |row| {
            self.conditions
                .iter()
                .all(|condition| condition.holds(context.candidates, row))
        });
    }
}

fn condition(given: &Parameters<'_>) -> Result<Condition, ParameterError> {
    let metric = match given.text("metric") {
        "active-requests" => Metric::ActiveRequests,
        "running-requests" => Metric::RunningRequests,
        "waiting-queue" => Metric::WaitingQueue,
        _ => Metric::KvCacheUtilization,
    };
    let most = given.number("maxValue");
    if metric == Metric::KvCacheUtilization && most > 1.0 {
        return Err(ParameterError::new(
            "maxValue",
            format!("must be at most 1 for kv-cache-utilization, which is a fraction, not {most}"),
        ));
    }
    Ok(Condition { metric, most })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn kept(scene: &Scene, conditions: &[(&str, f64)], fallback: bool) -> Vec<bool> {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(metric, most)| json!({"metric": metric, "maxValue": most}))
            .collect();
        let parameters = json!({"conditions": conditions, "fallbackOnEmpty": fallback});
        scene.kept(&built(&KIND, &parameters))
    }

    #[test]
    fn an_endpoint_stays_at_or_below_every_limit() {
        let mut scene = Scene::new(3);
        scene.candidates.inflight_requests = vec![1.0, 2.0, 3.0];
        scene.candidates.running = vec![5.0, 4.0, f64::NAN];
        scene.candidates.waiting = vec![3.0, 0.0, 0.0];
        scene.candidates.kv_usage = vec![0.5, 0.9, 0.8];
        for (conditions, expected) in [
            (&[("active-requests", 2.0)][..], [true, true, false]),
            (&[("running-requests", 4.0)], [false, true, true]),
            (&[("waiting-queue", 0.0)], [false, true, true]),
            (&[("kv-cache-utilization", 0.8)], [true, false, true]),
            (
                &[("waiting-queue", 0.0), ("kv-cache-utilization", 0.8)],
                [false, false, true],
            ),
        ] {
            assert_eq!(kept(&scene, conditions, false), expected, "{conditions:?}");
        }
        for (fallback, expected) in [(false, [false; 3]), (true, [true; 3])] {
            assert_eq!(
                kept(&scene, &[("active-requests", 0.5)], fallback),
                expected
            );
        }
    }

    #[test]
    fn idle_endpoints_and_one_without_metrics_stay() {
        assert_eq!(
            kept(
                &Scene::new(1),
                &[("active-requests", 0.0), ("kv-cache-utilization", 0.0)],
                false
            ),
            [true]
        );
    }

    #[test]
    fn conditions_that_cannot_be_meant_are_refused() {
        let of = |condition: Value| json!({"conditions": [condition]});
        for (parameters, error) in [
            (json!({}), "conditions: required and missing"),
            (
                json!({"conditions": []}),
                "conditions: must hold at least one condition",
            ),
            (
                of(json!({"maxValue": 1})),
                "conditions[0].metric: required and missing",
            ),
            (
                of(json!({"metric": "waiting-queue"})),
                "conditions[0].maxValue: required and missing",
            ),
            (
                of(json!({"metric": "waiting-queue", "maxValue": -1})),
                "conditions[0].maxValue: must be a number of at least 0, not -1",
            ),
            (
                of(json!({"metric": "queue", "maxValue": 1})),
                "conditions[0].metric: must be one of \"active-requests\", \"running-requests\", \"waiting-queue\", \"kv-cache-utilization\", not \"queue\"",
            ),
            (
                of(json!({"metric": "kv-cache-utilization", "maxValue": 80})),
                "conditions[0].maxValue: must be at most 1 for kv-cache-utilization, which is a fraction, not 80",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
