//! A gRPC client over tonic with the messages of [`super`], and sessions whose ends can be awaited.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint, Error as TransportError};
use tonic::{Request, Status, Streaming};
use warmroute_extproc::host::{ListenAddress, NativeServer, PROCESS_PATH, ServerOptions};
use warmroute_extproc::session::SessionFactory;

use super::{ProcessingRequest, ProcessingResponse};

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
pub struct Raw;

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

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// One `Process` stream seen from the client.
pub struct Stream {
    sender: Option<mpsc::Sender<Bytes>>,
    replies: Streaming<Bytes>,
}

impl Stream {
    pub async fn open(channel: &Channel) -> Result<Self, Status> {
        Self::open_at(channel, PROCESS_PATH).await
    }

    pub async fn open_at(channel: &Channel, path: &'static str) -> Result<Self, Status> {
        let (sender, requests) = mpsc::channel(64);
        let mut client = tonic::client::Grpc::new(channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let response = client
            .streaming(
                Request::new(ReceiverStream::new(requests)),
                PathAndQuery::from_static(path),
                Raw,
            )
            .await?;
        Ok(Self {
            sender: Some(sender),
            replies: response.into_inner(),
        })
    }

    pub async fn send(&self, request: &ProcessingRequest) {
        self.send_bytes(Bytes::from(request.encode_to_vec())).await;
    }

    /// A stream that the server has ended takes no more; that shows in the replies.
    pub async fn send_bytes(&self, bytes: Bytes) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(bytes).await;
        }
    }

    pub fn half_close(&mut self) {
        self.sender = None;
    }

    pub async fn reply(&mut self) -> Result<Option<ProcessingResponse>, Status> {
        Ok(self
            .replies
            .message()
            .await?
            .map(|bytes| ProcessingResponse::decode(bytes).expect("a ProcessingResponse")))
    }

    pub async fn expect_reply(&mut self) -> ProcessingResponse {
        self.reply().await.expect("no error").expect("a reply")
    }
}

/// A server on a free TCP port.
pub fn start(factory: impl SessionFactory + 'static) -> NativeServer {
    start_with(&options(), factory)
}

pub fn start_with(options: &ServerOptions, factory: impl SessionFactory + 'static) -> NativeServer {
    NativeServer::start(options, Arc::new(factory)).expect("a server")
}

pub fn options() -> ServerOptions {
    ServerOptions::new(ListenAddress::Tcp(([127, 0, 0, 1], 0).into()))
}

pub fn port(server: &NativeServer) -> u16 {
    match server.address() {
        ListenAddress::Tcp(address) => address.port(),
        ListenAddress::Unix(path) => panic!("listening on {}", path.display()),
    }
}

pub async fn connect(server: &NativeServer) -> Channel {
    try_connect(server).await.expect("a connection")
}

pub async fn try_connect(server: &NativeServer) -> Result<Channel, TransportError> {
    Endpoint::from_shared(format!("http://127.0.0.1:{}", port(server)))
        .expect("an address")
        .connect()
        .await
}

pub async fn connect_unix(path: PathBuf) -> Channel {
    Endpoint::from_static("http://local")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .expect("a connection")
}

/// Connects with TLS, trusting exactly `certificate_pem`.
pub async fn connect_tls(
    server: &NativeServer,
    certificate_pem: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Channel, TransportError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("a certificate"))
        .expect("a root");
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let port = port(server);
    Endpoint::from_static("http://localhost")
        .connect_timeout(Duration::from_secs(20))
        .connect_with_connector(tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                connector
                    .connect(ServerName::try_from("localhost").expect("a name"), stream)
                    .await
                    .map(TokioIo::new)
            }
        }))
        .await
}
