//! Backpressure for those who push: to wait for room in an outbox, on real sockets.

mod conflated;
mod pressure;
mod sinks;
#[path = "../support/mod.rs"]
mod support;
mod waiting;

use std::{
    net::TcpListener,
    pin::pin,
    sync::mpsc,
    task::{Context as Cx, Poll, Waker},
    thread,
    time::Duration,
};

use futures::executor::block_on;
use rxplus::prelude::*;
use support::{foreign::*, *};

/// A client that nobody answers, with room for this many messages or bytes.
fn unanswered(messages: usize, len: usize) -> (RxWsClient<WsStr>, TcpListener) {
    // Takes connections, as the system does for it, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    (RxWsClient::builder(url, WsStr).outbox(messages, len, Overflow::DropLatest).connect().unwrap(), silent)
}

/// Polls a future once, with a waker that does nothing.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Cx::from_waker(Waker::noop()))
}
