//! The request scanner against a full parser and, as the response scanner, against itself in pieces. Input: one byte for the dialect, one for the size of
//! the pieces, then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use warmroute_core::body::{BodyScanner, Dialect, ResponseKind, ScanError, ScanLimits, ScannedBody, UsageScanner, go_error, refusal};

fn scan<'a>(dialect: Dialect, pieces: impl Iterator<Item = &'a [u8]>) -> (Result<ScannedBody, ScanError>, ScannedBody) {
    let limits = ScanLimits { block_tokens: 2, ..ScanLimits::default() };
    let mut scanner = BodyScanner::new(dialect, limits);
    let mut prefix = BodyScanner::new(dialect, limits);
    for piece in pieces {
        // A later verdict repeats an early one.
        let _ = scanner.feed(piece);
        let _ = prefix.feed(piece);
    }
    (scanner.finish(), prefix.finish_prefix())
}

fuzz_target!(|input: &[u8]| {
    let [dialect, size, body @ ..] = input else { return };
    let dialect = Dialect::ALL[usize::from(*dialect) % Dialect::ALL.len()];
    let size = usize::from(*size).max(1);

    let whole = scan(dialect, std::iter::once(body));
    assert_eq!(whole, scan(dialect, body.chunks(size)));

    if let Err(error) = &whole.0 {
        // No refusal without words, wherever the body was parted.
        let told = refusal(dialect, *error, std::iter::once(body));
        assert!(!told.ends_with(": "), "{told}");
        assert_eq!(told, refusal(dialect, *error, body.chunks(size)));
    }

    if dialect.is_json() {
        let taken = whole.0 != Err(ScanError::Invalid);
        assert_eq!(taken, go_error(body.chunks(size)).is_empty());
        // Where the full parser's rules are those of Go: Unicode, no lone surrogates, not too deep.
        let nested = body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
        if let Ok(text) = std::str::from_utf8(body)
            && !text.contains("\\u")
            && nested < 100
        {
            let expected = matches!(serde_json::from_str::<Value>(text), Ok(Value::Object(_) | Value::Null));
            assert_eq!(taken, expected);
        }
    }

    for kind in ResponseKind::ALL {
        let mut whole = UsageScanner::new(kind);
        whole.feed(body);
        let mut parted = UsageScanner::new(kind);
        for piece in body.chunks(size) {
            parted.feed(piece);
        }
        assert_eq!((whole.events(), whole.content_seen(), whole.done_seen()), (parted.events(), parted.content_seen(), parted.done_seen()));
        assert_eq!(whole.finish(), parted.finish());
    }
});
