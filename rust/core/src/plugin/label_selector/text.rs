//! A label selector in the form of a string, as `kubectl --selector` takes it.

use super::{LabelSelector, Requirement};

impl LabelSelector {
    /// Reads `key=value`, `key==value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`, `key>1`, `key<1`, `key` and `!key`, with commas between.
    ///
    /// # Errors
    /// What is wrong, to follow the name of the field.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            let (key, requirement) = requirement(part).ok_or_else(|| {
                format!("is no label selector: cannot read \"{part}\"; write key=value, key!=value, key in (a, b), key notin (a, b), key or !key, with commas between")
            })?;
            requirements.push((key.into(), requirement));
        }
        Ok(Self { requirements })
    }
}

/// At the commas that stand in no parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |character| {
        inside = match character {
            '(' => true,
            ')' => false,
            _ => inside,
        };
        character == ',' && !inside
    })
}

fn requirement(part: &str) -> Option<(&str, Requirement)> {
    if let Some((head, list)) = part.split_once('(') {
        let list = list.strip_suffix(')')?;
        let values: Option<Vec<Box<str>>> = list
            .split(',')
            .map(|value| word(value).map(Into::into))
            .collect();
        let (key, operator) = head.trim().split_once(char::is_whitespace)?;
        let requirement = match operator.trim() {
            "in" => Requirement::In(values?),
            "notin" => Requirement::NotIn(values?),
            _ => return None,
        };
        return Some((word(key)?, requirement));
    }
    if let Some(key) = part.strip_prefix('!') {
        return Some((word(key)?, Requirement::DoesNotExist));
    }
    // A value may be empty.
    let value = |text: &'_ str| -> Option<Box<str>> {
        let text = text.trim();
        (text.is_empty() || word(text).is_some()).then(|| text.into())
    };
    let number = |text: &str| text.trim().parse().ok();
    if let Some((key, text)) = part.split_once("!=") {
        return Some((word(key)?, Requirement::NotIn(vec![value(text)?])));
    }
    if let Some((key, text)) = part.split_once('=') {
        let text = text.strip_prefix('=').unwrap_or(text);
        return Some((word(key)?, Requirement::In(vec![value(text)?])));
    }
    if let Some((key, text)) = part.split_once('>') {
        return Some((word(key)?, Requirement::GreaterThan(number(text)?)));
    }
    if let Some((key, text)) = part.split_once('<') {
        return Some((word(key)?, Requirement::LessThan(number(text)?)));
    }
    Some((word(part)?, Requirement::Exists))
}

/// A key or a value: what their characters may be is Kubernetes' to check; none of them separates.
fn word(text: &str) -> Option<&str> {
    let text = text.trim();
    let allowed = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '/')
    };
    (!text.is_empty() && text.chars().all(allowed)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_matches_as_in_kubernetes() {
        let labels = [("app", "vllm"), ("tier", ""), ("generation", "7")];
        let labels = labels
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        for (text, matches) in [
            ("app=vllm", true),
            ("app == vllm", true),
            ("app=sglang", false),
            ("tier=", true),
            ("app!=vllm", false),
            ("zone!=a", true),
            ("app in (sglang, vllm)", true),
            ("app in(sglang)", false),
            ("app notin (sglang)", true),
            ("zone notin (a)", true),
            ("app", true),
            ("zone", false),
            ("!zone", true),
            ("! app", false),
            ("generation>6", true),
            ("generation < 7", false),
            ("app>6", false),
            ("app=vllm,app in (vllm,sglang),!zone", true),
            ("app=vllm, zone", false),
        ] {
            let selector = LabelSelector::from_text(text).expect(text);
            assert_eq!(selector.matches(&labels), matches, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("app=vllm,", ""),
            ("=vllm", "=vllm"),
            ("app vllm", "app vllm"),
            ("app within (a)", "app within (a)"),
            ("app in (a", "app in (a"),
            ("app in ()", "app in ()"),
            ("app=a=b", "app=a=b"),
            ("generation>many", "generation>many"),
        ] {
            let problem = LabelSelector::from_text(text).expect_err(text);
            assert!(
                problem.starts_with(&format!(
                    "is no label selector: cannot read \"{part}\"; write "
                )),
                "{problem}"
            );
        }
    }
}
