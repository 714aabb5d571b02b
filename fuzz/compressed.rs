//! Compressed messages into a server's connections, and offers of compression into its opening handshake.

use flate2::{Compress, Compression, FlushCompress};
use rxplus::prelude::*;

use crate::{
    dice::Dice,
    fuzz,
    server::{REQUEST, is_served, say},
};

const OFFER: &[u8] = b"permessage-deflate; server_max_window_bits=9; client_max_window_bits, permessage-deflate";

#[test]
fn compressed_bytes_into_a_server() {
    let limits = Limits::server().message_len(10_000);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits);
    let server = builder.compression(Deflate::new().min_len(0)).bind().unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    fuzz(|dice| {
        let offer = if dice.one_in(3) { dice.spoil(OFFER.to_vec()) } else { OFFER.to_vec() };
        let (line, _) = REQUEST.split_at(REQUEST.len() - 2);
        let request = [line, b"Sec-WebSocket-Extensions: ", &offer, b"\r\n\r\n"].concat();
        let messages: Vec<_> = (0..=dice.below(5)).flat_map(|_| message(dice)).collect();
        say(server.local_addr(), &[request, messages].concat());
    });
    is_served(&server);
}

/// The frames of a compressed message, which is not always one.
fn message(dice: &mut Dice) -> Vec<u8> {
    let payload = match dice.below(3) {
        0 => dice.bytes(300),
        1 => b"hello, w\xc3\xb6rld".repeat(dice.below(2000)),
        _ => vec![0; dice.below(1 << 20)],
    };
    let mut compressed = Vec::with_capacity(payload.len() + 64);
    let mut compress = Compress::new(Compression::fast(), false);
    compress.compress_vec(&payload, &mut compressed, FlushCompress::Sync).unwrap();
    compressed.truncate(compressed.len().saturating_sub(4));
    let compressed = if dice.one_in(2) { dice.spoil(compressed) } else { compressed };
    let step = 1 + dice.below(compressed.len().max(1));
    let count = compressed.chunks(step).len();
    let mut frames = Vec::new();
    for (number, piece) in compressed.chunks(step).enumerate() {
        let first = match number {
            _ if dice.one_in(32) => dice.below(256) as u8,
            0 => [0x41, 0x42][dice.below(2)],
            _ => 0x00,
        };
        frames.push(first | if number + 1 == count { 0x80 } else { 0 });
        match piece.len() {
            len @ 0..126 => frames.push(0x80 | len as u8),
            len @ 126..0x1_0000 => frames.extend([&[0x80 | 126], &(len as u16).to_be_bytes()[..]].concat()),
            len => frames.extend([&[0x80 | 127], &(len as u64).to_be_bytes()[..]].concat()),
        }
        frames.extend([0; 4]);
        frames.extend(piece);
        if dice.one_in(8) {
            frames.extend(b"\x89\x80\0\0\0\0");
        }
    }
    frames
}
