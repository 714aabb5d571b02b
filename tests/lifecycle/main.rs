//! How endpoints and their connections begin, connect again, close and end: attempts, refusals, the heartbeat, close codes, the
//! last handle; in which order all that is told, and what becomes of messages when a link ends.
//!
//! What endpoints do while they are connected is in `endpoints`.

mod attempts;
mod close_codes;
mod closing;
mod deaths;
mod endings;
mod heartbeat;
#[cfg(target_os = "linux")] // counts threads by /proc
mod lanes;
#[cfg(target_os = "linux")] // counts threads by /proc
mod lifetime;
mod paths;
mod random;
mod reconnecting;
mod refusals;
mod resending;
mod states;
#[path = "../support/mod.rs"]
mod support;
mod waiting;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use support::{
    foreign::*,
    proxy::{Direction, End, Proxy},
    *,
};

const AT_ONCE: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(3600);

/// Waits until a client tells that it will try again: the number of failed attempts, and the delay.
fn next_attempt(events: &Recorder<ClientEvent>) -> (u32, Duration) {
    events.find(|event| match event {
        ClientEvent::Reconnecting { attempt, delay } => Some((attempt, delay)),
        _ => None,
    })
}

/// A client that comes back at once.
fn client_at(address: &str) -> RxWsClient<WsStr> {
    RxWsClient::builder(address, WsStr).conn_retry_timeout(AT_ONCE).connect().unwrap()
}

/// An address where nobody listens.
fn free_address(host: &str) -> String {
    let listener = TcpListener::bind((host, 0)).unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

/// A server that sends back what it receives, where clients are waiting for it: those may be faster than a subscription to
/// `connections()`, but not than one to the server, which keeps what came before.
fn returned_at(address: &str) -> RxWsServer<WsStr> {
    let server = RxWsServer::bind(address, WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    server
}

fn stop<D: WsDatatype>(server: RxWsServer<D>) {
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
}

fn wait_for_state(states: &Recorder<ConnectionState>, wanted: fn(&ConnectionState) -> bool) {
    states.find(|state| wanted(&state).then_some(()));
}

fn is_reconnecting(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Reconnecting { .. })
}

/// A client that comes back at once, and takes every connection for a good one.
fn hasty_client(proxy: &Proxy) -> RxWsClient<WsStr> {
    let builder = RxWsClient::builder(proxy.url("/"), WsStr).conn_retry_timeout(AT_ONCE);
    builder.min_uptime(Duration::ZERO).connect().unwrap()
}

/// What a client said before it closed, and with which code it did.
type LastWords = (Vec<String>, Option<u16>);

/// A server that says how its clients end.
fn close_code_server() -> (SocketAddr, mpsc::Receiver<LastWords>) {
    let (send, ends) = mpsc::channel();
    (foreign_server(move |_, mut peer| send.send(read_to_the_end(&mut peer)).unwrap()), ends)
}

fn assert_ascending(numbers: &[u64]) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice");
}
