//! [`Addr`]: the address of a server or of a peer.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    option,
};

use crate::{ConnConfig, WsError};

/// The address that a server listens on, or that a peer connects from.
///
/// A TCP address prints as `127.0.0.1:8765`, and can be used to connect. The other variants say what takes its place.
///
/// ```
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
/// let client = RxWsClient::connect(format!("ws://{}/chat", server.local_addr()), WsStr)?;
/// assert_ne!(server.local_addr().port(), Some(0));
/// # Ok::<(), WsError>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addr {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket of the file system.
    Unix,
    /// This process: there is no socket.
    Memory,
    /// A server without a listener, which is given its connections by another server.
    Mounted,
    /// A stream that does not tell, or a peer behind another server that did not say.
    Unknown,
}

impl Addr {
    /// The IP address and the port, if it has them.
    #[must_use]
    pub fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            _ => None,
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.as_tcp().map(|addr| addr.ip())
    }

    /// The port, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.as_tcp().map(|addr| addr.port())
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl PartialEq<SocketAddr> for Addr {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.as_tcp() == Some(*other)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.pad("a Unix socket"),
            Self::Memory => f.pad("memory"),
            Self::Mounted => f.pad("mounted"),
            Self::Unknown => f.pad("an unknown address"),
        }
    }
}

/// For TCP addresses; an [`Unsupported`](io::ErrorKind::Unsupported) error for others.
impl ToSocketAddrs for Addr {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let addr = self.as_tcp().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "it has no TCP address"))?;
        Ok(Some(addr).into_iter())
    }
}

/// The path is `/`, and the connection is plain.
///
/// # Errors
///
/// [`WsError::InvalidUrl`] when it is no TCP address.
impl TryFrom<Addr> for ConnConfig {
    type Error = WsError;

    fn try_from(addr: Addr) -> Result<Self, WsError> {
        let reason = || WsError::InvalidUrl { url: addr.to_string(), reason: "it has no TCP address".into() };
        addr.as_tcp().map(Self::from).ok_or_else(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_address_is_one_to_connect_to_and_others_say_why_not() {
        let socket: SocketAddr = "[::1]:9".parse().unwrap();
        let tcp = Addr::from(socket);
        assert_eq!((tcp.to_string(), tcp.port()), ("[::1]:9".into(), Some(9)));
        assert_eq!(tcp, socket);
        assert_eq!(tcp.to_socket_addrs().unwrap().collect::<Vec<_>>(), [socket]);
        assert_eq!(ConnConfig::try_from(tcp).unwrap(), ConnConfig::new("::1", 9));
        for other in [Addr::Unix, Addr::Memory, Addr::Mounted, Addr::Unknown] {
            assert_eq!((other.as_tcp(), other.port()), (None, None));
            assert_eq!(other.to_socket_addrs().unwrap_err().kind(), io::ErrorKind::Unsupported);
            let error = ConnConfig::try_from(other.clone()).unwrap_err().to_string();
            assert!(error.contains(&other.to_string()), "{error}");
        }
    }
}
