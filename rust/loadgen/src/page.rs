//! A model server's metrics page, whole or filtered by `name[]` as vLLM does it.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;

/// Filtered pages kept; a scraper asks with one or two queries.
const FILTERED_PAGES: usize = 64;

/// The page and its filtered versions, made once each.
#[derive(Debug)]
pub(crate) struct Page {
    whole: Bytes,
    filtered: Mutex<HashMap<String, Bytes>>,
}

impl Page {
    pub(crate) fn new(text: String) -> Self {
        Self {
            whole: Bytes::from(text),
            filtered: Mutex::new(HashMap::new()),
        }
    }

    /// What `GET path?query` answers; only `/metrics/` (with the slash) filters, as on a real server.
    pub(crate) fn get(&self, path: &str, query: Option<&str>) -> Bytes {
        let Some(query) = query.filter(|_| path == "/metrics/") else {
            return self.whole.clone();
        };
        let Ok(mut filtered) = self.filtered.lock() else {
            return self.whole.clone();
        };
        if let Some(page) = filtered.get(query) {
            return page.clone();
        }
        let names = names(query);
        if names.is_empty() {
            return self.whole.clone();
        }
        let page = filter(&String::from_utf8_lossy(&self.whole), &names);
        if filtered.len() >= FILTERED_PAGES {
            filtered.clear();
        }
        filtered.insert(query.to_owned(), page.clone());
        page
    }
}

/// The values of `name[]`, percent-decoded.
fn names(query: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| decode(key) == "name[]")
        .map(|(_, value)| decode(value))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let (b'%', Some(Ok(byte))) = (first, escape.map(|digits| u8::from_str_radix(digits, 16)))
        {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Keeps the families of these names; a counter's family is asked for without its `_total`.
fn filter(page: &str, names: &[String]) -> Bytes {
    let mut kept = String::new();
    let mut keep = false;
    for line in page.lines() {
        let family = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "));
        if let Some(family) = family.and_then(|rest| rest.split(' ').next()) {
            keep = names.iter().any(|name| {
                family.strip_suffix("_total").unwrap_or(family) == name || family == name
            });
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Bytes::from(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a x\n# TYPE a gauge\na{l=\"1\"} 1\n# HELP b_total x\n# TYPE b_total counter\nb_total 2\n# HELP c x\n# TYPE c gauge\nc 3\n";

    #[test]
    fn only_the_path_with_a_slash_filters() {
        let page = Page::new(PAGE.to_owned());
        assert_eq!(page.get("/metrics", Some("name[]=a")), PAGE);
        assert_eq!(page.get("/metrics/", None), PAGE);
        let filtered = "# HELP a x\n# TYPE a gauge\na{l=\"1\"} 1\n# HELP b_total x\n# TYPE b_total counter\nb_total 2\n";
        assert_eq!(
            page.get("/metrics/", Some("name[]=a&name%5B%5D=b")),
            filtered
        );
        assert_eq!(
            page.get("/metrics/", Some("name[]=a&name%5B%5D=b")),
            filtered
        );
    }
}
