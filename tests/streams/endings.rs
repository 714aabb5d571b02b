//! A server ends, and its accepted and adopted connections with it.

use rxplus::{Adopted, prelude::*};
use tokio::io::duplex;
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::Role;

use crate::{
    ROOM, close_code, echoes, memory, open, rest, run,
    support::{PATIENCE, Recorder, each_runtime},
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
