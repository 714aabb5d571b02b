//! Our servers: each a line of Rx.

use std::{net::SocketAddr, time::Duration};

use rxplus::{ServerBuilder, prelude::*};

use crate::competitor::LISTENERS;

/// Far beyond a run, also divided by the number of connections in it, since the first ping of each comes at random within the interval:
/// the load counts bytes, and pings would be among them. The timers are set all the same.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10_000 * 365 * 24 * 3600);

fn server() -> RxWsServer<WsStr> {
    server_on(1)
}

fn server_on(threads: usize) -> RxWsServer<WsStr> {
    builder().threads(threads).bind().expect("a free port")
}

fn builder() -> ServerBuilder<WsStr> {
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(PING_INTERVAL)
}

fn resumable_server() -> RxWsServer<WsStr> {
    builder().resumable(Resume::new()).bind().expect("a free port")
}

/// An echo through each connection on its own, on so many threads.
pub(crate) fn connections(threads: usize) -> SocketAddr {
    stay(echo(server_on(threads)))
}

/// The same beside a subscriber on the server itself, as real programs have one. It hears nothing.
pub(crate) fn subscribed() -> SocketAddr {
    let server = echo(server());
    server.clone().tag_filter("/nobody").log_errors().subscribe(|_| {});
    stay(server)
}

pub(crate) fn echo(server: RxWsServer<WsStr>) -> RxWsServer<WsStr> {
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    server
}

/// An echo through the server's own subject: what comes from a path goes to that path.
pub(crate) fn tagged() -> SocketAddr {
    let server = server();
    server.clone().subscribe_with(server.clone());
    stay(server)
}

/// What a speaker says goes to all that listen, on so many threads.
pub(crate) fn fan_out(threads: usize) -> SocketAddr {
    to_listeners(server_on(threads))
}

/// An echo whose connections outlive their links, for clients that speak the resumable mode.
pub(crate) fn resumable() -> SocketAddr {
    stay(echo(resumable_server()))
}

/// The same, as a fan-out.
pub(crate) fn resumable_fan_out() -> SocketAddr {
    to_listeners(resumable_server())
}

/// An echo that compresses what is worthwhile, for clients that agree on it.
#[cfg(feature = "deflate")]
pub(crate) fn compressed() -> SocketAddr {
    stay(echo(compressing_server()))
}

/// The same, as a fan-out.
#[cfg(feature = "deflate")]
pub(crate) fn compressed_fan_out() -> SocketAddr {
    to_listeners(compressing_server())
}

#[cfg(feature = "deflate")]
fn compressing_server() -> RxWsServer<WsStr> {
    builder().compression(Deflate::new()).bind().expect("a free port")
}

fn to_listeners(server: RxWsServer<WsStr>) -> SocketAddr {
    server.clone().map(|said| TaggedData::new(LISTENERS, said.data)).subscribe_with(server.clone());
    stay(server)
}

/// Leaves the server running until the process ends.
pub(crate) fn stay(server: RxWsServer<WsStr>) -> SocketAddr {
    let addr = server.local_addr().as_tcp().expect("it listens on TCP");
    std::mem::forget(server);
    addr
}
