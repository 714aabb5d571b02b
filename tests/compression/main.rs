//! Compressed messages on real sockets: who agrees on them, how they travel, and what hostile ones do.
#![cfg(feature = "deflate")]

mod agreement;
#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
mod bombs;
mod hostile;
mod messages;
mod peer;
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
