//! scratch, not committed
use bytes::{Buf, BufMut, Bytes};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_stream::Stream;
use tonic::codec::*;
use tonic::{Request, Response, Status, Streaming};
use warmroute_extproc::{EchoSession, Session, now};
#[derive(Clone, Default)]
struct Raw;
impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}
impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, i: Bytes, b: &mut EncodeBuf<'_>) -> Result<(), Status> {
        b.put(i);
        Ok(())
    }
}
impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, b: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(b.copy_to_bytes(b.remaining())))
    }
}
struct Echo {
    input: Streaming<Bytes>,
    session: EchoSession,
    out: Vec<Bytes>,
    queue: std::collections::VecDeque<Bytes>,
}
impl Stream for Echo {
    type Item = Result<Bytes, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        loop {
            if let Some(x) = me.queue.pop_front() {
                return Poll::Ready(Some(Ok(x)));
            }
            match Pin::new(&mut me.input).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(Some(Ok(b))) => {
                    me.session.receive(b, now(), &mut me.out).unwrap();
                    me.queue.extend(me.out.drain(..));
                }
            }
        }
    }
}
#[derive(Clone)]
struct Svc;
impl tonic::server::StreamingService<Bytes> for Svc {
    type Response = Bytes;
    type ResponseStream = Echo;
    type Future = std::future::Ready<Result<Response<Echo>, Status>>;
    fn call(&mut self, r: Request<Streaming<Bytes>>) -> Self::Future {
        std::future::ready(Ok(Response::new(Echo {
            input: r.into_inner(),
            session: EchoSession::default(),
            out: vec![],
            queue: Default::default(),
        })))
    }
}
impl tonic::server::NamedService for Svc {
    const NAME: &'static str = "envoy.service.ext_proc.v3.ExternalProcessor";
}
impl tower::Service<http::Request<tonic::body::Body>> for Svc {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, r: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let mut g = tonic::server::Grpc::new(Raw).max_decoding_message_size(usize::MAX);
            Ok(g.streaming(Svc, r).await)
        })
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(a[2].parse().unwrap())
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async move {
        let l = tokio::net::TcpListener::bind(&a[1]).await.unwrap();
        tonic::transport::Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(64 << 20)
            .max_frame_size(256u32 << 10)
            .max_concurrent_streams(u32::MAX)
            .serve_with_incoming(
                Svc,
                tonic::transport::server::TcpIncoming::from(l).with_nodelay(Some(true)),
            )
            .await
            .unwrap();
    });
}
