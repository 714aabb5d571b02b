//! `conflate()`.

use std::collections::BTreeMap;

use futures::SinkExt;

use super::*;

/// The part of a text before its colon, if it has one.
fn key_of(_path: &str, text: &WsText) -> Option<String> {
    text.split_once(':').map(|(key, _)| key.to_owned())
}

/// As [`unanswered`], and the newest of each key is enough.
fn unanswered_newest(messages: usize, len: usize) -> (RxWsClient<WsStr>, TcpListener) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let builder = RxWsClient::builder(url, WsStr).conflate(key_of).outbox(messages, len, Overflow::DropLatest);
    (builder.connect().unwrap(), silent)
}

/// Lets a client of nobody have its peer, and returns all that this receives.
fn received(client: RxWsClient<WsStr>, silent: &TcpListener) -> Vec<String> {
    client.complete();
    read_to_the_end(&mut tungstenite::accept(silent.accept().unwrap().0).unwrap()).0
}

#[test]
fn newer_message_takes_the_place_of_one_with_its_key_and_leaves_the_others() {
    let (client, silent) = unanswered_newest(4, 1000);
    for text in ["a:1", "b:1", "plain", "a:2", "plain", "b:2", "a:3"] {
        client.send(text).unwrap();
    }
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!((sent.queued.messages, sent.dropped.replaced), (4, tally(3, 9)));
    assert_eq!(received(client, &silent), ["a:3", "b:2", "plain", "plain"]);
}

#[test]
fn full_outbox_takes_a_message_in_the_place_of_another() {
    let (client, silent) = unanswered_newest(1, 10);
    client.send("a:1").unwrap();
    assert!(matches!(client.send("b:1"), Err(SendError::Full(_))));
    client.send("a:2").unwrap();
    // Also one who would wait, and before those who do.
    let mut waiting = Box::pin(client.send_when_ready("b:2"));
    assert!(poll(&mut waiting).is_pending());
    block_on(client.send_when_ready("a:3")).unwrap();
    client.send_timeout("a:4", Duration::ZERO).unwrap();
    assert_eq!(client.stats().sent.dropped.replaced, tally(3, 9));
    drop(waiting);
    assert_eq!(received(client, &silent), ["a:4"]);
}

#[test]
fn one_who_waits_gives_way_to_a_newer_message_with_its_key() {
    let (client, silent) = unanswered_newest(1, 1000);
    let mut sink = client.sink::<&str>();
    let mut cx = Cx::from_waker(Waker::noop());
    assert!(sink.poll_ready_unpin(&mut cx).is_ready());
    client.send("full").unwrap();
    let (mut older, mut newer) = (Box::pin(client.send_when_ready("a:1")), Box::pin(client.send_when_ready("a:2")));
    assert!(poll(&mut older).is_pending() && poll(&mut newer).is_pending());
    client.clear_outbox();
    // It may find the room before them; then it is the newest.
    client.send("a:3").unwrap();
    assert!(matches!((poll(&mut newer), poll(&mut older)), (Poll::Ready(Ok(())), Poll::Ready(Ok(())))));
    assert_eq!(client.stats().sent.dropped.replaced, tally(2, 6));
    sink.start_send_unpin("b:1").unwrap();
    client.clear_outbox();
    // A sink that was woken may be passed.
    assert!(matches!(poll(&mut Box::pin(client.send_when_ready("b:2"))), Poll::Ready(Ok(()))));
    assert!(matches!(sink.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(client.stats().sent.dropped.replaced, tally(3, 9));
    assert_accounted(client.stats().sent);
    drop(sink);
    assert_eq!(received(client, &silent), ["b:2"]);
}

#[test]
fn message_that_is_replaced_says_so_to_one_who_follows_it() {
    let (client, _silent) = unanswered_newest(4, 1000);
    let events = Recorder::on(client.events());
    let first = client.send_tracked("a:1").unwrap();
    let second = client.send_tracked("a:2").unwrap();
    assert_eq!(first.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Replaced));
    assert_eq!(second.status(), DeliveryStatus::Queued);
    client.clear_outbox();
    assert_eq!(second.wait(PATIENCE).unwrap(), Delivered::Dropped(DropReason::Cleared));
    client.complete();
    let told = events.to_the_end().0.into_iter().find_map(|event| match event {
        ClientEvent::Dropped { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(told, Some(DropReason::Cleared), "no event tells what was replaced");
}

#[test]
fn item_whose_key_cannot_be_had_is_sent_as_one_without() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let builder = RxWsClient::builder(url, WsStr).conflate(|_, text| -> Option<u8> {
        assert!(!text.contains("bad"), "a key function of the program");
        Some(1)
    });
    let client = builder.connect().unwrap();
    ["good", "bad", "bad", "better"].into_iter().for_each(|text| client.send(text).unwrap());
    assert_eq!(received(client, &silent), ["better", "bad", "bad"]);
}

#[test]
fn key_function_may_push_and_ask() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let own = std::sync::Arc::new(std::sync::OnceLock::<RxWsClient<WsStr>>::new());
    let inside = own.clone();
    let builder = RxWsClient::builder(url, WsStr).conflate(move |_, text| {
        if let Some(client) = inside.get().filter(|_| text == "outer") {
            client.send("inner").unwrap();
            assert_eq!(client.stats().sent.queued.messages, 1);
        }
        Some(text.len())
    });
    let client = builder.connect().unwrap();
    own.set(client.clone()).unwrap();
    client.send("outer").unwrap();
    assert_eq!(client.stats().sent.queued.messages, 1);
    assert_eq!(received(client, &silent), ["outer"]);
}

#[test]
fn each_path_of_a_group_has_its_own_newest() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let group = RxWsClientGroup::builder(url, WsStr).conflate(key_of).build().unwrap();
    for (path, text) in [("/a", "x:1"), ("/b", "x:2"), ("/a", "x:3")] {
        group.send(TaggedData::new(path, text)).unwrap();
    }
    group.open("/b").unwrap().send("x:4").unwrap();
    let sent = group.stats().all.sent;
    assert_eq!((sent.queued.messages, sent.dropped.replaced.messages), (2, 2));
    group.complete();
}

#[test]
fn slow_reader_ends_with_the_newest_of_every_key_and_little_waits_for_it() {
    const KEYS: usize = 1_000;
    const ROUNDS: usize = 100;
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).conflate(key_of).ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let (one_more, reads) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        let mut newest = BTreeMap::new();
        loop {
            // One message for each hundred that are pushed, and then all that are left.
            let _ = reads.recv();
            match slow.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    let (key, round) = text.split_once(':').unwrap();
                    let round: usize = round.trim_end().parse().unwrap();
                    let before = newest.insert(key.to_owned(), round);
                    assert!(before.is_none_or(|before| before < round), "of each key in order");
                }
                Ok(_) => {}
                Err(_) => return newest,
            }
        }
    });
    let mut most = 0;
    for round in 1..=ROUNDS {
        for key in 0..KEYS {
            // Longer than the buffers of the system, all together.
            server.send(TaggedData::new("/", format!("{key}:{round:<500}"))).unwrap();
            if key % 100 == 0 {
                one_more.send(()).unwrap();
                most = most.max(connection.stats().sent.queued.messages);
            }
        }
    }
    drop(one_more);
    let sent = connection.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.dropped.total(), sent.dropped.replaced);
    // 128 KiB may be on their way to the socket besides.
    assert!(most <= KEYS as u64 + 256, "{most} waited");
    server.complete();
    let newest = reader.join().unwrap();
    assert!(newest.len() == KEYS && newest.values().all(|round| *round == ROUNDS));
    assert!(connection.stats().sent.dropped.replaced.messages > 0, "the reader was not slow");
}

#[test]
fn link_that_breaks_leaves_the_newest_of_each_key() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let client = RxWsClient::builder(url(&server, "/"), WsBytes)
        .conn_retry_timeout(Duration::from_millis(1))
        .conflate(|_, bytes| bytes.first().copied());
    let client = client.connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    drop(connections);
    for round in 0..200u8 {
        (0..8).for_each(|key| client.send(vec![key, round, 0, 0]).unwrap());
        if round % 50 == 25 {
            client.reconnect();
        }
    }
    until("all is written", || client.stats().sent.queued.messages == 0);
    let sent = client.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.written.messages + sent.dropped.replaced.messages, 8 * 200);
    client.complete();
    server.complete();
}

#[cfg(feature = "deflate")]
#[test]
fn compressed_message_is_replaced_as_a_whole() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).conflate(key_of).ping_interval(None);
    let server = builder.compression(Deflate::new()).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let builder = RxWsClient::builder(url(&server, "/"), WsStr).compression(Deflate::new());
    let (client, heard) = {
        let client = builder.connect().unwrap();
        (client.clone(), Recorder::on(client))
    };
    let connection = connections.item();
    let text = |round: usize| format!("a:{round}{}", "x".repeat(5000));
    for round in 0..500 {
        server.send(TaggedData::new("/", text(round))).unwrap();
    }
    server.send(TaggedData::new("/", "end")).unwrap();
    let mut all = Vec::new();
    heard.note_until(&mut all, |text| text == "end");
    assert!(all.len() >= 2 && all[all.len() - 2] == text(499));
    let sent = connection.stats().sent;
    assert_accounted(sent);
    assert_eq!(sent.dropped.replaced.messages + all.len() as u64, 501);
    client.complete();
    server.complete();
}

#[cfg(feature = "nats")]
#[test]
fn what_comes_over_a_bus_is_conflated_where_it_goes_to_a_client() {
    let broker = LocalBroker::new();
    let [here, there] = [(); 2].map(|()| RxBus::connect(&broker, WsStr).unwrap());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&there).conflate(key_of).ping_interval(None);
    let server = server.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    until("something was replaced", || {
        here.send(TaggedData::new("/", format!("a:{:<60000}", 1))).unwrap();
        connection.stats().sent.dropped.replaced.messages > 0
    });
    here.send(TaggedData::new("/", "a:2")).unwrap();
    while read(&mut slow).to_text().unwrap() != "a:2" {}
    server.complete();
}
