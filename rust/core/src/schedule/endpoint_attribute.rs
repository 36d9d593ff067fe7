//! A number that an extractor publishes of endpoints, as a plugin's parameters name it.

use super::Context;
use crate::plugin::{Data, ParameterError, ParameterKind, Parameters, Reference, Shape, Step};
use crate::pool::CORE_METRICS_EXTRACTOR;

/// Which number of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointAttribute {
    producer: Box<str>,
    key: Box<str>,
}

impl EndpointAttribute {
    /// The parameter that names the extractor.
    pub(super) const PRODUCER: ParameterKind = ParameterKind {
        name: "producer",
        shape: Shape::ProducerName(Data::EndpointAttributes),
        summary: "Name of the extractor that publishes it; left out: core-metrics-extractor.",
        ..ParameterKind::BASE
    };

    /// Reads [`Self::PRODUCER`], and the key from `field`.
    ///
    /// # Errors
    /// When the key may hold the producer as well.
    pub(super) fn from_parameters(
        parameters: &Parameters<'_>,
        field: &str,
    ) -> Result<Self, ParameterError> {
        let key = parameters.text(field);
        let producer = parameters.optional_text("producer");
        if producer.is_none() && key.contains('/') {
            // The reference's rule: its keys were once written with their producer.
            return Err(ParameterError::new(
                field,
                format!(
                    "holds a \"/\"; name the extractor in producer and its key here, not \"{key}\""
                ),
            ));
        }
        Ok(Self {
            producer: producer.unwrap_or(CORE_METRICS_EXTRACTOR).into(),
            key: key.into(),
        })
    }

    /// The extractor that publishes it where the configuration names none; `field`: that of the key.
    pub(super) fn needs(parameters: &Parameters<'_>, field: &str) -> Vec<Reference> {
        if parameters.optional_text("producer").is_some() {
            return Vec::new();
        }
        vec![Reference {
            path: vec![Step::Field(field.into())],
            plugin: Some(CORE_METRICS_EXTRACTOR.into()),
            produces: Data::EndpointAttributes,
        }]
    }

    /// Its value for the endpoint of a row; `None` where it was not published or is not finite.
    pub(super) fn of(&self, context: &Context<'_>, row: usize) -> Option<f64> {
        let value = context.endpoint(row)?.attribute(&self.producer, &self.key);
        value.filter(|value| value.is_finite())
    }
}
