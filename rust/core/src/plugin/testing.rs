//! Builds plugins from parameters, for the tests of plugins.

use serde_json::Value;

use super::check;
use super::{Parameters, Parts, PluginKind};

fn build(kind: &PluginKind, parameters: &Value) -> Result<Parts, String> {
    let given = parameters.as_object();
    let told = |path: &[check::Step], message: &str| format!("{}: {message}", check::render(path));
    let checked = check::check(kind.parameters, given)
        .map_err(|problems| told(&problems[0].path, &problems[0].message))?;
    (kind.build)(&Parameters::new(&checked.values, "mine"))
        .map_err(|error| told(&error.path, &error.problem))
}

/// A plugin of that type, named `mine`.
pub(crate) fn built(kind: &PluginKind, parameters: &Value) -> Parts {
    build(kind, parameters).expect("parameters are valid")
}

/// `path: message` of the first problem.
pub(crate) fn refused(kind: &PluginKind, parameters: &Value) -> String {
    build(kind, parameters).expect_err("parameters are refused")
}
