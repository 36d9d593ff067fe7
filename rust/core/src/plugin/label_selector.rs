//! A Kubernetes label selector (`metav1.LabelSelector`) among a plugin's parameters.

mod text;

use std::collections::BTreeMap;

use super::kind::{ParameterKind, Shape};
use super::parameters::{ParameterError, Parameters};

/// Every requirement must hold; without any, everything matches.
#[derive(Clone, Debug)]
pub struct LabelSelector {
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
    /// It is a whole number and greater; only in the form of a string, as in Kubernetes.
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// The fields of a selector.
    pub const FIELDS: &'static [ParameterKind] = &[
        ParameterKind {
            name: "matchLabels",
            shape: Shape::TextMap,
            default: "{}",
            summary: "Label to the value that it must have.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "matchExpressions",
            shape: Shape::Objects(&[
                ParameterKind {
                    name: "key",
                    default: "",
                    summary: "The label.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "operator",
                    shape: Shape::Choice(&["In", "NotIn", "Exists", "DoesNotExist"]),
                    default: "",
                    summary: "What must hold of it.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "values",
                    shape: Shape::Texts,
                    default: "[]",
                    summary: "Values for In and NotIn; none for the others.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "[]",
            summary: "Further requirements.",
            ..ParameterKind::BASE
        },
    ];

    /// Reads [`Self::FIELDS`].
    ///
    /// # Errors
    /// When the values do not go with the operator.
    pub fn from_parameters(parameters: &Parameters<'_>) -> Result<Self, ParameterError> {
        let mut requirements: Vec<_> = parameters
            .text_map("matchLabels")
            .map(|(key, value)| (key.into(), Requirement::In(vec![value.into()])))
            .collect();
        for (number, expression) in parameters.objects("matchExpressions").enumerate() {
            let requirement = requirement(&expression)
                .map_err(|error| error.within("matchExpressions", Some(number)))?;
            requirements.push((expression.text("key").into(), requirement));
        }
        Ok(Self { requirements })
    }

    /// Whether a set of labels meets all requirements.
    pub fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            let value = labels.get(key);
            let whole = || number(value.map(AsRef::as_ref));
            match requirement {
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Requirement::Exists => value.is_some(),
                Requirement::DoesNotExist => value.is_none(),
                Requirement::GreaterThan(bound) => whole().is_some_and(|number| number > *bound),
                Requirement::LessThan(bound) => whole().is_some_and(|number| number < *bound),
            }
        })
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value.and_then(|value| value.parse().ok())
}

fn requirement(expression: &Parameters<'_>) -> Result<Requirement, ParameterError> {
    let values: Vec<Box<str>> = expression.texts("values").map(Into::into).collect();
    match (expression.text("operator"), values.is_empty()) {
        ("In", false) => Ok(Requirement::In(values)),
        ("NotIn", false) => Ok(Requirement::NotIn(values)),
        ("Exists", true) => Ok(Requirement::Exists),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist),
        (_, true) => Err(ParameterError::new(
            "values",
            "must name at least one value for In and NotIn",
        )),
        (_, false) => Err(ParameterError::new(
            "values",
            "must be empty for Exists and DoesNotExist",
        )),
    }
}
