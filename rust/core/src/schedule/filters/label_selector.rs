//! `label-selector-filter`: only endpoints whose labels match a Kubernetes label selector.

use crate::plugin::{LabelSelector, Parts, PluginKind, Role};
use crate::schedule::{Context, Filter};

/// The type.
pub const KIND: PluginKind = PluginKind {
    type_name: "label-selector-filter",
    roles: &[Role::Filter],
    summary: "Only endpoints whose labels match: a Kubernetes label selector. An empty one matches all.",
    parameters: LabelSelector::FIELDS,
    build: |parameters| {
        Ok(Parts::filter(LabelSelectorFilter {
            selector: LabelSelector::from_parameters(parameters)?,
        }))
    },
    ..PluginKind::BASE
};

/// Keeps what the selector matches.
#[derive(Clone, Debug)]
pub struct LabelSelectorFilter {
    selector: LabelSelector,
}

impl Filter for LabelSelectorFilter {
    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        for (row, keep) in keep.iter_mut().enumerate() {
            *keep = *keep
                && context
                    .endpoint(row)
                    .is_some_and(|endpoint| self.selector.matches(&endpoint.identity.labels));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    fn kept(parameters: &Value) -> Vec<bool> {
        let scene = Scene::with_labels(&[
            &[("tier", "gold"), ("zone", "a")],
            &[("tier", "silver")],
            &[],
        ]);
        scene.kept(&built(&KIND, parameters))
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        assert_eq!(kept(&json!({})), [true; 3]);
        assert_eq!(
            kept(&json!({"matchLabels": {"tier": "gold"}})),
            [true, false, false]
        );
        assert_eq!(
            kept(
                &json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold", "silver"]}]})
            ),
            [true, true, false]
        );
        assert_eq!(
            kept(
                &json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]})
            ),
            [false, true, true]
        );
        assert_eq!(
            kept(&json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]})),
            [true, false, false]
        );
        assert_eq!(
            kept(
                &json!({"matchLabels": {"tier": "silver"}, "matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]})
            ),
            [false, true, false]
        );
    }

    #[test]
    fn errors_name_the_path() {
        for (parameters, error) in [
            (
                json!({"matchLabels": {"tier": 1}}),
                "matchLabels: must be an object of strings, not {\"tier\":1}",
            ),
            (
                json!({"matchExpressions": {}}),
                "matchExpressions: must be a list of objects, not {}",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
                "matchExpressions[0].operator: must be one of \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\", not \"Like\"",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "matchExpressions[0].values: must name at least one value for In and NotIn",
            ),
            (
                json!({"matchExpressions": [{"operator": "Exists"}]}),
                "matchExpressions[0].key: required and missing",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "value": "x"}]}),
                "matchExpressions[0].value: unknown field \"value\" (did you mean \"values\"?)",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), error);
        }
    }
}
