//! Why a body is refused, as the client is told: in the words of the reference, where it has any.

use super::dialect::{Dialect, Format};
use super::scan::ScanError;
use super::{go_error, vertexai};

/// What the client is told of a body (its bytes so far, in `chunks`) that the scanner of `dialect` refused with `error`. A cold
/// path: the words for invalid JSON are found by reading the body again.
pub fn refusal<'a>(
    dialect: Dialect,
    error: ScanError,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> String {
    let message = dialect.message_type();
    match error {
        ScanError::Invalid => match (dialect, dialect.format()) {
            (_, Format::VertexAi(..)) => format!(
                "parsing {message}: error unmarshaling request bodyMap: {}",
                vertexai::inner_error(chunks)
            ),
            (Dialect::SglangGenerate, _) => {
                format!("invalid generate request: {}", go_error(chunks))
            }
            _ => format!("error unmarshaling request bodyMap: {}", go_error(chunks)),
        },
        ScanError::MissingField(text) => text.to_owned(),
        ScanError::MissingInnerField(text) => format!("parsing {message}: {text}"),
        ScanError::Frame(fault) => format!("invalid or unsupported gRPC payload: {fault}"),
        ScanError::Message(fault) => format!("unmarshaling {message}: {fault}"),
    }
}
