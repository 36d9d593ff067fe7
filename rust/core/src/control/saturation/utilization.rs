//! `utilization-detector`: saturation by what the engines report: their queues and KV caches.

use std::sync::Arc;
use std::time::Duration;

use super::duration;
use crate::control::SaturationDetector;
use crate::plugin::{ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape};
use crate::schedule::filters::narrow;
use crate::schedule::{Context, Filter};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "utilization-detector",
    roles: &[Role::SaturationDetector, Role::Filter],
    summary: "Mean over the endpoints of the larger of waiting requests / queueDepthThreshold and KV cache usage / kvCacheUtilThreshold; 1 where metrics are missing or stale. As a filter: only endpoints with fresh metrics below both thresholds times (1 + headroom), all where none is.",
    parameters: &[
        ParameterKind {
            name: "queueDepthThreshold",
            shape: Shape::Integer {
                least: 1,
                most: i64::MAX,
            },
            default: "5",
            unit: "requests",
            summary: "Waiting requests at which an endpoint is saturated.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "kvCacheUtilThreshold",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0.8",
            summary: "KV cache usage at which an endpoint is saturated; more than 0, at most 1.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "metricsStalenessThreshold",
            default: "\"200ms\"",
            summary: "Age from which on an endpoint's metrics are stale, such as 200ms or 1.5s; more than 0.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "headroom",
            shape: Shape::Number {
                least: 0.0,
                most: f64::INFINITY,
            },
            default: "0",
            summary: "Share of the thresholds by which the filter lets an endpoint exceed them: 0.2 for 20 %.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let detector = Arc::new(UtilizationDetector::from_parameters(parameters)?);
        let filter: Arc<dyn Filter> = Arc::clone(&detector) as _;
        Ok(Parts::default()
            .with_filter(filter)
            .with_saturation(detector))
    },
    ..PluginKind::BASE
};

/// Compares the engines' metrics with thresholds; metrics that are missing or stale count as saturated.
#[derive(Clone, Copy, Debug)]
pub struct UtilizationDetector {
    /// Requests, positive.
    pub queue_depth: f64,
    /// More than 0, at most 1.
    pub kv_usage: f64,
    /// Metrics that are older are stale.
    pub staleness: Duration,
    /// At least 0.
    pub headroom: f64,
}

impl UtilizationDetector {
    fn from_parameters(parameters: &Parameters<'_>) -> Result<Self, ParameterError> {
        let kv_usage = parameters.number("kvCacheUtilThreshold");
        if kv_usage <= 0.0 {
            return Err(ParameterError::new(
                "kvCacheUtilThreshold",
                "must be more than 0",
            ));
        }
        let staleness = parameters.text("metricsStalenessThreshold");
        Ok(Self {
            queue_depth: parameters.number("queueDepthThreshold"),
            kv_usage,
            staleness: duration::parse(staleness)
                .filter(|staleness| !staleness.is_zero())
                .ok_or_else(|| {
                    ParameterError::new(
                        "metricsStalenessThreshold",
                        format!("must be a duration of more than 0, such as \"200ms\" or \"1.5s\", not \"{staleness}\""),
                    )
                })?,
            headroom: parameters.number("headroom"),
        })
    }

    fn is_fresh(self, context: &Context<'_>, row: usize) -> bool {
        let overdue = context
            .endpoint(row)
            .and_then(|endpoint| endpoint.overdue(context.now));
        overdue.is_some_and(|overdue| overdue <= self.staleness)
    }

    /// 1 where it is not known.
    fn of_endpoint(self, context: &Context<'_>, row: usize) -> f64 {
        let waiting = context.candidates.waiting[row] / self.queue_depth;
        let kv_usage = context.candidates.kv_usage[row] / self.kv_usage;
        if !self.is_fresh(context, row) || waiting.is_nan() || kv_usage.is_nan() {
            return 1.0;
        }
        waiting.max(kv_usage)
    }
}

impl SaturationDetector for UtilizationDetector {
    fn saturation(&self, context: &Context<'_>) -> f64 {
        super::mean(context, |row| self.of_endpoint(context, row))
    }
}

impl Filter for UtilizationDetector {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        let most_waiting = self.queue_depth * (1.0 + self.headroom);
        let most_kv_usage = self.kv_usage * (1.0 + self.headroom);
        let candidates = context.candidates;
        narrow(keep, true, |row| {
            self.is_fresh(context, row)
                && candidates.waiting[row] < most_waiting
                && candidates.kv_usage[row] < most_kv_usage
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Nanos;
    use crate::plugin::testing::{built, refused};
    use crate::pool::EngineMetrics;
    use crate::schedule::testing::Scene;

    const MILLISECOND: u64 = 1_000_000;

    /// One endpoint for each (waiting, KV usage), all refreshed just now.
    fn scene(load: &[(f64, f64)]) -> Scene {
        let mut scene = Scene::new(load.len() as u8);
        scene.now = Nanos(1000 * MILLISECOND);
        scene.candidates.waiting = load.iter().map(|(waiting, _)| *waiting).collect();
        scene.candidates.kv_usage = load.iter().map(|(_, kv_usage)| *kv_usage).collect();
        for row in 0..load.len() {
            refreshed(&scene, row, 1000);
        }
        scene
    }

    fn refreshed(scene: &Scene, row: usize, milliseconds: u64) {
        let at = Nanos(milliseconds * MILLISECOND);
        scene.snapshot.endpoints[row].refresh(EngineMetrics::default(), at);
    }

    fn saturation(scene: &Scene, parameters: &Value) -> f64 {
        let detector = built(&KIND, parameters).saturation.expect("a detector");
        detector.saturation(&scene.context())
    }

    fn kept(scene: &Scene, parameters: &Value) -> Vec<bool> {
        scene.kept(&built(&KIND, parameters))
    }

    #[test]
    fn saturation_is_the_mean_of_each_endpoints_scarcer_resource() {
        for (load, expected) in [
            (&[(0.0, 0.0)][..], 0.0),
            (&[(5.0, 0.0)], 1.0),
            (&[(1.0, 0.8)], 1.0),
            (&[(10.0, 0.4)], 2.0),
            (&[(2.5, 0.0), (0.0, 0.4)], 0.5),
            (
                &[(5.0, 0.1), (0.0, 0.0), (1.0, 0.4), (10.0, 1.0)],
                (1.0 + 0.0 + 0.5 + 2.0) / 4.0,
            ),
            (&[(f64::NAN, 0.0), (0.0, f64::NAN)], 1.0),
            // A pool without endpoints.
            (&[], 1.0),
        ] {
            let found = saturation(&scene(load), &json!({}));
            assert!((found - expected).abs() < 1e-12, "{load:?} {found}");
        }
        let parameters = json!({"queueDepthThreshold": 10, "kvCacheUtilThreshold": 1});
        let found = saturation(&scene(&[(5.0, 0.25)]), &parameters);
        assert!((found - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_announced_pause_is_not_staleness() {
        let scene = scene(&[(0.0, 0.0)]);
        refreshed(&scene, 0, 100);
        let endpoint = &scene.snapshot.endpoints[0];
        for (pause, saturated) in [(0, 1.0), (699, 1.0), (700, 0.0), (900, 0.0)] {
            endpoint.pauses(Duration::from_millis(pause));
            assert!((saturation(&scene, &json!({})) - saturated).abs() < 1e-12);
        }
    }

    #[test]
    fn missing_and_stale_metrics_count_as_saturated() {
        let mut never = Scene::new(1);
        never.now = Nanos(1000 * MILLISECOND);
        let scene = scene(&[(0.0, 0.0), (0.0, 0.0)]);
        refreshed(&scene, 1, 799);
        let wider = json!({"metricsStalenessThreshold": "201ms"});
        let found = [
            saturation(&never, &json!({})),
            saturation(&scene, &json!({})),
            saturation(&scene, &wider),
        ];
        assert!(
            found
                .iter()
                .zip([1.0, 0.5, 0.0])
                .all(|(found, expected)| (found - expected).abs() < 1e-12),
            "{found:?}"
        );
        assert_eq!(kept(&scene, &json!({})), [true, false]);
        assert_eq!(kept(&scene, &wider), [true, true]);
        // At the threshold itself they are still fresh.
        refreshed(&scene, 1, 800);
        assert_eq!(kept(&scene, &json!({})), [true, true]);
    }

    #[test]
    fn the_filter_keeps_what_is_below_both_thresholds_or_all() {
        let scene = scene(&[
            (4.0, 0.5),
            (5.0, 0.0),
            (0.0, 0.8),
            (5.0, 0.85),
            (f64::NAN, 0.0),
        ]);
        for (parameters, expected) in [
            (json!({}), [true, false, false, false, false]),
            (json!({"headroom": 0.2}), [true, true, true, true, false]),
            (
                json!({"queueDepthThreshold": 6}),
                [true, true, false, false, false],
            ),
            // None is left: all stay.
            (
                json!({"queueDepthThreshold": 1, "kvCacheUtilThreshold": 0.1}),
                [true; 5],
            ),
        ] {
            assert_eq!(kept(&scene, &parameters), expected, "{parameters}");
        }
    }

    #[test]
    fn thresholds_that_cannot_be_meant_are_refused() {
        let duration = |given: &str| {
            format!(
                "metricsStalenessThreshold: must be a duration of more than 0, such as \"200ms\" or \"1.5s\", not \"{given}\""
            )
        };
        for (parameters, error) in [
            (
                json!({"queueDepthThreshold": 0}),
                "queueDepthThreshold: must be a whole number of at least 1, not 0".to_owned(),
            ),
            (
                json!({"kvCacheUtilThreshold": 0}),
                "kvCacheUtilThreshold: must be more than 0".to_owned(),
            ),
            (
                json!({"kvCacheUtilThreshold": 80}),
                "kvCacheUtilThreshold: must be a number from 0 to 1, not 80".to_owned(),
            ),
            (
                json!({"headroom": -0.1}),
                "headroom: must be a number of at least 0, not -0.1".to_owned(),
            ),
            (json!({"metricsStalenessThreshold": "0s"}), duration("0s")),
            (json!({"metricsStalenessThreshold": "-1s"}), duration("-1s")),
            (json!({"metricsStalenessThreshold": "200"}), duration("200")),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
