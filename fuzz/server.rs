//! Bytes into a server's connections, and into its opening handshake.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    time::Instant,
};

use rxplus::prelude::*;

use crate::{PATIENCE, fuzz};

pub(crate) const REQUEST: &[u8] =
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://o.example\r\n\r\n";

/// Says `bytes`, hangs up one way, and waits until the server does so the other way.
pub(crate) fn say(addr: impl ToSocketAddrs, bytes: &[u8]) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have hung up first.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    if let Err(error) = stream.read_to_end(&mut Vec::new()) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the server hangs");
    }
}

pub(crate) fn is_served(server: &RxWsServer<WsStr>) {
    let client = RxWsClient::connect(format!("ws://{}/good", server.local_addr()), WsStr).unwrap();
    let (send, heard) = std::sync::mpsc::channel();
    client.clone().log_errors().subscribe(move |text| send.send(text).unwrap_or(()));
    client.next("hello");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "hello");
    client.complete();
}

#[test]
fn bytes_into_a_server() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    fuzz(|dice| {
        let request = if dice.one_in(3) { dice.spoil(REQUEST.to_vec()) } else { REQUEST.to_vec() };
        let frames = dice.frames(true);
        say(server.local_addr(), &[request, frames].concat());
    });
    is_served(&server);
    let deadline = Instant::now() + PATIENCE;
    while server.connection_count() > 0 {
        assert!(Instant::now() < deadline, "a connection outlives its peer");
        std::thread::yield_now();
    }
}
