//! Connections that do not come through the server's listener: [`accept`](RxWsServer::accept) and
//! [`adopt`](RxWsServer::adopt).

use std::{any::Any, net::SocketAddr};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Addr, ConnConfig, Grant, RxWsServer, Tag, WsDatatype,
    endpoint::EndpointCore,
    handshake::Refused,
    server::{
        arrival::{Arrival, Made, Opening},
        core::NO_ROOM,
    },
    transport::raw::Given,
};

/// A stream whose opening handshake the program has made: what came of it, for [`RxWsServer::adopt`].
#[must_use]
#[derive(Debug)]
pub struct Adopted {
    path: Tag,
    early_bytes: Bytes,
    subprotocol: Option<String>,
    grant: Option<Grant>,
    peer_addr: Option<SocketAddr>,
}

impl Adopted {
    /// On this path, which is the tag of the connection.
    pub fn new(path: impl Into<String>) -> Self {
        let path = ConnConfig::new("localhost", 80).path(path).as_path().into();
        Self { path, early_bytes: Bytes::new(), subprotocol: None, grant: None, peer_addr: None }
    }

    /// Sets the bytes that were read behind the request: frames that the client has sent early.
    pub fn early(mut self, bytes: impl Into<Bytes>) -> Self {
        self.early_bytes = bytes.into();
        self
    }

    /// Sets the subprotocol that was chosen.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Sets the value that [`Connection::grant`](crate::Connection::grant) returns.
    pub fn grant(mut self, grant: impl Any + Send + Sync) -> Self {
        self.grant = Some(Grant::of(grant));
        self
    }

    /// Sets the address of the peer, where the stream does not tell it.
    pub fn peer_addr(mut self, addr: SocketAddr) -> Self {
        self.peer_addr = Some(addr);
        self
    }
}

/// # Streams of the program
impl<D: WsDatatype> RxWsServer<D> {
    /// Serves a stream that the program has accepted: makes the opening handshake in the background, as for a peer of the
    /// server's own listener, TLS included if the server has it. Returns at once.
    ///
    /// Any stream will do: a Unix socket, one in memory, one that another library has decrypted, one of another runtime. A
    /// tokio `TcpStream` or `UnixStream` moves to the server's I/O thread. Others are driven from there as they are; they
    /// are polled under a lock of the connection, so their code must not push into this server, and are offered at most 64 KiB
    /// at once: what a stream takes counts as written. A panic in its code ends that one connection. Limits per address hold for
    /// TCP. A peer that is refused is an [event](Self::events), as any; once the server has ended, the stream is dropped.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = RxWsServer::unbound(WsStr).build()?;
    /// # #[cfg(unix)] {
    /// let listener = tokio::net::UnixListener::bind("/run/robot.sock")?;
    /// while let Ok((stream, _)) = listener.accept().await {
    ///     server.accept(stream);
    /// }
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (core, stream) = (&self.inner.core, Given::new(stream));
        if core.is_closing() {
            return;
        }
        let addr = stream.addr();
        match core.admit(&addr) {
            Some((permit, place)) => place.send(Arrival { addr, permit, opening: Opening::Given(stream) }),
            None => core.post_refusal(addr, core.turn_away(stream)),
        }
    }

    /// Serves a stream whose opening handshake the program has made, with tokio-tungstenite for example. Returns at once.
    ///
    /// Neither `authorize` nor paths and origins are asked: that was the program's. Limits hold. Give it a fresh
    /// [`WebSocketStream`](https://docs.rs/tokio-tungstenite) by its `into_inner()`, before the first `next()`: the bytes that
    /// it has read ahead cannot be had from it. `accept_async` and `accept_hdr_async` read none ahead.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    /// let server = RxWsServer::unbound(WsStr).build()?;
    /// let websocket = tokio_tungstenite::accept_async(stream).await?;
    /// server.adopt(websocket.into_inner(), Adopted::new("/chat").grant("ann"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt<S>(&self, stream: S, adopted: Adopted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Adopted { path, early_bytes, subprotocol, grant, peer_addr } = adopted;
        let (core, stream) = (&self.inner.core, Given::new(stream));
        if core.is_closing() {
            return;
        }
        let addr = peer_addr.map_or_else(|| stream.addr(), Addr::from);
        let Some((permit, place)) = core.admit(&addr) else {
            return core.post_refusal(addr, Refused::unanswered(NO_ROOM));
        };
        let grant = grant.map(Grant::into_value);
        let made = Made { stream, path, early_bytes, subprotocol, grant };
        place.send(Arrival { addr, permit, opening: Opening::Made(Box::new(made)) });
    }
}
