//! Connecting again: after a loss, and when `reconnect()` asks for it.

use super::{refusals::refusing_server, *};

#[test]
fn client_comes_back_after_its_server_went_away_and_returned() {
    let mut server = returned_at(&format!("ws://{}:0", host_of_its_own(2)));
    let address = url(&server, "/chat");
    let client = client_at(&address);
    let heard = Recorder::on(client.clone());
    for round in texts(0..5) {
        client.next(round.clone());
        assert_eq!(heard.item(), round);
        stop(server);
        server = returned_at(&address);
    }
    until("the last return", || client.stats().reconnects == 5);
    server.complete();
}

#[test]
fn reconnect_ends_the_wait_before_the_next_attempt() {
    let address = free_address(&host_of_its_own(6));
    let client = RxWsClient::builder(&address, WsStr).conn_retry_timeout(Duration::from_secs(1000)).connect().unwrap();
    let (heard, states) = (Recorder::on(client.clone()), Recorder::on(client.state()));
    wait_for_state(&states, is_reconnecting);
    let server = returned_at(&address);
    client.reconnect();
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    server.complete();
}

#[test]
fn reconnect_drops_the_connection_and_makes_another_at_once() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let (events, heard) = (Recorder::on(client.events()), Recorder::on(client.clone()));
    for text in ["one", "two", "three"] {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
        client.next(text);
        assert_eq!(heard.item(), text);
        client.reconnect();
        let error = events.find(|event| match event {
            ClientEvent::Disconnected { error, .. } => Some(error),
            _ => None,
        });
        assert!(matches!(error, Some(WsError::Cut(_))), "{error:?}");
    }
    client.complete();
    server.complete();
}

#[test]
fn wait_connected_after_reconnect_waits_for_the_new_connection() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let client = connected(&server, "/", WsStr);
    let mut last = connections.item();
    for _ in 0..50 {
        client.reconnect();
        client.wait_connected(PATIENCE).unwrap();
        let next = connections.item();
        assert!(next.id() > last.id());
        last = next;
        assert!(connections.rest().is_empty());
    }
    client.complete();
    server.complete();
}

#[test]
fn reconnect_cuts_a_wait_short_in_the_callback_that_tells_of_it() {
    let server = foreign_server(|number, mut peer| match number {
        0..3 => drop(peer),
        _ => while peer.read().is_ok() {},
    });
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let events = Recorder::on(client.events());
    let again = client.clone();
    client.state().subscribe(move |state| {
        if matches!(state, ConnectionState::Reconnecting { .. }) {
            again.reconnect();
        }
    });
    for _ in 0..4 {
        events.find(|event| matches!(event, ClientEvent::Connected { .. }).then_some(()));
    }
    client.complete();
}

/// Whether a client that would wait for ever comes back when `reconnect()` is called by whoever hears what is `wanted`.
fn comes_back(server: SocketAddr, wanted: fn(&ClientEvent) -> bool, wanted_state: Option<ConnectionState>) {
    let client = RxWsClient::builder(format!("ws://{server}"), WsStr).conn_retry_timeout(NEVER).connect().unwrap();
    let (by_event, by_state) = (client.clone(), client.clone());
    client.events().subscribe(move |event| {
        if wanted(&event) {
            by_event.reconnect()
        }
    });
    client.state().subscribe(move |state| {
        if Some(state) == wanted_state {
            by_state.reconnect()
        }
    });
    client.wait_connected(PATIENCE).unwrap();
    until("the second connection", || client.stats().reconnects == 1);
    client.complete();
}

#[test]
fn reconnect_asked_for_when_a_loss_is_told_is_remembered() {
    let hangs_up_once = || {
        foreign_server(|number, mut peer| match number {
            0 => close(peer, 1000),
            _ => while peer.read().is_ok() {},
        })
    };
    comes_back(hangs_up_once(), |event| matches!(event, ClientEvent::Disconnected { .. }), None);
    comes_back(hangs_up_once(), |_| false, Some(ConnectionState::Disconnected));
    comes_back(hangs_up_once(), |event| matches!(event, ClientEvent::Reconnecting { .. }), None);
}

#[test]
fn reconnect_asked_for_when_a_failed_attempt_is_told_is_remembered() {
    let client = RxWsClient::builder(format!("ws://{}", refusing_server("500 No", "")), WsStr)
        .conn_retry_timeout(NEVER)
        .connect()
        .unwrap();
    let (again, events) = (client.clone(), Recorder::on(client.events()));
    client.events().subscribe(move |event| {
        if matches!(event, ClientEvent::ConnectFailed { .. }) {
            again.reconnect()
        }
    });
    for expected in 0..4 {
        let failed = events.find(|event| match event {
            ClientEvent::ConnectFailed { attempt, .. } => Some(attempt),
            _ => None,
        });
        assert_eq!(failed, expected);
    }
    client.complete();
}

#[test]
fn reconnect_asked_for_by_the_last_message_is_remembered() {
    let server = foreign_server(|number, mut peer| {
        peer.send("good bye".into()).unwrap();
        if number < 3 { close(peer, 1000) } else { while peer.read().is_ok() {} }
    });
    for threads in [1, 2] {
        let runtime = IoRuntime::with_threads("threads", threads).unwrap();
        let builder = RxWsClient::builder(format!("ws://{server}"), WsStr).runtime(&runtime);
        let client = builder.conn_retry_timeout(NEVER).connect().unwrap();
        let (again, heard) = (client.clone(), Recorder::on(client.clone()));
        client.clone().log_errors().subscribe(move |_| again.reconnect());
        for _ in 0..3 {
            assert_eq!(heard.item(), "good bye");
        }
        client.complete();
    }
}
