//! `header-label-affinity-scorer`: endpoints whose label has the value of a request header.

use crate::plugin::{ParameterKind, Parts, PluginKind, Role, Stability};
use crate::schedule::{Context, Scorer};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "header-label-affinity-scorer",
    roles: &[Role::Scorer],
    stability: Stability::Alpha,
    summary: "1 where the endpoint's label equals the request header, else 0; all 0 without the header.",
    parameters: &[
        ParameterKind {
            name: "headerName",
            default: "",
            summary: "The request header; upper and lower case are the same.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "labelKey",
            default: "",
            summary: "The label.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        Ok(Parts::scorer(HeaderLabelAffinityScorer {
            header: parameters.text("headerName").to_ascii_lowercase().into(),
            label: parameters.text("labelKey").into(),
        }))
    },
    ..PluginKind::BASE
};

/// 1 for equal values, compared as they are.
#[derive(Clone, Debug)]
pub struct HeaderLabelAffinityScorer {
    /// Lower-case name of the header.
    pub header: Box<str>,
    /// The label.
    pub label: Box<str>,
}

impl Scorer for HeaderLabelAffinityScorer {
    fn score(&self, context: &Context<'_>, scores: &mut [f64]) {
        let Some(wanted) = context.header(&self.header) else {
            return;
        };
        for (row, score) in scores.iter_mut().enumerate() {
            let endpoint = context.endpoint(row);
            let label = endpoint.and_then(|endpoint| endpoint.identity.labels.get(&self.label));
            *score = f64::from(label.is_some_and(|label| **label == *wanted));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    #[test]
    fn endpoints_with_the_headers_value_score_one() {
        let scorer = built(&KIND, &json!({"headerName": "X-Zone", "labelKey": "zone"}));
        for (header, expected) in [
            (None, [0.0; 4]),
            (Some("a"), [1.0, 0.0, 0.0, 0.0]),
            (Some("A"), [0.0, 1.0, 0.0, 0.0]),
            // An empty header is none, even for an endpoint whose label is empty.
            (Some(""), [0.0; 4]),
        ] {
            let mut scene =
                Scene::with_labels(&[&[("zone", "a")], &[("zone", "A")], &[("zone", "")], &[]]);
            if let Some(value) = header {
                scene.header("x-zone", value);
            }
            assert_eq!(scene.rated(&scorer), expected, "{header:?}");
        }
    }

    #[test]
    fn both_parameters_are_required() {
        for (parameters, error) in [
            (
                json!({"labelKey": "zone"}),
                "headerName: required and missing",
            ),
            (
                json!({"headerName": "x-zone"}),
                "labelKey: required and missing",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
