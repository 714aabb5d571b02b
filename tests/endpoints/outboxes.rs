//! Rules 5, 6 and 13: what an outbox keeps, refuses and drops, and that each is counted and told.

use std::net::TcpListener;

use support::proxy::{End, Proxy};

use super::*;

/// A client that nobody answers, with room for two messages.
fn unanswered(overflow: Overflow) -> (RxWsClient<WsStr>, TcpListener) {
    // Takes connections, as the system does for it, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    (RxWsClient::builder(url, WsStr).outbox(2, 1000, overflow).connect().unwrap(), silent)
}

#[test]
fn full_outbox_hands_the_newest_back_with_a_count_and_an_event() {
    let (client, _silent) = unanswered(Overflow::DropLatest);
    client.send("one").unwrap();
    client.send("two").unwrap();
    assert!(matches!(client.send("three"), Err(SendError::Full(item)) if item == "three"));
    let told = |event| match event {
        ClientEvent::Dropped { reason, dropped } => Some((reason, dropped)),
        _ => None,
    };
    let events = Recorder::on(client.events());
    assert_eq!(events.find(told), (DropReason::Overflow, tally(1, 5)));
    client.clear_outbox();
    assert_eq!(events.find(told), (DropReason::Cleared, tally(2, 6)));
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.accepted, sent.queued), (tally(3, 11), Tally::default()));
    client.complete();
}

/// Pushes `item` into a full outbox, and what comes back into one that is closed.
fn refused_twice<D: WsDatatype>(datatype: D, item: D::Outgoing) -> D::Outgoing {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let client = RxWsClient::builder(url, datatype).outbox(1, 1000, Overflow::DropLatest).connect().unwrap();
    client.send(item.clone()).unwrap();
    let Err(SendError::Full(item)) = client.send(item) else { panic!("there was room") };
    client.clone().complete();
    let Err(SendError::Closed(item)) = client.send(item) else { panic!("it was open") };
    assert_eq!(client.stats().sent.dropped.overflow.messages, 1);
    item
}

#[test]
fn refused_item_comes_back_as_it_was_and_is_not_copied() {
    let text = WsText::from("text");
    let back = refused_twice(WsStr, text.clone());
    assert_eq!((back.as_str(), back.as_ptr()), ("text", text.as_ptr()));
    let bytes = Bytes::from(vec![1, 2, 3]);
    let back = refused_twice(WsBytes, bytes.clone());
    assert_eq!((&*back, back.as_ptr()), (&[1, 2, 3][..], bytes.as_ptr()));
    for frame in [Frame::Text(text), Frame::Binary(bytes)] {
        let back = refused_twice(WsFrame, frame.clone());
        assert_eq!((&back, back.as_bytes().as_ptr()), (&frame, frame.as_bytes().as_ptr()));
    }
    assert_eq!(refused_twice(WsObject::<Vec<u8>>::new(), vec![1, 2]), [1, 2]);
}

#[test]
fn full_outbox_lets_the_oldest_go_under_drop_oldest() {
    let (client, _silent) = unanswered(Overflow::DropOldest);
    (0..5).for_each(|number| client.send(number.to_string()).unwrap());
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.queued, sent.dropped.overflow), (tally(2, 2), tally(3, 3)));
    client.complete();
}

#[test]
fn empty_outbox_takes_one_message_of_any_length() {
    let (client, _silent) = unanswered(Overflow::DropLatest);
    client.send("x".repeat(5000)).unwrap();
    assert!(matches!(client.send("y"), Err(SendError::Full(_))));
    client.complete();
}

#[test]
fn client_keeps_65_536_messages_or_64_mib_by_default() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    for (messages, len) in [(65_536, 10), (64, 1 << 20)] {
        let client = RxWsClient::connect(url.as_str(), WsBytes).unwrap();
        let message = Bytes::from(vec![7; len]);
        (0..messages).for_each(|_| client.send(message.clone()).unwrap());
        assert!(matches!(client.send(message), Err(SendError::Full(_))));
        let queued = tally(messages, messages * len as u64);
        assert_eq!((client.stats().sent.queued, client.stats().sent.dropped.overflow), (queued, tally(1, len as u64)));
        client.clear_outbox();
        client.complete();
    }
}

#[test]
fn path_may_have_an_outbox_of_its_own_wherever_that_stands() {
    const LEN: usize = 16 << 20;
    let runtime = IoRuntime::new("by-path").unwrap();
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).runtime(&runtime);
    let server = builder
        .outbox_for("listen", 9, LEN, Overflow::DropLatest)
        .outbox_for("/listen", 3, LEN, Overflow::DropOldest)
        .outbox_for("/with space", 4, LEN, Overflow::DropLatest)
        .outbox(5, LEN, Overflow::DropLatest)
        .bind()
        .unwrap();
    let connections = Recorder::on(server.connections());
    let paths = [("/listen?a=b", 3, true), ("/with%20space", 4, false), ("/listen/1", 5, false), ("/mic", 5, false)];
    for (path, room, drops_oldest) in paths {
        let peer = foreign_client(server.local_addr(), path);
        let connection = connections.item();
        fill(&connection, &peer);
        let release = stall(&runtime);
        (1..room).for_each(|_| connection.send("x").unwrap());
        assert_eq!(connection.stats().sent.dropped.overflow, Tally::default(), "{path}");
        assert_eq!(connection.send("x").is_ok(), drops_oldest, "{path}");
        assert_eq!(connection.stats().sent.dropped.overflow, tally(1, 1), "{path}");
        drop(release);
    }
}

#[test]
fn connection_keeps_16_384_messages_or_16_mib_by_default() {
    let runtime = IoRuntime::new("default").unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).runtime(&runtime).bind().unwrap();
    let connections = Recorder::on(server.connections());
    for (messages, len) in [(16_383, 10), (4, 1 << 20)] {
        let mut peer = foreign_client(server.local_addr(), "/");
        let connection = connections.item();
        fill(&connection, &peer);
        let release = stall(&runtime);
        let message = Bytes::from(vec![7; len]);
        (0..messages).for_each(|_| connection.send(message.clone()).unwrap());
        assert!(matches!(connection.send(message.clone()), Err(SendError::Full(_))));
        assert!(matches!(connection.send(message), Err(SendError::Closed(_))));
        assert_eq!(connection.stats().sent.dropped.overflow.messages, messages + 1);
        drop(release);
        assert_eq!(read_to_the_end(&mut peer), (vec![], Some(1013)));
    }
    server.complete();
}

/// Has the socket of `connection` take no more: by a message of 12 MiB, more than the system's buffers hold, of which `peer`
/// reads nothing.
fn fill(connection: &Connection<WsBytes>, peer: &Foreign) {
    connection.send(vec![7; 12 << 20]).unwrap();
    // Its first byte shows that its writing has begun.
    peer.get_ref().peek(&mut [0]).unwrap();
}

#[test]
fn client_whose_outbox_is_full_under_disconnect_ends_with_that_error() {
    let (client, _silent) = unanswered(Overflow::Disconnect);
    let (heard, events) = (Recorder::on(client.clone()), Recorder::on(client.events()));
    client.send("one").unwrap();
    client.send("two").unwrap();
    assert!(matches!(client.send("three"), Err(SendError::Full(_))));
    assert!(matches!(client.send("four"), Err(SendError::Closed(_))));
    client.wait_closed(PATIENCE).unwrap();
    let (_, end) = heard.to_the_end();
    assert!(matches!(end, Heard::Error(error) if error.contains("3 messages of 11 bytes are lost")));
    let (events, _) = events.to_the_end();
    assert_eq!(announced_by_client(&events).0, tally(3, 11));
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Failed { error: WsError::OutboxFull { .. } })));
}

#[test]
fn message_being_written_is_not_dropped_as_the_oldest() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(1, 1 << 30, Overflow::DropOldest);
    let server = server.ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    fill(&connection, &slow);
    let newest = || connection.send(vec![1, 2, 3]);
    assert!(matches!(newest(), Err(SendError::Full(item)) if *item == [1, 2, 3]));
    assert!(matches!(newest(), Err(SendError::Full(_))));
    let sent = connection.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.queued.messages, sent.dropped.overflow), (1, tally(2, 6)));
    assert!(*read(&mut slow).into_data() == vec![7; 12 << 20], "whole");
    until("the end of the writing", || connection.stats().sent.queued.messages == 0);
    newest().unwrap();
    assert_eq!(*read(&mut slow).into_data(), [1, 2, 3]);
    server.complete();
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
fn cleared_outbox_keeps_nothing_but_the_message_being_written() {
    let (stay, stays) = mpsc::channel::<()>();
    let stays = Arc::new(Mutex::new(stays));
    // Reads nothing until the test is over.
    let server = foreign_server(move |_, _peer| _ = stays.lock().unwrap().recv());
    let client = RxWsClient::connect(format!("ws://{server}"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let written = || client.stats().sent.written.messages;
    // More than the system's buffers hold, and many of them in what is made ready for one write.
    (0..20_000).for_each(|_| client.send("x".repeat(900)).unwrap());
    let (mut before, mut patience) = (written(), Instant::now());
    while patience.elapsed() < Duration::from_millis(200) {
        if written() != before {
            (before, patience) = (written(), Instant::now());
        }
        thread::yield_now();
    }
    client.clear_outbox();
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert!(sent.queued.messages <= 1 && sent.dropped.cleared.messages > 0, "{sent:?}");
    drop(stay);
    client.complete();
}

/// A payload of the program's own, which does something when it is dropped.
struct Owned(Box<dyn Fn() + Send>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        b"owned"
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn payload_whose_destructor_pushes_harms_no_client() {
    for overflow in [Overflow::DropOldest, Overflow::DropLatest, Overflow::Disconnect] {
        within_patience(move || {
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("ws://{}", silent.local_addr().unwrap());
            let client = RxWsClient::builder(url, WsBytes).outbox(2, 1000, overflow).connect().unwrap();
            let (send, dropped) = mpsc::channel();
            let payload = || {
                let (own, send) = (client.clone(), send.clone());
                Bytes::from_owner(Owned(Box::new(move || {
                    own.next("pushed by a destructor");
                    send.send(own.stats().sent).unwrap();
                })))
            };
            (0..3).for_each(|_| client.next(payload()));
            client.clear_outbox();
            client.clone().complete();
            (0..3).for_each(|_| assert_accounted(dropped.recv_timeout(PATIENCE).unwrap()));
            assert_accounted(client.stats().sent);
        });
    }
}

#[test]
fn payload_whose_destructor_panics_does_not_end_the_push_that_drops_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let client = RxWsClient::builder(url, WsBytes).outbox(2, 1000, Overflow::DropOldest).connect().unwrap();
    let own = client.clone();
    // The newest is dropped from the queue before its push is over.
    client.next(Bytes::from_owner(Owned(Box::new(move || own.clear_outbox()))));
    client.next(vec![1]);
    client.send(Bytes::from_owner(Owned(Box::new(|| panic!("a bug of the payload's"))))).unwrap();
    let dropped = client.stats().sent.dropped;
    assert_eq!((dropped.overflow.messages, dropped.cleared.messages), (1, 2));
    client.complete();
}

#[test]
fn payload_whose_destructor_pushes_harms_no_server() {
    within_patience(|| {
        let runtime = IoRuntime::new("destructors").unwrap();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).runtime(&runtime);
        let server = server.outbox(2, 1000, Overflow::DropOldest).bind().unwrap();
        let mut peers = [(); 2].map(|()| foreign_client(server.local_addr(), "/"));
        until_settled("connecting", &server, |server| server.connection_count() == 2);
        let (send, dropped) = mpsc::channel();
        let payload = |path: &'static str| {
            let (own, send) = (server.clone(), send.clone());
            let payload = Bytes::from_owner(Owned(Box::new(move || {
                own.next(TaggedData::new("/", "again"));
                send.send(own.stats().sent).unwrap();
            })));
            TaggedData::new(path, payload)
        };
        let release = stall(&runtime);
        (0..3).for_each(|_| server.next(payload("/")));
        server.next(payload("/nobody"));
        drop(release);
        (0..4).for_each(|_| assert_accounted(dropped.recv_timeout(PATIENCE).unwrap()));
        until("writing the rest", || server.stats().sent.queued.messages == 0);
        // Written, and dropped on the I/O thread.
        server.next(payload("/"));
        assert_accounted(dropped.recv_timeout(PATIENCE).unwrap());
        for peer in &mut peers {
            while *read(peer).into_data() != *b"owned" {}
            while *read(peer).into_data() != *b"again" {}
        }
        server.complete();
    });
}

#[test]
fn payload_whose_destructor_panics_when_it_is_written_ends_nothing() {
    let runtime = IoRuntime::new("panics").unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).runtime(&runtime).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    // So that the outbox has the last clone of each.
    let release = stall(&runtime);
    for _ in 0..3 {
        connection.next(Bytes::from_owner(Owned(Box::new(|| panic!("a bug of the payload's")))));
    }
    drop(release);
    connection.next("still open");
    for expected in [&b"owned"[..], b"owned", b"owned", b"still open"] {
        assert_eq!(*read(&mut peer).into_data(), *expected);
    }
    until("counting", || connection.stats().sent.written.messages == 4);
    server.complete();
}

#[test]
fn payload_whose_destructor_panics_harms_no_push() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsBytes).unwrap();
    let connections = Recorder::on(server.connections());
    // So many that they get a copy, and the item that was pushed is the last to have the payload.
    let mut peers = [(); 8].map(|()| foreign_client(server.local_addr(), "/"));
    let connection = connections.items(8).remove(0);
    let payload =
        |path: &str| TaggedData::new(path, Bytes::from_owner(Owned(Box::new(|| panic!("a bug of the payload's")))));
    server.next(payload("/"));
    server.send(payload("/")).unwrap();
    server.send_except(payload("/"), &connection).unwrap();
    server.next(payload("/nobody"));
    server.next(TaggedData::new("/", "still open"));
    for peer in &mut peers {
        while *read(peer).into_data() != *b"still open" {}
    }
    server.complete();
}

#[test]
fn sums_are_exact_at_any_moment_another_thread_looks() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(20, 1 << 20, Overflow::DropOldest);
    let server = server.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let proxy = Proxy::to(server.local_addr());
    let client = RxWsClient::builder(proxy.url("/"), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .outbox(20, 1 << 20, Overflow::DropOldest)
        .greeting(|_| ["hello", "again"])
        .connect()
        .unwrap();
    let mut looks = 0;
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            for round in 0..50 {
                client.wait_connected(PATIENCE).unwrap();
                for number in 0..200 {
                    client.next(number.to_string());
                    server.next(TaggedData::new("/", number.to_string()));
                }
                proxy.end(if round % 2 == 0 { End::Reset } else { End::Fin });
            }
        });
        let mut seen = Vec::new();
        while !traffic.is_finished() {
            seen.extend(connections.rest());
            for heard in &seen {
                let Heard::Item(connection) = heard else { continue };
                assert_accounted(connection.stats().sent);
            }
            assert_accounted(client.stats().sent);
            assert_accounted(server.stats().sent);
            looks += 1;
        }
    });
    println!("looked {looks} times, over {} links: {:?}", proxy.links(), client.stats().sent);
    client.complete();
    server.complete();
}

#[test]
fn message_to_a_path_counts_once_as_pushed_and_once_for_each_connection() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let mut clients = [(); 3].map(|()| foreign_client(server.local_addr(), "/feed?who=me"));
    let mut other = foreign_client(server.local_addr(), "/other");
    let on_feed: Vec<_> = connections.items(4).into_iter().filter(|connection| connection.path() == "/feed").collect();
    server.next(TaggedData::new("/feed", "news"));
    server.next(TaggedData::new("/nobody", "unheard"));
    server.next(TaggedData::new("/other", "else"));
    for client in &mut clients {
        assert_eq!(read(client).to_text().unwrap(), "news");
    }
    assert_eq!(read(&mut other).to_text().unwrap(), "else");
    let stats = server.stats();
    assert_eq!((stats.pushed, stats.unrouted, stats.sent.accepted), (3, 1, tally(4, 16)));
    let sums = on_feed.iter().fold(Tally::default(), |mut sum, connection| {
        add(&mut sum, connection.stats().sent.accepted);
        sum
    });
    assert_eq!(sums, tally(3, 12));
    let path = server.path_stats("/feed");
    assert_eq!((path.connections, path.all.sent.accepted), (3, sums));
    assert_eq!(server.path_stats("/nobody"), PathStats::default());

    // What a client sends counts for its path, and what is gone with it no more.
    clients[0].send("answer".into()).unwrap();
    until("receiving", || server.path_stats("/feed").all.received == tally(1, 6));
    let [leaving, _staying, _too] = clients;
    close(leaving, 1000);
    until("leaving", || server.path_stats("/feed").connections == 2);
    let path = server.path_stats("/feed").all;
    assert_eq!((path.sent.accepted, path.received), (tally(2, 8), Tally::default()));
    assert_eq!(server.path_stats("/other").all.sent.accepted, tally(1, 4));
    server.complete();
}
