//! Connecting, and connecting again.

use std::net::TcpListener;

use super::*;

const AT_ONCE: Duration = Duration::from_millis(1);

fn client_of(address: &str) -> RxWsClient<WsStr> {
    RxWsClient::builder(address, WsStr).conn_retry_timeout(AT_ONCE).connect().unwrap()
}

/// An address where nobody listens.
fn free_address(host: &str) -> String {
    let listener = TcpListener::bind((host, 0)).unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

/// A server that sends back what it receives, where clients are waiting for it: those may be faster than a subscription to
/// `connections()`, but not than one to the server, which keeps what came before.
fn returned_at(address: &str) -> RxWsServer<WsStr> {
    let server = RxWsServer::bind(address, WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    server
}

fn stop<D: WsDatatype>(server: RxWsServer<D>) {
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
}

fn wait_for_state(states: &Recorder<ConnectionState>, wanted: fn(&ConnectionState) -> bool) {
    states.find(|state| wanted(&state).then_some(()));
}

fn is_reconnecting(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Reconnecting { .. })
}

#[test]
fn client_keeps_trying_until_the_server_is_there() {
    let address = free_address(&host_of_its_own(1));
    let client = client_of(&address);
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    for attempt in 0..3 {
        let (number, error) = events.find(|event| match event {
            ClientEvent::ConnectFailed { attempt, error } => Some((attempt, error)),
            _ => None,
        });
        assert_eq!(number, attempt);
        assert!(matches!(error, WsError::Connect { .. }), "{error:?}");
        assert!(chain(&error).contains("is a server listening there?"), "{error}");
    }
    client.next("hello");
    let server = returned_at(&address);
    assert_eq!(heard.item(), "hello");
    server.complete();
}

#[test]
fn client_comes_back_after_its_server_went_away_and_returned() {
    let mut server = returned_at(&format!("ws://{}:0", host_of_its_own(2)));
    let address = url(&server, "/chat");
    let client = client_of(&address);
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
fn messages_pushed_while_the_server_is_away_arrive_in_order_after_it_returned() {
    let server = RxWsServer::bind(format!("ws://{}:0", host_of_its_own(3)), WsStr).unwrap();
    let address = url(&server, "/");
    let client = client_of(&address);
    let states = Recorder::on(client.state());
    let heard = Recorder::on(server.clone());
    client.next("before");
    assert_eq!(heard.item().data, "before");
    stop(server);
    wait_for_state(&states, is_reconnecting);
    texts(0..1000).into_iter().for_each(|text| client.next(text));
    assert_eq!(client.stats().sent.queued.messages, 1000);
    let server = RxWsServer::bind(&address, WsStr).unwrap();
    client.next("after");
    let heard = Recorder::on(server.clone());
    assert!(heard.items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
    assert_eq!(heard.item().data, "after");
}

#[test]
fn messages_pushed_before_the_first_connection_arrive_in_order() {
    let address = free_address(&host_of_its_own(4));
    let client = client_of(&address);
    texts(0..1000).into_iter().for_each(|text| client.next(text));
    let server = RxWsServer::bind(&address, WsStr).unwrap();
    assert!(Recorder::on(server.clone()).items(1000).iter().map(|tagged| &tagged.data).eq(&texts(0..1000)));
}

#[test]
fn message_of_which_a_part_was_written_is_sent_whole_on_the_next_connection() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsBytes).conn_retry_timeout(AT_ONCE).connect().unwrap();
    let large = vec![7; 8 * 1024 * 1024]; // more than the socket's buffers hold
    client.next(large.clone());
    drop(server.accept()); // nothing of it was read
    assert_eq!(read(&mut server.accept()).into_data(), large);
    until("the end of the writing", || client.stats().sent.queued.messages == 0);
    let sent = client.stats().sent;
    assert_eq!((sent.accepted, sent.written.messages), (sent.written, 1));
}

#[test]
fn conn_retry_timeout_is_the_delay_of_every_attempt() {
    let delay = Duration::from_millis(3);
    let address = free_address(&host_of_its_own(5));
    let client = RxWsClient::builder(&address, WsStr).conn_retry_timeout(delay).connect().unwrap();
    let events = Recorder::on(client.events());
    for number in 1..6 {
        let waits = events.find(|event| match event {
            ClientEvent::Reconnecting { attempt, delay } => Some((attempt, delay)),
            _ => None,
        });
        assert_eq!(waits, (number, delay));
    }
}

#[test]
fn server_that_hangs_up_at_once_is_not_hammered_and_the_client_ends_after_its_last_attempt() {
    let server = ForeignServer::start();
    let retry = RetryPolicy::exponential().base_delay(AT_ONCE).jitter(false).max_retries(5);
    let client = RxWsClient::builder(server.url(), WsStr).retry(retry).connect().unwrap();
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    for _ in 0..6 {
        drop(server.accept());
    }
    let Heard::Error(error) = heard.hear() else { panic!("something else than an error") };
    assert!(error.contains("after 6 attempts"), "{error}");
    let mut delays = Vec::new();
    while let Heard::Item(event) = events.hear() {
        if let ClientEvent::Reconnecting { attempt, delay } = event {
            delays.push(delay);
            assert_eq!(attempt as usize, delays.len());
        }
    }
    assert_eq!(delays.len(), 5);
    assert!(delays.is_sorted_by(|a, b| a < b), "{delays:?}");
}

#[test]
fn server_that_closes_at_once_with_a_handshake_is_not_hammered_either() {
    let server = ForeignServer::start();
    let retry = RetryPolicy::exponential().base_delay(AT_ONCE).jitter(false).max_retries(3);
    let client = RxWsClient::builder(server.url(), WsStr).retry(retry).connect().unwrap();
    let heard = Recorder::on(client.clone());
    for _ in 0..4 {
        let mut peer = server.accept();
        peer.close(None).unwrap();
        while peer.read().is_ok() {}
    }
    assert!(matches!(heard.hear(), Heard::Error(error) if error.contains("after 4 attempts")));
}

#[test]
fn answer_that_will_not_change_ends_a_client_that_is_to_give_up() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/served"]).bind().unwrap();
    let retry = RetryPolicy::exponential().on_rejected(OnRejected::GiveUp);
    let client = RxWsClient::builder(url(&server, "/unknown"), WsStr).retry(retry).connect().unwrap();
    let error = client.wait_connected(PATIENCE).unwrap_err();
    let WsError::RetriesExhausted { attempts: 1, source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, WsError::Rejected { status: 404, .. }), "{error:?}");
    assert!(chain(&error).contains("it does not serve this path"), "{error}");
}

#[test]
fn server_that_speaks_no_websocket_is_told_as_such() {
    let server = ForeignServer::start();
    let client = client_of(&server.url());
    let events = Recorder::on(client.events());
    std::io::Write::write_all(&mut server.accept_tcp(), b"220 mail.example ESMTP\r\n").unwrap();
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(matches!(error, WsError::Handshake { .. }), "{error:?}");
}

#[test]
fn server_that_never_answers_the_handshake_is_given_up_after_the_connect_timeout() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).connect_timeout(Duration::from_millis(50));
    let client = client.greeting(|_| ["hello"]).conn_retry_timeout(AT_ONCE).connect().unwrap();
    let events = Recorder::on(client.events());
    let _silent = server.accept_tcp();
    let error = events.find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(matches!(error, WsError::HandshakeTimedOut { .. }), "{error:?}");
    // On a busy machine an attempt may time out that would have been answered.
    while !tungstenite::accept(server.accept_tcp()).is_ok_and(|mut peer| peer.read().is_ok()) {}
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
fn unconfirmed_counts_what_may_have_been_lost() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).ping_interval(None).connect().unwrap();
    let events = Recorder::on(client.events());
    texts(0..3).into_iter().for_each(|text| client.next(text));
    let mut peer = server.accept();
    (0..3).for_each(|_| drop(read(&mut peer)));
    drop(peer);
    let unconfirmed = events.find(|event| match event {
        ClientEvent::Disconnected { unconfirmed, .. } => Some(unconfirmed),
        _ => None,
    });
    assert_eq!(unconfirmed, 3);
}
