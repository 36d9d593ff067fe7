use super::*;

fn line(extra: &str) -> String {
    format!(
        r#"{{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]{extra}}}"#
    )
}

#[test]
fn requests_are_read_with_what_is_beyond_the_format() {
    let text = [
        r#"{"warmroute_recording": 1, "started": 1.5, "block_tokens": 64, "endpoints": [{"name": "a"}]}"#,
        r#"{"timestamp": 1500, "input_length": 70, "output_length": 9, "hash_ids": [7, 8], "unit_tokens": 64, "chosen": 0, "lora": "a1"}"#,
        "",
        r#"{"endpoints": []}"#,
        r#"{"timestamp": 20.5, "input_length": 64, "output_length": null, "hash_ids": [7], "after": 0}"#,
        r#"{"timestamp": 1, "input_length": 64, "output_length": 0, "hash_ids": [7], "after": 1}"#,
        r#"{"timestamp": 2, "input_length": 1, "output_length": 11, "hash_ids": [9], "after": 2, "lora": "a1"}"#,
    ]
    .join("\n");
    let reading = read(&text, "recorded").expect("a recording");
    let trace = &reading.trace;
    assert_eq!(
        (
            reading.headers.len(),
            reading.dropped,
            reading.unknown_outputs
        ),
        (2, 1, 1)
    );
    assert_eq!((trace.unit_tokens, trace.name.as_str()), (64, "recorded"));
    let outputs: Vec<u32> = trace
        .requests
        .iter()
        .map(|request| request.output_tokens)
        .collect();
    assert_eq!(outputs, [9, 10, 11], "the unknown one has the mean");
    let after: Vec<u32> = trace.requests.iter().map(|request| request.after).collect();
    assert_eq!(after, [AFTER_NOTHING, 0, 1], "the one left out is bridged");
    let loras: Vec<u16> = trace.requests.iter().map(|request| request.lora).collect();
    assert_eq!(
        (loras.as_slice(), trace.loras.len()),
        ([1, 0, 1].as_slice(), 1)
    );
    assert_eq!(trace.blocks_of(&trace.requests[0]), [7, 8]);
    assert!((trace.requests[0].at - 1.5).abs() < 1e-12);
    assert_eq!(trace.prompt_tokens(), 135);
}

#[test]
fn a_wrong_line_is_named_with_what_is_wrong() {
    for (text, expected) in [
        (line("") + "\n{", "line 2: not a request: EOF"),
        (
            r#"{"timestamp": 0, "input_length": 1025, "output_length": 5, "hash_ids": [1, 2]}"#
                .to_owned(),
            "line 1: 2 hash_ids, expected 3 (input_length 1025 / 512, rounded up)",
        ),
        (
            line(r#", "unit_tokens": 100"#),
            "line 1: 2 hash_ids, expected 6",
        ),
        (line(r#", "unit_tokens": 0"#), "line 1: blocks of 0 tokens"),
        (
            line("") + "\n" + &line(r#", "block_size": 16"#),
            "line 2: blocks of 16 tokens, but lines before have blocks of 512",
        ),
        (line(r#", "after": 0"#), "line 1: `after` is 0"),
        (
            r#"{"timestamp": 0, "output_length": 5, "hash_ids": []}"#.to_owned(),
            "line 1: `input_length` is missing",
        ),
        (
            r#"{"input_length": 5, "output_length": 5, "hash_ids": [1]}"#.to_owned(),
            "line 1: `timestamp` is missing",
        ),
        (
            r#"{"timestamp": -1, "input_length": 5, "output_length": 5, "hash_ids": [1]}"#
                .to_owned(),
            "line 1: `timestamp` is -1",
        ),
        (
            r#"{"timestamp": 0, "input_length": -3, "output_length": 5, "hash_ids": [1]}"#
                .to_owned(),
            "line 1: not a request: invalid value: integer `-3`",
        ),
        ("\n\n".to_owned(), "no requests"),
        (
            r#"{"timestamp": 0, "input_length": 5, "hash_ids": [1]}"#.to_owned(),
            "no request tells its output_length",
        ),
    ] {
        let error = read(&text, "t").expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let text = [
        r#"{"timestamp": 0.25, "input_length": 20, "output_length": 5, "hash_ids": [1, 9007199254740993], "unit_tokens": 16}"#,
        r#"{"timestamp": 8000, "input_length": 40, "output_length": 6, "hash_ids": [1, 2, 3], "after": 0, "lora": "quoted \"name\""}"#,
    ]
    .join("\n");
    let trace = read(&text, "t").expect("a trace").trace;
    assert_eq!(
        read(&write(&trace), "t").expect("its own text").trace,
        trace
    );
}
