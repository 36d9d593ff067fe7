//! Go's verdict and words.

use warmroute_core::body::{Dialect, ScanError, go_error};

use crate::{pieces, scan};

#[test]
fn verdicts_and_words_are_those_of_go() {
    let corpus = include_str!("../data/go-json-errors.jsonl");
    for line in corpus.lines() {
        let (input, message): (String, String) = serde_json::from_str(line).expect("corpus line");
        let input: Vec<u8> = (0..input.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&input[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let shown = input.escape_ascii();
        assert_eq!(go_error(std::iter::once(&input[..])), message, "{shown}");
        assert_eq!(
            go_error(pieces(&input, &[1, 2, 3]).into_iter()),
            message,
            "{shown}"
        );
        let refused = scan(Dialect::AnthropicCountTokens, &input) == Err(ScanError::Invalid);
        assert_eq!(refused, !message.is_empty(), "{shown}: {message}");
    }
}

#[test]
fn the_depth_limit_is_that_of_go() {
    for (depth, accepted) in [(9_999, true), (10_000, false)] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let body = format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
            assert_eq!(scan(Dialect::AnthropicCountTokens, &body).is_ok(), accepted);
            let expected = if accepted {
                String::new()
            } else {
                format!("invalid character '{}' exceeded max depth", &open[..1])
            };
            assert_eq!(go_error(std::iter::once(body.as_bytes())), expected);
        }
    }
}
