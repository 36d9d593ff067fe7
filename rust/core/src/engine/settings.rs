//! What an engine is told once, at its start.

use std::fmt;

use serde::Deserialize;

use super::policy::PolicyError;

/// Settings of an engine; the JSON form is what `warmroute.config` writes. Sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Settings {
    /// Largest request body; beyond it 413.
    pub max_body_bytes: usize,
    /// How many endpoints the destination lists.
    pub max_endpoints: usize,
    /// Heed the gateway's subset hint.
    pub subset_filter: bool,
    /// Publish the candidates' scores as dynamic metadata.
    pub emit_endpoint_scores: bool,
    /// Allow clients to ask for the decision, and keep the last ones.
    pub explain: bool,
    /// Process response bodies for token usage and exact first-token times, where the gateway can be asked to send them.
    pub response_usage: bool,
    /// Share of the streamed answers whose body is asked for, 0 to 1, so that their first token is seen; 0: of none.
    pub response_sample: f64,
    /// Count the `Process` streams themselves.
    pub stream_metrics: bool,
    /// Budget of the prefix index.
    pub index_bytes: usize,
    /// How many decisions are kept when explaining.
    pub decisions_kept: usize,
    /// Share of the decisions that is recorded for a replay, above 0 and at most 1; `None`: none.
    pub record_sample: Option<f64>,
    /// Start of the chance in decisions and in the choice of answers that are watched, so that a run can be repeated; `None`: another at each start.
    pub seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            max_endpoints: 1,
            subset_filter: true,
            emit_endpoint_scores: false,
            explain: false,
            response_usage: false,
            response_sample: 0.0,
            stream_metrics: false,
            index_bytes: 256 << 20,
            decisions_kept: 256,
            record_sample: None,
            seed: None,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug)]
pub enum SettingsError {
    /// Not the JSON expected.
    Json(serde_json::Error),
    /// The policy names what does not exist or misconfigures it.
    Policy(PolicyError),
    /// A value out of its range.
    Range {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(formatter, "engine settings: {error}"),
            Self::Policy(error) => error.fmt(formatter),
            Self::Range { field, expected } => {
                write!(formatter, "engine settings: {field} must be {expected}")
            }
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// Unknown or ill-typed fields, values out of range.
    pub fn from_json(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = serde_json::from_str(text).map_err(SettingsError::Json)?;
        let range = |holds: bool, field, expected| {
            if holds {
                Ok(())
            } else {
                Err(SettingsError::Range { field, expected })
            }
        };
        range(settings.max_body_bytes > 0, "max_body_bytes", "positive")?;
        range(
            (1..=64).contains(&settings.max_endpoints),
            "max_endpoints",
            "from 1 to 64",
        )?;
        range(
            settings.decisions_kept <= 10_000,
            "decisions_kept",
            "at most 10000",
        )?;
        range(
            settings
                .record_sample
                .is_none_or(|sample| sample > 0.0 && sample <= 1.0),
            "record_sample",
            "above 0 and at most 1",
        )?;
        range(
            (0.0..=1.0).contains(&settings.response_sample),
            "response_sample",
            "from 0 to 1",
        )?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_bad_ranges_are_named() {
        let error = Settings::from_json(r#"{"max_bodybytes": 1}"#)
            .expect_err("unknown field")
            .to_string();
        assert!(error.contains("max_bodybytes"), "{error}");
        let error = Settings::from_json(r#"{"max_endpoints": 0}"#)
            .expect_err("range")
            .to_string();
        assert_eq!(error, "engine settings: max_endpoints must be from 1 to 64");
        let error = Settings::from_json(r#"{"response_sample": 1.5}"#).expect_err("range");
        assert_eq!(
            error.to_string(),
            "engine settings: response_sample must be from 0 to 1"
        );
    }
}
