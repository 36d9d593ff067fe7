//! What reads answers and publishes what they say.

use std::fmt;

use warmroute_core::Nanos;
use warmroute_core::pool::{
    Attribute, Endpoint, EngineSpec, GPU_UTILIZATION_FAMILY, GPU_UTILIZATION_KEY, GpuPageError,
    MetricsPage, PageError, ScrapeMark, SeriesSet, gpu_utilization,
};

use crate::settings::{CoreMetricsSettings, ExtractorKind, ExtractorSettings};

/// The label that named an engine before `llm-d.ai/engine-type`, still read where the configured one is absent.
const LEGACY_ENGINE_LABEL: &str = "inference.networking.k8s.io/engine-type";

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    /// A metrics page.
    Page,
    /// A list of models.
    Models,
}

/// An answer that was found to be what its source gives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Page(&'a [u8]),
    Models(&'a [Box<str>]),
}

/// What an extractor reads.
pub(crate) fn payload(kind: &ExtractorKind) -> PayloadKind {
    match kind {
        ExtractorKind::CoreMetrics(_) | ExtractorKind::Dcgm => PayloadKind::Page,
        ExtractorKind::Models => PayloadKind::Models,
    }
}

/// A known engine by name, configured ones first.
pub(crate) fn engine<'a>(settings: &'a CoreMetricsSettings, name: &str) -> Option<&'a EngineSpec> {
    settings
        .engines
        .iter()
        .find(|engine| engine.name() == name)
        .or_else(|| EngineSpec::named(name))
}

/// The engine of an endpoint, and a note when its label names one that is not known (it is then read as the default engine).
fn engine_of<'a>(
    settings: &'a CoreMetricsSettings,
    endpoint: &Endpoint,
) -> (Option<&'a EngineSpec>, String) {
    let labels = &endpoint.identity.labels;
    let label = labels
        .get(settings.engine_label_key.as_str())
        .filter(|name| !name.is_empty())
        .or_else(|| labels.get(LEGACY_ENGINE_LABEL))
        .filter(|name| !name.is_empty());
    let fallback = engine(settings, &settings.default_engine);
    let Some(name) = label else {
        return (fallback, String::new());
    };
    if let Some(engine) = engine(settings, name) {
        return (Some(engine), String::new());
    }
    let default = &settings.default_engine;
    let note = format!("engine {name:?} is not known; the page is read as {default:?}");
    (fallback, note)
}

/// Why an extractor found less than it should in a good answer. What it did find is published all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExtractError {
    Page(PageError),
    Missing(SeriesSet),
    Gpu(GpuPageError),
    /// The answer is of another kind, which `Source::all` rules out.
    OtherPayload,
}

/// What came of one answer.
pub(crate) struct Extraction {
    /// Something is published that was not before.
    pub(crate) changed: bool,
    pub(crate) error: Option<ExtractError>,
}

/// An extractor at one endpoint.
pub(crate) struct Extractor {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    reader: Reader,
}

enum Reader {
    CoreMetrics {
        engine: EngineSpec,
        values: Vec<Attribute>,
    },
    Models,
    Dcgm,
}

impl Extractor {
    /// The extractor and what to tell of the endpoint's engine; `None` without a default engine, which `Source::all` rules out.
    pub(crate) fn new(settings: &ExtractorSettings, endpoint: &Endpoint) -> Option<(Self, String)> {
        let (reader, note) = match &settings.kind {
            ExtractorKind::CoreMetrics(core) => {
                let (engine, note) = engine_of(core, endpoint);
                let reader = Reader::CoreMetrics {
                    engine: engine?.clone(),
                    values: Vec::new(),
                };
                (reader, note)
            }
            ExtractorKind::Models => (Reader::Models, String::new()),
            ExtractorKind::Dcgm => (Reader::Dcgm, String::new()),
        };
        let extractor = Self {
            name: settings.name.clone(),
            kind: settings.kind.as_str(),
            reader,
        };
        Some((extractor, note))
    }

    /// The families of a metrics page that it reads.
    pub(crate) fn families(&self) -> Vec<&str> {
        match &self.reader {
            Reader::CoreMetrics { engine, .. } => engine.families(),
            Reader::Dcgm => vec![GPU_UTILIZATION_FAMILY],
            Reader::Models => Vec::new(),
        }
    }

    /// Reads an answer that was asked for at `mark` and came at `now`.
    pub(crate) fn run(
        &mut self,
        payload: Payload<'_>,
        endpoint: &Endpoint,
        mark: ScrapeMark,
        now: Nanos,
    ) -> Extraction {
        let read = match (&mut self.reader, payload) {
            (Reader::CoreMetrics { engine, values }, Payload::Page(page)) => {
                core_metrics(&self.name, engine, values, page, endpoint, mark, now)
            }
            (Reader::Models, Payload::Models(ids)) => {
                let changed =
                    endpoint.models().as_slice() != ids && endpoint.set_models(ids.into());
                Ok((changed, None))
            }
            (Reader::Dcgm, Payload::Page(page)) => gpu_utilization(page, &endpoint.identity.name)
                .map_err(ExtractError::Gpu)
                .map(|busy| {
                    let values = [(GPU_UTILIZATION_KEY.into(), busy)];
                    (endpoint.set_attributes(&self.name, false, &values), None)
                }),
            _ => Err(ExtractError::OtherPayload),
        };
        match read {
            Ok((changed, error)) => Extraction { changed, error },
            Err(error) => Extraction {
                changed: false,
                error: Some(error),
            },
        }
    }

    /// An error of this extractor, for people.
    pub(crate) fn describe(&self, error: &ExtractError) -> String {
        match (error, &self.reader) {
            (ExtractError::Missing(series), Reader::CoreMetrics { engine, .. }) => {
                let (engine, series) = (engine.name(), engine.describe(*series));
                format!("the page of engine {engine:?} lacks {series}")
            }
            (ExtractError::Page(error), _) => error.to_string(),
            (ExtractError::Gpu(error), _) => error.to_string(),
            (ExtractError::Missing(_) | ExtractError::OtherPayload, _) => {
                format!("the answer is nothing that a {} reads", self.kind)
            }
        }
    }
}

impl fmt::Debug for Extractor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.kind)
    }
}

/// Publishes what the page has. A page with none of the series leaves what is known, and its age, as they were.
fn core_metrics(
    name: &str,
    engine: &EngineSpec,
    values: &mut Vec<Attribute>,
    page: &[u8],
    endpoint: &Endpoint,
    mark: ScrapeMark,
    now: Nanos,
) -> Result<(bool, Option<ExtractError>), ExtractError> {
    let reading = MetricsPage::read(page, engine).map_err(ExtractError::Page)?;
    let error = (!reading.missing.is_empty()).then_some(ExtractError::Missing(reading.missing));
    if reading.found.is_empty() {
        return Ok((false, error));
    }
    values.clear();
    let read = engine.custom_keys().iter().zip(&reading.custom);
    values.extend(read.filter_map(|(key, value)| Some((key.clone(), (*value)?))));
    let published = endpoint.set_attributes(name, true, values);
    let known = endpoint.refreshed().is_some() && **endpoint.metrics.load() == reading.metrics;
    endpoint.refresh_since(reading.metrics, mark, now);
    Ok((published || !known, error))
}
