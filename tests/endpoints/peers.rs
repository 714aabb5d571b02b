//! Peers that are not rxplus: tungstenite over a blocking socket, and bare TCP.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
};

use socket2::SockRef;
use tungstenite::{Message, WebSocket};

use super::*;

/// Neither rxplus's driver nor its handshake.
pub(crate) type Foreign = WebSocket<TcpStream>;

/// A bare connection to `server`.
pub(crate) fn tcp(addr: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
    stream
}

/// A foreign client on a path of `server`.
pub(crate) fn foreign_client<D: WsDatatype>(server: &RxWsServer<D>, path: &str) -> Foreign {
    let (client, _) = tungstenite::client(url(server, path), tcp(server.local_addr())).expect("it is let in");
    client
}

/// The next message, but for the heartbeat's pings: the first may come at any time.
pub(crate) fn read(peer: &mut Foreign) -> Message {
    loop {
        match peer.read().expect("a message comes") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

/// Sends a request of bare HTTP and returns all of the answer.
pub(crate) fn http(addr: impl ToSocketAddrs, request: &str) -> String {
    let mut stream = tcp(addr);
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}

/// The request that opens a connection, for those who write it by themselves.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A server that is not rxplus's, on a port of its own.
pub(crate) struct ForeignServer(TcpListener);

impl ForeignServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        Self(listener)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().expect("it is bound"))
    }

    /// The next connection, before any handshake.
    pub(crate) fn accept_tcp(&self) -> TcpStream {
        let (stream, _) = self.0.accept().expect("somebody comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        stream
    }

    /// The next connection, after its handshake.
    pub(crate) fn accept(&self) -> Foreign {
        tungstenite::accept(self.accept_tcp()).expect("it speaks WebSocket")
    }
}

/// A host of this machine's that no other test uses. A port of it that was given up for a moment stays free, and no client
/// can by chance be given it and connect to itself, as happens on 127.0.0.1.
pub(crate) fn host_of_its_own(last: u8) -> String {
    // Other systems have 127.0.0.1 alone.
    if cfg!(target_os = "linux") { format!("127.0.1.{last}") } else { "127.0.0.1".into() }
}
