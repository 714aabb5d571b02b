//! Compressed messages over HTTP/2: `tests/compression` has those over HTTP/1.1.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{http2::ask_with, *};

/// What each compressed message ends with, and is sent without (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The first byte of a frame that is a compressed text, as a whole.
const COMPRESSED_TEXT: u8 = 0xc1;

/// The frame of a text that becomes shorter than 126 bytes, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1000);
    Compress::new(Compression::best(), false).compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync).unwrap();
    let payload = payload.strip_suffix(&TAIL).unwrap();
    assert!(payload.len() < 126);
    [&[COMPRESSED_TEXT, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The text in the next frame, which is compressed, after any pings.
async fn heard(stream: &mut TokioIo<Upgraded>) -> String {
    loop {
        let [first, len] = [stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()];
        let mut payload = vec![0; len.into()];
        stream.read_exact(&mut payload).await.unwrap();
        if first != 0x89 {
            assert_eq!(first, COMPRESSED_TEXT);
            payload.extend(TAIL);
            let mut text = Vec::with_capacity(10_000);
            Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
            return String::from_utf8(text).unwrap();
        }
    }
}

#[test]
fn compression_is_agreed_on_in_an_extended_connect_and_goes_both_ways() {
    let server = RxWsServer::unbound(WsStr).compression(Deflate::new()).build().unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let connections = Recorder::on(server.connections());
    let addr = serve(Router::new().fallback_service(server.service()));
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
        let (answer, mut stream) = ask_with(addr, "/x", offer, None).await.unwrap();
        let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer["sec-websocket-extensions"], agreed);
        assert!(connections.item().is_compressed());
        for number in 0..3 {
            let text = format!("{number} ").repeat(1000);
            stream.write_all(&frame(&text)).await.unwrap();
            let heard = tokio::time::timeout(PATIENCE, heard(&mut stream)).await.expect("it comes in time");
            assert_eq!(heard, text);
        }
    });
    until("all is counted", || server.stats().sent.written.messages == 3);
    let sent = server.stats().sent;
    assert_eq!((sent.compressed, sent.compressed_to < 3 * 126), (tally(3, 6000), true));
    assert_accounted(sent);
}
