//! [`TestPeer`]: a peer that the test plays, frame by frame.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use super::{TestStream, host::Accept};
use crate::Frame;

/// The place of a server that the test plays: see [`TestNetwork::listener`](super::TestNetwork::listener).
#[derive(Debug)]
pub struct TestListener {
    streams: mpsc::UnboundedReceiver<TestStream>,
}

impl TestListener {
    pub(super) fn new() -> (Accept, Self) {
        let (pass_on, streams) = mpsc::unbounded_channel();
        // An error means that the test listens no more: the stream is dropped.
        (Arc::new(move |stream| drop(pass_on.send(stream))), Self { streams })
    }

    /// Waits for a client, and makes the opening handshake with it.
    ///
    /// # Panics
    ///
    /// If the client does not ask for a WebSocket connection.
    pub async fn accept(&mut self) -> TestPeer {
        let stream = self.accept_raw().await;
        TestPeer { socket: accept_async(stream).await.expect("the client asks for a WebSocket connection") }
    }

    /// Waits for a client, and leaves everything else to the test.
    ///
    /// # Panics
    ///
    /// If another listener or server has taken this one's place, and no client waits.
    pub async fn accept_raw(&mut self) -> TestStream {
        self.streams.recv().await.expect("this listener is still the one of its host")
    }
}

/// A server's end of a connection, played by the test.
///
/// ```
/// use rxplus::{prelude::*, testing::TestNetwork};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// let network = TestNetwork::new();
/// let mut listener = network.listener("ws://prices");
/// let client = network.client("ws://prices/eur", WsStr).connect()?;
/// let heard = network.record(client.clone());
/// client.next("subscribe");
///
/// let mut peer = listener.accept().await;
/// peer.expect("subscribe").await;
/// peer.send("1.1").await;
/// peer.close(1012, "an update").await;
/// assert_eq!(heard.items(), ["1.1"]);
/// # Ok::<(), WsError>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TestPeer {
    socket: WebSocketStream<TestStream>,
}

impl TestPeer {
    /// Waits for the next message, and answers pings meanwhile. `None` once the client has closed, or is gone.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(Frame::Text(text.as_str().into())),
                Message::Binary(bytes) => return Some(Frame::Binary(bytes)),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Waits for the next message, which must be this.
    ///
    /// # Panics
    ///
    /// If another one comes, or none.
    pub async fn expect(&mut self, frame: impl Into<Frame>) {
        let (expected, found) = (frame.into(), self.next().await);
        assert_eq!(found, Some(expected), "the client has sent this");
    }

    /// Sends a message. Whether it arrives is up to the network.
    pub async fn send(&mut self, frame: impl Into<Frame>) {
        let message = match frame.into() {
            Frame::Text(text) => Message::text(text.as_str()),
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        // A client that is gone is seen by what it does next.
        let _ = self.socket.send(message).await;
    }

    /// Closes with a code and a reason, and waits until the client has answered or is gone.
    pub async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        let _ = self.socket.close(Some(frame)).await;
        while self.next().await.is_some() {}
    }
}
