//! A model server's metrics page, whole or filtered by `name[]` as vLLM does it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Filtered pages kept; a scraper asks with one or two queries.
const FILTERED_PAGES: usize = 64;
/// Versions of the page of a busy server: a prime, so that servers asked in turn do not see the same one again and again, and so many that a
/// server seldom shows the same figures twice running, which would look idle.
const BUSY_VERSIONS: usize = 127;

/// How a stand-in serves its page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageOptions {
    /// Serve the whole page whatever the query asks for, as engines without the filter do.
    pub(crate) ignore_filter: bool,
    /// Vary the running requests from answer to answer, as on a server that works.
    pub(crate) busy: bool,
}

/// The page in all its versions, made once each.
#[derive(Debug)]
pub(crate) struct Page {
    options: PageOptions,
    whole: Vec<Bytes>,
    filtered: Mutex<HashMap<String, Vec<Bytes>>>,
    served: AtomicU64,
}

impl Page {
    pub(crate) fn new(text: &str, options: PageOptions) -> Self {
        let whole = if options.busy {
            (0..BUSY_VERSIONS)
                .map(|running| Bytes::from(with_running(text, running)))
                .collect()
        } else {
            vec![Bytes::from(text.to_owned())]
        };
        Self {
            options,
            whole,
            filtered: Mutex::default(),
            served: AtomicU64::new(0),
        }
    }

    /// Pages served so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// What `GET path?query` answers; only `/metrics/` (with the slash) filters, as on a real server.
    pub(crate) fn get(&self, path: &str, query: Option<&str>) -> Bytes {
        let version = self.served.fetch_add(1, Ordering::Relaxed) as usize % self.whole.len();
        let whole = || self.whole[version].clone();
        let Some(query) = query.filter(|_| path == "/metrics/" && !self.options.ignore_filter)
        else {
            return whole();
        };
        let Ok(mut filtered) = self.filtered.lock() else {
            return whole();
        };
        if let Some(pages) = filtered.get(query) {
            return pages[version].clone();
        }
        let names = names(query);
        if names.is_empty() {
            return whole();
        }
        let pages: Vec<Bytes> = self
            .whole
            .iter()
            .map(|page| filter(&String::from_utf8_lossy(page), &names))
            .collect();
        if filtered.len() >= FILTERED_PAGES {
            filtered.clear();
        }
        let page = pages[version].clone();
        filtered.insert(query.to_owned(), pages);
        page
    }
}

/// The page of a vLLM server that runs so many requests.
fn with_running(page: &str, running: usize) -> String {
    page.lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((series, _)) if series.starts_with("vllm:num_requests_running") => {
                format!("{series} {running}.0\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
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
        let page = Page::new(PAGE, PageOptions::default());
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

    #[test]
    fn a_server_without_the_filter_answers_with_everything() {
        let page = Page::new(
            PAGE,
            PageOptions {
                ignore_filter: true,
                busy: false,
            },
        );
        assert_eq!(page.get("/metrics/", Some("name[]=a")), PAGE);
    }

    #[test]
    fn a_busy_server_shows_another_number_each_time() {
        let text = "vllm:num_requests_running{engine=\"0\"} 1.0\nother 5\n";
        let page = Page::new(
            text,
            PageOptions {
                ignore_filter: false,
                busy: true,
            },
        );
        assert_eq!(
            page.get("/metrics", None),
            "vllm:num_requests_running{engine=\"0\"} 0.0\nother 5\n"
        );
        assert_eq!(
            page.get("/metrics", None),
            "vllm:num_requests_running{engine=\"0\"} 1.0\nother 5\n"
        );
        assert_eq!(page.served(), 2);
    }
}
