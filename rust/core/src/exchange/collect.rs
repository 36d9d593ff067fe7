//! A request whose body is arriving: scanned as it comes, kept as the slices that it came in.

use bytes::Bytes;

use super::headers::RequestHeaders;
use super::message::HttpHeaders;
use super::refusal::Refusal;
use crate::body::{self, BodyScanner, Dialect, ScanError, ScanLimits, ScannedBody};
use crate::{Engine, Nanos};

/// Most messages that a body may come in: one for each 256 bytes of the largest body, and some. A sender of countless tiny or empty
/// messages would otherwise make us keep, and answer, each of them.
fn most_messages(limit: usize) -> usize {
    1024 + limit / 256
}

/// A request whose body is arriving.
#[derive(Debug)]
pub(super) struct Collecting {
    pub(super) headers: RequestHeaders,
    pub(super) dialect: Dialect,
    /// No parser claims the path: told when there is a body to read, as a request without one needs none.
    no_parser: Option<Refusal>,
    /// `None` for payloads that are not looked into.
    pub(super) scanner: Option<BodyScanner>,
    /// The body as it came, each a slice of the message that carried it.
    pub(super) chunks: Vec<Bytes>,
    pub(super) size: usize,
    /// Body messages so far.
    pub(super) messages: usize,
    pub(super) received: Nanos,
}

/// A streamed body that is taken out of its messages, to be put into the last one with the model renamed.
#[derive(Debug)]
pub(super) struct Renaming {
    pub(super) body: Collecting,
    pub(super) target: Box<str>,
}

/// A request of which all is known that the mode lets us see.
pub(super) struct Complete {
    pub(super) headers: RequestHeaders,
    pub(super) body: ScannedBody,
    pub(super) carries_model: bool,
    pub(super) chunks: Vec<Bytes>,
    pub(super) size: usize,
    pub(super) messages: usize,
    pub(super) received: Nanos,
}

impl Collecting {
    pub(super) fn new(engine: &Engine, headers: HttpHeaders, now: Nanos) -> Self {
        let headers = RequestHeaders::read(headers.headers);
        let path = headers.path.as_deref().unwrap_or("/v1/completions");
        let (dialect, no_parser) = match engine.active().policy.parsers.resolve(path) {
            Ok(dialect) => (dialect, None),
            Err(error) => (
                Dialect::Passthrough,
                Some(Refusal::BadRequest(error.to_string())),
            ),
        };
        let scanner = (dialect != Dialect::Passthrough && dialect != Dialect::AnthropicCountTokens)
            .then(|| {
                BodyScanner::new(
                    dialect,
                    ScanLimits {
                        block_tokens: engine.block_tokens(),
                        max_blocks: engine.max_blocks(),
                        media: engine.active().policy.estimate.media_tokens(&headers.all),
                        ..ScanLimits::default()
                    },
                )
            });
        Self {
            headers,
            dialect,
            no_parser,
            scanner,
            chunks: Vec::new(),
            size: 0,
            messages: 0,
            received: now,
        }
    }

    /// Takes the next bytes; refuses as soon as it is clear that nobody can read the body, that it is too large, or broken.
    pub(super) fn feed(&mut self, chunk: Bytes, limit: usize) -> Result<(), Refusal> {
        if let Some(refusal) = self.no_parser.take() {
            return Err(refusal);
        }
        self.size += chunk.len();
        self.messages += 1;
        if self.size > limit {
            return Err(Refusal::TooLarge { limit });
        }
        if self.messages > most_messages(limit) {
            return Err(Refusal::BadRequest(
                "request body comes in too many pieces".to_owned(),
            ));
        }
        let fed = self
            .scanner
            .as_mut()
            .map_or(Ok(()), |scanner| scanner.feed(&chunk));
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
        fed.map_err(|error| self.refusal(error))
    }

    /// What is needed to rename the model in the body that follows; `None` when nobody asked for that, or bodies of this path have no model.
    pub(super) fn split_renaming(&mut self, now: Nanos) -> Option<Renaming> {
        let target = self
            .headers
            .model_rewrite
            .clone()
            .filter(|_| self.dialect.carries_model())?;
        let body = Self {
            headers: RequestHeaders::default(),
            dialect: self.dialect,
            no_parser: None,
            scanner: Some(self.scanner.take()?),
            chunks: Vec::new(),
            size: 0,
            messages: 0,
            received: now,
        };
        Some(Renaming { body, target })
    }

    /// The body has ended (`whole`) or no more of it will be shown.
    pub(super) fn complete(mut self, whole: bool) -> Result<Complete, Refusal> {
        if let Some(refusal) = self.no_parser.take().filter(|_| whole) {
            return Err(refusal);
        }
        let body = match self.scanner.take() {
            None => ScannedBody::default(),
            Some(scanner) if whole => scanner.finish().map_err(|error| self.refusal(error))?,
            Some(scanner) => scanner.finish_prefix(),
        };
        Ok(Complete {
            carries_model: whole && self.dialect.carries_model(),
            headers: self.headers,
            body,
            chunks: self.chunks,
            size: self.size,
            messages: self.messages,
            received: self.received,
        })
    }

    fn refusal(&self, error: ScanError) -> Refusal {
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]);
        Refusal::BadRequest(body::refusal(self.dialect, error, chunks))
    }
}
