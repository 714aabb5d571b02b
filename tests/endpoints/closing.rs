//! How endpoints end: what is flushed, which close codes are seen, and who is told.

use tungstenite::Message;

use super::*;

#[test]
fn completed_server_closes_all_and_completes_its_subscribers() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (ended, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let clients = ["/chat", "/chat", "/audio"].map(|path| connected(&server, path, WsStr));
    let each = clients.each_ref().map(|client| (Recorder::on(client.clone()), Recorder::on(client.events())));
    let opened: Vec<_> = connections.items(3).into_iter().map(Recorder::on).collect();
    server.next(TaggedData::new("/chat", "the last"));
    server.clone().complete();
    assert_eq!(ended.hear(), Heard::Complete);
    assert!(matches!(connections.hear(), Heard::Complete));
    assert_eq!(server.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    assert_eq!(server.connection_count(), 0);
    assert!(opened.iter().all(|connection| connection.hear() == Heard::Complete));
    for (n, (heard, events)) in each.iter().enumerate() {
        if n < 2 {
            assert_eq!(heard.item(), "the last");
        }
        let how = events.find(|event| match event {
            ClientEvent::Disconnected { code, error, .. } => Some((code, error.is_none())),
            _ => None,
        });
        assert_eq!(how, (1001, true));
    }
    let refused = connected_after(&server);
    assert!(matches!(refused, WsError::Connect { .. }), "{refused:?}");
}

/// What a client meets where `server` was.
fn connected_after<D: WsDatatype>(server: &RxWsServer<D>) -> WsError {
    let retry = RetryPolicy::exponential().max_retries(0);
    let late = RxWsClient::builder(url(server, "/"), WsStr).retry(retry).connect().unwrap();
    match late.wait_connected(PATIENCE).unwrap_err() {
        WsError::RetriesExhausted { source, .. } => (*source).clone(),
        other => other,
    }
}

#[test]
fn server_that_ends_with_an_error_closes_with_1011_and_errors_its_subscribers() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let ended = Recorder::on(server.clone());
    let peer = foreign_client(server.local_addr(), "/");
    let connection = Recorder::on(Recorder::on(server.connections()).item());
    server.error(WsError::application("out of order"));
    assert_eq!(close_code(peer), 1011);
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    // This one has ended by a closing handshake.
    assert_eq!(connection.hear(), Heard::Complete);
}

#[test]
fn group_that_ends_with_an_error_closes_with_1011_and_errors_its_subscribers() {
    let server = ForeignServer::start();
    let group = RxWsClientGroup::new(server.url(), WsStr).unwrap();
    let ended = Recorder::on(group.clone());
    let client = group.open("/chat").unwrap();
    let child = Recorder::on(client.clone());
    let peer = server.accept();
    client.wait_connected(PATIENCE).unwrap();
    group.error(WsError::application("out of order"));
    assert_eq!(close_code(peer), 1011);
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    assert_eq!(child.hear(), Heard::Error("out of order".into()));
}

#[test]
fn connection_that_ends_with_an_error_closes_with_1011_and_the_server_goes_on() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let ended = Recorder::on(connection.clone());
    connection.error(WsError::application("out of order"));
    assert_eq!(close_code(peer), 1011);
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    let client = connected(&server, "/", WsStr);
    client.next("still here");
    assert_eq!(heard.item().data, "still here");
}

/// Reads up to the close frame, answers it and hangs up.
fn close_code(mut peer: Foreign) -> u16 {
    loop {
        if let Message::Close(frame) = peer.read().unwrap() {
            while peer.read().is_ok() {}
            return frame.unwrap().code.into();
        }
    }
}

#[test]
fn completion_sends_what_is_queued_first() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    texts(0..1000).into_iter().for_each(|text| client.next(text)); // most likely before it is connected
    client.clone().complete();
    assert!(heard.items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
    assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
}

#[test]
fn completion_without_a_server_and_with_nothing_to_send_is_immediate() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    client.clone().complete();
    // Less than the close timeout, 5 s.
    client.wait_closed(Duration::from_secs(4)).unwrap();
}

#[test]
fn peer_that_never_answers_the_closing_handshake_is_left_after_the_close_timeout() {
    let limits = Limits::server().close_timeout(Duration::from_millis(20));
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).bind().unwrap();
    let events = Recorder::on(server.events());
    let _deaf = foreign_client(server.local_addr(), "/");
    let ended = Recorder::on(Recorder::on(server.connections()).item());
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let error = events.find(|event| match event {
        ServerEvent::Disconnected { error, .. } => error,
        _ => None,
    });
    assert!(matches!(error, WsError::ClosingTimedOut { .. }), "{error:?}");
    assert!(matches!(ended.hear(), Heard::Error(_)));
}

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
fn closed_resolves_for_those_who_wait_and_for_those_who_come_late() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    let (early, late) = (client.closed(), client.clone());
    thread::scope(|scope| {
        scope.spawn(|| futures::executor::block_on(early));
        client.complete();
    });
    assert_eq!(futures::executor::block_on(late.closed()), CloseReport::default());
}
