//! Reads a plugin's parameters, field by field, so that every error names its field.

use std::fmt;

use serde_json::{Map, Value};

/// The JSON object under `parameters`.
#[derive(Debug)]
pub struct Parameters<'a> {
    fields: &'a Map<String, Value>,
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterError {
    /// The field, with its path inside `parameters`.
    pub field: Box<str>,
    /// What is wrong with it.
    pub problem: Box<str>,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "parameter `{}` {}", self.field, self.problem)
    }
}

impl std::error::Error for ParameterError {}

impl<'a> Parameters<'a> {
    /// Checks that there is no field beside the `known` ones.
    ///
    /// # Errors
    /// The first unknown field.
    pub fn new(fields: &'a Map<String, Value>, known: &[&str]) -> Result<Self, ParameterError> {
        for field in fields.keys() {
            if !known.contains(&field.as_str()) {
                let known = if known.is_empty() {
                    "this plugin has no parameters".to_owned()
                } else {
                    format!("known: {}", known.join(", "))
                };
                return Err(wrong(field, &format!("does not exist ({known})")));
            }
        }
        Ok(Self { fields })
    }

    /// The raw value, `None` where it is absent or null.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A number from `least` to `most`.
    ///
    /// # Errors
    /// When it is none, or out of the range.
    pub fn number(
        &self,
        field: &str,
        default: f64,
        least: f64,
        most: f64,
    ) -> Result<f64, ParameterError> {
        let Some(value) = self.value(field) else {
            return Ok(default);
        };
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ if most.is_finite() => Err(wrong(
                field,
                &format!("must be a number from {least} to {most}, not {value}"),
            )),
            _ => Err(wrong(
                field,
                &format!("must be a number of at least {least}, not {value}"),
            )),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none.
    pub fn integer(&self, field: &str) -> Result<Option<i64>, ParameterError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        value
            .as_i64()
            .map(Some)
            .ok_or_else(|| wrong(field, &format!("must be a whole number, not {value}")))
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is neither.
    pub fn boolean(&self, field: &str, default: bool) -> Result<bool, ParameterError> {
        let Some(value) = self.value(field) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| wrong(field, &format!("must be true or false, not {value}")))
    }
}

/// An error about one field.
pub(super) fn wrong(field: &str, problem: &str) -> ParameterError {
    ParameterError {
        field: field.into(),
        problem: problem.into(),
    }
}
