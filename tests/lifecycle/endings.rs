//! Rule 9: who may end an endpoint, and what it says afterwards.

use super::*;

#[test]
fn closing_from_a_callback_works_for_every_subject() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| {
        connection.next("welcome");
        connection.complete();
    });
    let ended = Recorder::on(server.clone());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let closing = (group.clone(), server.clone());
    group.clone().log_errors().subscribe(move |_| {
        let (group, server) = closing.clone();
        group.complete();
        server.complete();
    });
    let group_ended = Recorder::on(group.clone());
    group.open("/chat").unwrap();
    assert_eq!(group_ended.item().data, "welcome");
    assert_eq!(group_ended.hear(), Heard::Complete);
    assert_eq!(ended.hear(), Heard::Complete);

    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let own = client.clone();
    client.clone().log_errors().subscribe(move |_| own.clone().complete());
    let ended = Recorder::on(client.clone());
    client.next("closes");
    assert_eq!(ended.item(), "closes");
    assert_eq!(ended.hear(), Heard::Complete);
}

#[test]
fn complete_and_all_that_was_pushed_before_it_may_come_from_a_callback() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::builder(format!("ws://{addr}"), WsStr).connect().unwrap();
    let (own, events) = (client.clone(), Recorder::on(client.events()));
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected {
            (0..100).for_each(|number| own.next(number.to_string()));
            own.clone().complete();
        }
    });
    let (texts, code) = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!((texts.len(), code), (100, Some(1000)));
    assert!(
        matches!(events.to_the_end(), (events, Heard::Complete) if matches!(events.last(), Some(ClientEvent::Closed(_))))
    );

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (own, end) = (server.clone(), Recorder::on(server.events()));
    server.clone().log_errors().subscribe(move |tagged| {
        own.next(TaggedData::new("/", format!("good-bye, {}", tagged.data)));
        own.clone().complete();
    });
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send("Ada".into()).unwrap();
    assert_eq!(read_to_the_end(&mut peer), (vec!["good-bye, Ada".into()], Some(1001)));
    assert!(end.to_the_end().1.is_complete());
}

#[test]
fn error_may_come_from_a_callback_of_every_subject() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    let (own, heard) = (client.clone(), Recorder::<WsText>::on(client.clone()));
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connected {
            own.next("last words");
            own.clone().error(WsError::application("enough"));
        }
    });
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1011)));
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));

    let group = RxWsClientGroup::new(format!("ws://{addr}"), WsStr).unwrap();
    let (own, heard) = (group.clone(), Recorder::on(group.clone()));
    group.events().subscribe(move |_| own.clone().error(WsError::application("enough")));
    group.next(TaggedData::new("/", "last words"));
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1011)));
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (own, heard) = (server.clone(), Recorder::on(server.clone()));
    server.connections().subscribe(move |connection| match connection.id() {
        1 => connection.error(WsError::application("enough")),
        _ => own.clone().error(WsError::application("enough")),
    });
    for _ in 0..2 {
        assert_eq!(read_to_the_end(&mut foreign_client(server.local_addr(), "/")).1, Some(1011));
    }
    assert_eq!(heard.to_the_end(), (vec![], Heard::Error("enough".into())));
}

#[test]
fn component_completes_with_its_last_handle_and_subscriber() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let subscription = client.clone().log_errors().subscribe(|_| {});
    // None of these keep it.
    let (events, states, closed) = (Recorder::on(client.events()), Recorder::on(client.state()), client.closed());
    drop(client);
    assert!(ends.try_recv().is_err());
    subscription.unsubscribe();
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap().1, Some(1000));
    assert!(events.to_the_end().1.is_complete() && states.to_the_end().1.is_complete());
    assert_eq!(futures::executor::block_on(closed), CloseReport::default());

    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = Recorder::on(server.connections()).item();
    drop(server);
    assert_eq!(read_to_the_end(&mut peer).1, Some(1001));
    connection.wait_closed(PATIENCE).unwrap();

    let group = RxWsClientGroup::new(format!("ws://{addr}"), WsStr).unwrap();
    group.next(TaggedData::new("/", "last words"));
    let events = Recorder::on(group.events());
    drop(group);
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(1000)));
    assert!(events.to_the_end().1.is_complete());
}

#[test]
fn handle_that_a_subscriber_holds_keeps_a_component_open() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let addr = server.local_addr();
    // Captured by its own pipeline, and by one that is not subscribed yet.
    server.clone().subscribe_with(server.clone());
    let pipeline = server.clone().map(|tagged| tagged.data);
    drop(server);
    let mut peer = foreign_client(addr, "/");
    peer.send("still there".into()).unwrap();
    assert_eq!(read(&mut peer).to_text().unwrap(), "still there");
    drop(pipeline);
}

#[test]
fn end_of_a_pipeline_closes_what_it_feeds_unless_it_is_merged_into() {
    let (addr, ends) = close_code_server();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    Io::of("merged").with_err::<WsError>().merge_into(&client);
    client.next("pushed");
    Io::of("fed").subscribe_with(client);
    assert_eq!(
        ends.recv_timeout(PATIENCE).unwrap(),
        (["merged", "pushed", "fed"].map(String::from).into(), Some(1000))
    );
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
