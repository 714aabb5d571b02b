//! How sessions end, and what is told of their messages.

use std::time::{Duration, Instant};

use rxplus::prelude::*;

use super::{
    raw::{Speaker, foreign_server},
    sessions::{Pair, resumable_client, resumable_server, session_events},
    support::{
        foreign::{http, upgrade_request},
        proxy::End,
        *,
    },
};

const RESUMABLE: &str = "\r\nSec-WebSocket-Protocol: rxplus.resume.1\r\n\r\n";

/// Waits for the end of a client's session.
fn lost(events: &Recorder<SessionEvent>) -> SessionEvent {
    events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(event))
}

/// Waits for the end of a connection: its error.
fn failure(events: &Recorder<ServerEvent>) -> String {
    events.find(|event| match event {
        ServerEvent::Disconnected { error: Some(error), .. } => Some(error.to_string()),
        _ => None,
    })
}

/// The longest message of this server is shorter than those that clients send.
fn narrow_server() -> RxWsServer<WsStr> {
    let limits = Limits::server().message_len(1000);
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).resumable(Resume::new()).bind().unwrap()
}

fn undeliverable(events: &Recorder<ClientEvent>) -> usize {
    events.find(|event| match event {
        ClientEvent::Undeliverable { len, .. } => Some(len),
        _ => None,
    })
}

/// Parked too long, in the middle of pushes.
#[test]
fn error_of_a_session_that_is_lost_counts_what_is_pushed_up_to_its_end() {
    let builder =
        RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(Resume::new().park(Duration::from_millis(1)));
    let server = builder.outbox(1 << 24, 1 << 24, Overflow::DropLatest).bind().unwrap();
    let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
    for _ in 0..30 {
        drop(Speaker::linked(server.local_addr(), "/"));
        let connection = connections.item();
        while connection.send("x").is_ok() {}
        let unsent = events.find(|event| match event {
            ServerEvent::Disconnected { error: Some(WsError::SessionLost { unsent, .. }), .. } => Some(unsent),
            _ => None,
        });
        assert_eq!(unsent, connection.wait_closed(PATIENCE).unwrap().unsent);
    }
}

/// Poison message: refused with 1009.
#[test]
fn message_that_the_server_refuses_is_given_up_and_the_rest_goes_on() {
    for len in [1002, 20_000_000] {
        let server = narrow_server();
        let up = Recorder::on(server.clone().map(|td| td.data));
        let client = RxWsClient::builder(url(&server, "/"), WsStr)
            .resumable(Resume::new())
            .outbox(100, 30_000_000, Overflow::DropLatest)
            .conn_retry_timeout(Duration::from_millis(1))
            .connect()
            .unwrap();
        let (events, told) = (session_events(&client), Recorder::on(client.events()));
        client.send("before").unwrap();
        client.send("x".repeat(len)).unwrap();
        (0..10).for_each(|n| client.send(n.to_string()).unwrap());
        assert_eq!(up.item(), "before");
        let SessionEvent::Lost { why, missed, unconfirmed, kept } = lost(&events) else { unreachable!() };
        assert_eq!((why, missed, unconfirmed, kept), (SessionLoss::Ended, Some(0), 0, 10), "{len}");
        assert_eq!(undeliverable(&told), len);
        assert_eq!(up.items(10), texts(0..10), "{len}");
        until("all is acknowledged", || client.stats().sent.acknowledged == 11);
        let sent = client.stats().sent;
        assert_eq!(sent.accepted.messages, sent.written.messages + sent.dropped.total().messages, "{sent:?}");
        assert_eq!(sent.lost + sent.dropped.undeliverable.messages, 1, "{sent:?}");
    }
}

/// Poison message: refused with 1009 before all of it is written.
#[test]
fn message_that_the_server_refuses_by_its_head_is_given_up() {
    let foreign = foreign_server();
    let builder = RxWsClient::builder(foreign.url(), WsStr).outbox(100, 50_000_000, Overflow::DropLatest);
    let builder = builder.resumable(Resume::new()).conn_retry_timeout(Duration::from_millis(1));
    let client = builder.connect().unwrap();
    let (events, told) = (session_events(&client), Recorder::on(client.events()));
    let mut link = Speaker::begin(foreign);
    client.send("x".repeat(45_000_000)).unwrap();
    client.send("behind").unwrap();
    // The first bytes of it have come.
    link.0.get_ref().peek(&mut [0]).unwrap();
    link.close(1009);
    let (mut next, _) = Speaker::wanted(foreign);
    next.say("lost ended 0 0");
    assert_eq!(next.heard(), "new");
    next.say("ack 0");
    assert_eq!(next.payloads(1), ["behind"]);
    let expected = SessionEvent::Lost { why: SessionLoss::Ended, missed: Some(0), unconfirmed: 0, kept: 1 };
    assert_eq!((lost(&events), undeliverable(&told)), (expected, 45_000_000));
    let sent = client.stats().sent;
    assert_eq!((sent.dropped.undeliverable.messages, sent.lost), (1, 0), "{sent:?}");
}

/// Poison message, as the last one before the end.
#[test]
fn message_that_the_server_refuses_at_the_end_does_not_count_as_arrived() {
    let server = narrow_server();
    let client = resumable_client(&url(&server, "/"));
    client.wait_connected(PATIENCE).unwrap();
    client.send("x".repeat(1002)).unwrap();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    let sent = client.stats().sent;
    assert_eq!(sent.acknowledged, 0, "{sent:?}");
}

/// Gateway that closes with 1001 of its own, while the client is still sending again.
#[test]
fn client_that_is_sent_away_does_not_call_dropped_what_it_will_send_again() {
    let foreign = foreign_server();
    let client = resumable_client(&foreign.url());
    let events = session_events(&client);
    let mut first = Speaker::begin(foreign);
    (0..10).for_each(|n| client.send(n.to_string()).unwrap());
    assert_eq!(first.payloads(10), texts(0..10));
    drop(first);
    let (mut second, said) = Speaker::wanted(foreign);
    assert_eq!(said, format!("resume {} 2 0", "A".repeat(22)));
    // In one segment, so that the client knows of the end before it can send.
    second.say_and_close("resumed 5 0", 1001);
    assert_eq!(second.heard(), "at 5");
    let (mut third, _) = Speaker::wanted(foreign);
    let mut received = 5;
    for text in second.rest() {
        match text.strip_prefix("\u{10}at ") {
            Some(position) => received = position.parse().unwrap(),
            None => received += u64::from(!text.starts_with('\u{10}')),
        }
    }
    third.say(&format!("lost ended {received} 0"));
    assert_eq!(third.heard(), "new");
    third.say("ack 0");
    let SessionEvent::Lost { kept, .. } = lost(&events) else { unreachable!() };
    assert_eq!(kept, 10 - received);
    assert_eq!(third.payloads(kept as usize), texts(received as usize..10));
    assert!(received < 10, "the client sent all before it read the close frame");
}

/// Message at which a proxy cuts every link, upwards.
#[test]
fn message_that_ends_each_link_is_given_up_by_the_client_after_eight_and_ten_seconds() {
    let foreign = foreign_server();
    let builder = RxWsClient::builder(foreign.url(), WsStr).resumable(Resume::new());
    let client = builder.retry(RetryPolicy::fixed(Duration::from_millis(500))).connect().unwrap();
    let (events, told) = (session_events(&client), Recorder::on(client.events()));
    let (mut link, begun) = (Speaker::begin(foreign), Instant::now());
    client.send("poison").unwrap();
    client.send("good").unwrap();
    let mut links = 1;
    loop {
        // Takes nothing, as if a proxy had cut the link at the first message.
        let first = link.payloads(1);
        if first != ["poison"] {
            assert_eq!(first, ["good"]);
            break;
        }
        assert!(links < 40, "the client does not give it up");
        drop(link);
        let (mut next, said) = Speaker::wanted(foreign);
        links += 1;
        assert_eq!(said, format!("resume {} {links} 0", "A".repeat(22)));
        next.say("resumed 0 0");
        link = next;
    }
    assert_eq!(undeliverable(&told), 6);
    assert!(links > 8 && begun.elapsed() >= Duration::from_secs(10), "{links}");
    // The next one is not under suspicion yet.
    drop(link);
    let (mut link, _) = Speaker::wanted(foreign);
    link.say("resumed 0 0");
    assert_eq!(link.payloads(1), ["good"]);
    link.say("ack 2");
    until("it is acknowledged", || client.stats().sent.retained == 0);
    let sent = client.stats().sent;
    assert_eq!((sent.acknowledged, sent.lost), (1, 1), "{sent:?}");
    assert!(!events.rest().iter().any(|event| matches!(event, Heard::Item(SessionEvent::Lost { .. }))));
}

/// Message at which a proxy cuts every link, downwards.
#[test]
fn message_that_ends_each_link_ends_the_session_after_eight() {
    let server = resumable_server(Resume::new());
    let events = Recorder::on(server.events());
    let connections = Recorder::on(server.connections());
    let (mut link, token) = Speaker::linked(server.local_addr(), "/");
    let connection = connections.item();
    connection.send("poison").unwrap();
    assert_eq!(link.payloads(1), ["poison"]);
    // What it sends arrives all the time.
    for number in 2..20 {
        drop(link);
        link = Speaker::resuming(server.local_addr(), "/", &token, number, 0);
        let verdict = link.heard_or_end();
        if number == 9 {
            assert_eq!(verdict, None);
            break;
        }
        assert_eq!(verdict, Some(format!("resumed {} 0", number - 2)), "{number}");
        link.say(&format!("at {}", number - 2));
        link.send("up");
        assert_eq!(link.payloads(1), ["poison"]);
        until("it has arrived", || server.stats().received.messages == number - 1);
    }
    assert!(failure(&events).contains("link after link"));
    assert_eq!(Speaker::resuming(server.local_addr(), "/", &token, 20, 0).heard(), "lost stuck 7 1");
}

/// Parked too long, where the bound on time has no bound.
#[test]
fn server_may_wait_for_ever() {
    let pair = Pair::new(Resume::new().park(Duration::MAX));
    pair.client.send("up").unwrap();
    assert_eq!(pair.up.item(), "up");
    pair.proxy.end(End::Reset);
    assert_eq!(pair.resumed(), 0);
}

/// Closed by the program while parked.
#[test]
fn connection_that_is_closed_while_its_client_is_away_has_exact_numbers() {
    let pair = Pair::new(Resume::new());
    let ended = Recorder::on(pair.connection.clone());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    pair.client.send("kept").unwrap();
    (0..3).for_each(|n| pair.connection.send(n.to_string()).unwrap());
    pair.connection.close(4001, "enough").unwrap();
    let Heard::Error(error) = ended.to_the_end().1 else { panic!("it has ended without an error") };
    assert!(error.contains("the connection was closed; 0 messages are unconfirmed, 3 unsent"), "{error}");
    pair.proxy.refuse(false);
    let expected = SessionEvent::Lost { why: SessionLoss::Ended, missed: Some(3), unconfirmed: 0, kept: 1 };
    assert_eq!(lost(&pair.events), expected);
    assert_eq!(Recorder::on(pair.connections.item()).item(), "kept");
}

/// Server ended in order while the client is parked: it ends at once.
#[test]
fn server_that_completes_does_not_wait_for_those_who_are_away() {
    let pair = Pair::new(Resume::new());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    pair.connection.send("unsent").unwrap();
    pair.server.clone().complete();
    assert_eq!(pair.server.wait_closed(PATIENCE).unwrap().unsent, 1);
}

/// Overflow while parked, under `Disconnect`. What `send` refuses was never to come, and is not missed.
#[test]
fn client_whose_outbox_overflows_while_it_is_away_hears_exact_numbers() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(5, 1000, Overflow::Disconnect);
    let pair = Pair::of(builder.resumable(Resume::new()).bind().unwrap());
    pair.connection.send("before").unwrap();
    assert_eq!(pair.down.item(), "before");
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    (0..5).for_each(|n| pair.connection.send(n.to_string()).unwrap());
    pair.connection.send("one too many").unwrap_err();
    pair.proxy.refuse(false);
    let expected = SessionEvent::Lost { why: SessionLoss::Overflow, missed: Some(5), unconfirmed: 0, kept: 0 };
    assert_eq!(lost(&pair.events), expected);
}

/// Evicted for want of room, by number.
#[test]
fn client_that_is_away_for_longest_is_given_up_when_too_many_are() {
    let limits = Limits::server().sessions(1);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits);
    let pair = Pair::of(builder.resumable(Resume::new()).bind().unwrap());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    (0..4).for_each(|n| pair.connection.send(n.to_string()).unwrap());
    let (other, token) = Speaker::linked(pair.server.local_addr(), "/");
    drop(other);
    until("it is given up", || pair.server.stats().connections == 1 && pair.server.stats().parked == 1);
    pair.proxy.refuse(false);
    let expected = SessionEvent::Lost { why: SessionLoss::Evicted, missed: Some(4), unconfirmed: 0, kept: 0 };
    assert_eq!(lost(&pair.events), expected);
    assert_eq!(Speaker::resuming(pair.server.local_addr(), "/", &token, 2, 0).heard(), "resumed 0 0");
}

/// Evicted for want of room, by bytes.
#[test]
fn client_that_is_away_for_longest_is_given_up_when_too_much_waits() {
    let limits = Limits::server().parked_len(100);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits);
    let pair = Pair::of(builder.resumable(Resume::new()).bind().unwrap());
    pair.proxy.refuse(true);
    pair.proxy.end(End::Reset);
    until("it is away", || !pair.connection.is_linked());
    (0..10).for_each(|_| pair.connection.send("ten bytes.").unwrap());
    assert_eq!(pair.server.stats().parked, 1);
    pair.connection.send("x").unwrap();
    until("it is given up", || pair.server.stats().parked == 0);
    pair.proxy.refuse(false);
    let expected = SessionEvent::Lost { why: SessionLoss::Evicted, missed: Some(11), unconfirmed: 0, kept: 0 };
    assert_eq!(lost(&pair.events), expected);
}

/// Given up while its client is on its way back, which is another time of being away.
#[test]
fn place_that_was_lost_once_does_not_end_the_session_later() {
    let limits = Limits::server().sessions(1);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).resumable(Resume::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let (mut link, token) = Speaker::linked(server.local_addr(), "/");
    let connection = connections.item();
    connection.send("again and again").unwrap();
    assert_eq!(link.payloads(1), ["again and again"]);
    // Each time without anything acknowledged, so that the server takes its time.
    for number in 2..6 {
        drop(link);
        until("it is away", || !connection.is_linked());
        link = Speaker::resuming(server.local_addr(), "/", &token, number, 0);
        drop(Speaker::linked(server.local_addr(), "/"));
        assert_eq!(link.heard(), "resumed 0 0", "{number}");
        link.say("at 0");
        assert_eq!(link.payloads(1), ["again and again"]);
    }
}

/// Token told to the wrong path or owner.
#[test]
fn session_is_unknown_to_another_path_and_to_another_owner() {
    let owner = |request: &UpgradeRequest, _: Option<&(dyn std::any::Any + Send + Sync)>| {
        assert!(request.path() != "/panic", "a bug of the program's");
        request.peer_addr().to_string()
    };
    let server = resumable_server(Resume::new());
    let (_link, token) = Speaker::linked(server.local_addr(), "/a");
    assert_eq!(Speaker::resuming(server.local_addr(), "/b", &token, 2, 0).heard(), "lost unknown");
    assert_eq!(Speaker::resuming(server.local_addr(), "/a", &token, 2, 0).heard(), "resumed 0 0");
    // Each connection has an address of its own.
    let server = resumable_server(Resume::new().owner(owner));
    let events = Recorder::on(server.events());
    let (_link, token) = Speaker::linked(server.local_addr(), "/a");
    assert_eq!(Speaker::resuming(server.local_addr(), "/a", &token, 2, 0).heard(), "lost unknown");
    assert_eq!(http(server.local_addr().to_string(), &upgrade_request("/panic").replace("\r\n\r\n", RESUMABLE)), "");
    let reason = events.find(|event| match event {
        ServerEvent::Rejected { reason, .. } if reason.contains("owner") => Some(reason),
        _ => None,
    });
    assert!(reason.contains("a bug of the program's"), "{reason}");
}

/// Plain server in place of a resumable one.
#[test]
fn plain_server_gets_what_goes_on_after_the_session() {
    for resends in [false, true] {
        let foreign = foreign_server();
        let resume = if resends { Resume::new().resend_unconfirmed() } else { Resume::new() };
        let builder = RxWsClient::builder(foreign.url(), WsStr).resumable(resume);
        let client = builder.conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
        let events = session_events(&client);
        let mut first = Speaker::begin(foreign);
        (0..3).for_each(|n| client.send(n.to_string()).unwrap());
        assert_eq!(first.payloads(3), texts(0..3));
        drop(first);
        until("it is away", || client.response().is_none());
        client.send("3").unwrap();
        let mut plain = Speaker(foreign.accept());
        let SessionEvent::Lost { unconfirmed, kept, .. } = lost(&events) else { unreachable!() };
        assert_eq!((unconfirmed, kept), (3, if resends { 4 } else { 1 }));
        assert_eq!(events.item(), SessionEvent::Plain);
        assert_eq!(plain.payloads(kept as usize), texts(4 - kept as usize..4));
        let sent = client.stats().sent;
        assert_eq!((sent.accepted.messages, sent.written.messages + sent.queued.messages), (4, 4), "{sent:?}");
    }
}
