//! `by-label`: only endpoints whose label has one of the listed values.

use super::narrow::narrow;
use crate::plugin::{ParameterError, ParameterKind, Parts, PluginKind, Role, Shape};
use crate::schedule::{Context, Filter};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "by-label",
    roles: &[Role::Filter],
    deprecated: Some(
        "label-selector-filter, or decode-filter, prefill-filter and encode-filter for roles",
    ),
    summary: "Only endpoints whose label has one of the listed values, and those without the label if allowsNoLabel.",
    parameters: &[
        ParameterKind {
            name: "label",
            default: "",
            summary: "The label.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "validValues",
            shape: Shape::Texts,
            default: "[]",
            summary: "Values to keep; may only be empty with allowsNoLabel.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "allowsNoLabel",
            shape: Shape::Boolean,
            default: "false",
            summary: "Keep endpoints that do not have the label.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let filter = ByLabelFilter {
            label: parameters.text("label").into(),
            values: parameters.texts("validValues").map(Into::into).collect(),
            allows_no_label: parameters.boolean("allowsNoLabel"),
        };
        if filter.values.is_empty() && !filter.allows_no_label {
            return Err(ParameterError::new(
                "validValues",
                "must name at least one value unless allowsNoLabel is true",
            ));
        }
        Ok(Parts::filter(filter))
    },
    ..PluginKind::BASE
};

/// Keeps endpoints by the value of one label, compared as it is.
#[derive(Clone, Debug)]
pub struct ByLabelFilter {
    /// The label.
    pub label: Box<str>,
    /// Values to keep.
    pub values: Vec<Box<str>>,
    /// Whether endpoints without the label are kept.
    pub allows_no_label: bool,
}

impl Filter for ByLabelFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        narrow(keep, false, |row| {
            context.endpoint(row).is_some_and(|endpoint| {
                match endpoint.identity.labels.get(&self.label) {
                    Some(value) => self.values.contains(value),
                    None => self.allows_no_label,
                }
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    #[test]
    fn listed_values_stay_and_missing_labels_as_configured() {
        let scene = Scene::with_labels(&[
            &[("tier", "gold")],
            &[("tier", "Gold")],
            &[],
            &[("tier", "")],
        ]);
        for (parameters, expected) in [
            (
                json!({"label": "tier", "validValues": ["gold"]}),
                [true, false, false, false],
            ),
            (
                json!({"label": "tier", "validValues": ["gold", "Gold"], "allowsNoLabel": true}),
                [true, true, true, false],
            ),
            (
                json!({"label": "tier", "allowsNoLabel": true}),
                [false, false, true, false],
            ),
        ] {
            assert_eq!(
                scene.kept(&built(&KIND, &parameters)),
                expected,
                "{parameters}"
            );
        }
    }

    #[test]
    fn what_can_keep_nothing_is_refused() {
        for (parameters, error) in [
            (json!({"validValues": ["a"]}), "label: required and missing"),
            (
                json!({"label": ""}),
                "label: must be a string that is not empty, not \"\"",
            ),
            (
                json!({"label": "tier"}),
                "validValues: must name at least one value unless allowsNoLabel is true",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
