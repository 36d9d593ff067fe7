//! `request-attribute-reporter`: works out a number from the tokens of a finished request and tells it to the gateway.

mod expression;

use std::fmt;
use std::sync::Arc;

use cel::{Context, Value};

use crate::body::Usage;
use crate::control::{Report, Reporter};
use crate::plugin::{ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape};

use expression::Expression;

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "request-attribute-reporter",
    roles: &[Role::ResponseComplete],
    summary: "At the end of a response, sets dynamic metadata to a number worked out from its usage; response bodies are processed for it.",
    parameters: &[ParameterKind {
        name: "attributes",
        shape: Shape::Objects(&[
            ParameterKind {
                name: "key",
                shape: Shape::Object(&[
                    ParameterKind {
                        name: "namespace",
                        default: "\"envoy.lb\"",
                        summary: "Metadata namespace.",
                        ..ParameterKind::BASE
                    },
                    ParameterKind {
                        name: "name",
                        default: "",
                        summary: "Key in it.",
                        ..ParameterKind::BASE
                    },
                ]),
                default: "",
                summary: "Where the number goes.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "expression",
                default: "",
                summary: "CEL over usage.prompt_tokens, usage.completion_tokens, usage.total_tokens and, where the engine tells, usage.prompt_tokens_details.cached_tokens, which are doubles (write 2.0 for 2); its number is told without its fraction, 0 is not told.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "condition",
                summary: "CEL over the same; unless it is true nothing is told.",
                ..ParameterKind::BASE
            },
        ]),
        default: "",
        summary: "Exactly one.",
        ..ParameterKind::BASE
    }],
    build: |parameters| {
        let mut attributes = parameters.objects("attributes");
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(ParameterError::new(
                "attributes",
                "must contain exactly one entry",
            ));
        };
        let reporter = AttributeReporter::new(&attribute)
            .map_err(|error| error.within("attributes", Some(0)))?;
        Ok(Parts {
            reporter: Some(Arc::new(reporter)),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// See [`KIND`].
struct AttributeReporter {
    namespace: Box<str>,
    name: Box<str>,
    expression: Expression,
    condition: Option<Expression>,
    /// The functions of the language; each evaluation is a scope inside of it, as making them anew costs several times the evaluation.
    functions: Context<'static, 'static>,
}

impl fmt::Debug for AttributeReporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AttributeReporter")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl AttributeReporter {
    fn new(attribute: &Parameters<'_>) -> Result<Self, ParameterError> {
        let key = attribute.object("key");
        let text = |field| key.map(|key| key.text(field)).unwrap_or_default();
        let functions = Context::default();
        let compiled = |field| {
            let source = attribute.optional_text(field)?;
            Some(
                Expression::compile(source, &functions)
                    .map_err(|problem| ParameterError::new(field, problem)),
            )
        };
        Ok(Self {
            namespace: text("namespace").into(),
            name: text("name").into(),
            expression: compiled("expression")
                .ok_or_else(|| ParameterError::new("expression", "required and missing"))??,
            condition: compiled("condition").transpose()?,
            functions,
        })
    }
}

impl Reporter for AttributeReporter {
    fn report(&self, usage: &Usage) -> Result<Option<Report>, Box<str>> {
        let evaluate = |expression: &Expression, field: &str| {
            expression
                .evaluate(&self.functions, usage)
                .map_err(|error| Box::from(format!("{field}: {error}")))
        };
        if let Some(condition) = &self.condition
            && evaluate(condition, "condition")? != Value::Bool(true)
        {
            return Ok(None);
        }
        let value = match evaluate(&self.expression, "expression")? {
            Value::Int(number) => number,
            // `as` keeps a number that is out of range within it.
            Value::Float(number) if number.is_finite() => number as i64,
            other => return Err(format!("expression: gives no number but {other:?}").into()),
        };
        // -1 is how the reference notes a failure, and so is never told either.
        let report = (value != 0 && value != -1).then(|| Report {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            value,
        });
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};

    const USAGE: Usage = Usage {
        input_tokens: 32,
        output_tokens: 10,
        cached_tokens: Some(16),
    };

    fn parameters(expression: &str, condition: Option<&str>) -> serde_json::Value {
        json!({"attributes": [{"key": {"name": "cost"}, "expression": expression, "condition": condition}]})
    }

    fn reported(expression: &str, condition: Option<&str>, usage: Usage) -> Option<i64> {
        let reporter = built(&KIND, &parameters(expression, condition)).reporter;
        let report = reporter
            .expect("a reporter")
            .report(&usage)
            .expect("evaluates")?;
        assert_eq!((&*report.namespace, &*report.name), ("envoy.lb", "cost"));
        Some(report.value)
    }

    #[test]
    fn the_number_is_told_unless_it_is_zero_or_the_condition_is_not_true() {
        for (expression, condition, told) in [
            ("usage.completion_tokens\n", None, Some(10)),
            (
                "usage.completion_tokens",
                Some("has(usage.completion_tokens)"),
                Some(10),
            ),
            (
                "usage.completion_tokens",
                Some("usage.prompt_tokens > 100"),
                None,
            ),
            ("usage.completion_tokens", Some("1"), None),
            (
                "usage.prompt_tokens + usage.completion_tokens * 2.5",
                None,
                Some(57),
            ),
            ("usage.total_tokens", None, Some(42)),
            (
                "usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens",
                None,
                Some(16),
            ),
            ("int(usage.completion_tokens) * 3", None, Some(30)),
            ("usage.completion_tokens / 3.0", None, Some(3)),
            ("0.5 - usage.completion_tokens", None, Some(-9)),
            ("usage.completion_tokens * 0.0", None, None),
            ("-1", None, None),
        ] {
            assert_eq!(reported(expression, condition, USAGE), told, "{expression}");
        }
    }

    #[test]
    fn a_response_without_usage_counts_as_no_tokens() {
        let nothing = Usage {
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: None,
        };
        assert_eq!(reported("usage.total_tokens", None, nothing), None);
        assert_eq!(
            reported("has(usage.prompt_tokens_details) ? 1 : 2", None, nothing),
            Some(2)
        );
    }

    #[test]
    fn an_evaluation_that_fails_tells_nothing_but_why() {
        for (expression, condition, why) in [
            (
                "usage.prompt_tokens > 1.0",
                None,
                "expression: gives no number but Bool(true)",
            ),
            (
                "usage.prompt_tokens / 0.0",
                None,
                "expression: gives no number but Float(inf)",
            ),
            ("usage.missing", None, "expression: No such key: missing"),
            (
                "1",
                Some("usage.missing"),
                "condition: No such key: missing",
            ),
            (
                "usage.prompt_tokens * 2",
                None,
                "expression: Unsupported binary operator 'mul': Float(32.0), Int(2)",
            ),
        ] {
            let reporter = built(&KIND, &parameters(expression, condition)).reporter;
            let failure = reporter.expect("a reporter").report(&USAGE);
            assert_eq!(failure.expect_err(expression).as_ref(), why);
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_refused_by_field() {
        for (given, told) in [
            (json!({}), "attributes: required and missing"),
            (
                json!({"attributes": []}),
                "attributes: must contain exactly one entry",
            ),
            (
                json!({"attributes": [{"key": {}, "expression": "1"}]}),
                "attributes[0].key.name: required and missing",
            ),
            (
                json!({"attributes": [{"key": {"name": "cost"}}]}),
                "attributes[0].expression: required and missing",
            ),
            (
                parameters("tokens + 1", None),
                "attributes[0].expression: is no valid CEL: there is no `tokens`; what can be used are the functions of CEL and the variable `usage`",
            ),
            (
                parameters("1", Some("nothing(1)")),
                "attributes[0].condition: is no valid CEL: there is no `nothing`; what can be used are the functions of CEL and the variable `usage`",
            ),
        ] {
            assert_eq!(refused(&KIND, &given), told);
        }
        let deep = "(".repeat(1000) + "1" + &")".repeat(1000);
        assert_eq!(
            refused(&KIND, &parameters(&deep, None)),
            "attributes[0].expression: has 2001 bytes; at most 1024 are compiled"
        );
        let told = refused(&KIND, &parameters("usage.", None));
        assert!(
            told.starts_with("attributes[0].expression: is no valid CEL: 1:7: ")
                && !told.contains('\n'),
            "{told}"
        );
    }
}
