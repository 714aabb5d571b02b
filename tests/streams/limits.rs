//! Limits hold for accepted and adopted streams; those per address only where there is one.

use std::time::Duration;

use futures::FutureExt;
use rxplus::{Adopted, Limits, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    time::advance,
};
use tokio_tungstenite::client_async;

use crate::{
    ROOM, echoes, memory, open, refusal, rest, run,
    support::{Recorder, foreign::upgrade_request, stall, until},
    unbound_with,
};

fn with(limits: Limits) -> (RxWsServer<WsStr>, Recorder<ServerEvent>) {
    let server = unbound_with(|builder| builder.limits(limits));
    let events = Recorder::on(server.events());
    (server, events)
}

/// The answer to a request for a connection that is refused.
async fn refused(mut stream: DuplexStream, path: &str) -> String {
    // The server may have hung up.
    let _ = stream.write_all(upgrade_request(path).as_bytes()).await;
    rest(stream).await
}

/// The end of a stream whose other end `server` adopts.
fn adopted(server: &RxWsServer<WsStr>, adopted: Adopted) -> DuplexStream {
    let (near, far) = duplex(ROOM);
    server.adopt(far, adopted);
    near
}

#[test]
fn one_handshake_too_many_is_refused_while_the_others_are_young() {
    let (server, events) = with(Limits::server().handshakes(1));
    run(async {
        let young = memory(&server);
        let answer = rest(memory(&server)).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Limits::handshakes"), "{answer}");
        assert_eq!(refusal(&events).0, Some(503));
        // No HTTP for a stream whose handshake is over.
        assert_eq!(rest(adopted(&server, Adopted::new("/"))).await, "");
        let (status, reason) = refusal(&events);
        assert!(status.is_none() && reason.contains("Limits::handshakes"), "{reason}");
        echoes(&mut open(young, "/").await, "still here").await;
    });
    server.complete();
}

#[test]
fn one_connection_too_many_gets_503_until_another_one_ends() {
    let (server, events) = with(Limits::server().connections(1));
    run(async {
        let first = open(memory(&server), "/").await;
        let answer = refused(memory(&server), "/").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Limits::connections)"), "{answer}");
        assert_eq!(refusal(&events).0, Some(503));
        assert_eq!(rest(adopted(&server, Adopted::new("/"))).await, "");
        assert!(refusal(&events).1.contains("Limits::connections)"));
        drop(first);
        until("the first one gone", || server.connection_count() == 0);
        // Its place is free a moment later.
        while client_async("ws://robot/", memory(&server)).await.is_err() {}
    });
    server.complete();
}

#[test]
fn path_has_as_many_connections_as_it_allows_however_they_come() {
    let (server, events) = with(Limits::server().connections_per_path(1));
    run(async {
        let (_a, _b) = (open(memory(&server), "/a").await, adopted(&server, Adopted::new("/b")));
        until("both there", || server.connection_count() == 2);
        for path in ["/a", "/b"] {
            let answer = refused(memory(&server), path).await;
            assert!(answer.contains("Limits::connections_per_path"), "{answer}");
            assert_eq!(refusal(&events).0, Some(503));
            assert_eq!(rest(adopted(&server, Adopted::new(path))).await, "");
            assert!(refusal(&events).1.contains("Limits::connections_per_path"));
        }
        echoes(&mut open(memory(&server), "/c").await, "room here").await;
    });
    server.complete();
}

#[test]
fn limit_per_address_counts_streams_that_have_one() {
    let (server, events) = with(Limits::server().connections_per_address(1));
    run(async {
        let (mut first, mut second) = (open(memory(&server), "/").await, open(memory(&server), "/").await);
        echoes(&mut first, "nobody's address").await;
        echoes(&mut second, "nobody's either").await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            streams.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            server.accept(listener.accept().await.unwrap().0);
        }
        let mut refused = streams.pop().unwrap();
        let mut third = open(streams.pop().unwrap(), "/").await;
        echoes(&mut third, "the first of its address").await;
        refused.write_all(upgrade_request("/").as_bytes()).await.unwrap();
        let answer = rest(refused).await;
        assert!(answer.contains("Limits::connections_per_address"), "{answer}");
        assert_eq!(refusal(&events).0, Some(503));

        // A proxy, for example, has said where it comes from.
        assert_eq!(rest(adopted(&server, Adopted::new("/").peer_addr("127.0.0.1:9".parse().unwrap()))).await, "");
        assert!(refusal(&events).1.contains("Limits::connections_per_address"));
    });
    server.complete();
}

/// Nobody is taken in while a callback blocks the server, so a program that goes on accepting must not fill the memory.
#[test]
fn streams_that_wait_for_a_busy_server_are_bounded() {
    let runtime = IoRuntime::new("busy").unwrap();
    let server = unbound_with(|builder| builder.runtime(&runtime).limits(Limits::server().handshakes(2)));
    let held = stall(&runtime);
    // The clock of this thread alone: each stream finds the ones before it old enough to make room.
    let clock = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut streams = clock.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(memory(&server));
            advance(Duration::from_secs(1)).await;
        }
        streams
    });
    streams.retain_mut(|stream| stream.read(&mut [0]).now_or_never().is_none());
    assert_eq!(streams.len(), 2, "waiting streams");
    drop(held);
    run(async { echoes(&mut open(streams.pop().unwrap(), "/").await, "waited").await });
    server.complete();
}
