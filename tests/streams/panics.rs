//! A stream of the program's that panics ends its own connection, and nothing else.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use rxplus::{Adopted, prelude::*};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use crate::{
    ROOM, close_code, echoes, memory, open, refusal, run,
    support::{PATIENCE, Recorder, each_runtime, echoing, stall, until},
    unbound_with,
};

const READ: u8 = 1;
const WRITE: u8 = 2;
const FLUSH: u8 = 4;
const SHUTDOWN: u8 = 8;
const DROP: u8 = 16;

/// A stream in memory that panics in the calls that its fuse names.
struct Faulty {
    stream: DuplexStream,
    fuse: Arc<AtomicU8>,
}

impl Faulty {
    fn new(stream: DuplexStream, calls: u8) -> (Self, Arc<AtomicU8>) {
        let fuse = Arc::new(AtomicU8::new(calls));
        (Self { stream, fuse: fuse.clone() }, fuse)
    }

    fn try_call(&mut self, call: u8) -> Pin<&mut DuplexStream> {
        assert_eq!(self.fuse.load(SeqCst) & call, 0, "a bug of a stream's");
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for Faulty {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.try_call(READ).poll_read(cx, space)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.try_call(WRITE).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.try_call(WRITE).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.try_call(FLUSH).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.try_call(SHUTDOWN).poll_shutdown(cx)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.try_call(DROP);
    }
}

/// Why the next connection that ends has ended.
fn error(events: &Recorder<ServerEvent>) -> Option<String> {
    events.find(|event| match event {
        ServerEvent::Disconnected { error, .. } => Some(error.map(|error| format!("{error:?}"))),
        _ => None,
    })
}

#[test]
fn panic_in_a_handshake_is_a_refusal() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let events = Recorder::on(server.events());
        run(async {
            let mut good = open(memory(&server), "/").await;
            for calls in [READ, WRITE, READ | DROP] {
                let (near, far) = duplex(ROOM);
                server.accept(Faulty::new(far, calls).0);
                tokio_tungstenite::client_async("ws://robot/", near).await.unwrap_err();
                let (status, reason) = refusal(&events);
                assert!(status.is_none() && reason.contains("a bug of a stream's"), "{reason}");
                echoes(&mut good, "unharmed").await;
            }
            echoes(&mut open(memory(&server), "/").await, "unharmed").await;
        });
        server.clone().complete();
        server.wait_closed(PATIENCE).unwrap();
    }
}

#[test]
fn panic_on_an_open_connection_ends_that_one() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let events = Recorder::on(server.events());
        run(async {
            let mut good = open(memory(&server), "/good").await;
            for calls in [READ, WRITE, FLUSH, READ | DROP, WRITE | DROP] {
                let (near, far) = duplex(ROOM);
                let (stream, fuse) = Faulty::new(far, 0);
                server.accept(stream);
                let mut bad = open(near, "/bad").await;
                echoes(&mut bad, "as yet").await;
                fuse.store(calls, SeqCst);
                // Written by the task that writes for all, or read by the connection's own.
                server.next(TaggedData::new("/bad", "x"));
                futures::SinkExt::send(&mut bad, "y".into()).await.unwrap_or(());
                let error = error(&events).unwrap_or_default();
                assert!(error.contains("a bug of a stream's"), "{error}");
                echoes(&mut good, "unharmed").await;
            }
        });
        server.clone().complete();
        server.wait_closed(PATIENCE).unwrap();
    }
}

#[test]
fn panic_in_closing_or_in_a_destructor_keeps_nobody_from_ending() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        run(async {
            let mut good = open(memory(&server), "/good").await;
            for calls in [SHUTDOWN, DROP, SHUTDOWN | DROP] {
                let (near, far) = duplex(ROOM);
                server.accept(Faulty::new(far, calls).0);
                let mut bad = open(near, "/bad").await;
                echoes(&mut bad, "as yet").await;
                bad.close(None).await.unwrap();
                until("the end of the bad one", || server.connection_count() == 1);
                echoes(&mut good, "unharmed").await;
            }
            let (near, far) = duplex(ROOM);
            server.accept(Faulty::new(far, SHUTDOWN | DROP).0);
            let mut bad = open(near, "/bad").await;
            drop(good);
            server.clone().complete();
            assert_eq!(close_code(&mut bad).await, 1001);
            server.closed().await;
        });
    }
}

/// A push into a full outbox writes by itself, on the thread that pushes.
#[test]
fn panic_in_a_push_does_not_reach_who_pushes() {
    let runtime = IoRuntime::new("stalled").unwrap();
    let options = RxWsServer::unbound(WsStr).runtime(&runtime).outbox(1, 1024, Overflow::Disconnect);
    let server = echoing(options.build().unwrap());
    let events = Recorder::on(server.events());
    run(async {
        let (near, far) = duplex(ROOM);
        let (stream, fuse) = Faulty::new(far, 0);
        server.adopt(stream, Adopted::new("/bad"));
        let mut good = open(memory(&server), "/good").await;
        echoes(&mut good, "hello").await;
        fuse.store(WRITE, SeqCst);
        let held = stall(&runtime);
        (0..3).for_each(|_| server.next(TaggedData::new("/bad", "x")));
        drop(held);
        let error = error(&events).unwrap_or_default();
        assert!(error.contains("a bug of a stream's") || error.contains("outbox"), "{error}");
        echoes(&mut good, "unharmed").await;
        drop(near);
    });
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
}

/// Where there is no room, the answer is written by the thread that gives the stream.
#[test]
fn panic_of_a_stream_that_is_turned_away_does_not_reach_who_gives_it() {
    let server = unbound_with(|builder| builder.limits(Limits::server().handshakes(1)));
    let events = Recorder::on(server.events());
    let young = memory(&server);
    for calls in [WRITE, WRITE | DROP] {
        server.accept(Faulty::new(duplex(ROOM).1, calls).0);
        assert_eq!(refusal(&events).0, Some(503));
        server.adopt(Faulty::new(duplex(ROOM).1, DROP).0, Adopted::new("/"));
        assert_eq!(refusal(&events).0, None);
    }
    run(async { echoes(&mut open(young, "/").await, "unharmed").await });
    server.clone().complete();
    server.accept(Faulty::new(duplex(ROOM).1, DROP).0);
    server.wait_closed(PATIENCE).unwrap();
    server.adopt(Faulty::new(duplex(ROOM).1, DROP).0, Adopted::new("/"));
}

#[test]
fn panic_of_a_connectors_stream_is_a_lost_connection() {
    let server = crate::unbound();
    let accepting = server.clone();
    let fuse = Arc::new(AtomicU8::new(0));
    let own = fuse.clone();
    let client = RxWsClient::builder("ws://robot/", WsStr)
        .retry(RetryPolicy::fixed(std::time::Duration::from_millis(1)))
        .connector(move |_| {
            let stream = Faulty { stream: memory(&accepting), fuse: own.clone() };
            async { Ok(stream) }
        })
        .connect()
        .unwrap();
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    for calls in [READ, WRITE, READ | DROP] {
        client.wait_connected(PATIENCE).unwrap();
        client.next("hello");
        assert_eq!(heard.item(), "hello");
        fuse.store(calls, SeqCst);
        client.next("again");
        server.next(TaggedData::new("/", "wake"));
        let error = events.find(|event| match event {
            ClientEvent::Disconnected { error: Some(error), .. } => Some(format!("{error:?}")),
            _ => None,
        });
        assert!(error.contains("a bug of a stream's"), "{error}");
        fuse.store(0, SeqCst);
        // What was not written goes over the next connection; what the server had sent may have been lost.
        heard.find(|text| (text == "again" || calls & READ != 0).then_some(()));
    }
    client.complete();
    server.complete();
}
