//! Saturation by stage: a pool of prefill and decode endpoints is as saturated as the worse of the two.

use crate::control::SaturationDetector;
use crate::pool::Endpoint;
use crate::schedule::filters::role::{DECODE_ROLES, PREFILL_ROLES, ROLE_LABEL};
use crate::schedule::{Candidates, Context};

/// The detector's value for each stage that has endpoints, the largest of them; 1 for a pool without endpoints.
///
/// `subset`: positions of the endpoints that the gateway allows; `None`: all.
/// An endpoint whose label names both stages counts in both, one that names none decodes.
pub fn effective(
    detector: &dyn SaturationDetector,
    context: &Context<'_>,
    subset: Option<&[u32]>,
    gather: impl Fn(&[u32], &mut Candidates),
) -> f64 {
    let endpoints = &context.snapshot.endpoints;
    let positions = |belongs: fn(&Endpoint) -> bool| -> Vec<u32> {
        let of_stage = |position: &u32| {
            let endpoint = endpoints.get(*position as usize);
            endpoint.is_some_and(|endpoint| belongs(endpoint))
        };
        match subset {
            Some(subset) => subset.iter().copied().filter(of_stage).collect(),
            None => (0..endpoints.len() as u32).filter(of_stage).collect(),
        }
    };
    let stages = [positions(decodes), positions(prefills)];
    let mut candidates = Candidates::default();
    let mut of_stages = stages.iter().filter(|positions| !positions.is_empty());
    of_stages
        .by_ref()
        .map(|positions| {
            gather(positions, &mut candidates);
            detector.saturation(&Context {
                candidates: &candidates,
                ..*context
            })
        })
        .reduce(f64::max)
        .unwrap_or(1.0)
}

fn role(endpoint: &Endpoint) -> Option<&str> {
    endpoint.identity.labels.get(ROLE_LABEL).map(|role| &**role)
}

fn decodes(endpoint: &Endpoint) -> bool {
    role(endpoint).is_none_or(|role| DECODE_ROLES.contains(&role))
}

fn prefills(endpoint: &Endpoint) -> bool {
    role(endpoint).is_some_and(|role| PREFILL_ROLES.contains(&role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;

    /// The number of endpoints asked about, in tenths.
    #[derive(Debug)]
    struct Count;

    impl SaturationDetector for Count {
        fn saturation(&self, context: &Context<'_>) -> f64 {
            context.candidates.len() as f64 / 10.0
        }
    }

    fn saturation(roles: &[&str]) -> f64 {
        let labels: Vec<[(&str, &str); 1]> =
            roles.iter().map(|role| [(ROLE_LABEL, *role)]).collect();
        let labels: Vec<&[(&str, &str)]> = labels.iter().map(|labels| &labels[..]).collect();
        let scene = Scene::with_labels(&labels);
        effective(&Count, &scene.context(), None, |positions, candidates| {
            scene
                .snapshot
                .gather(Some(positions), &[], false, candidates);
        })
    }

    #[test]
    fn the_worse_stage_counts_and_both_count_what_does_both() {
        let told = [
            (&["decode", "decode", "prefill"][..], 0.2),
            (&["decode", "prefill", "prefill", "both"], 0.3),
            (&["encode"], 1.0),
            (&[], 1.0),
        ];
        for (roles, expected) in told {
            assert!((saturation(roles) - expected).abs() < 1e-12, "{roles:?}");
        }
    }

    #[test]
    fn endpoints_without_a_role_decode() {
        let scene = Scene::new(4);
        let value = effective(&Count, &scene.context(), None, |positions, candidates| {
            scene
                .snapshot
                .gather(Some(positions), &[], false, candidates);
        });
        assert!((value - 0.4).abs() < 1e-12);
    }
}
