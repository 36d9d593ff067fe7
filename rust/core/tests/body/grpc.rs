//! gRPC requests: vLLM's engine, and Vertex AI's prediction service.

use warmroute_core::body::{
    BodyScanner, Dialect, FrameFault, ScanError, ScannedBody, WireFaultKind, refusal,
};

use crate::canonical::Canonical;
use crate::{LIMITS, pieces, scan, scan_parted};

/// A varint.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A varint field.
pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A length-delimited field.
pub(crate) fn delimited(field: u64, content: &[u8]) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(content.len() as u64),
        content.to_vec(),
    ]
    .concat()
}

/// A gRPC frame.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn packed(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| varint(u64::from(*id))).collect()
}

/// `TokenizedInput`, as field 2 of either request.
fn tokenized(ids: &[u32]) -> Vec<u8> {
    let input = [delimited(1, b"the text"), delimited(2, &packed(ids))].concat();
    delimited(2, &input)
}

fn text_request(text: &str) -> Vec<u8> {
    [
        delimited(1, b"request-1"),
        delimited(3, text.as_bytes()),
        delimited(4, &[number(3, 5), number(8, 100)].concat()),
        number(5, 1),
    ]
    .concat()
}

fn tokens(ids: &[u32]) -> Canonical {
    let mut canonical = Canonical::default();
    canonical.tokens(ids);
    canonical
}

fn leaf(text: &str) -> Canonical {
    let mut canonical = Canonical::default();
    canonical.leaf(text.as_bytes());
    canonical
}

/// What the client is told of a body that is refused; the same wherever it is parted.
fn told(dialect: Dialect, body: &[u8]) -> String {
    let error = scan(dialect, body).expect_err("refused");
    for cut in 0..body.len() {
        assert_eq!(
            scan_parted(dialect, body, &[cut]),
            Err(error),
            "cut at {cut}"
        );
    }
    refusal(dialect, error, std::iter::once(body))
}

#[test]
fn a_generate_request_is_read_whole_wherever_it_is_parted() {
    let ids = [1, 127, 128, 70_000, u32::MAX, 0];
    let token_request = [tokenized(&ids), number(5, 0), delimited(4, b"")].concat();
    let unpacked: Vec<u8> = ids
        .iter()
        .flat_map(|id| number(2, u64::from(*id)))
        .collect();
    let (text, ids) = (leaf("hello, wide world"), tokens(&ids));
    let found = |canonical: &Canonical, stream, max_tokens| ScannedBody {
        stream,
        max_tokens,
        sequences: vec![canonical.blocks()],
        prompt_tokens: canonical.token_count(),
        ..ScannedBody::default()
    };
    for (request, expected) in [
        (
            text_request("hello, wide world"),
            found(&text, true, Some(100)),
        ),
        (token_request.clone(), found(&ids, false, None)),
        (delimited(2, &unpacked), found(&ids, false, None)),
        // Of two inputs the last counts.
        (
            [token_request.clone(), text_request("hello, wide world")].concat(),
            found(&text, true, Some(100)),
        ),
        (
            [text_request("hello"), token_request].concat(),
            found(&ids, false, Some(100)),
        ),
        // One message in two parts is one message.
        (
            [tokenized(&[1, 127, 128]), tokenized(&[70_000, u32::MAX, 0])].concat(),
            found(&ids, false, None),
        ),
        // Fields that nobody knows, or that are of another kind than they should be.
        (
            [
                delimited(3, b"hello, wide world"),
                delimited(7, b"\x12\xff\xff"),
                number(2, 5),
                number(3, 5),
                delimited(5, b"x"),
                vec![0x7d, 1, 2, 3, 4],
            ]
            .concat(),
            found(&text, false, None),
        ),
    ] {
        let body = frame(&request);
        for cut in 0..body.len() {
            let scanned = scan_parted(Dialect::VllmGrpcGenerate, &body, &[cut, cut + 1]);
            assert_eq!(scanned, Ok(expected.clone()), "cut at {cut}");
        }
    }
}

#[test]
fn token_ids_share_blocks_with_those_of_json() {
    let ids = "[5,6,7,8,9,10,11]";
    let json = scan(Dialect::VllmGenerate, format!(r#"{{"token_ids":{ids}}}"#)).expect("valid");
    let message = tokenized(&[5, 6, 7, 8, 9, 10, 11]);
    for dialect in [Dialect::VllmGrpcGenerate, Dialect::VllmGrpcEmbed] {
        let grpc = scan(dialect, frame(&message)).expect("valid");
        assert_eq!(
            (&grpc.sequences, grpc.prompt_tokens),
            (&json.sequences, json.prompt_tokens)
        );
    }
}

#[test]
fn a_request_without_its_input_is_refused_in_the_words_of_the_reference() {
    assert_eq!(
        told(Dialect::VllmGrpcGenerate, &frame(&delimited(1, b"id"))),
        "not supported request inputType"
    );
    for request in [vec![], text_request("only Generate has text")] {
        assert_eq!(
            told(Dialect::VllmGrpcEmbed, &frame(&request)),
            "missing tokenized input in EmbedRequest"
        );
    }
}

#[test]
fn frames_that_cannot_be_read_are_refused() {
    for (body, text) in [
        (
            &b""[..],
            "invalid gRPC frame: expected at least 5 bytes for header, got 0",
        ),
        (
            b"\0\0\0\0",
            "invalid gRPC frame: expected at least 5 bytes for header, got 4",
        ),
        (
            b"\x01\0\0\0\x02ab",
            "compressed gRPC payload is not supported; send it without compression (grpc-encoding: identity)",
        ),
        (
            b"{\"prompt\":1}",
            "invalid gRPC frame: its flag is 123, where 0 (not compressed) is expected",
        ),
        (
            b"\0\xff\xff\xff\xff\x1a\x01a",
            "incomplete gRPC payload: header indicates 4294967295 bytes, but only 3 bytes are available",
        ),
    ] {
        for dialect in [
            Dialect::VllmGrpcGenerate,
            Dialect::VllmGrpcEmbed,
            Dialect::VertexRawPredict,
        ] {
            assert_eq!(
                told(dialect, body),
                format!("invalid or unsupported gRPC payload: {text}")
            );
        }
    }
}

#[test]
fn messages_that_are_none_are_refused_as_soon_as_that_is_clear() {
    let far_too_long = [varint(3 << 3 | 2), varint(1 << 40)].concat();
    for (message, text) in [
        (
            &[0xff][..],
            "unmarshaling GenerateRequest: invalid protobuf wire format: a field that reaches beyond the end of its message at byte 1",
        ),
        (
            &far_too_long,
            "unmarshaling GenerateRequest: invalid protobuf wire format: a field that reaches beyond the end of its message at byte 7",
        ),
        (
            &[0x03 << 3 | 7, 1],
            "unmarshaling GenerateRequest: invalid protobuf wire format: no valid field tag at byte 1",
        ),
    ] {
        assert_eq!(told(Dialect::VllmGrpcGenerate, &frame(message)), text);
    }
    let mut scanner = BodyScanner::new(Dialect::VllmGrpcGenerate, LIMITS);
    scanner.feed(b"\0\0\0\x10\0\x1a\x02").expect("a beginning");
    let fault = scanner.feed(b"ab\0").expect_err("field 0");
    assert!(matches!(
        fault,
        ScanError::Message(fault) if fault.kind == WireFaultKind::Tag && fault.offset == 5
    ));
    assert_eq!(scanner.feed(b"more"), Err(fault));
    assert_eq!(scanner.finish(), Err(fault));
    let mut scanner = BodyScanner::new(Dialect::VllmGrpcEmbed, LIMITS);
    assert_eq!(
        scanner.feed(b"\x01\0\0\0\0"),
        Err(ScanError::Frame(FrameFault::Flag(1)))
    );
}

#[test]
fn a_prefix_tells_what_it_has_and_bytes_after_the_message_are_not_read() {
    let mut scanner = BodyScanner::new(Dialect::VllmGrpcGenerate, LIMITS);
    let body = frame(&text_request("hello, wide world"));
    let cut = body.len() - 15;
    scanner.feed(&body[..cut]).expect("a beginning");
    let found = scanner.finish_prefix();
    assert_eq!(found.sequences.len(), 1);
    assert!(found.prompt_tokens > 0 && !found.stream);

    let followed = [&body[..], b"\x01\0anything"].concat();
    assert_eq!(
        scan(Dialect::VllmGrpcGenerate, followed),
        scan(Dialect::VllmGrpcGenerate, body)
    );
}

/// A request of Vertex AI around a body.
fn vertex(data: &[u8]) -> Vec<u8> {
    let http_body = [
        delimited(1, b"application/json"),
        delimited(2, data),
        delimited(3, b"anything"),
    ]
    .concat();
    frame(
        &[
            delimited(1, b"projects/p/locations/l/endpoints/e"),
            delimited(2, &http_body),
        ]
        .concat(),
    )
}

#[test]
fn a_vertex_request_is_its_inner_body_without_a_model() {
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true,"max_tokens":7}"#;
    let responses = r#"{"model":"m","input":"Hello from stream raw predict"}"#;
    for (dialect, json, inner) in [
        (Dialect::VertexChatCompletions, chat, Dialect::OpenAiChat),
        (
            Dialect::VertexStreamRawPredict,
            responses,
            Dialect::OpenAiResponses,
        ),
        (
            Dialect::VertexRawPredict,
            responses,
            Dialect::OpenAiResponses,
        ),
    ] {
        let expected = ScannedBody {
            model: None,
            model_span: None,
            ..scan(inner, json).expect("valid")
        };
        assert!(expected.prompt_tokens > 0);
        let body = vertex(json.as_bytes());
        for cut in 0..body.len() {
            let scanned = scan_parted(dialect, &body, &[cut]);
            assert_eq!(scanned, Ok(expected.clone()), "cut at {cut}");
        }
        // Of a field that comes twice the last counts.
        let twice = delimited(
            2,
            &[delimited(2, b"{}"), delimited(2, json.as_bytes())].concat(),
        );
        assert_eq!(scan(dialect, frame(&twice)), Ok(expected));
    }
}

#[test]
fn a_vertex_request_is_refused_in_the_words_of_the_reference() {
    let dialect = Dialect::VertexChatCompletions;
    let without = frame(&delimited(1, b"endpoint"));
    for (body, text) in [
        (without, "ChatCompletionsRequest has no HttpBody"),
        (
            frame(&[0xff]),
            "unmarshaling ChatCompletionsRequest: invalid protobuf wire format: a field that reaches beyond the end of its message at byte 1",
        ),
        (
            frame(&delimited(2, b"")),
            "parsing ChatCompletionsRequest: error unmarshaling request bodyMap: unexpected end of JSON input",
        ),
        (
            vertex(b"no healthy upstream"),
            "parsing ChatCompletionsRequest: error unmarshaling request bodyMap: invalid character 'o' in literal null (expecting 'u')",
        ),
        (
            frame(&delimited(
                2,
                &[delimited(2, b"{x"), delimited(2, b"{}")].concat(),
            )),
            "parsing ChatCompletionsRequest: error unmarshaling request bodyMap: invalid character 'x' looking for beginning of object key string",
        ),
        (
            vertex(b"{}"),
            "parsing ChatCompletionsRequest: invalid chat completions request: must have valid messages field",
        ),
    ] {
        assert_eq!(told(dialect, &body), text);
    }
}

#[test]
fn an_early_refusal_of_inner_json_is_worded_as_that_of_the_whole_body() {
    let dialect = Dialect::VertexRawPredict;
    let body = vertex(br#"{"input":"a","x":tru_,"y":1}"#);
    for cut in 0..body.len() {
        let mut scanner = BodyScanner::new(dialect, LIMITS);
        let mut seen = Vec::new();
        for piece in pieces(&body, &[cut]) {
            seen.push(piece);
            if let Err(error) = scanner.feed(piece) {
                assert_eq!(
                    refusal(dialect, error, seen.iter().copied()),
                    told(dialect, &body),
                    "cut at {cut}"
                );
                break;
            }
        }
    }
}
