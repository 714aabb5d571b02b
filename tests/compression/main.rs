//! Compressed messages on real sockets: who agrees on them, how they travel, and what hostile ones do.
#![cfg(feature = "deflate")]

mod agreement;
#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
mod bombs;
mod hostile;
mod links;
mod messages;
mod peer;
mod sums;
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(feature = "mount", feature = "tls"))]
mod transports;

use rxplus::prelude::*;
use support::*;

/// A text of `len` bytes that compression makes shorter.
fn text(len: usize) -> String {
    "compressible ".chars().cycle().take(len).collect()
}

/// Digits that compression makes shorter, but not much, with a number before them.
fn digits(number: usize, len: usize) -> String {
    let mut state = 1_u64;
    let digits = std::iter::repeat_with(|| {
        // A generator of Knuth's, whose high bits look random.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 33) as u8 % 10)
    });
    format!("{number:06} ") + &digits.take(len - 7).collect::<String>()
}

/// The number of such a text, which is whole.
fn number_of(text: &str) -> usize {
    let number = text[..6].parse().unwrap();
    assert_eq!(text, digits(number, text.len()));
    number
}

/// A server that sends back what it receives.
fn echo(compression: Option<Deflate>) -> RxWsServer<WsFrame> {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsFrame);
    echo_server_with(match compression {
        Some(deflate) => builder.compression(deflate),
        None => builder,
    })
}

/// A client that is connected.
fn client(url: String, compression: Option<Deflate>) -> RxWsClient<WsFrame> {
    let builder = RxWsClient::builder(url, WsFrame);
    let builder = match compression {
        Some(deflate) => builder.compression(deflate),
        None => builder,
    };
    let client = builder.connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    client
}
