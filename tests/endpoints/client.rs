//! A client.

use super::*;

#[test]
fn client_sends_what_is_pushed_emits_what_arrives_and_closes_when_completed() {
    let server = echo_server(WsStr);
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let heard = Recorder::on(client.clone());
    texts(0..100).into_iter().for_each(|text| client.next(text));
    assert_eq!(heard.items(100), texts(0..100));
    client.clone().complete();
    assert_eq!(heard.hear(), Heard::Complete);
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    until("the end of the connection", || server.connection_count() == 0);
}

#[test]
fn threads_that_push_into_one_client_each_keep_their_order() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || (0..200).for_each(|n| client.next(format!("{thread} {n}"))));
        }
    });
    let mut next = [0; 4];
    for text in heard.items(800) {
        let (thread, n) = text.split_once(' ').unwrap();
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *next);
        *next += 1;
    }
}

#[test]
fn late_subscriber_gets_the_terminal_event_inside_subscribe() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(client.clone()).rest(), [Heard::Complete]);
    assert_eq!(Recorder::on(client.state()).rest(), [Heard::Item(ConnectionState::Closed), Heard::Complete]);

    let failed = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    failed.clone().error(WsError::application("enough"));
    failed.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(failed).rest(), [Heard::Error("enough".into())]);

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(server.clone()).rest(), [Heard::Complete]);
    assert!(matches!(Recorder::on(server.connections()).rest()[..], [Heard::Complete]));

    let group = RxWsClientGroup::new("ws://127.0.0.1:1", WsStr).unwrap();
    group.clone().complete();
    group.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(group).rest(), [Heard::Complete]);
}

#[test]
fn state_and_events_tell_the_same_story() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let events = Recorder::on(client.events());
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(Recorder::on(client.state()).item(), ConnectionState::Connected);
    client.complete();
    assert!(matches!(events.item(), ClientEvent::Connected { attempt: 0, .. }));
    assert!(matches!(events.item(), ClientEvent::Disconnected { code: 1000, error: None, .. }));
    assert!(matches!(events.item(), ClientEvent::Closed(report) if report == CloseReport::default()));
    assert!(matches!(events.hear(), Heard::Complete));
}

#[test]
fn waiting_on_the_own_thread_is_an_error_at_once() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let waited_for = server.clone();
    let (on_connection, server_answers) = answers(move |connection: Connection<WsStr>| {
        connection.next("welcome");
        [waited_for.wait_closed(PATIENCE), connection.wait_closed(PATIENCE)].map(|result| result.map(drop))
    });
    server.connections().subscribe(on_connection);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let client = group.open("/").unwrap();
    let (own, own_group) = (client.clone(), group.clone());
    let (on_message, client_answers) = answers(move |_| {
        let closed = [own.wait_closed(PATIENCE), own_group.wait_closed(PATIENCE)];
        (own.wait_connected(PATIENCE), closed.map(|result| result.map(drop)))
    });
    client.clone().log_errors().subscribe(on_message);
    let would_deadlock = |result: &Result<(), WsError>| matches!(result, Err(WsError::WouldDeadlock(_)));
    assert!(server_answers.recv_timeout(PATIENCE).unwrap().iter().all(would_deadlock));
    let (connected, closed) = client_answers.recv_timeout(PATIENCE).unwrap();
    assert!(would_deadlock(&connected) && closed.iter().all(would_deadlock));
    server.complete();
    group.complete();
}

#[test]
fn waiting_ends_with_its_timeout() {
    let nobody_accepts = ForeignServer::start();
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    let soon = Duration::from_millis(1);
    assert!(matches!(client.wait_connected(soon), Err(WsError::TimedOut { after, .. }) if after == soon));
    assert!(matches!(client.wait_closed(soon), Err(WsError::TimedOut { .. })));
}

#[test]
fn waiting_for_a_connection_ends_with_what_ended_the_client() {
    let nobody_accepts = ForeignServer::start();
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    client.clone().error(WsError::application("enough"));
    assert!(matches!(client.wait_connected(PATIENCE), Err(WsError::Application(_))));
    let client = RxWsClient::connect(nobody_accepts.url(), WsStr).unwrap();
    client.clone().complete();
    assert!(matches!(client.wait_connected(PATIENCE), Err(WsError::Closed(_))));
}

#[test]
fn send_after_completion_hands_the_item_back() {
    let server = echo_server(WsStr);
    let (client, connections) = (connected(&server, "/", WsStr), Recorder::on(server.connections()));
    let connection = connections.item();
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    client.clone().complete();
    assert!(matches!(client.send("late"), Err(SendError::Closed(item)) if item == "late"));
    connection.clone().complete();
    assert!(matches!(connection.send("late"), Err(SendError::Closed(item)) if item == "late"));
    let tagged = TaggedData::new("/", "late");
    group.clone().complete();
    assert!(matches!(group.send(tagged.clone()), Err(SendError::Closed(item)) if item.data == "late"));
    server.clone().complete();
    assert!(matches!(server.send(tagged), Err(SendError::Closed(item)) if item.data == "late"));
}

#[test]
fn greeting_comes_before_what_was_queued_on_every_connection() {
    let server = ForeignServer::start();
    let greeted =
        RxWsClient::builder(format!("{}/chat", server.url()), WsStr).greeting(|path| [format!("I read {path}")]);
    let client = greeted.conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    client.next("queued");
    let mut peer = server.accept();
    assert_eq!(read(&mut peer).to_text().unwrap(), "I read /chat");
    assert_eq!(read(&mut peer).to_text().unwrap(), "queued");
    drop(peer);
    assert_eq!(read(&mut server.accept()).to_text().unwrap(), "I read /chat");
}

#[test]
fn cleared_outbox_sends_nothing_of_what_waited() {
    let server = ForeignServer::start();
    let client = RxWsClient::connect(server.url(), WsStr).unwrap();
    client.next("cleared");
    client.clear_outbox();
    client.next("sent");
    assert_eq!(read(&mut server.accept()).to_text().unwrap(), "sent");
    assert_eq!(client.stats().sent.dropped.cleared.messages, 1);
}

#[test]
fn client_that_discards_what_arrives_still_sends() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).discard_inbound().connect().unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    until_settled("the arrival of the echo", &client, |client| client.stats().received.messages == 1);
    client.complete();
    assert_eq!(heard.hear(), Heard::Complete);
}
