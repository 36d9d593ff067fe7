//! What a scraper is told.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use warmroute_core::Nanos;
use warmroute_core::pool::{CORE_METRICS_EXTRACTOR, EngineSpec};

/// Which endpoints' data is fetched, how, and what is read from it.
#[derive(Clone, Debug)]
pub struct ScrapeSettings {
    /// The base tick: time between two answers of one source while something happens at the endpoint.
    pub interval: Duration,
    /// How long one answer may take, from connecting to its last byte.
    pub timeout: Duration,
    /// Longest interval of an endpoint on which nothing happens; not above `interval`: no back-off.
    pub idle_backoff: Duration,
    /// Time between two looks at the files of certificates.
    pub tls_reload: Duration,
    /// The clock that the engine's other callers use too.
    pub clock: fn() -> Nanos,
    /// What is polled at each endpoint, each at its own pace: a slow source delays no other.
    pub sources: Vec<SourceSettings>,
}

/// What kind of answer a source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The metrics page of the model server.
    Metrics,
    /// The list of models of the model server.
    Models,
    /// The metrics page of NVIDIA's DCGM exporter.
    Dcgm,
}

impl SourceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Models, Self::Dcgm];

    /// The reference's plugin type, which is the label of error counters too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics-data-source",
            Self::Models => "models-data-source",
            Self::Dcgm => "dcgm-data-source",
        }
    }
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// TLS 1.2 or 1.3.
    Https,
}

/// Whom to trust and what to show over HTTPS; the files are PEM and are read again each `ScrapeSettings::tls_reload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Take any certificate.
    pub insecure_skip_verify: bool,
    /// Authorities to trust instead of the system's.
    pub ca_cert_path: Option<PathBuf>,
    /// Certificate to show, with its chain; goes with `client_key_path`.
    pub client_cert_path: Option<PathBuf>,
    /// Its key.
    pub client_key_path: Option<PathBuf>,
}

impl Default for TlsSettings {
    /// The reference's: endpoints within a cluster show certificates of their own making.
    fn default() -> Self {
        Self {
            insecure_skip_verify: true,
            ca_cert_path: None,
            client_cert_path: None,
            client_key_path: None,
        }
    }
}

/// One thing that is polled at each endpoint.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Name, unique among the sources.
    pub name: String,
    /// What kind of answer it gives.
    pub kind: SourceKind,
    /// How the endpoint is spoken to.
    pub scheme: Scheme,
    /// Path, without a query.
    pub path: String,
    /// Port at the endpoint's address, when it is not the endpoint's own (or that of its metrics host).
    pub port: Option<u16>,
    /// A multiple of the base tick; `None`: each tick.
    pub interval: Option<Duration>,
    /// Of no effect over plain HTTP.
    pub tls: TlsSettings,
    /// Ask for the wanted families with `name[]`, and fall back to whole pages where the server cannot.
    pub filter: bool,
    /// What reads the answer, in this order; one that fails stops no other. None at all: polled and not read.
    pub extractors: Vec<ExtractorSettings>,
}

impl SourceSettings {
    /// The reference's defaults for a kind, under the name of the type, without extractors.
    pub fn new(kind: SourceKind) -> Self {
        let (path, port) = match kind {
            SourceKind::Metrics => ("/metrics", None),
            SourceKind::Models => ("/v1/models", None),
            SourceKind::Dcgm => ("/metrics", Some(9400)),
        };
        Self {
            name: kind.as_str().to_owned(),
            kind,
            scheme: Scheme::Http,
            path: path.to_owned(),
            port,
            interval: None,
            tls: TlsSettings::default(),
            // No exporter of DCGM filters its page.
            filter: kind == SourceKind::Metrics,
            extractors: Vec::new(),
        }
    }

    /// The metrics page, read by an extractor of core metrics with its defaults: what is polled when nothing else is said.
    pub fn metrics() -> Self {
        let core = ExtractorKind::CoreMetrics(CoreMetricsSettings::default());
        Self {
            extractors: vec![ExtractorSettings::new(core)],
            ..Self::new(SourceKind::Metrics)
        }
    }
}

/// Something that reads answers.
#[derive(Clone, Debug)]
pub struct ExtractorSettings {
    /// Name, under which attributes are published.
    pub name: String,
    /// What it reads.
    pub kind: ExtractorKind,
}

impl ExtractorSettings {
    /// Under the name of the type.
    pub fn new(kind: ExtractorKind) -> Self {
        Self {
            name: kind.as_str().to_owned(),
            kind,
        }
    }
}

/// What an extractor reads.
#[derive(Clone, Debug)]
pub enum ExtractorKind {
    /// The engine's numbers, and custom metrics.
    CoreMetrics(CoreMetricsSettings),
    /// The ids of the models.
    Models,
    /// How busy the GPUs are.
    Dcgm,
}

impl ExtractorKind {
    /// The reference's plugin types.
    pub const TYPES: [&str; 3] = [
        CORE_METRICS_EXTRACTOR,
        "models-data-extractor",
        "dcgm-extractor",
    ];

    /// The reference's plugin type, which is the label of error counters too.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::CoreMetrics(_) => Self::TYPES[0],
            Self::Models => Self::TYPES[1],
            Self::Dcgm => Self::TYPES[2],
        }
    }
}

/// Which series say what, engine by engine.
#[derive(Clone, Debug)]
pub struct CoreMetricsSettings {
    /// Label of an endpoint that names its engine.
    pub engine_label_key: String,
    /// Engine of endpoints without that label.
    pub default_engine: String,
    /// Engines that override a built-in one of the same name or add to them.
    pub engines: Vec<EngineSpec>,
}

impl Default for CoreMetricsSettings {
    fn default() -> Self {
        Self {
            engine_label_key: "llm-d.ai/engine-type".to_owned(),
            default_engine: "vllm".to_owned(),
            engines: Vec::new(),
        }
    }
}

/// Nanoseconds since its first use; fit where nothing else feeds the engine.
fn process_clock() -> Nanos {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    Nanos((EPOCH.elapsed().as_nanos() as u64).max(1))
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            idle_backoff: Duration::from_secs(1),
            tls_reload: Duration::from_secs(60),
            clock: process_clock,
            sources: vec![SourceSettings::metrics()],
        }
    }
}
