//! Listening: TCP or a Unix socket, and what to do when `accept` fails.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::ServerError;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 4096;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket. A socket file that nobody listens on any more is replaced.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ServerError;

    /// Reads `unix:/path`, `address:port` with IPv6 in brackets, `name:port` (its first address), or `:port` (all interfaces).
    fn from_str(text: &str) -> Result<Self, ServerError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` is the URL form of the same.
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let invalid = |reason: String| ServerError::Address {
            text: text.to_owned(),
            reason,
        };
        let everywhere = format!("[::]{text}");
        let host_and_port = if text.starts_with(':') {
            &everywhere
        } else {
            text
        };
        let mut addresses = host_and_port
            .to_socket_addrs()
            .map_err(|error| invalid(error.to_string()))?;
        addresses
            .next()
            .map(Self::Tcp)
            .ok_or_else(|| invalid("the name has no address".to_owned()))
    }
}

/// A bound socket.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection.
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds; must be called inside the runtime. Returns the address with the port that was picked.
    pub(super) fn bind(address: &ListenAddress) -> io::Result<(Self, ListenAddress)> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = if address.is_ipv4() {
                    TcpSocket::new_v4()
                } else {
                    TcpSocket::new_v6()
                }?;
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let listener = socket.listen(BACKLOG)?;
                let bound = ListenAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), bound))
            }
            ListenAddress::Unix(path) => {
                remove_stale_socket(path)?;
                Ok((
                    Self::Unix(UnixListener::bind(path)?),
                    ListenAddress::Unix(path.clone()),
                ))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are written whole; waiting for more would only add latency.
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

/// How long to leave `accept` alone after errors, so that running out of file descriptors does not take a core.
#[derive(Debug, Default)]
pub(super) struct AcceptBackOff {
    failures: u32,
}

impl AcceptBackOff {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The pause after `error`; zero when only that one connection is lost.
    pub(super) fn failed(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput,
            NotConnected,
        };
        if matches!(
            error.kind(),
            ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | Interrupted
                | InvalidInput
                | NotConnected
        ) {
            return Duration::ZERO;
        }
        self.failures = (self.failures + 1).min(8);
        // 10 ms, doubled with each failure in a row, up to a second.
        Duration::from_millis(5 << self.failures).min(Duration::from_secs(1))
    }
}

fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket
        && BlockingUnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().expect("an address"));
        for (text, address) in [
            ("127.0.0.1:9002", tcp("127.0.0.1:9002")),
            ("[::1]:0", tcp("[::1]:0")),
            (":9002", tcp("[::]:9002")),
            (
                "unix:/run/picker.sock",
                ListenAddress::Unix("/run/picker.sock".into()),
            ),
            (
                "unix:///run/picker.sock",
                ListenAddress::Unix("/run/picker.sock".into()),
            ),
        ] {
            assert_eq!(text.parse::<ListenAddress>().ok(), Some(address));
        }
        let error = "127.0.0.1".parse::<ListenAddress>().expect_err("no port");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_lack_of_descriptors_pauses_longer_each_time_up_to_a_second() {
        let mut back_off = AcceptBackOff::default();
        let no_descriptors = io::Error::from_raw_os_error(24);
        let pauses: Vec<u128> = (0..10)
            .map(|_| back_off.failed(&no_descriptors).as_millis())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        back_off.succeeded();
        assert_eq!(back_off.failed(&no_descriptors).as_millis(), 10);
    }

    #[test]
    fn a_connection_that_is_gone_before_it_is_accepted_costs_no_pause() {
        let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(AcceptBackOff::default().failed(&gone), Duration::ZERO);
    }
}
