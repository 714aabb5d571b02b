//! Clients, servers and runtimes that are dropped while a session begins, is parked or is resumed leave nothing behind.

use std::{fs, time::Duration};

use rxplus::prelude::*;

use super::{
    raw::{HELLO, Speaker, foreign_server},
    sessions::{Pair, resumable_server},
    support::{foreign::ForeignServer, proxy::End, *},
};

/// How many threads of this process have `name`.
fn threads_named(name: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

fn wait_for_no_thread(name: &str) {
    until("the end of the thread", || threads_named(name) == 0);
}

fn client_of(foreign: &ForeignServer, name: &str) -> RxWsClient<WsStr> {
    let limits = Limits::client().close_timeout(Duration::from_millis(50));
    let builder = RxWsClient::builder(foreign.url(), WsStr).name(name).limits(limits).resumable(Resume::new());
    builder.conn_retry_timeout(Duration::from_millis(1)).connect().unwrap()
}

/// Dropped in each state of a client's session, with and without messages that wait.
#[test]
fn client_dropped_in_any_phase_leaves_no_thread() {
    for (number, phase) in ["silent", "offered", "beginning", "linked", "away", "resuming"].into_iter().enumerate() {
        for has_unsent in [false, true] {
            let (foreign, name) = (foreign_server(), format!("r{number}{}", u8::from(has_unsent)));
            let client = client_of(foreign, &name);
            if has_unsent {
                client.send("unsent").unwrap();
            }
            let mut link = Speaker::accept(foreign);
            if phase != "silent" {
                link.say(HELLO);
            }
            if !["silent", "offered"].contains(&phase) {
                assert_eq!(link.heard(), "new");
            }
            let mut later = None;
            if ["linked", "away", "resuming"].contains(&phase) {
                link.say("ack 0");
                client.wait_connected(PATIENCE).unwrap();
                if phase != "linked" {
                    link.close(1001);
                    later = Some(Speaker::wanted(foreign));
                }
                if phase == "away" {
                    later = None;
                }
            }
            drop(client);
            wait_for_no_thread(&format!("rxplus-{name}"));
            drop((link, later));
        }
    }
}

/// With all that it holds: its subscribers are dropped.
#[test]
fn server_whose_runtime_ends_while_sessions_are_parked_drops_all_of_them() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime);
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let (first, _) = Speaker::linked(server.local_addr(), "/");
    let (second, _) = Speaker::linked(server.local_addr(), "/");
    let parked = connections.item();
    let (sentinel, is_dropped) = sentinel();
    parked.clone().log_errors().subscribe(move |_| hold(&sentinel));
    drop(first);
    until("it is away", || !parked.is_linked());
    let linked = Recorder::on(parked.link());
    tokio.shutdown_background();
    is_dropped.recv_timeout(PATIENCE).unwrap();
    assert!(!linked.to_the_end().0.contains(&true));
    drop(second);
}

#[test]
fn server_dropped_while_its_clients_are_away_leaves_no_thread() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("r-srv").resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    drop(Speaker::linked(server.local_addr(), "/"));
    let connection = connections.item();
    until("it is away", || !connection.is_linked());
    drop(server);
    wait_for_no_thread("rxplus-r-srv");
}

/// Nobody needs a handle for the session to go on.
#[test]
fn handles_dropped_while_the_client_is_away_end_nothing() {
    let Pair { server, proxy, client, events, connections, connection, up, down } = Pair::new(Resume::new());
    proxy.refuse(true);
    proxy.end(End::Reset);
    until("it is away", || !connection.is_linked());
    connection.send("kept").unwrap();
    drop((connection, connections, up));
    proxy.refuse(false);
    assert_eq!(down.item(), "kept");
    events.find(|event| matches!(event, SessionEvent::Resumed { missed: 0, .. }).then_some(()));
    client.send("up").unwrap();
    assert_eq!(Recorder::on(server.map(|td| td.data)).item(), "up");
}

/// Subscriber panics: the message counts as received.
#[test]
fn message_whose_subscriber_panics_does_not_come_again() {
    let server = resumable_server(Resume::new());
    let connections = Recorder::on(server.connections());
    let proxy = proxy::Proxy::to(server.local_addr());
    let builder = RxWsClient::builder(proxy.url("/").as_str(), WsStr).resumable(Resume::new());
    let client = builder.conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    let events = Recorder::on(client.events());
    let connection = connections.item();
    let up = Recorder::on(connection.clone());
    connection.clone().log_errors().subscribe(|_| panic!("a bug of the subscriber's"));
    client.send("one").unwrap();
    assert_eq!(up.item(), "one");
    proxy.end(End::Reset);
    events.find(|event| matches!(event, ClientEvent::Session(SessionEvent::Resumed { .. })).then_some(()));
    client.send("two").unwrap();
    assert_eq!(up.item(), "two");
    until("both are acknowledged", || client.stats().sent.acknowledged == 2);
}
