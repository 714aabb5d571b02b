//! Peers that are not ours: blocking tungstenite, so that a test decides when they read.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use tungstenite::{
    Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::PATIENCE;

pub(crate) type Peer = WebSocket<TcpStream>;

/// A server that gives each connection to `serve`, on a thread of its own, with its number.
pub(crate) fn foreign_server(serve: impl Fn(usize, Peer) + Clone + Send + 'static) -> SocketAddr {
    raw_server(move |number, stream| {
        if let Ok(peer) = tungstenite::accept(stream) {
            serve(number, peer);
        }
    })
}

/// A server that gives each stream to `serve`, before any handshake.
pub(crate) fn raw_server(serve: impl Fn(usize, TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let serve = serve.clone();
            thread::spawn(move || serve(number, stream.unwrap()));
        }
    });
    addr
}

/// A client on `path` of a server.
pub(crate) fn foreign_client(server: impl Into<rxplus::Addr>, path: &str) -> Peer {
    let server = server.into();
    let stream = TcpStream::connect(&server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{server}{path}"), stream).unwrap().0
}

/// The next message, but for the heartbeat's pings: the first may come at any time.
pub(crate) fn read(peer: &mut Peer) -> Message {
    loop {
        match peer.read().unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

/// Closes with a code and sees the handshake through.
pub(crate) fn close(mut peer: Peer, code: u16) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
    if peer.close(Some(frame)).is_ok() {
        while peer.read().is_ok() {}
    }
}

/// Reads until the connection ends, and returns the texts and the close code that came.
pub(crate) fn read_to_the_end(peer: &mut Peer) -> (Vec<String>, Option<u16>) {
    let mut texts = Vec::new();
    let mut code = None;
    loop {
        match peer.read() {
            Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
            Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return (texts, code),
        }
    }
}
