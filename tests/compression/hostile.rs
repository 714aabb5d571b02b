//! Messages that nobody means well with.

use rxplus::Limits;

use crate::{
    peer::{Peer, compress, compressor},
    *,
};

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// The compressed form of 64 MiB of zeros.
pub(crate) fn bomb() -> Vec<u8> {
    let mut compressor = compressor();
    // In pieces, to which a whole message is equal.
    let mut bomb = Vec::with_capacity(128 * 1024);
    for _ in 0..64 {
        let piece = vec![0; 1 << 20];
        compressor.compress_vec(&piece, &mut bomb, flate2::FlushCompress::None).unwrap();
    }
    compressor.compress_vec(&[], &mut bomb, flate2::FlushCompress::Sync).unwrap();
    bomb.truncate(bomb.len() - 4);
    bomb
}

/// Sends a compressed message in frames of `step` bytes.
pub(crate) fn send_in_frames(peer: &mut Peer, message: &[u8], step: usize) {
    let count = message.chunks(step).len();
    for (number, chunk) in message.chunks(step).enumerate() {
        let first = if number == 0 { 0x42 } else { 0x00 };
        let last = if number + 1 == count { 0x80 } else { 0x00 };
        peer.send(first | last, chunk);
    }
}

#[test]
fn bomb_is_a_message_too_long_and_troubles_nobody_else() {
    let server = echo(Some(Deflate::new()));
    let (other, bomb) = (client(url(&server, "/"), Some(Deflate::new())), bomb());
    assert!(bomb.len() < 100_000);
    let heard = Recorder::on(other.clone());
    let events = Recorder::on(server.events());
    for step in [bomb.len(), 1000, 16] {
        let mut peer = Peer::connect(server.local_addr(), "/", OFFER);
        send_in_frames(&mut peer, &bomb, step);
        assert_eq!(peer.close_code(), 1009);
        let error = events.find(|event| match event {
            ServerEvent::Disconnected { error: Some(error), .. } => Some(error.to_string()),
            _ => None,
        });
        assert!(error.contains("Limits::message_len"), "{error}");
        other.next("still there");
        assert_eq!(heard.item(), "still there".into());
    }
}

#[test]
fn message_of_just_the_limit_is_heard() {
    let limits = Limits::server().message_len(10_000);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).compression(Deflate::new()).limits(limits);
    let server = server.bind().unwrap();
    let heard = Recorder::on(server.clone());
    let mut peer = Peer::connect(server.local_addr(), "/", OFFER);
    for (len, is_heard) in [(10_000, true), (10_001, false)] {
        peer.send(0xc2, &compress(&mut compressor(), &vec![7; len]));
        if is_heard {
            assert_eq!(heard.item().data, vec![7; len]);
        }
    }
    assert_eq!(peer.close_code(), 1009);
}

#[test]
fn compressed_message_that_is_none_is_closed_with_1007() {
    let server = echo(Some(Deflate::new()));
    // No DEFLATE; a reference to an earlier message; and text that is not UTF-8.
    let no_text = compress(&mut compressor(), &[0xff; 9]);
    for (first, payload) in [(0xc2, &b"\xff\xff\xff"[..]), (0xc2, &[0xf2, 0x00, 0x11, 0x00, 0x00]), (0xc1, &no_text)] {
        let mut peer = Peer::connect(server.local_addr(), "/", OFFER);
        peer.send(first, payload);
        assert_eq!(peer.close_code(), 1007);
    }
}

#[test]
fn compressed_message_without_an_agreement_is_closed_with_1002() {
    let server = echo(Some(Deflate::new()));
    let mut peer = Peer::connect(server.local_addr(), "/", "x-none");
    peer.send(0xc1, &compress(&mut compressor(), b"Hello"));
    assert_eq!(peer.close_code(), 1002);
}

#[test]
fn flood_of_messages_that_become_long_leaves_others_their_turn() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsFrame).compression(Deflate::new()).bind().unwrap();
    server.connections().subscribe(|connection| {
        if connection.path().as_str() == "/echo" {
            connection.clone().subscribe_with(connection);
        }
    });
    let other = RxWsClient::connect(url(&server, "/echo"), WsStr).unwrap();
    let heard = Recorder::on(other.clone());
    other.wait_connected(PATIENCE).unwrap();
    let mut peer = Peer::connect(server.local_addr(), "/flood", OFFER);
    let message = compress(&mut compressor(), &vec![0; 1 << 20]);
    let flood = std::thread::spawn(move || (0..500).for_each(|_| peer.send(0xc2, &message)));
    for n in 0..20 {
        other.next(n.to_string());
        assert_eq!(heard.item(), n.to_string());
    }
    // Much of the flood has still to come, or the echoes have waited for it.
    assert!(server.stats().received.messages < 500);
    flood.join().unwrap();
}
