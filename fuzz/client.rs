//! Bytes into a client's connection, and into its opening handshake.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use rxplus::prelude::*;
use tungstenite::handshake::derive_accept_key;

use crate::{Dice, PATIENCE, fuzz};

/// Reads a request and returns the answer that opens the connection.
fn opening(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the client asks");
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Answers with what the dice say, hangs up one way, and waits until the client does so the other way.
fn serve(mut stream: TcpStream, dice: &mut Dice) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = opening(&mut stream);
    let answer = if dice.one_in(3) { dice.spoil(answer) } else { answer };
    let bytes = [answer, dice.frames(false)].concat();
    // The client may have hung up first.
    let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    if let Err(error) = stream.read_to_end(&mut Vec::new()) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the client hangs");
    }
}

#[test]
fn bytes_into_a_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RxWsClient::builder(format!("ws://{}", listener.local_addr().unwrap()), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .connect()
        .unwrap();
    let (send, heard) = std::sync::mpsc::channel();
    client.clone().log_errors().subscribe(move |text| send.send(text).unwrap_or(()));
    fuzz(|dice| serve(listener.accept().unwrap().0, dice));
    // It is as good as new.
    let _ = heard.try_iter().count();
    let mut stream = listener.accept().unwrap().0;
    let answer = opening(&mut stream);
    stream.write_all(&[&answer[..], b"\x81\x05hello"].concat()).unwrap();
    assert!(heard.iter().any(|text| text == "hello"));
}
