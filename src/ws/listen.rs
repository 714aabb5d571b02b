//! Binding a server's listening socket.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{ConnConfig, WsError};

/// How many connections the operating system holds ready for being accepted.
const BACKLOG: i32 = 1024;

/// Listens where `endpoint` says: on the first address of its host that can be bound.
pub(crate) fn listen(endpoint: &ConnConfig) -> Result<TcpListener, WsError> {
    let failed = |error| WsError::Bind { endpoint: endpoint.clone(), source: Arc::new(error) };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (endpoint.host(), endpoint.port()).to_socket_addrs().map_err(failed)? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The wildcard listens on both stacks, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A server that is started anew may bind while connections of the old one linger. On Windows the option would let
    // two servers have the same port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
