//! `label-selector-filter`: only endpoints whose labels match a Kubernetes label selector.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schedule::parameters::{ParameterError, Parameters, wrong};
use crate::schedule::{Context, Filter, ParameterKind, Plugin, PluginKind, Role};

pub(in crate::schedule) const KIND: PluginKind = PluginKind {
    type_name: "label-selector-filter",
    role: Role::Filter,
    summary: "Only endpoints whose labels match: a Kubernetes label selector. An empty one matches all.",
    parameters: &[
        ParameterKind {
            name: "matchLabels",
            default: "{}",
            summary: "Label to the value that it must have.",
        },
        ParameterKind {
            name: "matchExpressions",
            default: "[]",
            summary: "List of {key, operator, values}; operator is In, NotIn, Exists or DoesNotExist.",
        },
    ],
    build: |parameters| {
        Ok(Plugin::Filter(Box::new(
            LabelSelectorFilter::from_parameters(parameters)?,
        )))
    },
};

/// Every requirement must hold.
#[derive(Clone, Debug)]
pub struct LabelSelectorFilter {
    requirements: Vec<(Box<str>, Requirement)>,
}

/// What must hold of one label.
#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    /// It exists with one of these values.
    In(Vec<Box<str>>),
    /// It does not exist, or with another value.
    NotIn(Vec<Box<str>>),
    Exists,
    DoesNotExist,
}

impl LabelSelectorFilter {
    fn from_parameters(parameters: &Parameters<'_>) -> Result<Self, ParameterError> {
        let mut requirements = Vec::new();
        if let Some(labels) = parameters.value("matchLabels") {
            let labels = labels
                .as_object()
                .ok_or_else(|| wrong("matchLabels", "must be an object of strings"))?;
            for (key, value) in labels {
                let value = value
                    .as_str()
                    .ok_or_else(|| wrong(&format!("matchLabels.{key}"), "must be a string"))?;
                requirements.push((key.as_str().into(), Requirement::In(vec![value.into()])));
            }
        }
        if let Some(expressions) = parameters.value("matchExpressions") {
            let expressions = expressions
                .as_array()
                .ok_or_else(|| wrong("matchExpressions", "must be a list"))?;
            for (number, expression) in expressions.iter().enumerate() {
                requirements.push(read_expression(
                    &format!("matchExpressions[{number}]"),
                    expression,
                )?);
            }
        }
        Ok(Self { requirements })
    }

    fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            let value = labels.get(key);
            match requirement {
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Requirement::Exists => value.is_some(),
                Requirement::DoesNotExist => value.is_none(),
            }
        })
    }
}

impl Filter for LabelSelectorFilter {
    fn type_name(&self) -> &'static str {
        KIND.type_name
    }

    fn filter(&self, context: &Context<'_>, keep: &mut [bool]) {
        for (keep, position) in keep.iter_mut().zip(&context.candidates.position) {
            let endpoint = context.snapshot.endpoints.get(*position as usize);
            *keep =
                *keep && endpoint.is_some_and(|endpoint| self.matches(&endpoint.identity.labels));
        }
    }
}

fn read_expression(
    path: &str,
    expression: &Value,
) -> Result<(Box<str>, Requirement), ParameterError> {
    let fields = expression
        .as_object()
        .ok_or_else(|| wrong(path, "must be an object {key, operator, values}"))?;
    if let Some(field) = fields
        .keys()
        .find(|field| !["key", "operator", "values"].contains(&field.as_str()))
    {
        return Err(wrong(
            &format!("{path}.{field}"),
            "does not exist (known: key, operator, values)",
        ));
    }
    let text = |field: &str| match fields.get(field).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(wrong(
            &format!("{path}.{field}"),
            "must be a string that is not empty",
        )),
    };
    let key = text("key")?;
    let values = match fields.get("values") {
        None | Some(Value::Null) => Vec::new(),
        Some(values) => {
            let strings = values.as_array().map(|values| {
                values
                    .iter()
                    .map(|value| value.as_str().map(Box::from))
                    .collect::<Option<Vec<Box<str>>>>()
            });
            strings
                .flatten()
                .ok_or_else(|| wrong(&format!("{path}.values"), "must be a list of strings"))?
        }
    };
    let requirement = match (text("operator")?, values.is_empty()) {
        ("In", false) => Requirement::In(values),
        ("NotIn", false) => Requirement::NotIn(values),
        ("Exists", true) => Requirement::Exists,
        ("DoesNotExist", true) => Requirement::DoesNotExist,
        ("In" | "NotIn", true) => {
            return Err(wrong(
                &format!("{path}.values"),
                "must name at least one value for In and NotIn",
            ));
        }
        ("Exists" | "DoesNotExist", false) => {
            return Err(wrong(
                &format!("{path}.values"),
                "must be empty for Exists and DoesNotExist",
            ));
        }
        _ => {
            return Err(wrong(
                &format!("{path}.operator"),
                "must be In, NotIn, Exists or DoesNotExist",
            ));
        }
    };
    Ok((key.into(), requirement))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::Scene;
    use serde_json::json;

    fn filter(parameters: &Value) -> Result<LabelSelectorFilter, ParameterError> {
        let fields = parameters.as_object().cloned().unwrap_or_default();
        LabelSelectorFilter::from_parameters(&Parameters::new(
            &fields,
            &["matchLabels", "matchExpressions"],
        )?)
    }

    fn kept(parameters: &Value) -> Vec<bool> {
        let scene = Scene::with_labels(&[
            &[("tier", "gold"), ("zone", "a")],
            &[("tier", "silver")],
            &[],
        ]);
        let mut keep = vec![true; 3];
        filter(parameters)
            .expect("valid")
            .filter(&scene.context(), &mut keep);
        keep
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
        for (parameters, field) in [
            (json!({"matchLabels": {"tier": 1}}), "matchLabels.tier"),
            (json!({"matchExpressions": {}}), "matchExpressions"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
                "matchExpressions[0].operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "matchExpressions[0].values",
            ),
            (
                json!({"matchExpressions": [{"operator": "In"}]}),
                "matchExpressions[0].key",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "value": "x"}]}),
                "matchExpressions[0].value",
            ),
        ] {
            assert_eq!(&*filter(&parameters).expect_err("invalid").field, field);
        }
    }
}
