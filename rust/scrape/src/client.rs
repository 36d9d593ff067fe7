//! Fetches a page over one kept-open HTTP/1.1 connection.
//!
//! The connection is driven inside the fetch (no task of its own), so between two pages it costs nothing.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::error::ScrapeError;
use crate::tls::Tls;
use crate::transport::Transport;

/// Longest page that is read.
pub(crate) const PAGE_LIMIT: usize = 8 << 20;
/// Largest read at once: a filtered page fits, a whole one takes four. hyper keeps such a buffer for each connection, thousands of them in a large pool.
const READ_BYTES: usize = 16 << 10;

type Driver = Connection<TokioIo<Transport>, Empty<Bytes>>;

struct Open {
    sender: SendRequest<Empty<Bytes>>,
    driver: Pin<Box<Driver>>,
}

/// A client for one server.
pub(crate) struct Client {
    address: Box<str>,
    host: Option<HeaderValue>,
    accept: HeaderValue,
    open: Option<Open>,
}

impl Client {
    /// For the server at `address` (`host:port`), which is asked for a media type.
    pub(crate) fn new(address: &str, accept: &'static str) -> Self {
        Self {
            address: address.into(),
            host: HeaderValue::from_str(address).ok(),
            accept: HeaderValue::from_static(accept),
            open: None,
        }
    }

    /// Fetches `uri` (path and query) into `page`, which is cleared before. A connection that the server closed since the last page
    /// (they do after some seconds) is replaced once, without counting as a failure.
    /// A new connection is secured as `tls` says.
    pub(crate) async fn fetch(
        &mut self,
        uri: &Uri,
        tls: Option<&Tls>,
        page: &mut Vec<u8>,
    ) -> Result<(), ScrapeError> {
        // Taken out while in use: an exchange that is cancelled by a timeout must not be followed by another on the same connection.
        if let Some(reused) = self.open.take() {
            match self.exchange(reused, uri, page).await {
                Err(ScrapeError::Http(_)) => {}
                result => return result,
            }
        }
        let open = self.connect(tls).await?;
        self.exchange(open, uri, page).await
    }

    async fn connect(&self, tls: Option<&Tls>) -> Result<Open, ScrapeError> {
        let stream = TcpStream::connect(self.address.as_ref())
            .await
            .map_err(ScrapeError::Connect)?;
        stream.set_nodelay(true).map_err(ScrapeError::Connect)?;
        let stream = match tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let name = server_name(&self.address).ok_or(ScrapeError::HostName)?;
                let connecting = tls.connector().connect(name, stream);
                let stream = connecting.await.map_err(ScrapeError::Tls)?;
                Transport::Tls(Box::new(stream))
            }
        };
        let (sender, driver) = Builder::new()
            .read_buf_exact_size(Some(READ_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ScrapeError::Http)?;
        Ok(Open {
            sender,
            driver: Box::pin(driver),
        })
    }

    async fn exchange(
        &mut self,
        open: Open,
        uri: &Uri,
        page: &mut Vec<u8>,
    ) -> Result<(), ScrapeError> {
        page.clear();
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
        headers.insert(ACCEPT, self.accept.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let Open { mut sender, driver } = open;
        let mut driver = Some(driver);
        let result = {
            let mut receive = std::pin::pin!(receive(&mut sender, request, page));
            loop {
                let Some(running) = driver.as_mut() else {
                    break receive.await;
                };
                tokio::select! {
                    biased;
                    // However the connection ended: what was read of the page by then may be all of it, and if not `receive` says so.
                    // It only hears of the end when the driver is dropped.
                    _ = running => driver = None,
                    result = &mut receive => break result,
                }
            }
        };
        if let (Some(driver), true) = (driver, result.is_ok()) {
            self.open = Some(Open { sender, driver });
        }
        result
    }
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn server_name(address: &str) -> Option<ServerName<'static>> {
    let (host, _) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

async fn receive(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    page: &mut Vec<u8>,
) -> Result<(), ScrapeError> {
    sender.ready().await.map_err(ScrapeError::Http)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(ScrapeError::Http)?;
    let status = response.status();
    let identity = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    let encoded = response
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !identity(encoding));
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ScrapeError::Http)?.into_data() {
            if page.len() + data.len() > PAGE_LIMIT {
                return Err(ScrapeError::TooLarge);
            }
            page.extend_from_slice(&data);
        }
    }
    match status {
        StatusCode::OK if encoded => Err(ScrapeError::Encoded),
        StatusCode::OK => Ok(()),
        status => Err(ScrapeError::Status(status)),
    }
}
