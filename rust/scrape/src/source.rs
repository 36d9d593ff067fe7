//! A source whose settings have been checked and whose files have been read.

use std::collections::HashSet;
use std::time::Duration;

use http::Uri;
use warmroute_core::pool::Endpoint;

use crate::error::StartError;
use crate::extract::{self, PayloadKind};
use crate::settings::{ExtractorKind, Scheme, ScrapeSettings, SourceKind, SourceSettings};
use crate::tls::Tls;

/// How far from a whole number of ticks an interval may be, in ticks: durations come from decimal fractions.
const TICK_TOLERANCE: f64 = 1e-6;

pub(crate) struct Source {
    pub(crate) settings: SourceSettings,
    pub(crate) interval: Duration,
    /// `None`: plain text.
    pub(crate) tls: Option<Tls>,
    pub(crate) path: Uri,
}

impl Source {
    /// All sources of a scraper.
    pub(crate) fn all(settings: &ScrapeSettings) -> Result<Vec<Self>, StartError> {
        let mut names = HashSet::new();
        let mut sources = Vec::with_capacity(settings.sources.len());
        for source in &settings.sources {
            let fault = |(field, reason)| StartError::Source {
                source: source.name.clone(),
                field,
                reason,
            };
            if !names.insert(source.name.as_str()) {
                return Err(fault((
                    "name",
                    "another source has the same name".to_owned(),
                )));
            }
            sources.push(Self::new(source, settings.interval).map_err(fault)?);
        }
        Ok(sources)
    }

    fn new(settings: &SourceSettings, tick: Duration) -> Result<Self, (&'static str, String)> {
        let path = match settings.path.parse::<Uri>() {
            Ok(path) if settings.path.starts_with('/') && path.query().is_none() => path,
            _ => {
                let reason = format!("{:?} is no absolute path, as /metrics is", settings.path);
                return Err(("path", reason));
            }
        };
        if settings.port == Some(0) {
            return Err(("port", "0 is no port; 1 to 65535 are".to_owned()));
        }
        let interval = settings.interval.unwrap_or(tick);
        let ticks = interval.as_secs_f64() / tick.as_secs_f64();
        if ticks.round() < 1.0 || (ticks - ticks.round()).abs() > TICK_TOLERANCE {
            let reason = format!("{interval:?} is no multiple of the base interval, {tick:?}");
            return Err(("interval", reason));
        }
        check_extractors(settings)?;
        Ok(Self {
            tls: match settings.scheme {
                Scheme::Http => None,
                Scheme::Https => Some(Tls::new(&settings.tls)?),
            },
            settings: settings.clone(),
            interval,
            path,
        })
    }

    /// What the answers of the source are.
    pub(crate) fn payload(&self) -> PayloadKind {
        payload(self.settings.kind)
    }

    /// `host:port` that is asked for an endpoint.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> String {
        let identity = &endpoint.identity;
        match (self.settings.port, &identity.metrics_host) {
            (Some(port), _) => std::net::SocketAddr::new(identity.address, port).to_string(),
            // The metrics host tells where metrics are; models are where requests go.
            (None, Some(host)) if self.settings.kind != SourceKind::Models => host.to_string(),
            (None, _) => endpoint.authority.to_string(),
        }
    }
}

fn payload(kind: SourceKind) -> PayloadKind {
    match kind {
        SourceKind::Metrics | SourceKind::Dcgm => PayloadKind::Page,
        SourceKind::Models => PayloadKind::Models,
    }
}

fn check_extractors(settings: &SourceSettings) -> Result<(), (&'static str, String)> {
    let mut names = HashSet::new();
    for extractor in &settings.extractors {
        let fault = |reason: String| Err(("extractors", format!("{:?}: {reason}", extractor.name)));
        if !names.insert(extractor.name.as_str()) {
            return fault("it is listed twice".to_owned());
        }
        if extract::payload(&extractor.kind) != payload(settings.kind) {
            let (reader, source) = (extractor.kind.as_str(), settings.kind.as_str());
            return fault(format!("a {reader} cannot read what a {source} fetches"));
        }
        if let ExtractorKind::CoreMetrics(core) = &extractor.kind
            && extract::engine(core, &core.default_engine).is_none()
        {
            let engine = &core.default_engine;
            return fault(format!(
                "defaultEngine {engine:?} is neither built in nor configured"
            ));
        }
    }
    Ok(())
}

/// `path` with the query that asks for families. vLLM heeds it only with a slash before the question mark.
pub(crate) fn filtered_path(path: &str, families: &[String]) -> String {
    let mut path = format!("{}/", path.trim_end_matches('/'));
    for (index, family) in families.iter().enumerate() {
        path.push_str(if index == 0 { "?" } else { "&" });
        path.push_str("name%5B%5D=");
        path.push_str(family);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_asks_for_families_behind_a_slash() {
        let path = filtered_path("/metrics", &["a:b".to_owned(), "c".to_owned()]);
        assert_eq!(path, "/metrics/?name%5B%5D=a:b&name%5B%5D=c");
    }
}
