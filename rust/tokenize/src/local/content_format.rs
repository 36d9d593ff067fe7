//! Whether a chat template reads the content of a message as a list of parts, told the way vLLM tells it
//! (`vllm/renderers/hf.py`, `_detect_content_format`): it loops over the content of an item of `messages`.

/// How the content of messages is handed to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentFormat {
    /// As one string; the texts of parts are joined by line breaks.
    Text,
    /// As a list of parts, even where the request has a string.
    Parts,
}

/// Reads it off the source of a template.
pub(crate) fn detect(source: &str) -> ContentFormat {
    let statements: Vec<Statement<'_>> = Statements(source).filter_map(parse).collect();
    let mut lists = vec!["messages"];
    let mut next = 0;
    while let Some(&known) = lists.get(next) {
        next += 1;
        for statement in &statements {
            if let Statement::Set { name, value } = *statement
                && reads(value, known, None)
                && !lists.contains(&name)
            {
                lists.push(name);
            }
        }
    }
    let loops = || {
        statements.iter().filter_map(|statement| match *statement {
            Statement::For { name, iterable } => Some((name, iterable)),
            Statement::Set { .. } => None,
        })
    };
    let messages: Vec<&str> = loops()
        .filter(|(_, iterable)| lists.iter().any(|list| reads(iterable, list, None)))
        .map(|(name, _)| name)
        .collect();
    let iterates = loops().any(|(_, iterable)| {
        messages
            .iter()
            .any(|message| reads(iterable, message, Some("content")))
    });
    if iterates {
        ContentFormat::Parts
    } else {
        ContentFormat::Text
    }
}

enum Statement<'a> {
    Set { name: &'a str, value: &'a str },
    For { name: &'a str, iterable: &'a str },
}

/// The insides of `{% … %}`, comments left out.
struct Statements<'a>(&'a str);

impl<'a> Iterator for Statements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let open = self
                .0
                .find("{%")
                .into_iter()
                .chain(self.0.find("{#"))
                .min()?;
            let comment = self.0[open..].starts_with("{#");
            let inside = &self.0[open + 2..];
            let close = inside.find(if comment { "#}" } else { "%}" })?;
            self.0 = &inside[close + 2..];
            if !comment {
                return Some(inside[..close].trim_matches(['-', '+']).trim());
            }
        }
    }
}

fn parse(statement: &str) -> Option<Statement<'_>> {
    let (word, rest) = statement.split_once(char::is_whitespace)?;
    let (name, value) = match word {
        "set" => rest.split_once('=')?,
        "for" => rest.split_once(" in ")?,
        _ => return None,
    };
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    Some(if word == "set" {
        Statement::Set { name, value }
    } else {
        // The condition of a loop is not part of what it goes over.
        let end = value.find(" if ").unwrap_or(value.len());
        Statement::For {
            name,
            iterable: value[..end].trim_end_matches(" recursive").trim_end(),
        }
    })
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether an expression is the variable (or one key of it), possibly sliced, filtered or tested, and nothing else.
fn reads(expression: &str, variable: &str, key: Option<&str>) -> bool {
    let mut expression = expression.trim();
    while let Some(inner) = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        expression = inner.trim();
    }
    let Some(mut rest) = expression.strip_prefix(variable) else {
        return false;
    };
    if let Some(key) = key {
        let access = [
            format!(".{key}"),
            format!("['{key}']"),
            format!("[\"{key}\"]"),
        ];
        let Some(after) = access.iter().find_map(|text| rest.strip_prefix(text)) else {
            return false;
        };
        rest = after;
    }
    let rest = rest.trim_start();
    rest.is_empty()
        || rest.starts_with('|')
        || rest.starts_with("is ")
        || (rest.starts_with('[')
            && rest
                .split_once(']')
                .is_some_and(|(slice, _)| slice.contains(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_over_the_content_of_a_message_asks_for_parts() {
        for (source, expected) in [
            (
                "{% for m in messages %}{{ m['content'] }}{% endfor %}",
                ContentFormat::Text,
            ),
            (
                "{%- for m in messages -%}{%- for c in m['content'] -%}{% endfor %}{% endfor %}",
                ContentFormat::Parts,
            ),
            (
                "{% for m in messages[1:] %}{% for c in m.content | list if c.text %}x{% endfor %}{% endfor %}",
                ContentFormat::Parts,
            ),
            (
                "{% set loop_messages = messages[1:] %}{% set rest = loop_messages %}{% for m in rest %}{% for c in m[\"content\"] %}x{% endfor %}{% endfor %}",
                ContentFormat::Parts,
            ),
            (
                "{# {% for m in messages %}{% for c in m.content %} #}{{ messages }}",
                ContentFormat::Text,
            ),
            (
                "{% for m in messages %}{% for c in m.contents %}x{% endfor %}{% endfor %}",
                ContentFormat::Text,
            ),
            (
                "{% for m in messages %}{% for c in m.tool_calls %}x{% endfor %}{% endfor %}",
                ContentFormat::Text,
            ),
            ("{% for c in content %}x{% endfor %}", ContentFormat::Text),
            ("{% unclosed", ContentFormat::Text),
        ] {
            assert_eq!(detect(source), expected, "{source}");
        }
    }
}
