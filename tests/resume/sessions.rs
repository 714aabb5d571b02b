//! A session over real sockets: what it survives, and what it tells.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;

use super::support::{
    proxy::{Direction, End, Proxy},
    *,
};

const AT_ONCE: Duration = Duration::from_millis(1);

pub(crate) fn resumable_server(resume: Resume) -> RxWsServer<WsStr> {
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(resume).bind().unwrap()
}

/// A server where another one has just been.
pub(crate) fn bound_again(address: &str) -> RxWsServer<WsStr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match RxWsServer::builder(address, WsStr).resumable(Resume::new()).bind() {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// A client that comes back at once.
pub(crate) fn resumable_client(address: &str) -> RxWsClient<WsStr> {
    resumable_client_with(address, |builder| builder)
}

fn resumable_client_with(
    address: &str,
    options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>,
) -> RxWsClient<WsStr> {
    let builder = options(RxWsClient::builder(address, WsStr).resumable(Resume::new()));
    builder.conn_retry_timeout(AT_ONCE).min_uptime(Duration::ZERO).connect().unwrap()
}

/// The events of the client's session.
pub(crate) fn session_events(client: &RxWsClient<WsStr>) -> Recorder<SessionEvent> {
    Recorder::on(client.events().filter_map(|event| match event {
        ClientEvent::Session(event) => Some(event),
        _ => None,
    }))
}

/// A session through a proxy, and what both ends hear.
pub(crate) struct Pair {
    pub(crate) server: RxWsServer<WsStr>,
    pub(crate) proxy: Proxy,
    pub(crate) client: RxWsClient<WsStr>,
    pub(crate) events: Recorder<SessionEvent>,
    pub(crate) connections: Recorder<Connection<WsStr>>,
    pub(crate) connection: Connection<WsStr>,
    pub(crate) up: Recorder<WsText>,
    pub(crate) down: Recorder<WsText>,
}

impl Pair {
    pub(crate) fn new(resume: Resume) -> Self {
        Self::of(resumable_server(resume))
    }

    pub(crate) fn of(server: RxWsServer<WsStr>) -> Self {
        Self::by(server, |builder| builder)
    }

    pub(crate) fn by(
        server: RxWsServer<WsStr>,
        options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>,
    ) -> Self {
        let proxy = Proxy::to(server.local_addr());
        let url = proxy.url("/");
        Self::through(proxy, &url, server, options)
    }

    /// Through a proxy that is at this address for the client.
    pub(crate) fn through(
        proxy: Proxy,
        url: &str,
        server: RxWsServer<WsStr>,
        options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>,
    ) -> Self {
        let connections = Recorder::on(server.connections());
        let client = resumable_client_with(url, options);
        let (events, down) = (session_events(&client), Recorder::on(client.clone()));
        let connection = connections.item();
        let up = Recorder::on(connection.clone());
        assert_eq!(events.item(), SessionEvent::Opened);
        Self { server, proxy, client, events, connections, connection, up, down }
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.events.find(|event| match event {
            SessionEvent::Resumed { missed, .. } => Some(missed),
            _ => None,
        })
    }
}

#[test]
fn messages_go_both_ways_over_links_that_break_once_and_in_order() {
    const BREAKS: usize = 40;
    let pair = Pair::new(Resume::new());
    let (client, connection) = (pair.client.clone(), pair.connection.clone());
    let (done, is_done) = mpsc::channel::<()>();
    let pushing = thread::spawn(move || {
        let mut count = 0;
        while is_done.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            client.send(count.to_string()).unwrap();
            connection.send(count.to_string()).unwrap();
            count += 1;
            // As fast as the slower side hears.
            while client.stats().sent.queued.messages > 1000 || connection.stats().sent.queued.messages > 1000 {
                thread::yield_now();
            }
        }
        count
    });
    for n in 0..BREAKS {
        let direction = if n % 2 == 0 { Direction::Up } else { Direction::Down };
        let end = if n % 3 == 0 { End::Fin } else { End::Reset };
        pair.proxy.cut_after(direction, 997 * (n % 13), end);
        assert_eq!(pair.resumed(), 0);
    }
    drop(done);
    let count = pushing.join().unwrap();
    assert_eq!(pair.up.items(count), texts(0..count));
    assert_eq!(pair.down.items(count), texts(0..count));
    until("all is acknowledged", || pair.client.stats().sent.retained == 0);
    let sent = pair.client.stats().sent;
    assert_eq!((sent.acknowledged, sent.lost), (count as u64, 0), "{sent:?}");
    assert!(pair.connections.rest().is_empty(), "the connection is still the same");
}

#[test]
fn payload_that_looks_like_a_control_message_arrives_as_it_is() {
    let pair = Pair::new(Resume::new());
    let long = format!("\u{10}{}", "x".repeat(100_000));
    for text in ["\u{10}ack 3", "\u{10}", "\u{10}\u{10}new", "", "plain", &long] {
        pair.client.send(text).unwrap();
        pair.connection.send(text).unwrap();
        assert_eq!(pair.up.item(), text);
        assert_eq!(pair.down.item(), text);
    }
}

#[test]
fn client_without_a_resumable_server_says_so_and_goes_on_plainly() {
    let server = echo_server(WsStr);
    let client = resumable_client(&url(&server, "/"));
    let (events, down) = (session_events(&client), Recorder::on(client.clone()));
    assert_eq!(events.item(), SessionEvent::Plain);
    client.send("\u{10}ack 3").unwrap();
    assert_eq!(down.item(), "\u{10}ack 3");
}

#[test]
fn plain_client_of_a_resumable_server_is_served_plainly() {
    let server = echoing(resumable_server(Resume::new()));
    let client = connected(&server, "/", WsStr);
    let down = Recorder::on(client.clone());
    client.send("\u{10}new").unwrap();
    assert_eq!(down.item(), "\u{10}new");
}

#[test]
fn application_keeps_its_own_subprotocol() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["chat.1"]);
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let builder = RxWsClient::builder(url(&server, "/").as_str(), WsStr).subprotocols(["chat.2", "chat.1"]);
    let client = builder.resumable(Resume::new()).connect().unwrap();
    let subprotocol = Recorder::on(client.events()).find(|event| match event {
        ClientEvent::Connected { subprotocol, .. } => Some(subprotocol),
        _ => None,
    });
    assert_eq!(subprotocol.as_deref(), Some("chat.1"));
    assert_eq!(connections.item().subprotocol(), Some("chat.1"));
}

#[test]
fn server_that_is_gone_leaves_exactly_what_was_written_in_doubt() {
    let pair = Pair::new(Resume::new());
    let addr = pair.server.local_addr();
    pair.client.send("acknowledged").unwrap();
    until("it is acknowledged", || pair.client.stats().sent.acknowledged == 1);
    pair.proxy.silence(true);
    (0..3).for_each(|n| pair.client.send(n.to_string()).unwrap());
    until("they are written", || pair.client.stats().sent.written.messages == 4);
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it knows", || pair.client.response().is_none());
    (3..5).for_each(|n| pair.client.send(n.to_string()).unwrap());
    drop((pair.connection, pair.server));
    let server = bound_again(&format!("ws://{addr}"));
    let up = Recorder::on(server.clone().map(|td| td.data));
    pair.proxy.silence(false);
    pair.proxy.refuse(false);
    let lost = pair.events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(event));
    let expected = SessionEvent::Lost { why: SessionLoss::Unknown, missed: None, unconfirmed: 3, kept: 2 };
    assert_eq!(lost, expected);
    assert_eq!(up.items(2), texts(3..5));
    assert_eq!(pair.client.stats().sent.lost, 3);
}

#[test]
fn client_that_stays_away_too_long_hears_exactly_what_it_missed() {
    let pair = Pair::new(Resume::new().park(Duration::from_secs(1)));
    let ended = Recorder::on(pair.connection.clone());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    pair.client.send("kept").unwrap();
    until("it is away", || !pair.connection.is_linked());
    (0..7).for_each(|n| pair.connection.send(n.to_string()).unwrap());
    let (_, end) = ended.to_the_end();
    let Heard::Error(error) = end else { panic!("{end:?}") };
    assert!(error.contains("the client was away for too long; 0 messages are unconfirmed, 7 unsent"), "{error}");
    pair.proxy.refuse(false);
    let lost = pair.events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(event));
    let expected = SessionEvent::Lost { why: SessionLoss::Expired, missed: Some(7), unconfirmed: 0, kept: 1 };
    assert_eq!(lost, expected);
    let again = Recorder::on(pair.connections.item());
    assert_eq!(again.item(), "kept");
}

#[test]
fn connection_knows_when_its_client_is_away() {
    let pair = Pair::new(Resume::new());
    let linked = Recorder::on(pair.connection.link());
    let events = Recorder::on(pair.connection.events());
    assert!(linked.item());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Fin);
    assert!(!linked.item());
    pair.connection.send("waits").unwrap();
    let parked = |event| matches!(event, ServerEvent::Session { event: SessionEvent::Parked, .. }).then_some(());
    events.find(parked);
    assert_eq!(pair.server.stats().parked, 1);
    pair.proxy.refuse(false);
    assert!(linked.item());
    assert_eq!(pair.down.item(), "waits");
    let resumed = events.find(|event| match event {
        ServerEvent::Session { event: SessionEvent::Resumed { missed, .. }, .. } => Some(missed),
        _ => None,
    });
    assert_eq!((resumed, pair.resumed(), pair.server.stats().parked), (0, 0, 0));
    pair.client.clone().complete();
    assert!(!linked.item());
    assert!(linked.hear().is_complete());
}

#[test]
fn whoever_first_asks_for_its_client_when_the_connection_is_gone_hears_the_end() {
    let pair = Pair::new(Resume::new());
    let connection = pair.connection.clone();
    pair.client.clone().complete();
    connection.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(connection.link()).rest(), [Heard::Item(false), Heard::Complete]);
}

#[test]
fn client_that_completes_behind_a_break_comes_back_to_send_the_rest() {
    let pair = Pair::new(Resume::new());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    (0..10).for_each(|n| pair.client.send(n.to_string()).unwrap());
    pair.client.clone().complete();
    pair.proxy.refuse(false);
    assert_eq!(pair.client.wait_closed(PATIENCE).unwrap().unsent, 0);
    let (heard, end) = pair.up.to_the_end();
    assert_eq!((heard, end.is_complete()), (texts(0..10).into_iter().map(WsText::from).collect(), true));
}

#[test]
fn server_that_completes_leaves_nothing_in_doubt() {
    let pair = Pair::new(Resume::new());
    (0..1000).for_each(|n| pair.connection.send(n.to_string()).unwrap());
    pair.server.clone().complete();
    assert_eq!(pair.down.items(1000), texts(0..1000));
    assert_eq!(pair.server.wait_closed(PATIENCE).unwrap().unsent, 0);
    let sent = pair.server.stats().sent;
    assert_eq!((sent.acknowledged, sent.lost), (1000, 0), "{sent:?}");
}

#[test]
fn gap_is_told_between_the_messages_that_it_lies_between() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(2, 1000, Overflow::DropOldest);
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let proxy = Proxy::to(server.local_addr());
    let client = resumable_client(&proxy.url("/"));
    let (events, down) = (session_events(&client), Recorder::on(client.clone()));
    let connection = connections.item();
    connection.send("first").unwrap();
    assert_eq!(down.item(), "first");
    proxy.refuse(true);
    proxy.end(End::Reset);
    until("it is away", || !connection.is_linked());
    (0..10).for_each(|n| connection.send(n.to_string()).unwrap());
    proxy.refuse(false);
    let missed = events.find(|event| match event {
        SessionEvent::Resumed { missed, .. } => Some(missed),
        _ => None,
    });
    assert_eq!((missed, down.items(2)), (8, texts(8..10).into_iter().map(WsText::from).collect()));
}
