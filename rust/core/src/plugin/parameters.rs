//! Reads parameters that [`super::check`] has checked and completed.

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::check::{Step, render};

/// The object under `parameters`, or one inside of it: every field of its kind is there, with a value of its shape.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    fields: &'a Map<String, Value>,
    /// Name of the plugin that is built.
    plugin: &'a str,
}

/// Parameters that are well-formed and still cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// The field that has to change, below `parameters`.
    pub path: Vec<Step>,
    /// What is wrong, and what to write instead.
    pub problem: Box<str>,
}

impl ParameterError {
    /// An error about one field.
    pub fn new(field: &str, problem: impl Into<Box<str>>) -> Self {
        Self {
            path: vec![Step::Field(field.into())],
            problem: problem.into(),
        }
    }

    /// The same error, for a field inside of another: `of` and the element's number.
    #[must_use]
    pub fn within(mut self, of: &str, index: Option<usize>) -> Self {
        let outer = std::iter::once(Step::Field(of.into())).chain(index.map(Step::Index));
        self.path.splice(0..0, outer);
        self
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "parameter `{}` {}",
            render(&self.path),
            self.problem
        )
    }
}

impl std::error::Error for ParameterError {}

impl<'a> Parameters<'a> {
    pub(crate) fn new(fields: &'a Map<String, Value>, plugin: &'a str) -> Self {
        Self { fields, plugin }
    }

    /// Name of the plugin that is built.
    pub fn plugin(&self) -> &'a str {
        self.plugin
    }

    /// The raw value; `None` for an optional one that was left out.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A number that has a default; NaN for a field that is not in the kind, which tests of the kind find.
    pub fn number(&self, field: &str) -> f64 {
        self.optional_number(field).unwrap_or(f64::NAN)
    }

    /// A number.
    pub fn optional_number(&self, field: &str) -> Option<f64> {
        self.value(field).and_then(Value::as_f64)
    }

    /// A whole number that has a default.
    pub fn integer(&self, field: &str) -> i64 {
        self.optional_integer(field).unwrap_or_default()
    }

    /// A whole number.
    pub fn optional_integer(&self, field: &str) -> Option<i64> {
        self.value(field).and_then(Value::as_i64)
    }

    /// True or false; has a default.
    pub fn boolean(&self, field: &str) -> bool {
        self.value(field)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// A string that is required or has a default.
    pub fn text(&self, field: &str) -> &'a str {
        self.optional_text(field).unwrap_or_default()
    }

    /// A string.
    pub fn optional_text(&self, field: &str) -> Option<&'a str> {
        self.value(field).and_then(Value::as_str)
    }

    /// A list of strings; empty when it was left out.
    pub fn texts(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let elements = self.value(field).and_then(Value::as_array);
        elements.into_iter().flatten().filter_map(Value::as_str)
    }

    /// An object of strings; empty when it was left out.
    pub fn text_map(&self, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let fields = self.value(field).and_then(Value::as_object);
        fields
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// An object with fields of its own.
    pub fn object(&self, field: &str) -> Option<Self> {
        let fields = self.value(field)?.as_object()?;
        Some(Self { fields, ..*self })
    }

    /// An object that is there by default.
    #[must_use]
    pub fn section(&self, field: &str) -> Self {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let fields = self.value(field).and_then(Value::as_object);
        Self {
            fields: fields.unwrap_or(&NOTHING),
            ..*self
        }
    }

    /// A list of objects; empty when it was left out.
    pub fn objects(&self, field: &str) -> impl Iterator<Item = Self> + use<'a> {
        let plugin = self.plugin;
        let elements = self.value(field).and_then(Value::as_array);
        elements
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .map(move |fields| Self { fields, plugin })
    }
}
