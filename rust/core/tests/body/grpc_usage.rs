//! Token counts of gRPC responses.

use warmroute_core::body::{Dialect, ResponseKind, Usage, UsageScanner};

use crate::grpc::{delimited, frame, number};
use crate::pieces;

fn scan_parted(kind: ResponseKind, body: &[u8], cuts: &[usize]) -> UsageScanner {
    let mut scanner = UsageScanner::new(kind);
    for piece in pieces(body, cuts) {
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

/// A `GenerateResponse` with a `GenerateStreamChunk`.
fn chunk(counts: &[(u64, u64)]) -> Vec<u8> {
    let mut content = delimited(1, &[5, 0x80, 0x01]);
    for (field, value) in counts {
        content.extend(number(*field, *value));
    }
    frame(&delimited(1, &content))
}

/// A `GenerateResponse` with a `GenerateComplete`.
fn complete(prompt: u64, completion: u64, cached: u64) -> Vec<u8> {
    let content = [
        delimited(1, &[1, 2, 3]),
        delimited(2, b"stop"),
        number(3, prompt),
        number(4, completion),
        number(5, cached),
    ]
    .concat();
    frame(&delimited(2, &content))
}

#[test]
fn the_counts_of_generate_are_those_last_reported_wherever_frames_are_parted() {
    let stream = [
        chunk(&[]),
        chunk(&[(2, 7), (3, 4), (4, 2)]),
        chunk(&[(2, 7), (3, 10)]),
    ]
    .concat();
    for (body, expected, done, messages) in [
        (complete(7, 10, 3), Some(usage(7, 10, Some(3))), true, 1),
        (stream.clone(), Some(usage(7, 10, Some(2))), false, 3),
        (
            [stream, complete(7, 11, 4)].concat(),
            Some(usage(7, 11, Some(4))),
            true,
            4,
        ),
        (chunk(&[]), None, false, 1),
    ] {
        for cut in 0..body.len() {
            let scanner = scan_parted(ResponseKind::VllmGenerate, &body, &[cut, cut + 3]);
            assert!(scanner.content_seen());
            assert_eq!((scanner.done_seen(), scanner.events()), (done, messages));
            assert_eq!(scanner.finish(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn an_embedding_has_prompt_tokens_only() {
    // The floats would be a chunk in the other response.
    let floats = delimited(1, &[0x10, 0x07, 0x18, 0x09, 0, 0, 0x80, 0x3f]);
    let body = frame(&[floats, number(2, 7), number(3, 2)].concat());
    for cut in 0..body.len() {
        let found = scan_parted(ResponseKind::VllmEmbed, &body, &[cut]).finish();
        assert_eq!(found, Some(usage(7, 0, None)));
    }
}

#[test]
fn messages_that_cannot_be_read_are_passed_over() {
    let compressed = [&[1][..], &3u32.to_be_bytes(), b"abc"].concat();
    let broken = frame(&[0x0a, 4, 0x10, 0x63, 0xff]);
    let unfinished = &complete(9, 9, 9)[..20];
    let body = [&compressed[..], &complete(7, 10, 3), &broken, unfinished].concat();
    for cut in 0..body.len() {
        let found = scan_parted(ResponseKind::VllmGenerate, &body, &[cut]).finish();
        assert_eq!(found, Some(usage(7, 10, Some(3))), "cut at {cut}");
    }
    for foreign in [
        &b"no healthy upstream"[..],
        b"",
        b"\0\xff\xff\xff\xff\x10\x07",
    ] {
        for kind in [
            ResponseKind::VllmGenerate,
            ResponseKind::VllmEmbed,
            ResponseKind::VertexAi,
        ] {
            let scanner = scan_parted(kind, foreign, &[3]);
            assert!(!scanner.content_seen() && !scanner.done_seen());
            assert_eq!(scanner.finish(), None);
        }
    }
}

#[test]
fn the_bodies_of_vertex_are_json_documents_or_one_stream_of_events() {
    let http_body = |data: &str| {
        frame(
            &[
                delimited(1, b"application/json"),
                delimited(2, data.as_bytes()),
            ]
            .concat(),
        )
    };
    let answer = http_body(r#" {"usage":{"prompt_tokens":7,"completion_tokens":10}}"#);
    let documents = [
        http_body(r#"{"choices":[{"delta":{"content":"hi"}}]}"#),
        answer.clone(),
    ]
    .concat();
    // A line may go on in the next body.
    let events = [
        http_body("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\nda"),
        http_body(
            "ta: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":10}}\n\ndata: [DONE]\n\n",
        ),
    ]
    .concat();
    for (body, streamed) in [(answer, false), (documents, true), (events, true)] {
        for cut in 0..body.len() {
            let kind = Dialect::VertexChatCompletions.response_kind(false);
            let scanner = scan_parted(kind, &body, &[cut]);
            assert_eq!(scanner.content_seen(), streamed);
            assert_eq!(scanner.finish(), Some(usage(7, 10, None)), "cut at {cut}");
        }
    }
}
