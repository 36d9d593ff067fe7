//! What answers the frames of one `Process` stream, whichever host carries them.

mod echo;
mod exchange;

use bytes::Bytes;
use warmroute_core::Nanos;
pub use warmroute_core::exchange::Progress;
use warmroute_core::tokens::{TokenAnswer, TokenJob};

use crate::codec::DecodeError;
pub use echo::{EchoFactory, EchoSession};
pub use exchange::{ExchangeFactory, ExchangeSession};

/// One `Process` stream. Dropped when the stream ends, however it ends: that is where everything it holds is released.
pub trait Session: Send {
    /// Called once for each message of the client, in order, with the bytes of one `ProcessingRequest`. Pushes the bytes of each
    /// `ProcessingResponse` to `out` in the order in which they must be sent; `out` is not cleared. After [`Progress::Close`] the host
    /// sends what is in `out`, ends the stream with status OK and drops the session; after [`Progress::Wait`] it goes on with [`Session::take_work`].
    ///
    /// # Errors
    /// [`DecodeError`] when the frame is not a `ProcessingRequest`; the host ends the stream with `INVALID_ARGUMENT`.
    fn receive(
        &mut self,
        frame: Bytes,
        now: Nanos,
        out: &mut Vec<Bytes>,
    ) -> Result<Progress, DecodeError>;

    /// Called once after each [`Progress::Wait`]: the job to run, on a thread that may block, while nothing more is read from the client.
    fn take_work(&mut self) -> Option<TokenJob> {
        None
    }

    /// Called with the answer of that job, unless the stream has ended meanwhile. Otherwise as [`Session::receive`].
    fn resume(&mut self, _answer: TokenAnswer, _now: Nanos, _out: &mut Vec<Bytes>) -> Progress {
        Progress::Continue
    }

    /// Called at most once, right before the session is dropped, when the host itself ends the stream: with its gRPC status code (0 is OK).
    /// Not called when the peer is gone.
    fn end(&mut self, _code: u8) {}
}

/// Opens a session for each new stream.
pub trait SessionFactory: Send + Sync {
    /// Called when a stream starts, before its first message.
    fn open(&self) -> Box<dyn Session>;
}
