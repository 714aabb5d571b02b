//! Peers that are not ours: bare TCP, and tungstenite over a blocking socket, so that a test decides when they read.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    thread,
};

use socket2::SockRef;
use tungstenite::{
    Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::PATIENCE;

/// Neither rxplus's driver nor its handshake.
pub(crate) type Foreign = WebSocket<TcpStream>;

/// A server that gives each connection to `serve`, on a thread of its own, with its number.
pub(crate) fn foreign_server(serve: impl Fn(usize, Foreign) + Clone + Send + 'static) -> SocketAddr {
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

/// A bare connection to `server`.
pub(crate) fn tcp(addr: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
    stream
}

/// A client on `path` of a server.
pub(crate) fn foreign_client(server: impl Into<rxplus::Addr>, path: &str) -> Foreign {
    let server = server.into();
    tungstenite::client(format!("ws://{server}{path}"), tcp(&server)).unwrap().0
}

/// The next message, but for the heartbeat's pings: the first may come at any time.
pub(crate) fn read(peer: &mut Foreign) -> Message {
    loop {
        match peer.read().unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

/// Closes with a code and sees the handshake through.
pub(crate) fn close(mut peer: Foreign, code: u16) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
    if peer.close(Some(frame)).is_ok() {
        while peer.read().is_ok() {}
    }
}

/// Reads until the connection ends, and returns the texts and the close code that came.
pub(crate) fn read_to_the_end(peer: &mut Foreign) -> (Vec<String>, Option<u16>) {
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
        Self::on("127.0.0.1")
    }

    /// As [`start`](Self::start), on another host of this machine's.
    pub(crate) fn on(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("some port is free");
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
