//! Components whose task dies with the runtime that the program gave them: everybody who waits or listens is told.

use tokio::runtime::{Builder, Runtime};

use super::*;

/// A runtime of the program's own, until it is shut down.
enum Program {
    Threads(Runtime),
    /// Driven by a thread that waits for the sender to be dropped.
    OneThread(tokio::sync::oneshot::Sender<()>, thread::JoinHandle<()>),
}

impl Program {
    fn each() -> [(Self, IoRuntime); 3] {
        let several = [1, 3].map(|threads| {
            let tokio = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
            let runtime = IoRuntime::from_tokio(tokio.handle().clone());
            (Self::Threads(tokio), runtime)
        });
        let tokio = Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = IoRuntime::from_tokio(tokio.handle().clone());
        let (running, ended) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || _ = tokio.block_on(ended));
        let [one, three] = several;
        [one, three, (Self::OneThread(running, thread), runtime)]
    }

    fn shut_down(self) {
        match self {
            Self::Threads(tokio) => drop(tokio),
            Self::OneThread(running, thread) => {
                drop(running);
                thread.join().unwrap();
            }
        }
    }
}

const SAID: &str = "has been shut down";

fn is_told<T: std::fmt::Debug>((_, end): (Vec<T>, Heard<T>)) {
    assert!(matches!(&end, Heard::Error(error) if error.contains(SAID)), "{end:?}");
}

/// The runtime's end is in one of the events, the last of which is the component's own end.
fn is_in_the_events<T: std::fmt::Debug + Send + 'static>(events: Recorder<T>, last: &str) {
    let (events, end) = events.to_the_end();
    let events: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
    assert!(end.is_complete() && events.last().is_some_and(|event| event.contains(last)), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.contains(SAID)).count(), 1, "{events:?}");
}

#[test]
fn client_ends_with_its_runtime() {
    let server = echo_server(WsStr);
    for (program, runtime) in Program::each() {
        let client = RxWsClient::builder(url(&server, "/"), WsStr).runtime(&runtime).connect().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        let (heard, events, states) =
            (Recorder::on(client.clone()), Recorder::on(client.events()), Recorder::on(client.state()));
        program.shut_down();
        assert!(matches!(client.send("too late"), Err(SendError::Closed(_))));
        client.wait_closed(PATIENCE).unwrap();
        let error = client.wait_connected(PATIENCE).unwrap_err();
        assert!(matches!(error, WsError::RuntimeEnded(_)), "{error}");
        is_told(heard.to_the_end());
        is_in_the_events(events, "Closed");
        let (states, end) = states.to_the_end();
        assert!(end.is_complete() && states.last() == Some(&ConnectionState::Closed), "{states:?}");
        is_told(Recorder::on(client.clone()).to_the_end()); // who comes later hears it too
        client.complete();
    }
}

#[test]
fn client_that_waits_to_reconnect_ends_with_its_runtime() {
    for (program, runtime) in Program::each() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let builder = RxWsClient::builder(nobody, WsStr).runtime(&runtime);
        let client = builder.conn_retry_timeout(Duration::from_secs(3600)).connect().unwrap();
        client.next("unsent");
        Recorder::on(client.state()).find(|state| matches!(state, ConnectionState::Reconnecting { .. }).then_some(()));
        let waiting = thread::spawn({
            let client = client.clone();
            move || client.wait_closed(Duration::MAX)
        });
        client.clone().complete(); // a clean end was asked for, and cannot be had any more
        program.shut_down();
        let report = waiting.join().unwrap().unwrap();
        assert_eq!((report.unsent, report.unsent_len), (1, 6));
        is_told(Recorder::on(client.clone()).to_the_end());
        assert_accounted(client.stats().sent);
    }
}

#[test]
fn server_and_its_connections_end_with_their_runtime() {
    for (program, runtime) in Program::each() {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
        let connections = Recorder::on(server.connections());
        let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
        let connection = connections.item();
        let (of_connection, told) = (Recorder::on(connection.clone()), Recorder::on(connection.events()));
        let lost = Recorder::on(client.events());
        program.shut_down();
        assert!(matches!(server.send(TaggedData::new("/", "too late")), Err(SendError::Closed(_))));
        assert!(matches!(connection.send("too late"), Err(SendError::Closed(_))));
        server.wait_closed(PATIENCE).unwrap();
        connection.wait_closed(PATIENCE).unwrap();
        assert_eq!(server.connection_count(), 0);
        is_told(heard.to_the_end());
        is_told(of_connection.to_the_end());
        assert!(connections.to_the_end().1.is_complete());
        is_in_the_events(told, "Disconnected");
        let (events, _) = events.to_the_end();
        let ends = events.iter().filter(|event| matches!(event, ServerEvent::Disconnected { error: Some(_), .. }));
        assert_eq!(ends.count(), 1, "{events:?}");
        assert!(events.iter().any(|event| matches!(event, ServerEvent::Failed { .. })), "{events:?}");
        assert!(matches!(events.last(), Some(ServerEvent::Closed(_))), "{events:?}");
        lost.find(|event| matches!(event, ClientEvent::Disconnected { .. }).then_some(())); // the socket is gone
        client.complete();
    }
}

#[test]
fn group_ends_with_its_runtime_behind_its_clients() {
    let server = echo_server(WsStr);
    for (program, runtime) in Program::each() {
        let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).runtime(&runtime).build().unwrap();
        let (heard, events) = (Recorder::on(group.clone()), Recorder::on(group.events()));
        let clients = ["/a", "/b"].map(|path| group.open(path).unwrap());
        clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
        program.shut_down();
        assert!(matches!(group.send(TaggedData::new("/c", "too late")), Err(SendError::Closed(_))));
        group.wait_closed(PATIENCE).unwrap();
        is_told(heard.to_the_end());
        let (events, _) = events.to_the_end();
        let closed = events.iter().filter(|event| matches!(event.data, ClientEvent::Closed(_)));
        let mut closed: Vec<_> = closed.map(|event| &*event.tag).collect();
        assert_eq!(closed.pop(), Some(""));
        closed.sort_unstable();
        assert_eq!(closed, ["/a", "/b"]);
    }
}

#[test]
fn component_on_a_runtime_that_was_shut_down_is_an_error_at_once() {
    for (program, runtime) in Program::each() {
        program.shut_down();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().map(drop);
        let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).runtime(&runtime).connect().map(drop);
        let group = RxWsClientGroup::builder("ws://127.0.0.1:1", WsStr).runtime(&runtime).build().map(drop);
        for made in [server, client, group] {
            assert!(matches!(made, Err(WsError::RuntimeEnded(_))), "{made:?}");
        }
    }
}

#[test]
fn component_on_a_runtime_without_its_drivers_is_an_error_at_once() {
    for (time, io) in [(false, false), (true, false), (false, true)] {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1);
        if time {
            builder.enable_time();
        }
        if io {
            builder.enable_io();
        }
        let tokio = builder.build().unwrap();
        let runtime = IoRuntime::from_tokio(tokio.handle().clone());
        let made = RxWsClient::builder("ws://127.0.0.1:1", WsStr).runtime(&runtime).connect().map(drop);
        assert!(matches!(&made, Err(error) if error.to_string().contains("enable_all()")), "{made:?}");
    }
}
