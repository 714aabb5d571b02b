//! Streams of the program: those that a server accepts or adopts, listeners that are there already, and the connectors of
//! clients and groups. Whatever is about how the bytes come to an endpoint belongs here; what it does with them does not.

mod accept;
mod adopt;
mod connector;
mod endings;
mod greedy;
mod limits;
mod listen;
mod panics;
mod proxies;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

use futures::{SinkExt, StreamExt};
use rxplus::prelude::*;
use support::{PATIENCE, Recorder, echoing};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex},
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message;

/// How many bytes a stream in memory holds.
const ROOM: usize = 4096;

/// A runtime that is not the endpoint's.
fn another_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name("another").enable_all().build().unwrap()
}

/// Runs a test on a runtime that is not the endpoint's.
fn run<T>(test: impl Future<Output = T>) -> T {
    another_runtime().block_on(soon(test))
}

/// Fails a test that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A server without a listener that sends back what it receives.
fn unbound() -> RxWsServer<WsStr> {
    unbound_with(|builder| builder)
}

fn unbound_with(options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>) -> RxWsServer<WsStr> {
    echoing(options(RxWsServer::unbound(WsStr)).build().unwrap())
}

/// A client's end of a stream in memory that `server` accepts.
fn memory(server: &RxWsServer<WsStr>) -> DuplexStream {
    let (near, far) = duplex(ROOM);
    server.accept(far);
    near
}

/// Makes the opening handshake as a client that is not ours.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: S, path: &str) -> WebSocketStream<S> {
    client_async(format!("ws://robot{path}"), stream).await.expect("the server opens a connection").0
}

/// Sends a text and waits until it comes back.
async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut WebSocketStream<S>, text: &str) {
    peer.send(text.into()).await.unwrap();
    assert_eq!(next(peer).await, Message::from(text));
}

/// The next message, but for the heartbeat's pings.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut WebSocketStream<S>) -> Message {
    loop {
        match peer.next().await.expect("the connection is open").unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

/// Waits for the close frame, and answers it.
async fn close_code<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut WebSocketStream<S>) -> u16 {
    let Message::Close(Some(frame)) = next(peer).await else { panic!("another message than a close frame") };
    assert!(peer.next().await.is_none_or(|message| message.is_err()), "nothing follows a close frame");
    frame.code.into()
}

/// Everything that comes on a stream, to its end.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    rest
}

/// Waits for the refusal of a peer: its status and why.
fn refusal(events: &Recorder<ServerEvent>) -> (Option<u16>, String) {
    events.find(|event| match event {
        ServerEvent::Rejected { status, reason, .. } => Some((status, reason.to_string())),
        _ => None,
    })
}
