//! How compressed messages travel.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use tungstenite::{
    Message,
    protocol::frame::coding::{Control, OpCode},
};

use crate::{
    peer::{Peer, accept, compress, compressor},
    support::foreign::*,
    *,
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";

#[test]
fn broadcast_reaches_each_listener_in_the_form_that_it_has_agreed_on() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(Deflate::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut plain = foreign_client(server.local_addr(), "/");
    let small_window = "permessage-deflate; server_max_window_bits=9";
    let mut peers: Vec<_> =
        [OFFER, OFFER, small_window].map(|offer| Peer::connect(server.local_addr(), "/", offer)).into();
    let connections = connections.items(4);
    server.send(TaggedData::new("/", text(2000))).unwrap();
    assert_eq!(read(&mut plain), Message::text(text(2000)));
    let frames: Vec<_> = peers.iter_mut().map(|peer| peer.receive().unwrap()).collect();
    assert!(frames.iter().all(|frame| frame.header().rsv1 && frame.payload().len() < 200));
    assert_eq!(frames[0].payload(), frames[1].payload());
    until("all is counted", || server.stats().sent.written.messages == 4);
    let sent = server.stats().sent;
    assert_eq!((sent.written, sent.compressed), (tally(4, 8000), tally(3, 6000)));
    let bytes: usize = frames.iter().map(|frame| frame.payload().len()).sum();
    assert_eq!(sent.compressed_to, bytes as u64);
    connections.iter().for_each(|connection| assert_accounted(connection.stats().sent));
}

#[test]
fn message_for_a_window_of_8_bits_is_compressed_within_its_own_length_alone() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(Deflate::new().min_len(0)).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = Peer::connect(server.local_addr(), "/", "permessage-deflate; server_max_window_bits=8");
    let connection = connections.item();
    for (len, is_compressed) in [(256, true), (257, false), (0, false)] {
        connection.next(text(len));
        let frame = peer.receive().unwrap();
        assert_eq!(frame.header().rsv1, is_compressed);
        assert!(is_compressed || frame.payload() == text(len).as_bytes());
    }
}

#[test]
fn messages_of_a_peer_are_inflated_whatever_their_frames() {
    let server = echo(Some(Deflate::new()));
    let mut peer = Peer::connect(server.local_addr(), "/", OFFER);
    let hello = compress(&mut compressor(), b"Hello");
    peer.send(0x41, &hello[..2]);
    peer.send(0x89, b"ping");
    peer.send(0x00, b"");
    peer.send(0x80, &hello[2..]);
    let pong = peer.receive().unwrap();
    assert_eq!((pong.header().opcode, pong.payload()), (OpCode::Control(Control::Pong), &b"ping"[..]));
    let echo = peer.receive().unwrap();
    assert_eq!((echo.header().rsv1, echo.payload()), (false, &b"Hello"[..]));
}

#[test]
fn server_may_refer_to_its_earlier_messages() {
    let server = raw_server(|_, stream| {
        let mut peer = accept(stream, "permessage-deflate");
        let mut compressor = compressor();
        for _ in 0..3 {
            let message = compress(&mut compressor, text(5000).as_bytes());
            let head = [&[0xc1, 126], &(message.len() as u16).to_be_bytes()[..]].concat();
            let head = if message.len() < 126 { vec![0xc1, message.len() as u8] } else { head };
            peer.get_mut().write_all(&[head, message].concat()).unwrap();
        }
        while peer.read().is_ok() {}
    });
    let client = client(format!("ws://{server}"), Some(Deflate::new()));
    assert_eq!(Recorder::on(client).items(3), [text(5000), text(5000), text(5000)].map(Frame::from));
}

#[test]
fn message_that_waits_goes_on_to_a_server_that_has_not_agreed() {
    let server = echo(Some(Deflate::new()));
    let addr = server.local_addr();
    let builder = RxWsClient::builder(url(&server, "/"), WsFrame).compression(Deflate::new());
    let client = builder.retry(RetryPolicy::fixed(Duration::from_millis(10))).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert!(client.is_compressed());
    drop(server);
    until("it is known", || client.response().is_none());
    client.next(text(2000));
    let heard = Recorder::on(client.clone());
    let deadline = Instant::now() + PATIENCE;
    let _plain = loop {
        match RxWsServer::bind(format!("ws://{addr}"), WsFrame) {
            Ok(server) => break echoing(server),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(heard.item(), text(2000).into());
    until("it is counted", || client.stats().sent.written == tally(1, 2000));
    assert_eq!((client.is_compressed(), client.stats().sent.compressed), (false, tally(0, 0)));
}

#[test]
fn resumed_link_compresses_what_is_sent_again() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(Deflate::new());
    let server = echo_server_with(builder.resumable(Resume::new()));
    let proxy = proxy::Proxy::to(server.local_addr());
    let builder = RxWsClient::builder(proxy.url("/"), WsStr).compression(Deflate::new().min_len(0));
    let retry = RetryPolicy::fixed(Duration::from_millis(10));
    let client = builder.resumable(Resume::new()).retry(retry).connect().unwrap();
    let (heard, mut sent) = (Recorder::on(client.clone()), Vec::new());
    client.wait_connected(PATIENCE).unwrap();
    for round in 0..5 {
        for n in 0..50 {
            // One in ten looks like a control message.
            let text = if n % 10 == 0 { format!("\u{10}{round}") } else { format!("{n} ") + &text(1000 + n) };
            client.next(text.clone());
            sent.push(text);
        }
        proxy.end(proxy::End::Reset);
    }
    assert_eq!(heard.items(sent.len()), sent);
    until("all is counted", || client.stats().sent.written.messages == sent.len() as u64);
    assert!(client.is_compressed() && client.stats().sent.compressed.messages >= 5 * 45);
    assert_accounted(client.stats().sent);
}

#[test]
fn message_for_connections_on_several_threads_is_compressed_for_each() {
    const CLIENTS: usize = 6;
    const COUNT: usize = 200;
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsFrame).threads(3).compression(Deflate::new());
    let server = echo_server_with(builder);
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(url(&server, "/all"), Some(Deflate::new()))).collect();
    let heard: Vec<_> = clients.iter().map(|client| Recorder::on(client.clone())).collect();
    (0..COUNT).for_each(|n| server.next(TaggedData::new("/all", digits(n, 2000))));
    clients.iter().for_each(|client| client.next(digits(COUNT, 2000)));
    for heard in heard {
        (0..=COUNT).for_each(|n| assert_eq!(heard.item(), digits(n, 2000).into()));
    }
    until("all is counted", || server.stats().sent.compressed.messages == (CLIENTS * (COUNT + 1)) as u64);
}
