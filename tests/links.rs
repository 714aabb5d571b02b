//! What links that come and go must not do to those who use them.

mod support;

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rxplus::prelude::*;
use support::{Heard, PATIENCE, Recorder, echo_server, url};

/// An address where nobody listens.
fn nowhere() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}", free.local_addr().unwrap())
}

#[test]
fn client_that_overflows_while_it_waits_to_connect_errors_at_once() {
    let client = RxWsClient::builder(nowhere(), WsStr)
        .outbox(2, 100, Overflow::Disconnect)
        .conn_retry_timeout(Duration::from_secs(3600))
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    let states = Recorder::on(client.state());
    states.find(|state| matches!(state, ConnectionState::Reconnecting { .. }).then_some(()));
    (0..2).for_each(|_| client.send("queued").unwrap());
    assert!(matches!(client.send("too much"), Err(SendError::Full(_))));
    assert!(matches!(heard.hear(), Heard::Error(error) if error.contains("3 messages of 20 bytes")));
    let sent = client.stats().sent;
    assert_eq!((sent.accepted.messages, sent.dropped.overflow.messages, sent.queued.messages), (3, 3, 0));
}

#[test]
fn reconnect_asked_for_when_connected_is_told_is_not_lost_and_does_not_use_up_the_policy() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr)
        .retry(RetryPolicy::fixed(Duration::from_secs(3600)).max_retries(0))
        .connect()
        .unwrap();
    let (again, times) = (client.clone(), AtomicUsize::new(0));
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected && times.fetch_add(1, Ordering::Relaxed) < 3 {
            again.reconnect();
        }
    });
    let events = Recorder::on(client.events());
    for _ in 0..4 {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
    }
    let heard = Recorder::on(client.clone());
    client.next("still there");
    assert_eq!(heard.item(), "still there");
    assert_eq!(client.stats().reconnects, 3);
}

/// Text, but for one that cannot even be tried.
struct Delicate;

impl WsDatatype for Delicate {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        assert_ne!(*item, "panic");
        WsStr.encode(path, item)
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        WsStr.decode(path, frame)
    }
}

#[test]
fn client_outlives_a_datatype_that_panics_over_a_greeting() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), Delicate)
        .greeting(|_| ["hello", "panic", "sent all the same"])
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    client.next("message");
    assert_eq!(heard.items(3), ["hello", "sent all the same", "message"]);
    client.complete();
    assert_eq!(heard.hear(), Heard::Complete);
}

#[test]
fn times_as_long_as_there_are_mean_never() {
    let forever = Duration::MAX;
    let limits = || Limits::server().handshake(forever).write_stalled(forever).close_timeout(forever);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
        .limits(limits())
        .ping_interval(forever)
        .ping_timeout(forever)
        .bind()
        .unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    let client = RxWsClient::builder(url(&server, "/"), WsStr)
        .limits(limits())
        .ping_interval(forever)
        .ping_timeout(forever)
        .connect_timeout(forever)
        .min_uptime(forever)
        .conn_retry_timeout(forever)
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    client.wait_connected(forever).unwrap();
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    client.clone().complete();
    client.wait_closed(forever).unwrap();
    server.clone().complete();
    server.wait_closed(forever).unwrap();
}

#[test]
fn send_tells_each_of_several_threads_whether_its_message_was_taken() {
    // Nobody is there to take anything: exactly as many are accepted as the outbox holds.
    const ROOM: usize = 500;
    let group = RxWsClientGroup::builder(nowhere(), WsStr).outbox(ROOM, 1 << 20, Overflow::DropLatest).build().unwrap();
    let (start, accepted) = (Barrier::new(4), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..ROOM {
                    if group.send(TaggedData::new("/path", "message")).is_ok() {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let sent = group.stats().all.sent;
    assert_eq!((accepted.into_inner(), sent.queued.messages), (ROOM, ROOM as u64));
}

#[test]
fn nothing_sent_to_a_group_is_lost_while_its_paths_are_closed_again_and_again() {
    const EACH: usize = 1_000;
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = heard.clone();
    server.clone().log_errors().subscribe(move |tagged| noted.lock().unwrap().push(tagged.data.to_string()));
    let group = RxWsClientGroup::new(url(&server, ""), WsStr).unwrap();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (group, start) = (&group, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..EACH {
                    group.send(TaggedData::new("/path", format!("{thread} {n}"))).unwrap();
                }
            });
        }
        start.wait();
        for _ in 0..50 {
            group.close("/path");
            thread::yield_now();
        }
    });
    group.clone().complete();
    assert_eq!(group.wait_closed(PATIENCE).unwrap().unsent, 0);
    let sent = group.stats().all.sent;
    assert_eq!((sent.accepted, sent.written.messages), (sent.written, 2 * EACH as u64));
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(heard.len(), 2 * EACH);
}

#[test]
fn connection_served_by_several_threads_is_told_of_before_its_first_message_is_read() {
    const CLIENTS: usize = 40;
    let runtime = IoRuntime::with_threads("several", 4).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let (say, heard) = std::sync::mpsc::channel();
    server.connections().subscribe(move |connection| {
        // While this one is told of, others come and send.
        thread::sleep(Duration::from_millis(2));
        let say = say.clone();
        connection.log_errors().subscribe(move |text| say.send(text).unwrap());
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| RxWsClient::builder(url(&server, "/"), WsStr).runtime(&runtime).connect().unwrap())
        .collect();
    clients.iter().for_each(|client| client.next("first"));
    for _ in 0..CLIENTS {
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "first");
    }
}
