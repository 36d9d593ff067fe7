//! Token counts of responses.

use warmroute_core::body::{ResponseKind, Usage, UsageScanner};

use crate::pieces;

const STREAM: &[u8] = include_bytes!("../data/chat-stream.sse");

fn scan(kind: ResponseKind, body: impl AsRef<[u8]>) -> UsageScanner {
    scan_parted(kind, body, &[])
}

fn scan_parted(kind: ResponseKind, body: impl AsRef<[u8]>, cuts: &[usize]) -> UsageScanner {
    let mut scanner = UsageScanner::new(kind);
    for piece in pieces(body.as_ref(), cuts) {
        scanner.feed(piece);
    }
    scanner
}

fn usage(input_tokens: u64, output_tokens: u64, cached_tokens: Option<u64>) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        cached_tokens,
    }
}

#[test]
fn a_real_stream_is_counted_wherever_it_is_cut() {
    for cut in 0..STREAM.len() {
        let scanner = scan_parted(ResponseKind::EventStream, STREAM, &[cut, cut + 1, cut + 7]);
        assert!(
            scanner.done_seen() && scanner.content_seen(),
            "cut at {cut}"
        );
        assert_eq!(scanner.events(), 8, "cut at {cut}");
        assert_eq!(
            scanner.finish(),
            Some(usage(114, 6, Some(0))),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_real_answer_is_counted_wherever_it_is_cut() {
    let body = include_bytes!("../data/completion-3.json");
    for cut in 0..body.len() {
        let found = scan_parted(ResponseKind::Json, body, &[cut])
            .finish()
            .expect("usage");
        assert_eq!(found.cached_tokens, Some(96), "cut at {cut}");
        assert!(found.input_tokens > 0 && found.output_tokens > 0);
    }
}

#[test]
fn content_is_seen_with_the_first_text_not_with_the_role() {
    let mut scanner = UsageScanner::new(ResponseKind::EventStream);
    let mut events = STREAM
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.len() > 1);
    scanner.feed(events.next().expect("role"));
    assert!(!scanner.content_seen());
    assert_eq!(scanner.events(), 1);
    scanner.feed(events.next().expect("text"));
    assert!(scanner.content_seen() && !scanner.done_seen());
}

#[test]
fn events_of_the_responses_api_carry_it_in_an_envelope() {
    let stream = concat!(
        "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null,\"text\":\"x\"}}\r\n\r\n",
        "event: response.completed\r\n",
        "data: {\"response\":{\"output\":[],\"usage\":{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":2}}}\r\n\r\n",
    );
    for cut in 0..stream.len() {
        let scanner = scan_parted(ResponseKind::EventStream, stream, &[cut]);
        assert!(!scanner.content_seen());
        assert_eq!(scanner.finish(), Some(usage(7, 2, Some(4))));
    }
}

#[test]
fn anthropic_events_are_merged() {
    let stream = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":16,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
    );
    let scanner = scan(ResponseKind::EventStream, stream);
    assert!(scanner.content_seen() && !scanner.done_seen());
    assert_eq!(scanner.finish(), Some(usage(25, 15, Some(16))));
}

#[test]
fn the_event_before_done_needs_no_empty_line() {
    let stream = "data: {}data: {\"usage\":{\"prompt_tokens\":7,\"total_tokens\":17,\"completion_tokens\":10}}\ndata: [DONE]";
    assert_eq!(
        scan(ResponseKind::EventStream, stream).finish(),
        None,
        "one broken event"
    );
    let stream = "data: {}\n\ndata: {\"usage\":{\"prompt_tokens\":7,\"total_tokens\":17,\"completion_tokens\":10}}\ndata: [DONE]";
    let scanner = scan(ResponseKind::EventStream, stream);
    assert!(scanner.done_seen());
    assert_eq!(scanner.finish(), Some(usage(7, 10, None)));
}

#[test]
fn a_last_event_without_a_line_break_counts() {
    assert_eq!(
        scan(
            ResponseKind::EventStream,
            "data:{\"usage\":{\"prompt_tokens\":7}}"
        )
        .finish(),
        Some(usage(7, 0, None))
    );
}

#[test]
fn usage_elsewhere_is_not_the_usage() {
    for body in [
        r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#,
        r#"{"a":{"usage":{"prompt_tokens":1}}}"#,
        r#"{"usage":{"x":{"prompt_tokens":1}}}"#,
        r#"{"usage":null}"#,
        r#"{"text":"\"usage\":{\"prompt_tokens\":1}"}"#,
        "no healthy upstream",
        "",
    ] {
        assert_eq!(scan(ResponseKind::Json, body).finish(), None, "{body}");
    }
}

#[test]
fn broken_events_and_other_lines_are_passed_over() {
    let stream = ": comment\nid: 1\ndata\ndata: {broken\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\ndata: {\"usage\":{\"prompt_tokens\":9\n";
    assert_eq!(
        scan(ResponseKind::EventStream, stream).finish(),
        Some(usage(3, 4, None))
    );
}

#[test]
fn done_is_the_whole_line_or_nothing() {
    for (stream, expected) in [
        ("data: [DONE]\n\n", true),
        ("data:[DONE]", true),
        ("data: [DONE]x\n", false),
        ("data: [DONE\n", false),
        ("[DONE]\n", false),
    ] {
        for cut in 0..stream.len() {
            assert_eq!(
                scan_parted(ResponseKind::EventStream, stream, &[cut]).done_seen(),
                expected,
                "{stream}"
            );
        }
    }
}
