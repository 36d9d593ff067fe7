//! Envoy's `ext_proc` protocol around the engine: the wire codec, the sessions that answer frames, and the native gRPC host.
#![forbid(unsafe_code)]

mod clock;
pub mod codec;
pub mod host;
pub mod session;

pub use clock::now;
pub use session::{
    EchoFactory, EchoSession, ExchangeFactory, ExchangeSession, Progress, Session, SessionFactory,
};
