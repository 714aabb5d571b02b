//! A server whose connections are served by several threads at once.

mod support;

use std::{sync::mpsc, thread};

use rxplus::prelude::*;
use support::{PATIENCE, Recorder, url};

const CLIENTS: usize = 16;
const MESSAGES: usize = 2_000;

#[test]
fn server_on_several_threads_echoes_each_connection_in_order() {
    let runtime = IoRuntime::with_threads("several", 4).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
        .runtime(&runtime)
        .outbox(MESSAGES, usize::MAX, Overflow::Disconnect)
        .bind()
        .unwrap();
    // Each client has a path of its own, so through the server's own subject it hears itself alone.
    server.clone().subscribe_with(server.clone());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let client = RxWsClient::connect(url(&server, &format!("/{number}")), WsStr).unwrap();
            scope.spawn(move || {
                let heard = Recorder::on(client.clone());
                for message in 0..MESSAGES {
                    client.next(message.to_string());
                }
                for message in 0..MESSAGES {
                    assert_eq!(heard.item(), message.to_string());
                }
                client.complete();
            });
        }
    });
    let stats = server.stats();
    assert_eq!(stats.received.messages, (CLIENTS * MESSAGES) as u64);
    assert_eq!(stats.sent.dropped.total().messages, 0);
}

/// Enough on one path for a message of it to be kept once for all of them, and more messages than are kept together.
const LISTENERS: usize = 12;
const TO_ALL: usize = 1_000;

/// The servers on which a message goes to many: one thread, several that share their tasks, and lanes.
fn servers() -> [RxWsServer<WsStr>; 3] {
    let builder = || {
        let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr);
        builder.outbox(4 * TO_ALL, usize::MAX, Overflow::Disconnect)
    };
    let several = IoRuntime::with_threads("several", 3).unwrap();
    [builder().bind(), builder().runtime(&several).bind(), builder().threads(3).bind()].map(Result::unwrap)
}

/// A message of a thread: mostly short, and sometimes too long to be kept once for all.
fn message_to_all(who: &str, number: usize) -> String {
    let len = if number % 100 == 99 { 3_000 } else { number % 200 };
    format!("{who} {number} {}", "x".repeat(len))
}

#[test]
fn what_several_threads_push_to_many_comes_whole_and_in_the_order_of_each() {
    for server in servers() {
        let connections = Recorder::on(server.connections());
        let clients: Vec<_> =
            (0..LISTENERS).map(|_| RxWsClient::connect(url(&server, "/all"), WsStr).unwrap()).collect();
        let heard: Vec<_> = clients.iter().map(|client| Recorder::on(client.clone())).collect();
        let connections: Vec<_> = (0..LISTENERS).map(|_| connections.item()).collect();
        thread::scope(|scope| {
            for who in ["one", "two"] {
                let server = server.clone();
                scope.spawn(move || {
                    let push = |number| server.send(TaggedData::new("/all", message_to_all(who, number)));
                    (0..TO_ALL).for_each(|number| push(number).unwrap());
                });
            }
            // What a connection is sent by itself comes in between.
            scope.spawn(|| {
                for number in 0..TO_ALL {
                    connections.iter().for_each(|connection| connection.send(message_to_all("alone", number)).unwrap());
                }
            });
        });
        for heard in &heard {
            let mut expected = [("one", 0), ("two", 0), ("alone", 0)];
            for _ in 0..3 * TO_ALL {
                let item = heard.item();
                let who = item.split(' ').next().unwrap();
                let (who, number) = expected.iter_mut().find(|(name, _)| *name == who).unwrap();
                assert!(*item == *message_to_all(who, *number), "{who} {number}");
                *number += 1;
            }
        }
        let sent = server.stats().sent;
        assert_eq!(sent.accepted.messages, (3 * TO_ALL * LISTENERS) as u64);
        assert_eq!(sent.dropped.total().messages, 0);
    }
}

/// Keeps this thread on its core, and those that it starts from now on.
#[cfg(target_os = "linux")]
fn stay_on_one_core() {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &cores).unwrap();
}

/// Also where the two threads take turns.
#[cfg(target_os = "linux")]
#[test]
fn callback_that_waits_for_what_another_thread_on_its_core_has_to_write_does_not_wait_in_vain() {
    stay_on_one_core();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(None).threads(2).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let client = |path| RxWsClient::builder(url(&server, path), WsStr).ping_interval(None);
    let connect = |path| client(path).connect().unwrap();
    let (asker, listener) = (connect("/asker"), connect("/listener"));
    let mut both = [connections.item(), connections.item()];
    both.sort_by_key(|connection| connection.path().to_string());
    let [asking, listening] = both;
    let leaving = listener.clone();
    listener.clone().subscribe(move |_| leaving.clone().complete());
    let (tell, told) = mpsc::channel();
    asking.subscribe(move |_| {
        listening.next("leave");
        tell.send(listener.wait_closed(PATIENCE)).unwrap();
    });
    asker.next("let it leave");
    told.recv().unwrap().unwrap();
}
