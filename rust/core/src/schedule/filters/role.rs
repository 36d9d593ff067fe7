//! `decode-filter`, `prefill-filter`, `encode-filter`: endpoints by their part in disaggregated serving, as the label `llm-d.ai/role` tells it.

use super::by_label::ByLabelFilter;
use crate::plugin::{Parts, PluginKind, Role};

/// The label that tells an endpoint's role.
pub const ROLE_LABEL: &str = "llm-d.ai/role";

/// The reference's `decode-filter`. An endpoint that tells no role decodes.
pub const DECODE: PluginKind = PluginKind {
    type_name: "decode-filter",
    roles: &[Role::Filter],
    summary: "Only endpoints whose label llm-d.ai/role is decode, prefill-decode, both or encode-prefill-decode, or that do not have it.",
    build: |_| Ok(by_role(DECODE_ROLES, true)),
    ..PluginKind::BASE
};

/// The reference's `prefill-filter`.
pub const PREFILL: PluginKind = PluginKind {
    type_name: "prefill-filter",
    roles: &[Role::Filter],
    summary: "Only endpoints whose label llm-d.ai/role is prefill, encode-prefill, prefill-decode, both or encode-prefill-decode.",
    build: |_| Ok(by_role(PREFILL_ROLES, false)),
    ..PluginKind::BASE
};

/// The reference's `encode-filter`. `encode-decode` is no role there, and not one here.
pub const ENCODE: PluginKind = PluginKind {
    type_name: "encode-filter",
    roles: &[Role::Filter],
    summary: "Only endpoints whose label llm-d.ai/role is encode, encode-prefill or encode-prefill-decode.",
    build: |_| Ok(by_role(ENCODE_ROLES, false)),
    ..PluginKind::BASE
};

/// Roles that decode.
pub const DECODE_ROLES: &[&str] = &["decode", "prefill-decode", "both", "encode-prefill-decode"];
/// Roles that prefill.
pub const PREFILL_ROLES: &[&str] = &[
    "prefill",
    "encode-prefill",
    "prefill-decode",
    "both",
    "encode-prefill-decode",
];
const ENCODE_ROLES: &[&str] = &["encode", "encode-prefill", "encode-prefill-decode"];

fn by_role(roles: &[&str], allows_no_label: bool) -> Parts {
    Parts::filter(ByLabelFilter {
        label: ROLE_LABEL.into(),
        values: roles.iter().map(|role| (*role).into()).collect(),
        allows_no_label,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};
    use crate::schedule::testing::Scene;

    #[test]
    fn each_filter_keeps_the_roles_that_do_its_work() {
        let roles = [
            ("decode", "d"),
            ("prefill", "p"),
            ("encode", "e"),
            ("prefill-decode", "dp"),
            ("both", "dp"),
            ("encode-prefill", "pe"),
            ("encode-prefill-decode", "dpe"),
            ("encode-decode", ""),
            ("Decode", ""),
            ("", ""),
        ];
        let labels = roles.map(|(role, _)| [(ROLE_LABEL, role)]);
        let mut labels: Vec<&[(&str, &str)]> = labels.iter().map(|labels| &labels[..]).collect();
        labels.push(&[]);
        let scene = Scene::with_labels(&labels);
        for (kind, letter, unlabelled) in [
            (DECODE, 'd', true),
            (PREFILL, 'p', false),
            (ENCODE, 'e', false),
        ] {
            let mut expected: Vec<bool> = roles
                .iter()
                .map(|(_, does)| does.contains(letter))
                .collect();
            expected.push(unlabelled);
            assert_eq!(
                scene.kept(&built(&kind, &json!({}))),
                expected,
                "{}",
                kind.type_name
            );
        }
    }

    #[test]
    fn there_are_no_parameters() {
        assert_eq!(
            refused(&DECODE, &json!({"label": "x"})),
            "label: unknown field \"label\" (nothing can be set here)"
        );
    }
}
