//! `disaggregatedset-rollout-screener`: while a disaggregated deployment is rolled out, each request sees endpoints of one revision.

mod distribution;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::control::lottery::draw;
use crate::control::{HeaderPairs, Response, ResponseReceived, Screener};
use crate::exchange::Refusal;
use crate::plugin::{
    LabelSelector, ParameterError, ParameterKind, Parameters, Parts, PluginKind, Role, Shape,
    Stability,
};
use crate::pool::{Endpoint, Snapshot};
use crate::schedule::Context;
use crate::stats::{Family, FamilySource, Kind, Sample, SampleValue};

use distribution::{Distribution, Gating, Weight};

const TYPE_NAME: &str = "disaggregatedset-rollout-screener";

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: TYPE_NAME,
    roles: &[Role::Screener, Role::ResponseReceived],
    stability: Stability::Alpha,
    summary: "Leaves a request the endpoints of one revision, drawn by the revisions' numbers of endpoints, or those that its headers ask for; tells the labels of the endpoint that served in response headers.",
    parameters: &[
        ParameterKind {
            name: "scope",
            shape: Shape::Object(&[ParameterKind {
                name: "labelSelector",
                default: "",
                summary: "Endpoints that count for the revisions: key=value, key in (a, b), !key and so on, with commas between.",
                ..ParameterKind::BASE
            }]),
            default: "",
            summary: "Which endpoints belong to the deployment.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "headerSelectors",
            shape: Shape::Objects(&[
                ParameterKind {
                    name: "name",
                    default: "",
                    summary: "Unique; a label of metrics.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "headerName",
                    default: "",
                    summary: "Header of the request to read and of the response to set; unique.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "labelKey",
                    default: "",
                    summary: "Label of endpoints with the value of that header.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "mode",
                    shape: Shape::Choice(&["strict", "prefer"]),
                    default: "",
                    summary: "strict: a request with the header gets only endpoints of that label; prefer: the header is only set on the response.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "[]",
            summary: "Labels that clients can ask for.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "revisionGating",
            shape: Shape::Object(&[
                ParameterKind {
                    name: "mode",
                    shape: Shape::Choice(&["sum", "max-role", "disabled"]),
                    default: "",
                    summary: "What a revision's share is proportional to: its endpoints in all required roles, or in the largest of them; disabled: revisions are not looked at.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "requireRoles",
                    shape: Shape::Object(&[ParameterKind {
                        name: "values",
                        shape: Shape::Texts,
                        default: "",
                        summary: "The roles; at least one, each once.",
                        ..ParameterKind::BASE
                    }]),
                    summary: "Roles in which a revision must have an endpoint to get requests; required unless the mode is disabled.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "revisionLabelKey",
                    default: "\"disaggregatedset.x-k8s.io/revision\"",
                    summary: "Label with the revision of an endpoint.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "roleLabelKey",
                    default: "\"disaggregatedset.x-k8s.io/role\"",
                    summary: "Label with the role of an endpoint.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "",
            summary: "How revisions are chosen.",
            ..ParameterKind::BASE
        },
    ],
    build: |parameters| {
        let screener = Arc::new(RolloutScreener::new(parameters)?);
        Ok(Parts {
            screener: Some(Arc::clone(&screener) as Arc<dyn Screener>),
            response: Some(Arc::clone(&screener) as Arc<dyn ResponseReceived>),
            families: Some(screener),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

/// See [`KIND`].
#[derive(Debug)]
struct RolloutScreener {
    plugin: Arc<str>,
    selectors: Vec<HeaderSelector>,
    /// `None`: revisions are not looked at.
    gating: Option<Gating>,
    /// Of the endpoints as they were last: they change rarely, and counting them for each request would cost more than the choice.
    known: Mutex<Option<Arc<Distribution>>>,
}

#[derive(Debug)]
struct HeaderSelector {
    name: Arc<str>,
    /// Lower-case.
    header: Box<str>,
    label: Box<str>,
    strict: bool,
    /// Requests whose header no endpoint had.
    unmatched: AtomicU64,
}

impl HeaderSelector {
    /// What a request asks for.
    fn wanted<'a>(&self, context: &Context<'a>) -> Option<&'a str> {
        context.request.header(&self.header).filter(|_| self.strict)
    }
}

impl RolloutScreener {
    fn new(parameters: &Parameters<'_>) -> Result<Self, ParameterError> {
        let selector = parameters
            .object("scope")
            .map_or("", |scope| scope.text("labelSelector"));
        let scope = LabelSelector::from_text(selector).map_err(|problem| {
            ParameterError::new("labelSelector", problem).within("scope", None)
        })?;
        let gating = match parameters.object("revisionGating") {
            Some(gating) => {
                read_gating(&gating, scope).map_err(|error| error.within("revisionGating", None))?
            }
            None => None,
        };
        Ok(Self {
            plugin: parameters.plugin().into(),
            selectors: read_selectors(parameters)?,
            gating,
            known: Mutex::default(),
        })
    }

    fn distribution(&self, gating: &Gating, snapshot: &Snapshot) -> Arc<Distribution> {
        let mut known = self.known.lock();
        match known.as_ref().filter(|known| known.is_of(snapshot)) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(known.insert(Arc::new(Distribution::new(gating, snapshot)))),
        }
    }

    /// Leaves rows of revisions that are complete; of one of them, unless a header asks for something.
    fn gate(&self, gating: &Gating, context: &Context<'_>, keep: &mut [bool]) {
        let distribution = self.distribution(gating, context.snapshot);
        let revision_of = |row: usize| {
            let position = context.candidates.position[row] as usize;
            let revision = distribution.revision_of.get(position).copied().flatten()?;
            Some(revision as usize)
        };
        // Revisions without a candidate are not drawn.
        let mut shares = vec![0.0; distribution.revisions.len()];
        for revision in (0..keep.len()).filter_map(revision_of) {
            shares[revision] = distribution.revisions[revision].share;
        }
        let asked = self
            .selectors
            .iter()
            .any(|selector| selector.wanted(context).is_some());
        let drawn = (!asked).then(|| draw(&shares, context.random.borrow_mut().f64()));
        for (row, keep) in keep.iter_mut().enumerate() {
            *keep &= revision_of(row).is_some_and(|revision| {
                shares[revision] > 0.0 && drawn.is_none_or(|drawn| drawn == Some(revision))
            });
        }
    }
}

impl Screener for RolloutScreener {
    fn screen(
        &self,
        context: &Context<'_>,
        keep: &mut [bool],
        _response: &mut HeaderPairs,
    ) -> Result<(), Refusal> {
        if let Some(gating) = &self.gating {
            self.gate(gating, context, keep);
        }
        for selector in &self.selectors {
            if !keep.contains(&true) {
                break;
            }
            let Some(wanted) = selector.wanted(context) else {
                continue;
            };
            for (row, keep) in keep.iter_mut().enumerate() {
                *keep &= context
                    .endpoint(row)
                    .is_some_and(|endpoint| label(endpoint, &selector.label) == Some(wanted));
            }
            if !keep.contains(&true) {
                selector.unmatched.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl ResponseReceived for RolloutScreener {
    fn response_received(&self, response: &Response<'_>, set: &mut HeaderPairs) {
        for selector in &self.selectors {
            if let Some(value) = label(response.endpoint, &selector.label) {
                set.push((
                    Bytes::copy_from_slice(selector.header.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                ));
            }
        }
    }
}

impl FamilySource for RolloutScreener {
    fn families(&self, snapshot: &Snapshot) -> Vec<Family> {
        let own = || vec![Arc::from(TYPE_NAME), Arc::clone(&self.plugin)];
        let unmatched = self.selectors.iter().filter_map(|selector| {
            let count = selector.unmatched.load(Ordering::Relaxed);
            (count > 0).then(|| Sample {
                labels: [own(), vec![Arc::clone(&selector.name)]].concat(),
                value: SampleValue::Number(count as f64),
            })
        });
        let mut shares = Vec::new();
        if let Some(gating) = &self.gating {
            let mode: Arc<str> = gating.weight.name().into();
            for revision in &self.distribution(gating, snapshot).revisions {
                shares.push(Sample {
                    labels: [own(), vec![Arc::clone(&mode), Arc::clone(&revision.name)]].concat(),
                    value: SampleValue::Number(revision.share),
                });
            }
        }
        vec![
            Family {
                name: "disaggregatedset_strict_header_no_match_total",
                kind: Kind::Counter,
                help: "[ALPHA] Requests refused because no endpoint has what a strict header asks for.",
                label_names: &["plugin_type", "plugin_name", "selector"],
                buckets: &[],
                samples: unmatched.collect(),
            },
            Family {
                name: "disaggregatedset_revision_gating_share",
                kind: Kind::Gauge,
                help: "[ALPHA] Share of requests that each revision gets, from 0 to 1; 0 where a required role is missing.",
                label_names: &["plugin_type", "plugin_name", "mode", "revision"],
                buckets: &[],
                samples: shares,
            },
        ]
    }
}

fn label<'a>(endpoint: &'a Endpoint, key: &str) -> Option<&'a str> {
    let value = endpoint.identity.labels.get(key)?;
    Some(&**value).filter(|value| !value.is_empty())
}

fn read_selectors(parameters: &Parameters<'_>) -> Result<Vec<HeaderSelector>, ParameterError> {
    let mut selectors: Vec<HeaderSelector> = Vec::new();
    for (number, given) in parameters.objects("headerSelectors").enumerate() {
        let twice = |field: &str, value: &str| {
            let problem = format!("another selector has \"{value}\"; each needs its own");
            ParameterError::new(field, problem).within("headerSelectors", Some(number))
        };
        let name = given.text("name");
        let header = given.text("headerName").to_ascii_lowercase();
        if selectors.iter().any(|other| &*other.name == name) {
            return Err(twice("name", name));
        }
        if selectors.iter().any(|other| *other.header == header) {
            return Err(twice("headerName", &header));
        }
        selectors.push(HeaderSelector {
            name: name.into(),
            header: header.into(),
            label: given.text("labelKey").into(),
            strict: given.text("mode") == "strict",
            unmatched: AtomicU64::new(0),
        });
    }
    Ok(selectors)
}

fn read_gating(
    given: &Parameters<'_>,
    scope: LabelSelector,
) -> Result<Option<Gating>, ParameterError> {
    let weight = match given.text("mode") {
        "sum" => Weight::Sum,
        "max-role" => Weight::MaxRole,
        _ => return Ok(None),
    };
    let Some(required) = given.object("requireRoles") else {
        let problem = format!("required with mode {}", weight.name());
        return Err(ParameterError::new("requireRoles", problem));
    };
    let refuse =
        |problem: String| ParameterError::new("values", problem).within("requireRoles", None);
    let mut roles: Vec<Box<str>> = Vec::new();
    for role in required.texts("values") {
        if roles.iter().any(|other| &**other == role) {
            return Err(refuse(format!("contains \"{role}\" twice")));
        }
        roles.push(role.into());
    }
    if roles.is_empty() {
        return Err(refuse("must contain at least one role".to_owned()));
    }
    Ok(Some(Gating {
        scope,
        revision_label: given.text("revisionLabelKey").into(),
        role_label: given.text("roleLabelKey").into(),
        roles,
        weight,
    }))
}

#[cfg(test)]
mod tests;
