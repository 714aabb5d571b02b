//! A server ends, and its accepted and adopted connections with it.

use std::{
    io,
    pin::Pin,
    sync::mpsc::{self, Receiver, Sender},
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use rxplus::{Adopted, prelude::*};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    runtime::Builder,
};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{Message, protocol::Role};

use crate::{
    ROOM, close_code, echoes, memory, open, rest, run,
    support::{PATIENCE, Recorder, each_runtime, tally},
    unbound, unbound_with,
};

#[test]
fn complete_closes_all_connections_with_1001_and_waits_for_them() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let events = Recorder::on(server.events());
        run(async {
            let (near, far) = duplex(ROOM);
            server.adopt(far, Adopted::new("/adopted"));
            let mut adopted = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
            let mut accepted = open(memory(&server), "/accepted").await;
            echoes(&mut adopted, "one").await;
            echoes(&mut accepted, "two").await;
            let closing = server.clone();
            closing.complete();
            assert_eq!((close_code(&mut adopted).await, close_code(&mut accepted).await), (1001, 1001));
            assert_eq!(server.closed().await.unsent, 0);
        });
        let (events, end) = events.to_the_end();
        let ends =
            events.iter().filter(|event| matches!(event, ServerEvent::Disconnected { code: 1001, error: None, .. }));
        assert_eq!(ends.count(), 2, "{events:?}");
        assert!(matches!(events.last(), Some(ServerEvent::Closed(_))) && end.is_complete(), "{events:?}");
    }
}

#[test]
fn stream_that_is_still_in_its_handshake_is_dropped() {
    let server = unbound();
    let events = Recorder::on(server.events());
    run(async {
        let silent = memory(&server);
        // Behind the silent one, so that one's handshake has begun.
        echoes(&mut open(memory(&server), "/").await, "hello").await;
        server.clone().complete();
        assert_eq!(rest(silent).await, "");
    });
    assert_eq!(crate::refusal(&events), (None, "the server is closing".into()));
    server.wait_closed(PATIENCE).unwrap();
}

#[test]
fn stream_that_is_given_to_a_server_that_has_ended_is_dropped() {
    let server = unbound();
    server.clone().complete();
    let give = || {
        let (near, far) = duplex(ROOM);
        server.adopt(far, Adopted::new("/"));
        (memory(&server), near)
    };
    let (closing, _) = (give(), server.wait_closed(PATIENCE).unwrap());
    let closed = give();
    run(async {
        for stream in [closing.0, closing.1, closed.0, closed.1] {
            assert_eq!(rest(stream).await, "");
        }
    });
}

/// Streams that are given while the server completes: each is served and closed, or dropped; none is kept.
#[test]
fn streams_race_with_the_end_of_the_server() {
    for _ in 0..20 {
        let server = unbound();
        let giving = server.clone();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let given = scope.spawn(|| {
                start.wait();
                (0..10).map(|_| memory(&giving)).collect::<Vec<_>>()
            });
            start.wait();
            server.clone().complete();
            let streams = given.join().unwrap();
            server.wait_closed(PATIENCE).unwrap();
            run(async {
                for stream in streams {
                    rest(stream).await;
                }
            });
        });
    }
}

#[test]
fn server_without_a_listener_completes_when_its_last_handle_is_gone() {
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    let events = Recorder::on(server.events());
    drop(server);
    assert!(events.to_the_end().1.is_complete());
}

/// A stream each of whose writes is told, and waits until it may go on.
struct Waiting {
    stream: DuplexStream,
    writes: Sender<()>,
    may_go_on: Receiver<()>,
}

impl AsyncRead for Waiting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Waiting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.send(()).unwrap_or(());
        self.may_go_on.recv_timeout(PATIENCE).unwrap_or(());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// The server's task may be dropped on one thread while another still writes.
#[test]
fn message_that_is_being_written_when_the_runtime_ends_is_not_counted_as_unsent() {
    let tokio = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let server = unbound_with(|builder| builder.runtime(&runtime).ping_interval(None));
    let connections = Recorder::on(server.connections());
    let (near, stream) = duplex(ROOM);
    let ((writes, written), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    server.adopt(Waiting { stream, writes, may_go_on }, Adopted::new("/"));
    let connection = connections.item();
    connection.next("hello");
    written.recv_timeout(PATIENCE).unwrap();
    tokio.shutdown_background();
    // Whether it ends meanwhile or not.
    let _ = connection.wait_closed(Duration::from_millis(200));
    drop(go_on);
    connection.wait_closed(PATIENCE).unwrap();
    let heard = run(async { WebSocketStream::from_raw_socket(near, Role::Client, None).await.next().await });
    assert_eq!(heard.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(connection.stats().sent.written, tally(1, 5));
}
