//! The body room from outside: what scanners find, whatever the bytes and however they are parted.

mod canonical;
mod examples;
mod go;
mod grpc;
mod grpc_usage;
mod properties;
mod sglang;
mod usage;

use warmroute_core::body::{BodyScanner, Dialect, MediaTokens, ScanError, ScanLimits, ScannedBody};

/// Limits of all tests: small blocks, so that short prompts have several.
const LIMITS: ScanLimits = ScanLimits {
    block_tokens: 2,
    max_blocks: usize::MAX,
    max_depth: ScanLimits::GO_DEPTH,
    media: MediaTokens::DEFAULT,
};

/// Scans a body in the pieces that `cuts` part it into.
fn scan_parted(dialect: Dialect, body: &[u8], cuts: &[usize]) -> Result<ScannedBody, ScanError> {
    let mut scanner = BodyScanner::new(dialect, LIMITS);
    for piece in pieces(body, cuts) {
        // What a later piece cannot repair is told again by `finish`.
        let _ = scanner.feed(piece);
    }
    scanner.finish()
}

/// Scans a body in one piece.
fn scan(dialect: Dialect, body: impl AsRef<[u8]>) -> Result<ScannedBody, ScanError> {
    scan_parted(dialect, body.as_ref(), &[])
}

/// The parts of a body between cuts, in any order and beyond its end.
fn pieces<'a>(body: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &body[pair[0]..pair[1]])
        .collect()
}
