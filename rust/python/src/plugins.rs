//! What is known of the types of plugins, for the configuration and the documentation.

use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use warmroute_core::body::{PARSERS, ParserKind};
use warmroute_core::plugin::{
    ALIASES, Checked, Data, ParameterKind, PluginError, PluginKind, PluginSpec, Problem, REGISTRY,
    Shape, Stability, Step, expected,
};

/// JSON: `{"types": [...], "aliases": {old: new}, "data": {name: default producer}, "several": [names of data that
/// several plugins may make]}`.
#[pyfunction]
pub(crate) fn plugin_kinds() -> String {
    let parsers = PARSERS.iter().map(parser_kind);
    let types: Vec<Value> = REGISTRY.iter().map(plugin_kind).chain(parsers).collect();
    let aliases: Map<String, Value> = ALIASES
        .iter()
        .map(|(old, new)| ((*old).to_owned(), json!(new)))
        .collect();
    let data: Map<String, Value> = Data::ALL
        .iter()
        .map(|data| (data.name().to_owned(), json!(data.default_producer())))
        .collect();
    let several: Vec<&str> = Data::ALL
        .iter()
        .filter(|data| data.has_several_producers())
        .map(|data| data.name())
        .collect();
    json!({"types": types, "aliases": aliases, "data": data, "several": several}).to_string()
}

/// JSON: `{"values", "references", "deprecated"}` of parameters that are right, `{"problems"}` of others.
#[pyfunction]
pub(crate) fn check_plugin(type_name: &str, name: &str, parameters: &str) -> String {
    let parameters = match serde_json::from_str(parameters) {
        Ok(parameters) => parameters,
        Err(error) => {
            return json!({"problems": [{"path": [], "message": error.to_string()}]}).to_string();
        }
    };
    let spec = PluginSpec {
        type_name: type_name.to_owned(),
        name: Some(name.to_owned()),
        parameters: Some(parameters),
    };
    if PARSERS.iter().any(|kind| kind.type_name == type_name) {
        return match warmroute_core::plugin::check(&[], spec.parameters.as_ref()) {
            Ok(checked) => right(&checked),
            Err(problems) => wrong(&problems),
        }
        .to_string();
    }
    match warmroute_core::plugin::check_plugin(&spec) {
        Ok(checked) => right(&checked),
        Err(PluginError::Parameters { problems, .. }) => wrong(&problems),
        Err(error) => json!({"problems": [{"path": [], "message": error.to_string()}]}),
    }
    .to_string()
}

fn right(checked: &Checked) -> Value {
    let references: Vec<Value> = checked
        .references
        .iter()
        .map(|reference| {
            json!({"path": steps(&reference.path), "plugin": reference.plugin.as_deref(), "produces": reference.produces.name()})
        })
        .collect();
    let deprecated: Vec<Value> = checked
        .deprecated
        .iter()
        .map(|(path, instead)| json!({"path": steps(path), "instead": instead}))
        .collect();
    json!({"values": checked.values, "references": references, "deprecated": deprecated})
}

fn wrong(problems: &[Problem]) -> Value {
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| json!({"path": steps(&problem.path), "message": problem.message}))
        .collect();
    json!({ "problems": problems })
}

fn steps(path: &[Step]) -> Vec<Value> {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => json!(&**name),
            Step::Index(index) => json!(index),
        })
        .collect()
}

fn plugin_kind(kind: &PluginKind) -> Value {
    let roles: Vec<&str> = kind.roles.iter().map(|role| role.name()).collect();
    let consumes: Vec<&str> = kind.consumes.iter().map(|data| data.name()).collect();
    json!({
        "type": kind.type_name,
        "roles": roles,
        "stability": match kind.stability { Stability::Alpha => "alpha", Stability::Beta => "beta" },
        "deprecated": kind.deprecated,
        "summary": kind.summary,
        "parameters": parameters(kind.parameters),
        "consumes": consumes,
        "produces": kind.produces.map(Data::name),
    })
}

fn parser_kind(kind: &ParserKind) -> Value {
    json!({
        "type": kind.type_name,
        "roles": ["parser"],
        "stability": "beta",
        "deprecated": null,
        "summary": kind.summary,
        "parameters": [],
        "consumes": [],
        "produces": null,
        "paths": kind.paths.iter().map(|(suffix, _)| *suffix).collect::<Vec<_>>(),
        "default": kind.default,
    })
}

fn parameters(kinds: &[ParameterKind]) -> Vec<Value> {
    kinds
        .iter()
        .map(|kind| {
            let fields = match kind.shape {
                Shape::Object(fields) | Shape::Objects(fields) => parameters(fields),
                _ => Vec::new(),
            };
            let default = serde_json::from_str::<Value>(kind.default).unwrap_or_default();
            json!({
                "name": kind.name,
                "expected": expected(&kind.shape),
                "required": kind.default.is_empty(),
                "default": default,
                "unit": kind.unit,
                "summary": kind.summary,
                "deprecated": kind.deprecated,
                "fields": fields,
            })
        })
        .collect()
}
