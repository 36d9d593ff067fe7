//! Policies as a whole: what builds, what is refused, what is taken over.

use serde_json::json;

use super::*;

fn build(value: serde_json::Value) -> Result<Policy, PolicyError> {
    let spec: PolicySpec = serde_json::from_value(value).expect("a policy");
    Policy::build(&spec, &Externals::new(), 7, None)
}

fn refused(value: serde_json::Value) -> String {
    build(value).expect_err("must be refused").to_string()
}

#[test]
fn the_policies_build() {
    for (spec, scorers) in [
        (PolicySpec::default_policy(), 1),
        (PolicySpec::reference_policy(), 3),
    ] {
        let policy = Policy::build(&spec, &Externals::new(), 0, None).expect("built-in");
        let profile = &policy.profiles()[0];
        assert_eq!((profile.scorers.len(), profile.limit), (scorers, 1));
        assert_eq!(&*profile.picker.name, "max-score-picker");
    }
}

#[test]
fn errors_name_profile_and_plugin() {
    let one = |plugins: serde_json::Value, entries: serde_json::Value| {
        refused(json!({"plugins": plugins, "profiles": [{"name": "p", "plugins": entries}]}))
    };
    assert_eq!(
        one(
            json!([{"type": "queue-scorer"}]),
            json!([{"plugin": "queue-scorer", "weight": -1}])
        ),
        "profile `p`: plugin `queue-scorer`: weight -1 is not a finite number of at least 0"
    );
    assert_eq!(
        one(
            json!([{"type": "random-picker"}, {"type": "max-score-picker"}]),
            json!([{"plugin": "random-picker"}, {"plugin": "max-score-picker"}])
        ),
        "profile `p`: plugins `random-picker` and `max-score-picker` are pickers; a profile has one"
    );
    assert_eq!(
        one(json!([]), json!([{"plugin": "ghost"}])),
        "profile `p`: there is no plugin `ghost`"
    );
    let twice = json!({"plugins": [], "profiles": [{"name": "p", "plugins": []}, {"name": "p", "plugins": []}]});
    assert_eq!(refused(twice), "profile `p`: another profile has this name");
    let two = json!({"plugins": [], "profiles": [{"name": "p", "plugins": []}, {"name": "q", "plugins": []}]});
    assert!(refused(two).starts_with("plugin `single-profile-handler`: runs one profile"));
}

#[test]
fn the_pickers_own_number_of_endpoints_wins() {
    for (count, limit) in [
        (json!(3), 3),
        (json!(0), 1),
        (json!(-4), 1),
        (json!(null), 7),
    ] {
        let policy = build(json!({
            "plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": count}}],
            "profiles": [{"name": "p", "plugins": [{"plugin": "max-score-picker"}]}],
        }));
        assert_eq!(policy.expect("valid").profiles()[0].limit, limit);
    }
}

#[test]
fn prompts_are_indexed_only_where_matches_are_consumed() {
    let with = |name: &str| {
        build(json!({"plugins": [{"type": name}], "profiles": [{"name": "p", "plugins": [{"plugin": name}]}]}))
            .expect("valid")
            .prefixes
            .max_blocks(64)
            > 0
    };
    assert!(with("prefix-cache-scorer"));
    assert!(!with("queue-scorer"));
}

#[test]
fn what_has_no_part_in_a_profile_may_be_listed_there_as_in_the_reference() {
    let policy = build(json!({
        "plugins": [{"type": "single-profile-handler"}, {"type": "random-picker"}],
        "profiles": [{"name": "p", "plugins": [{"plugin": "single-profile-handler", "weight": 2}, {"plugin": "random-picker", "weight": 1}]}],
    }));
    let policy = policy.expect("valid");
    assert_eq!(&*policy.profiles()[0].picker.name, "random-picker");
}
