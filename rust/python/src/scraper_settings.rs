//! The JSON form of the scraper's settings. Faults name the source and the field as the configuration has them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warmroute_core::pool::{EngineDefinition, EngineSpec};
use warmroute_scrape::{
    CoreMetricsSettings, ExtractorKind, ExtractorSettings, Scheme, ScrapeSettings, SourceKind,
    SourceSettings, TlsSettings,
};

/// Reads settings.
pub(crate) fn read(text: &str) -> Result<ScrapeSettings, String> {
    let settings: Settings = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let defaults = ScrapeSettings::default();
    let time = |field, value: Option<f64>, default| match value {
        None => Ok(default),
        Some(value) => seconds(field, value),
    };
    let sources = settings.sources.into_iter().map(|source| {
        let name = name_of(&source);
        source_settings(source).map_err(|reason| format!("source {name:?}: {reason}"))
    });
    Ok(ScrapeSettings {
        interval: time(
            "interval_seconds",
            settings.interval_seconds,
            defaults.interval,
        )?,
        timeout: time(
            "timeout_seconds",
            settings.timeout_seconds,
            defaults.timeout,
        )?,
        idle_backoff: time(
            "idle_backoff_seconds",
            settings.idle_backoff_seconds,
            defaults.idle_backoff,
        )?,
        tls_reload: defaults.tls_reload,
        clock: warmroute_extproc::now,
        sources: sources.collect::<Result<_, _>>()?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    interval_seconds: Option<f64>,
    timeout_seconds: Option<f64>,
    idle_backoff_seconds: Option<f64>,
    sources: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    scheme: Option<String>,
    path: Option<String>,
    /// 0 stands for none, as in the reference.
    port: Option<i64>,
    interval_seconds: Option<f64>,
    insecure_skip_verify: Option<bool>,
    ca_cert_path: Option<PathBuf>,
    client_cert_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    #[serde(default)]
    use_node_address: bool,
    filter: Option<bool>,
    #[serde(default)]
    extractors: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extractor {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    engine_label_key: Option<String>,
    default_engine: Option<String>,
    engines: Option<Vec<EngineDefinition>>,
}

fn source_settings(source: Value) -> Result<SourceSettings, String> {
    let source: Source = from_value(source)?;
    let kind = SourceKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == source.kind)
        .ok_or_else(|| {
            unknown(
                "type",
                &source.kind,
                &SourceKind::ALL.map(SourceKind::as_str),
            )
        })?;
    if source.use_node_address {
        return Err(
            "useNodeAddress: the node of an endpoint is known from Kubernetes only, which this version does not read; \
             run the exporter beside the model server, or set `port` to one that the endpoint's own address serves"
                .to_owned(),
        );
    }
    let scheme = match source.scheme.as_deref() {
        None | Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(other) => return Err(unknown("scheme", other, &["http", "https"])),
    };
    let interval = source
        .interval_seconds
        .map(|value| seconds("interval", value));
    let extractors = source.extractors.into_iter().map(|extractor| {
        let name = name_of(&extractor);
        extractor_settings(extractor).map_err(|reason| format!("extractor {name:?}: {reason}"))
    });
    let extractors = extractors.collect::<Result<_, _>>()?;
    let defaults = SourceSettings::new(kind);
    let port = match source.port {
        None => defaults.port,
        Some(0) => None,
        Some(port) => match u16::try_from(port) {
            Ok(port) => Some(port),
            Err(_) => return Err(format!("port: {port} is no port; 0 to 65535 are")),
        },
    };
    Ok(SourceSettings {
        name: source.name.unwrap_or(defaults.name),
        kind,
        scheme,
        path: source.path.unwrap_or(defaults.path),
        port,
        interval: interval.transpose()?,
        tls: TlsSettings {
            insecure_skip_verify: source.insecure_skip_verify.unwrap_or(true),
            ca_cert_path: source
                .ca_cert_path
                .filter(|path| !path.as_os_str().is_empty()),
            client_cert_path: source
                .client_cert_path
                .filter(|path| !path.as_os_str().is_empty()),
            client_key_path: source
                .client_key_path
                .filter(|path| !path.as_os_str().is_empty()),
        },
        filter: source.filter.unwrap_or(defaults.filter),
        extractors,
    })
}

fn extractor_settings(extractor: Value) -> Result<ExtractorSettings, String> {
    let extractor: Extractor = from_value(extractor)?;
    let [core, models, dcgm] = ExtractorKind::TYPES;
    let own = extractor.engine_label_key.is_some()
        || extractor.default_engine.is_some()
        || extractor.engines.is_some();
    let kind = match extractor.kind.as_str() {
        kind if kind == core => {
            let engines = extractor.engines.unwrap_or_default();
            let engines = engines.iter().map(EngineSpec::new);
            let defaults = CoreMetricsSettings::default();
            let given = |text: Option<String>, default| match text {
                Some(text) if !text.is_empty() => text,
                _ => default,
            };
            ExtractorKind::CoreMetrics(CoreMetricsSettings {
                engine_label_key: given(extractor.engine_label_key, defaults.engine_label_key),
                default_engine: given(extractor.default_engine, defaults.default_engine),
                engines: engines
                    .collect::<Result<_, _>>()
                    .map_err(|error| error.to_string())?,
            })
        }
        kind if own => return Err(format!("only a {core} has engines, a {kind} has not")),
        kind if kind == models => ExtractorKind::Models,
        kind if kind == dcgm => ExtractorKind::Dcgm,
        other => return Err(unknown("type", other, &ExtractorKind::TYPES)),
    };
    let defaults = ExtractorSettings::new(kind);
    Ok(ExtractorSettings {
        name: extractor.name.unwrap_or(defaults.name),
        ..defaults
    })
}

/// What a source or extractor is called, for faults found before it is read.
fn name_of(value: &Value) -> String {
    let text = |key| value.get(key).and_then(Value::as_str);
    text("name")
        .or_else(|| text("type"))
        .unwrap_or_default()
        .to_owned()
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn unknown(field: &str, text: &str, known: &[&str]) -> String {
    format!("{field}: {text:?} is none of {}", known.join(", "))
}

fn seconds(field: &str, value: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value).map_err(|error| format!("{field}: {error}"))
}
