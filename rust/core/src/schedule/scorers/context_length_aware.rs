//! `context-length-aware`: endpoints that are meant for prompts of this length, as a label tells it.

use std::sync::Arc;

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::filters::narrow;
use crate::schedule::{Context, Filter, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "context-length-aware",
    roles: &[Role::Filter, Role::Scorer],
    summary: "Prefers endpoints whose label holds a range \"least-most\" of prompt tokens around this prompt's, narrow ranges and room above it first; 0.5 without the label. With enableFiltering the others are dropped.",
    parameters: &[
        ParameterKind {
            name: "label",
            default: "\"llm-d.ai/context-length-range\"",
            summary: "The label that holds the range.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "enableFiltering",
            shape: Shape::Boolean,
            default: "false",
            summary: "As a filter, drop endpoints whose range does not hold the prompt's length or cannot be read.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::TokenizedPrompt],
    build: |parameters| {
        let plugin = Arc::new(ContextLengthAware {
            label: parameters.text("label").into(),
            filtering: parameters.boolean("enableFiltering"),
        });
        let filter: Arc<dyn Filter> = Arc::clone(&plugin) as _;
        Ok(Parts::default().with_filter(filter).with_scorer(plugin))
    },
    ..PluginKind::BASE
};

/// Score of a prompt just outside of a range; those inside score more.
const OUTSIDE: f64 = 0.3;

/// Compares the prompt's number of tokens with the range in a label.
#[derive(Clone, Debug)]
pub struct ContextLengthAware {
    /// The label.
    pub label: Box<str>,
    /// Whether the filter drops anything.
    pub filtering: bool,
}

/// What an endpoint says of the prompts it is meant for.
enum Meant {
    /// Nothing: it takes any.
    Any,
    /// Something that cannot be read.
    Malformed,
    /// From the first to the second number of tokens.
    Range(f64, f64),
}

impl ContextLengthAware {
    fn meant(&self, context: &Context<'_>, row: usize) -> Meant {
        let endpoint = context.endpoint(row);
        let label = endpoint.and_then(|endpoint| endpoint.identity.labels.get(&self.label));
        label.map_or(Meant::Any, |label| {
            parse(label).map_or(Meant::Malformed, |(least, most)| {
                Meant::Range(least as f64, most as f64)
            })
        })
    }
}

impl Filter for ContextLengthAware {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        if !self.filtering {
            return;
        }
        let length = f64::from(context.request.prompt_tokens);
        narrow(keep, false, |row| match self.meant(context, row) {
            Meant::Any => true,
            Meant::Malformed => false,
            Meant::Range(least, most) => (least..=most).contains(&length),
        });
    }
}

impl Scorer for ContextLengthAware {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let length = f64::from(context.request.prompt_tokens);
        for (row, score) in scores.iter_mut().enumerate() {
            *score = match self.meant(context, row) {
                Meant::Any => 0.5,
                Meant::Malformed => 0.0,
                Meant::Range(least, most) => rate(length, least, most),
            };
        }
    }
}

/// Inside: `0.3 + 0.7 · (0.7 / (1 + width / 10,000) + 0.3 · room / width)`, 1 for a range of one length. Outside: `0.3 / (1 + distance / 1,000)`.
fn rate(length: f64, least: f64, most: f64) -> f64 {
    if length > most {
        return OUTSIDE / (1.0 + (length - most) / 1000.0);
    }
    if length < least {
        return OUTSIDE / (1.0 + (least - length) / 1000.0);
    }
    let width = most - least;
    if width <= 0.0 {
        return 1.0;
    }
    let raw = 0.7 / (1.0 + width / 10_000.0) + 0.3 * (most - length) / width;
    OUTSIDE + (1.0 - OUTSIDE) * raw
}

/// `least-most`, two whole numbers in order.
fn parse(label: &str) -> Option<(i64, i64)> {
    let (least, most) = label.split_once('-')?;
    let least: i64 = least.trim().parse().ok()?;
    // A second `-` would be the sign of a negative number, which the reference does not read.
    let most: i64 = most.trim().parse().ok().filter(|most| *most >= 0)?;
    (least <= most).then_some((least, most))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    const LABEL: &str = "llm-d.ai/context-length-range";
    const MALFORMED: [&str; 8] = [
        "", "2048", "a-b", "2048-0", "1-2-3", "-5-10", "1--2", "1.5-2",
    ];

    /// One endpoint for each value of the label, and a last one without it; a prompt of 1,000 tokens.
    fn scene(values: &[&str]) -> Scene {
        let labels: Vec<_> = values.iter().map(|value| [(LABEL, *value)]).collect();
        let mut labels: Vec<&[(&str, &str)]> = labels.iter().map(|labels| &labels[..]).collect();
        labels.push(&[]);
        Scene::with_labels(&labels)
    }

    #[test]
    fn ranges_score_by_width_and_room_and_others_by_distance() {
        let scene = scene(&[
            "0-2000",
            "0-10000",
            "1000-1000",
            " 500 - 1000",
            "0-500",
            "2000-9000",
            "3-1000000",
        ]);
        let scores = scene.rated(&built(&KIND, &json!({})));
        let expected = [
            0.3 + 0.7 * (0.7 / 1.2 + 0.3 * 0.5),
            // 0.3 + 0.7 · (0.35 + 0.27).
            0.734,
            1.0,
            // No room above the prompt: 0.3 + 0.7 · 0.7 / 1.05.
            0.3 + 0.7 * 0.7 / 1.05,
            // 500 and 1,000 tokens outside.
            0.2,
            0.15,
            0.3 + 0.7 * (0.7 / 100.9997 + 0.3 * 999_000.0 / 999_997.0),
            0.5,
        ];
        for (score, expected) in scores.iter().zip(expected) {
            assert!((score - expected).abs() < 1e-12, "{score} {expected}");
        }
    }

    #[test]
    fn what_is_outside_never_reaches_what_is_inside() {
        let just_outside = rate(1001.0, 0.0, 1000.0);
        let widest = rate(1e9, 0.0, 1e9);
        assert!(just_outside < OUTSIDE && widest > OUTSIDE);
    }

    #[test]
    fn a_range_that_cannot_be_read_scores_nothing() {
        let mut expected = vec![0.0; MALFORMED.len()];
        expected.push(0.5);
        assert_eq!(scene(&MALFORMED).rated(&built(&KIND, &json!({}))), expected);
    }

    #[test]
    fn filtering_drops_what_is_outside_or_cannot_be_read_and_only_where_asked_for() {
        let scene = scene(&["0-2000", "1000-1000", "0-999", "1001-2000", "many"]);
        let kept = |enabled: bool| scene.kept(&built(&KIND, &json!({"enableFiltering": enabled})));
        assert_eq!(kept(true), [true, true, false, false, false, true]);
        assert_eq!(kept(false), [true; 6]);
    }

    #[test]
    fn another_label_can_be_named_but_not_none() {
        let scene = Scene::with_labels(&[&[("range", "1000-1000")]]);
        assert_eq!(
            scene.rated(&built(&KIND, &json!({"label": "range"}))),
            [1.0]
        );
        assert_eq!(
            refused(&KIND, &json!({"label": ""})),
            "label: must be a string that is not empty, not \"\""
        );
    }
}
