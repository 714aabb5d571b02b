//! [`BusAddress`]: the broker of a bus.

use std::fmt;

use async_nats::ServerAddr;

use crate::{LocalBroker, WsError};

/// The broker that a bus connects to: NATS servers of one cluster, or a [`LocalBroker`]. Texts convert into it.
///
/// ```
/// use rxplus::prelude::*;
///
/// let address = BusAddress::try_from("nats://10.0.0.5:4222,nats://10.0.0.6:4222")?;
/// assert_eq!(format!("{address:?}"), "BusAddress(10.0.0.5:4222, 10.0.0.6:4222)");
/// assert!(BusAddress::try_from("http://10.0.0.5").is_err());
/// # Ok::<(), WsError>(())
/// ```
#[derive(Clone)]
pub struct BusAddress(pub(crate) Brokers);

#[derive(Clone)]
pub(crate) enum Brokers {
    Local(LocalBroker),
    /// At least one.
    Nats(Vec<ServerAddr>),
}

fn is_server(server: &ServerAddr) -> bool {
    matches!(server.scheme(), "nats" | "tls") && server.clone().into_inner().has_host() && !server.host().is_empty()
}

/// `host:port` of a server, without its user and password.
pub(crate) fn name_of(server: &ServerAddr) -> String {
    match server.host() {
        host if host.contains(':') => format!("[{host}]:{}", server.port()),
        host => format!("{host}:{}", server.port()),
    }
}

impl TryFrom<&str> for BusAddress {
    type Error = WsError;

    fn try_from(text: &str) -> Result<Self, WsError> {
        let parse = |part: &str| part.trim().parse().map_err(|_| invalid(part));
        let servers: Vec<ServerAddr> = text.split(',').map(parse).collect::<Result<_, _>>()?;
        match servers.iter().all(is_server) {
            true => Ok(Self(Brokers::Nats(servers))),
            false => Err(invalid(text)),
        }
    }
}

impl TryFrom<String> for BusAddress {
    type Error = WsError;

    fn try_from(text: String) -> Result<Self, WsError> {
        text.as_str().try_into()
    }
}

impl From<&LocalBroker> for BusAddress {
    fn from(broker: &LocalBroker) -> Self {
        Self(Brokers::Local(broker.clone()))
    }
}

impl fmt::Debug for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Brokers::Local(_) => write!(f, "BusAddress(local)"),
            Brokers::Nats(servers) => {
                write!(f, "BusAddress({})", servers.iter().map(name_of).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn invalid(text: &str) -> WsError {
    // What stands before an `@` may be a password.
    let value = text.rsplit('@').next().unwrap_or_default().to_owned();
    let reason = "write it as nats://host:port, or tls://host:port, and others of the cluster behind commas".into();
    WsError::InvalidBus { what: "the address", value, reason }
}
