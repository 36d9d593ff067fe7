//! Series by name and labels, as configurations write them.

/// A label and the value it must have.
pub(super) type LabelFilter = (Box<str>, Box<str>);

/// `name` or `name{label=value,…}`: series of that name whose labels have those values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesSpec {
    /// Name of the samples.
    pub name: Box<str>,
    /// Labels that must match.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

impl SeriesSpec {
    /// Reads the grammar; values may be quoted.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (name, labels) = match text.split_once('{') {
            None => (text, None),
            Some((name, rest)) => (
                name.trim_end(),
                Some(
                    rest.strip_suffix('}')
                        .ok_or("the labels have no closing brace")?,
                ),
            ),
        };
        if !is_name(name, true) {
            return Err("not a metric name");
        }
        let mut filters = Vec::new();
        for pair in labels
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (label, value) = pair.split_once('=').ok_or("a label has no `=value`")?;
            let (label, value) = (label.trim(), value.trim());
            if !is_name(label, false) {
                return Err("not a label name");
            }
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            filters.push((label.into(), value.into()));
        }
        Ok(Self {
            name: name.into(),
            labels: filters,
        })
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    text.bytes().all(legal)
        && text
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit())
}
