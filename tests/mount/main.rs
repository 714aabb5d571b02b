//! A server mounted in axum, on real sockets: what it serves, what it refuses, and how both end together.
#![cfg(feature = "mount")]

mod closing;
#[cfg(all(feature = "http2", feature = "deflate"))]
mod compressed;
mod endpoints;
#[cfg(feature = "http2")]
mod http2;
mod refusals;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use std::{net::SocketAddr, sync::Arc, thread};

use axum::{Router, serve::Listener};
use rxplus::{Upgrade, prelude::*};
use support::*;
use tokio::runtime::Builder;

/// Serves `app` on a thread of its own. Returns the address that it listens on.
fn serve(app: Router) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    serve_on(app, || tokio::net::TcpListener::from_std(listener).unwrap());
    addr
}

fn serve_on<L: Listener<Addr: std::fmt::Debug>>(app: Router, listener: impl FnOnce() -> L + Send + 'static) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let serve = async { axum::serve(listener(), app).await };
    thread::Builder::new().name("axum".into()).spawn(move || runtime.block_on(serve)).unwrap();
}

/// A server without a listener that sends each message back.
fn unbound_echo() -> RxWsServer<WsStr> {
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    server
}

/// How the one attempt of a client fails.
fn refused(url: String) -> Arc<WsError> {
    let once = RetryPolicy::fixed(PATIENCE).max_retries(0);
    let client = RxWsClient::builder(url, WsStr).retry(once).connect().unwrap();
    match client.wait_connected(PATIENCE).unwrap_err() {
        WsError::RetriesExhausted { source, .. } => source,
        other => Arc::new(other),
    }
}

/// Sends a message to an echo, and waits for it.
fn assert_echoes(url: String) -> RxWsClient<WsStr> {
    let client = RxWsClient::connect(url, WsStr).unwrap();
    let heard = Recorder::on(client.clone());
    client.wait_connected(PATIENCE).unwrap();
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    client
}
