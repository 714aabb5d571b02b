//! Handles dropped anywhere leave no thread and no task behind.
//!
//! A component's own thread ends when its last task has, so a thread that is gone is proof of both.

use std::fs;

use super::*;

/// How many threads of this process have `name`, which must be short enough not to be cut: eight bytes after `rxplus-`.
fn threads_named(name: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    // One that has ended meanwhile has no name to read any more.
    let names = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

pub(crate) fn wait_for_no_thread(name: &str) {
    assert!(name.len() <= 15, "the system cuts {name}");
    until("the end of the thread", || threads_named(name) == 0);
}

#[test]
fn completed_components_leave_no_thread() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("1-srv").bind().unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("1-cli").connect().unwrap();
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).name("1-grp").build().unwrap();
    group.next(TaggedData::new("/a", "hello"));
    for name in ["rxplus-1-srv", "rxplus-1-cli", "rxplus-1-grp"] {
        // A new thread is named by itself, a moment after it was made.
        until("the start of the thread", || threads_named(name) == 1);
    }
    client.clone().complete();
    group.clone().complete();
    server.clone().complete();
    // Handles of closed components keep nothing alive.
    for name in ["rxplus-1-srv", "rxplus-1-cli", "rxplus-1-grp"] {
        wait_for_no_thread(name);
    }
}

#[test]
fn handles_dropped_right_after_they_were_made_leave_no_thread() {
    drop(RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("2-srv").bind().unwrap());
    drop(RxWsClient::builder("ws://127.0.0.1:1", WsStr).name("2-cli").connect().unwrap());
    drop(RxWsClientGroup::builder("ws://127.0.0.1:1", WsStr).name("2-grp").build().unwrap());
    for name in ["rxplus-2-srv", "rxplus-2-cli", "rxplus-2-grp"] {
        wait_for_no_thread(name);
    }
}

#[test]
fn handles_dropped_while_connecting_leave_no_thread() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).name("3-cli").connect().unwrap();
    let group = RxWsClientGroup::builder(server.url(), WsStr).name("3-grp").build().unwrap();
    group.open("/a").unwrap();
    let _unanswered = (server.accept_tcp(), server.accept_tcp());
    drop((client, group));
    wait_for_no_thread("rxplus-3-cli");
    wait_for_no_thread("rxplus-3-grp");
}

#[test]
fn handle_dropped_while_waiting_to_reconnect_leaves_no_thread() {
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).name("4-cli");
    let client = client.conn_retry_timeout(Duration::from_secs(1000)).connect().unwrap();
    Recorder::on(client.state()).find(|state| matches!(state, ConnectionState::Reconnecting { .. }).then_some(()));
    drop(client);
    wait_for_no_thread("rxplus-4-cli");
}

#[test]
fn handle_dropped_with_messages_unsent_leaves_no_thread() {
    let limits = Limits::client().close_timeout(Duration::from_millis(20));
    let client = RxWsClient::builder("ws://127.0.0.1:1", WsStr).name("5-cli").limits(limits).connect().unwrap();
    let events = Recorder::on(client.events());
    client.next("never sent");
    drop(client);
    let unsent = events.find(|event| match event {
        ClientEvent::Closed(report) => Some(report.unsent),
        _ => None,
    });
    assert_eq!(unsent, 1);
    wait_for_no_thread("rxplus-5-cli");
}

#[test]
fn handle_dropped_while_sending_sends_all_and_leaves_no_thread() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("6-srv").bind().unwrap();
    let heard = Recorder::on(server.clone());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("6-cli").connect().unwrap();
    texts(0..1000).into_iter().for_each(|text| client.next(text));
    drop(client);
    assert!(heard.items(1000).into_iter().map(|tagged| tagged.data).eq(texts(0..1000)));
    wait_for_no_thread("rxplus-6-cli");
    server.complete();
    wait_for_no_thread("rxplus-6-srv");
}

#[test]
fn last_handle_dropped_in_a_callback_leaves_no_thread() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("7-srv").bind().unwrap();
    let address = url(&server, "/");
    let client = RxWsClient::builder(&address, WsStr).name("7-cli").connect().unwrap();
    let group = RxWsClientGroup::builder(&address, WsStr).name("7-grp").build().unwrap();
    client.next("to the server");
    let mut last = Some((server.clone(), client.clone(), group.clone()));
    server.connections().take(1).subscribe(move |_| drop(last.take()));
    drop((server, client, group));
    for name in ["rxplus-7-srv", "rxplus-7-cli", "rxplus-7-grp"] {
        wait_for_no_thread(name);
    }
}

#[test]
fn component_lives_as_long_as_its_last_subscriber() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("8-cli").connect().unwrap();
    let (on_message, heard) = answers(|text: WsText| text);
    let subscription = client.clone().log_errors().subscribe(on_message);
    let connections = Recorder::on(server.connections());
    let connection = connections.item();
    drop(client);
    connection.next("still heard");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "still heard");
    assert_eq!(threads_named("rxplus-8-cli"), 1);
    subscription.unsubscribe();
    wait_for_no_thread("rxplus-8-cli");
}

#[test]
fn subscriber_that_panics_does_not_keep_its_component_alive() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("9-srv").bind().unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("9-cli").connect().unwrap();
    let captured = client.clone();
    client.clone().log_errors().subscribe(move |_| {
        captured.next("pushed before the panic");
        panic!("a bug of the subscriber's");
    });
    drop(client);
    server.connections().subscribe(|connection| connection.next("welcome"));
    wait_for_no_thread("rxplus-9-cli");
    drop(server);
    wait_for_no_thread("rxplus-9-srv");
}

#[test]
fn observers_beside_the_data_do_not_keep_a_component_alive() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("10-srv").bind().unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("10-cli").connect().unwrap();
    let watching = (Recorder::on(client.state()), Recorder::on(client.events()), client.closed());
    let watching_server = (Recorder::on(server.connections()), Recorder::on(server.events()), server.closed());
    watching_server.0.item(); // a handle of a connection counts neither
    drop((client, server));
    wait_for_no_thread("rxplus-10-cli");
    wait_for_no_thread("rxplus-10-srv");
    drop((watching, watching_server));
}

#[test]
fn server_dropped_with_open_connections_closes_them_and_leaves_no_thread() {
    let server = echo_server_with(RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("11-srv"));
    let client = connected(&server, "/", WsStr);
    let events = Recorder::on(client.events());
    drop(server);
    let code = events.find(|event| match event {
        ClientEvent::Disconnected { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, 1001);
    wait_for_no_thread("rxplus-11-srv");
}

#[test]
fn component_that_feeds_itself_ends_when_completed() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("12-srv").bind().unwrap();
    server.clone().subscribe_with(server.clone());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("12-cli").connect().unwrap();
    client.clone().take(10).subscribe_with(client.clone());
    client.next("round and round");
    wait_for_no_thread("rxplus-12-cli"); // the end of `take` completed it
    server.complete();
    wait_for_no_thread("rxplus-12-srv");
}

#[test]
fn pipeline_between_components_ends_with_its_source_and_leaves_no_thread() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("13-srv").bind().unwrap();
    let relay = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("13-rel").bind().unwrap();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).name("13-cli").connect().unwrap();
    let debounced = client.clone().debounce(Duration::from_millis(1));
    debounced.tag("/mirror").subscribe_with(relay.clone());
    client.wait_connected(PATIENCE).unwrap();
    server.next(TaggedData::new("/", "on its way"));
    client.complete();
    drop((server, relay));
    for name in ["rxplus-13-cli", "rxplus-13-rel", "rxplus-13-srv"] {
        wait_for_no_thread(name);
    }
}

#[test]
fn shared_runtime_ends_with_the_last_of_its_components() {
    let shared = IoRuntime::new("14-shared").unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&shared).bind().unwrap();
    let clients = [(); 3].map(|()| RxWsClient::builder(url(&server, "/"), WsStr).runtime(&shared).connect().unwrap());
    drop(shared);
    clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
    assert_eq!(threads_named("14-shared"), 1);
    drop((server, clients));
    wait_for_no_thread("14-shared");
}

#[tokio::test]
async fn components_on_the_programs_own_runtime_leave_no_task() {
    let own = tokio::runtime::Handle::current();
    let tasks = own.metrics().num_alive_tasks();
    let runtime = IoRuntime::from_tokio(own.clone());
    let server = echo_server_with(RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime));
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).runtime(&runtime).build().unwrap();
    let mut heard = group.clone().debounce(Duration::from_millis(1)).into_stream();
    group.next(TaggedData::new("/a", "hello"));
    futures::StreamExt::next(&mut heard).await.unwrap().unwrap();
    assert!(own.metrics().num_alive_tasks() > tasks);
    let closed = (group.closed(), server.closed());
    // The runtime too: it keeps a task of its own as long as there is a handle of it.
    drop((heard, group, server, runtime));
    closed.0.await;
    closed.1.await;
    let all_gone = async {
        while own.metrics().num_alive_tasks() > tasks {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_gone).await.expect("all tasks end");
}

#[test]
fn handles_dropped_on_many_threads_at_once_leave_no_thread() {
    let server = echo_server(WsStr);
    for _ in 0..20 {
        let client = RxWsClient::builder(url(&server, "/"), WsStr).name("15-cli").connect().unwrap();
        thread::scope(|scope| {
            for text in texts(0..4) {
                let client = client.clone();
                scope.spawn(move || {
                    client.clone().log_errors().subscribe(|_| {}).unsubscribe();
                    client.next(text);
                });
            }
            drop(client);
        });
    }
    wait_for_no_thread("rxplus-15-cli");
}
