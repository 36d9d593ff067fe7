//! Checks parameters against what a type of plugin says of them, and fills in the defaults.

use serde_json::{Map, Value};

use super::kind::{Data, ParameterKind, Shape};
use super::spelling;

/// A step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of an object.
    Field(Box<str>),
    /// An element of a list, from 0.
    Index(usize),
}

/// Something wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, below `parameters`.
    pub path: Vec<Step>,
    /// What, and what to write instead.
    pub message: String,
}

/// A parameter that needs another plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where, below `parameters`.
    pub path: Vec<Step>,
    /// Name of the plugin; `None`: any that makes it.
    pub plugin: Option<Box<str>>,
    /// What it has to make.
    pub produces: Data,
}

/// Parameters that passed, complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Every field, given or by default; optional ones that were left out are null.
    pub values: Map<String, Value>,
    /// Plugins needed.
    pub references: Vec<Reference>,
    /// Fields given that are deprecated, with what to write instead.
    pub deprecated: Vec<(Vec<Step>, &'static str)>,
}

/// Checks `given` against `kinds`.
///
/// # Errors
/// Everything that is wrong, in the order of the document.
pub fn check(
    kinds: &'static [ParameterKind],
    given: Option<&Map<String, Value>>,
) -> Result<Checked, Vec<Problem>> {
    let mut walk = Walk::default();
    let none = Map::new();
    let values = walk.object(kinds, given.unwrap_or(&none));
    if walk.problems.is_empty() {
        Ok(Checked {
            values,
            references: walk.references,
            deprecated: walk.deprecated,
        })
    } else {
        Err(walk.problems)
    }
}

#[derive(Default)]
struct Walk {
    path: Vec<Step>,
    problems: Vec<Problem>,
    references: Vec<Reference>,
    deprecated: Vec<(Vec<Step>, &'static str)>,
}

impl Walk {
    fn object(
        &mut self,
        kinds: &'static [ParameterKind],
        given: &Map<String, Value>,
    ) -> Map<String, Value> {
        for field in given.keys() {
            if !kinds.iter().any(|kind| kind.name == field) {
                self.at(Step::Field(field.as_str().into()), |walk| {
                    walk.problem(unknown(field, kinds));
                });
            }
        }
        kinds
            .iter()
            .map(|kind| {
                let value = self.at(Step::Field(kind.name.into()), |walk| {
                    walk.field(kind, given.get(kind.name))
                });
                (kind.name.to_owned(), value)
            })
            .collect()
    }

    fn field(&mut self, kind: &ParameterKind, given: Option<&Value>) -> Value {
        match given {
            // The reference's decoder takes null for absent.
            None | Some(Value::Null) => {
                if kind.default.is_empty() {
                    self.problem("required and missing".to_owned());
                    return Value::Null;
                }
                let default = serde_json::from_str(kind.default).unwrap_or_default();
                // Fields of an object that is there by default have defaults of their own.
                match (kind.shape, default) {
                    (Shape::Object(kinds), Value::Object(fields)) => {
                        Value::Object(self.object(kinds, &fields))
                    }
                    (_, default) => default,
                }
            }
            Some(value) => {
                if let Some(instead) = kind.deprecated {
                    self.deprecated.push((self.path.clone(), instead));
                }
                self.value(&kind.shape, value)
            }
        }
    }

    fn value(&mut self, shape: &Shape, value: &Value) -> Value {
        match (shape, value) {
            (Shape::Object(kinds), Value::Object(fields)) => {
                return Value::Object(self.object(kinds, fields));
            }
            (Shape::Objects(kinds), Value::Array(elements)) => {
                let elements = elements.iter().enumerate().map(|(index, element)| {
                    self.at(Step::Index(index), |walk| {
                        walk.value(&Shape::Object(kinds), element)
                    })
                });
                return Value::Array(elements.collect());
            }
            (Shape::ProducerName(data), Value::String(name)) if !name.is_empty() => {
                self.references.push(Reference {
                    path: self.path.clone(),
                    plugin: Some(name.as_str().into()),
                    produces: *data,
                });
            }
            _ if fits(shape, value) => {}
            _ => self.problem(format!("must be {}, not {value}", expected(shape))),
        }
        value.clone()
    }

    fn at<R>(&mut self, step: Step, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step);
        let result = inner(self);
        self.path.pop();
        result
    }

    fn problem(&mut self, message: String) {
        self.problems.push(Problem {
            path: self.path.clone(),
            message,
        });
    }
}

/// Shapes without fields of their own.
fn fits(shape: &Shape, value: &Value) -> bool {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    match shape {
        Shape::Boolean => value.is_boolean(),
        Shape::Integer { least, most } => value
            .as_i64()
            .is_some_and(|number| (*least..=*most).contains(&number)),
        Shape::Number { least, most } => value
            .as_f64()
            .is_some_and(|number| (*least..=*most).contains(&number)),
        Shape::Text => text(value),
        Shape::AnyText => value.is_string(),
        Shape::Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
        Shape::Texts => value
            .as_array()
            .is_some_and(|elements| elements.iter().all(text)),
        Shape::TextMap => value
            .as_object()
            .is_some_and(|fields| fields.values().all(Value::is_string)),
        Shape::ProducerName(_) | Shape::Object(_) | Shape::Objects(_) => false,
    }
}

/// What a shape looks like, in words: `a number from 0 to 1`.
pub fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { least, most } => match (*least, *most) {
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (i64::MIN, most) => format!("a whole number of at most {most}"),
            (least, i64::MAX) => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        },
        Shape::Number { least, most } => match (least.is_finite(), most.is_finite()) {
            (false, false) => "a number".to_owned(),
            (true, false) => format!("a number of at least {least}"),
            (false, true) => format!("a number of at most {most}"),
            (true, true) => format!("a number from {least} to {most}"),
        },
        Shape::Text => "a string that is not empty".to_owned(),
        Shape::AnyText => "a string".to_owned(),
        Shape::Choice(choices) => match choices {
            [one] => format!("\"{one}\""),
            _ => format!("one of \"{}\"", choices.join("\", \"")),
        },
        Shape::Texts => "a list of strings that are not empty".to_owned(),
        Shape::TextMap => "an object of strings".to_owned(),
        Shape::ProducerName(data) => format!("the name of a plugin that makes {}", data.name()),
        Shape::Object(_) => "an object".to_owned(),
        Shape::Objects(_) => "a list of objects".to_owned(),
    }
}

fn unknown(field: &str, kinds: &[ParameterKind]) -> String {
    if kinds.is_empty() {
        return format!("unknown field \"{field}\" (nothing can be set here)");
    }
    if let Some(nearest) = spelling::nearest(field, kinds.iter().map(|kind| kind.name)) {
        return format!("unknown field \"{field}\" (did you mean \"{nearest}\"?)");
    }
    let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    format!("unknown field \"{field}\" (known: {})", known.join(", "))
}

/// `a.b[1]`.
pub fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INNER: &[ParameterKind] = &[
        ParameterKind {
            name: "weight",
            shape: Shape::Number {
                least: 0.0,
                most: 1.0,
            },
            default: "0.5",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "producer",
            shape: Shape::ProducerName(Data::PrefixMatch),
            ..ParameterKind::BASE
        },
    ];
    const KINDS: &[ParameterKind] = &[
        ParameterKind {
            name: "path",
            default: "",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "inner",
            shape: Shape::Object(INNER),
            default: "{}",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "several",
            shape: Shape::Objects(INNER),
            default: "[]",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "mode",
            shape: Shape::Choice(&["strict", "prefer"]),
            default: "\"strict\"",
            deprecated: Some("nothing"),
            ..ParameterKind::BASE
        },
    ];

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in_at_every_depth() {
        let checked = check(
            KINDS,
            Some(&object(
                json!({"path": "x", "mode": "prefer", "several": [{"producer": "mine"}]}),
            )),
        )
        .expect("valid");
        assert_eq!(
            Value::Object(checked.values),
            json!({"path": "x", "inner": {"weight": 0.5, "producer": null}, "several": [{"weight": 0.5, "producer": "mine"}], "mode": "prefer"})
        );
        assert_eq!(render(&checked.references[0].path), "several[0].producer");
        assert_eq!(render(&checked.deprecated[0].0), "mode");
    }

    #[test]
    fn everything_wrong_is_told_with_its_place() {
        let problems = check(
            KINDS,
            Some(&object(json!({"inner": {"wieght": 1}, "several": [{"weight": 2}, 3], "mode": "lax", "qqqqqqq": 1}))),
        )
        .expect_err("wrong");
        let told: Vec<String> = problems
            .iter()
            .map(|problem| format!("{}: {}", render(&problem.path), problem.message))
            .collect();
        assert_eq!(
            told,
            [
                "qqqqqqq: unknown field \"qqqqqqq\" (known: path, inner, several, mode)",
                "path: required and missing",
                "inner.wieght: unknown field \"wieght\" (did you mean \"weight\"?)",
                "several[0].weight: must be a number from 0 to 1, not 2",
                "several[1]: must be an object, not 3",
                "mode: must be one of \"strict\", \"prefer\", not \"lax\"",
            ]
        );
    }
}
